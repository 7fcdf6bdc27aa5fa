"""Bodies of the table, adapted to a question that is not spelled as the owner they were rendered for."""

from __future__ import annotations

import struct

from kdns.dns.compression import HEADER_SIZE, MAX_POINTER, OWNER, Body
from kdns.dns.query import Query
from kdns.dns.reply import record_end

RDATA_AT = 10  # octets between a record's owner and its data
SRV_TARGET_AT = 6  # octets before the target in the data of an SRV record (RFC 2782)
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


def spell_zone(body: Body, query: Query, zone: bytes) -> Body:
    """SRV answers to a question in mixed case: the targets' zone spelled as the client spelled it, the rest as stored.

    Additional addresses belong to a target: pointers into the question, whose case differs, lead to the target instead.
    """
    changed = bytearray(body.octets)
    spelled = query.name[len(query.name) - len(zone) :]
    records = _records(body)
    targets: dict[bytes, int] = {}
    for start, end in records[: body.answers]:
        target = _owner_end(changed, start) + RDATA_AT + SRV_TARGET_AT
        targets.setdefault(bytes(changed[target:end]), len(query.head) + target)
        changed[end - len(zone) : end] = spelled
    for start, _ in records[body.answers :]:
        pointer = struct.unpack_from("!H", changed, start)[0]
        place = targets.get(query.qname[(pointer & 0x3FFF) - HEADER_SIZE :]) if pointer >= 0xC000 else None
        if place is not None and place <= MAX_POINTER:
            struct.pack_into("!H", changed, start, 0xC000 | place)
    return body._replace(octets=bytes(changed))


def move(body: Body, octets: int) -> Body:
    """Every pointer but those of answers to their owner moved by so many octets: the question became that much longer.

    What such pointers lead to lies behind the part of the question that differs. Additional records whose pointer would
    lead too far are left out, with those behind them.
    """
    changed = bytearray(body.octets)
    for index, (start, _) in enumerate(_records(body)):
        at = _owner_end(changed, start) - 2
        is_owner = index < body.answers and changed[at : at + 2] == OWNER
        if changed[at] >= 0xC0 and not is_owner:
            place = (struct.unpack_from("!H", changed, at)[0] & MAX_POINTER) + octets
            if place > MAX_POINTER:
                assert index >= body.answers, "answers of an alias point to their owner only"
                return body._replace(octets=bytes(changed[:start]), additionals=index - body.answers - body.authorities)
            struct.pack_into("!H", changed, at, 0xC000 | place)
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
