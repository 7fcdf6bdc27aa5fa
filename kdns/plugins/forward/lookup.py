"""Host names to addresses, once, at setup: by the system's resolver or by those the `resolver` option lists."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Sequence

from kdns.dns import names
from kdns.dns.codes import RRClass, RRType
from kdns.dns.records import read_answers
from kdns.dns.walker import read_reply
from kdns.errors import CorefileError, FormatError
from kdns.plugins.forward.addresses import MAX_UPSTREAMS, Target, parse_entry
from kdns.plugins.forward.failures import reason
from kdns.plugins.forward.ids import fresh_id

TIMEOUT_SECONDS = 2.0  # for one answer, as CoreDNS; a start that hangs is worse than one that fails


def look_up(name: str, resolvers: Sequence[str]) -> list[str]:
    """The addresses of a host name, IPv4 first. Raises CorefileError."""
    try:
        found = _ask_resolvers(name, resolvers) if resolvers else _ask_system(name)
    except CorefileError as error:
        raise CorefileError(f'failed to resolve "{name}": {error}') from error
    return list(dict.fromkeys(found))[:MAX_UPSTREAMS]


def _ask_system(name: str) -> list[str]:
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_DGRAM)
    except OSError as error:
        raise CorefileError(f"lookup {name}: no such host") from error
    return [str(entry[4][0]) for entry in found]


def _ask_resolvers(name: str, resolvers: Sequence[str]) -> list[str]:
    """What the first of them that knows the name says."""
    failure = ""
    for text in resolvers:
        target = _resolver(text)
        found: list[str] = []
        for rtype in (RRType.A, RRType.AAAA):
            try:
                found += _ask(target, name, rtype)
            except (OSError, FormatError) as error:
                failure = f": {reason(error, 'read') if isinstance(error, OSError) else error}"
                break
        if found:
            return found
    raise CorefileError(f'no addresses found for "{name}"{failure}')


def _resolver(text: str) -> Target:
    entry = parse_entry(text)
    if not isinstance(entry, Target) or entry.scheme != "dns":
        raise CorefileError(f'resolver: "{text}" is no IP address')
    return entry


def _ask(target: Target, name: str, rtype: int) -> list[str]:
    """The addresses a server gives for a name. Raises OSError, FormatError."""
    question = names.from_text(name) + struct.pack("!HH", rtype, RRClass.IN)
    family = socket.AF_INET6 if ":" in target.host else socket.AF_INET
    message_id = fresh_id()
    with socket.socket(family, socket.SOCK_DGRAM) as asking:
        asking.connect(target.sockaddr())
        asking.send(struct.pack("!HHHHHH", message_id, 0x0100, 1, 0, 0, 0) + question)
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError  # a server may send as much that is no answer as it likes
            asking.settimeout(left)
            message = asking.recv(65535)
            try:
                reply = read_reply(message, message_id, question)
                break
            except FormatError:
                continue
    records = read_answers(bytes(12) + question, reply.body)
    return [names.address_text(record.rdata) for record in records if record.rtype == rtype]
