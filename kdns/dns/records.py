"""Records out of a rendered body, names whole again: for plugins that must look into a reply."""

from __future__ import annotations

import struct

from kdns.dns.codes import RRType
from kdns.dns.compression import HEADER_SIZE, Body
from kdns.dns.names import MAX_LABEL, MAX_NAME
from kdns.dns.rrset import Record
from kdns.errors import FormatError

_FIXED = struct.Struct("!HHIH")
_ONE_NAME = frozenset({RRType.NS, RRType.CNAME, RRType.PTR})


def read_answers(head: bytes, body: Body) -> list[Record]:
    """The answer section of `body`, which stands behind `head` (header and question). Raises FormatError."""
    message = bytes(HEADER_SIZE) + head[HEADER_SIZE:] + body.octets
    at, found = len(head), []
    for _ in range(body.answers):
        owner, at = read_name(message, at)
        if at + 10 > len(message):
            raise FormatError(f"record cut short at octet {at}")
        rtype, _, ttl, size = _FIXED.unpack_from(message, at)
        at += 10
        if at + size > len(message):
            raise FormatError(f"record data of {size} octets, {len(message) - at} are left")
        rdata = message[at : at + size]
        if rtype in _ONE_NAME:
            rdata = read_name(message, at)[0]
        found.append(Record(owner, rtype, ttl, rdata))
        at += size
    return found


def read_name(message: bytes, at: int) -> tuple[bytes, int]:
    """The name at `at`, whole, and the offset behind it. Pointers must lead backwards. Raises FormatError."""
    labels: list[bytes] = []
    size, after, limit = 1, 0, at + 1
    while True:
        if at >= len(message):
            raise FormatError("name runs past the message")
        label = message[at]
        if label >= 0xC0:
            if at + 2 > len(message):
                raise FormatError("compression pointer cut short")
            target = int.from_bytes(message[at : at + 2], "big") & 0x3FFF
            if target >= limit - 1 or target < HEADER_SIZE:
                raise FormatError(f"compression pointer at {at} leads to {target}, expected a place before it")
            after = after or at + 2
            at, limit = target, target + 1
            continue
        if label > MAX_LABEL:
            raise FormatError(f"label of unknown kind 0x{label:02x}")
        if label == 0:
            return b"".join(labels) + b"\0", after or at + 1
        size += 1 + label
        if size > MAX_NAME or at + 1 + label > len(message):
            raise FormatError("name too long or cut short")
        labels.append(message[at : at + 1 + label])
        at += 1 + label
