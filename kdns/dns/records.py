"""Records out of a rendered body, names whole again: for plugins that must look into a reply."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from kdns.dns.codes import RRType
from kdns.dns.compression import HEADER_SIZE, Body
from kdns.dns.names import MAX_LABEL, MAX_NAME
from kdns.dns.rrset import Record
from kdns.errors import FormatError

_FIXED = struct.Struct("!HHIH")
# Types whose data holds names that may be compressed (RFC 3597, 4): (octets before them, names, octets behind them).
_NAMES_IN = {
    RRType.NS: (0, 1, 0),
    RRType.CNAME: (0, 1, 0),
    RRType.PTR: (0, 1, 0),
    RRType.DNAME: (0, 1, 0),
    RRType.SOA: (0, 2, 20),
    RRType.MX: (2, 1, 0),
    RRType.SRV: (6, 1, 0),
}


class Sections(NamedTuple):
    """The records of a body, section by section; the OPT record is not among them."""

    answers: list[Record]
    authorities: list[Record]
    additionals: list[Record]


def read_answers(head: bytes, body: Body) -> list[Record]:
    """The answer section of `body`, which stands behind `head` (header and question). Raises FormatError."""
    return _read_records(*_message(head, body), body.answers)[0]


def read_sections(head: bytes, body: Body) -> Sections:
    """All sections of `body`, which stands behind `head` (header and question). Raises FormatError."""
    message, at = _message(head, body)
    answers, at = _read_records(message, at, body.answers)
    authorities, at = _read_records(message, at, body.authorities)
    additionals, at = _read_records(message, at, body.additionals)
    return Sections(answers, authorities, additionals)


def _message(head: bytes, body: Body) -> tuple[bytes, int]:
    return bytes(HEADER_SIZE) + head[HEADER_SIZE:] + body.octets, len(head)


def _read_records(message: bytes, at: int, count: int) -> tuple[list[Record], int]:
    found = []
    for _ in range(count):
        owner, at = read_name(message, at)
        if at + 10 > len(message):
            raise FormatError(f"record cut short at octet {at}")
        rtype, _, ttl, size = _FIXED.unpack_from(message, at)
        at += 10
        if at + size > len(message):
            raise FormatError(f"record data of {size} octets, {len(message) - at} are left")
        found.append(Record(owner, rtype, ttl, _whole_rdata(message, at, size, rtype)))
        at += size
    return found, at


def _whole_rdata(message: bytes, at: int, size: int, rtype: int) -> bytes:
    """Record data with the names in it whole."""
    layout = _NAMES_IN.get(rtype)  # type: ignore[call-overload]
    if layout is None:
        return message[at : at + size]
    before, count, behind = layout
    end = at + size
    parts = [message[at : at + before]]
    at += before
    for _ in range(count):
        name, at = read_name(message, at)
        parts.append(name)
    if at + behind != end:
        raise FormatError(f"record data of type {rtype} ends at octet {at + behind}, expected {end}")
    parts.append(message[at:end])
    return b"".join(parts)


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


def with_classes(body: Body, classes: Sequence[int]) -> Body:
    """A body with its records in these classes, in the order the records stand in."""
    octets, at = bytearray(body.octets), 0
    for rclass in classes:
        owner_end = at
        while octets[owner_end] and octets[owner_end] < 0xC0:
            owner_end += 1 + octets[owner_end]
        owner_end += 2 if octets[owner_end] else 1
        struct.pack_into("!H", octets, owner_end + 2, rclass)
        at = owner_end + _FIXED.size + int.from_bytes(octets[owner_end + 8 : owner_end + 10], "big")
    return body._replace(octets=bytes(octets))
