"""Bodies of the table, adapted to a question that is not spelled as the owner they were rendered for."""

from __future__ import annotations

import struct

from kdns.dns.codes import RRType
from kdns.dns.compression import HEADER_SIZE, OWNER, Body
from kdns.dns.reply import record_end

SERIAL_AT = 34  # octets before the serial in a rendered SOA record
SOA_NAMES_AT = (0, 19, 32)  # where the pointers to the zone stand in it: owner, behind "ns.dns", behind "hostmaster"

Entry = tuple[int, int, int, int, int, int, bytes, "list[int] | None"]


def of_entry(entry: Entry) -> Body:
    """The body of a table entry."""
    _, _, record_length, answers, additionals, rotate_from, octets, offsets = entry
    return Body(
        octets, answers, 0, additionals, rotate_from, record_length, None if offsets is None else tuple(offsets)
    )


def put_serial(octets: bytes, serial: int) -> bytes:
    """An SOA record with its serial set."""
    return octets[:SERIAL_AT] + struct.pack("!I", serial) + octets[SERIAL_AT + 4 :]


def soa_at(octets: bytes, labels_before_zone: int) -> bytes:
    """An SOA record rendered for a zone's own name, for a name with so many octets before the zone."""
    changed = bytearray(octets)
    for at in SOA_NAMES_AT:
        changed[at : at + 2] = struct.pack("!H", 0xC000 | (HEADER_SIZE + labels_before_zone))
    return bytes(changed)


def spell_zone(body: Body, zone: bytes) -> Body:
    """The targets of SRV answers, their zone spelled as the client spelled it."""
    changed = bytearray(body.octets)
    for start, end in _records(body)[: body.answers]:
        fixed = _owner_end(changed, start)
        if changed[fixed : fixed + 2] == struct.pack("!H", RRType.SRV):
            changed[end - len(zone) : end] = zone
    return body._replace(octets=bytes(changed))


def move(body: Body, octets: int) -> Body:
    """Every pointer but those to the owner moved by so many octets: the question became that much longer.

    What such pointers lead to lies behind the part of the question that differs.
    """
    changed = bytearray(body.octets)
    for start, _ in _records(body):
        at = _owner_end(changed, start) - 2
        if changed[at] >= 0xC0 and changed[at : at + 2] != OWNER:
            pointer = struct.unpack_from("!H", changed, at)[0]
            struct.pack_into("!H", changed, at, pointer + octets)
    return body._replace(octets=bytes(changed))


def _records(body: Body) -> list[tuple[int, int]]:
    """(start, end) of every record."""
    found, at = [], 0
    for _ in range(body.answers + body.authorities + body.additionals):
        end = record_end(body.octets, at)
        found.append((at, end))
        at = end
    return found


def _owner_end(octets: bytes | bytearray, at: int) -> int:
    while octets[at] and octets[at] < 0xC0:
        at += 1 + octets[at]
    return at + (2 if octets[at] else 1)
