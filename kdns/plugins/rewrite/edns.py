"""`edns0`: EDNS options of the question. A question without an OPT record gets one where a rule has an option for it.

The client never sees any of this: options are not sent back, so what `revert` asks for is done anyway.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from ipaddress import ip_address

from kdns.dns import names
from kdns.dns.query import Edns
from kdns.plugins.rewrite.rules import Asked, Outcome

OWN_PAYLOAD = 4096  # octets, of an OPT record made here, as CoreDNS

_IPV4_BITS = 32

Data = Callable[
    [Asked], bytes | None
]  # an option's data for a question; None: nothing is known, the rule is not for it


class Action(StrEnum):
    """What becomes of an option."""

    SET = "set"
    APPEND = "append"
    REPLACE = "replace"
    UNSET = "unset"


@dataclass(frozen=True, slots=True)
class EdnsRule:
    """One option: set whether it is there or not, appended where it is not, replaced where it is, or removed."""

    stops: bool
    action: Action
    code: int
    data: Data

    def apply(self, asked: Asked) -> Outcome | None:
        """The question with the option as the action says."""
        query = asked.query
        edns = query.edns or Edns(OWN_PAYLOAD, 0, False)
        place = next((index for index, (code, _) in enumerate(edns.options) if code == self.code), None)
        if self.action is Action.UNSET:
            options = tuple(option for option in edns.options if option[0] != self.code)
            return query if query.edns is None else query.with_edns(replace(edns, options=options)), ()
        if self.action is (Action.REPLACE if place is None else Action.APPEND):
            return None
        data = self.data(asked)
        if data is None:
            return None
        option = (self.code, data)
        if place is None:
            options = (*edns.options, option)
        else:
            options = (*edns.options[:place], option, *edns.options[place + 1 :])
        return query.with_edns(replace(edns, options=options)), ()

    def touched(self) -> bytes | None:
        """Any name."""
        return None


def constant(data: bytes) -> Data:
    """Data that is the same for every question."""
    return lambda asked: data


def subnet(ipv4_bits: int, ipv6_bits: int) -> Data:
    """The client's network (RFC 7871, 6), so many bits of it."""

    def data(asked: Asked) -> bytes | None:
        packed = _packed(asked.request.client[0])
        if packed is None:
            return None
        is_ipv4 = len(packed) * 8 == _IPV4_BITS
        bits = ipv4_bits if is_ipv4 else ipv6_bits
        size = len(packed) * 8
        network = int.from_bytes(packed, "big") >> (size - bits) << (size - bits)
        octets = network.to_bytes(len(packed), "big")[: (bits + 7) // 8]
        return struct.pack("!HBB", 1 if is_ipv4 else 2, bits, 0) + octets

    return data


# What `{variable}` stands for. Numbers are two octets, addresses packed.
VARIABLES: dict[str, Data] = {
    "qname": lambda asked: names.to_text(asked.query.name).encode(),
    "qtype": lambda asked: struct.pack("!H", asked.query.qtype),
    "client_ip": lambda asked: _packed(asked.request.client[0]),
    "client_port": lambda asked: struct.pack("!H", asked.request.client[1]),
    "protocol": lambda asked: b"tcp" if asked.request.stream else b"udp",
    "server_ip": lambda asked: _packed(asked.request.local[0]),
    "server_port": lambda asked: struct.pack("!H", asked.request.local[1]),
}


def _packed(address: str) -> bytes | None:
    try:
        return ip_address(address.partition("%")[0]).packed
    except ValueError:
        return None
