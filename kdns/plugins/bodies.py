"""Bodies of the table, adapted to a question that is not spelled as the owner they were rendered for."""

from __future__ import annotations

import struct

from kdns.dns import names
from kdns.dns.codes import RRType
from kdns.dns.compression import HEADER_SIZE, MAX_POINTER, OWNER, Body
from kdns.dns.query import Query
from kdns.dns.reply import record_end

RDATA_AT = 10  # octets between a record's owner and its data
SRV_TARGET_AT = 6  # octets before the target in the data of an SRV record (RFC 2782)
SOA_RDATA_AT = 12  # octets before the data of a rendered SOA record: its owner is a pointer
# A record of the question's name, up to its type.
_ADDRESS_KINDS = (OWNER + struct.pack("!H", RRType.A), OWNER + struct.pack("!H", RRType.AAAA))

Entry = tuple[int, int, int, int, int, int, bytes, "list[int] | None"]


def of_entry(entry: Entry) -> Body:
    """The body of a table entry."""
    _, _, record_length, answers, additionals, rotate_from, octets, offsets = entry
    return Body(
        octets, answers, 0, additionals, rotate_from, record_length, None if offsets is None else tuple(offsets)
    )


def soa_pointers(octets: bytes) -> tuple[int, int, int]:
    """Where the pointers to the zone stand in a rendered SOA record: its owner, and behind the labels of its names."""
    first = _owner_end(octets, SOA_RDATA_AT)
    return 0, first - 2, _owner_end(octets, first) - 2


def put_serial(octets: bytes, serial: int) -> bytes:
    """An SOA record with its serial set."""
    at = soa_pointers(octets)[2] + 2
    return octets[:at] + struct.pack("!I", serial) + octets[at + 4 :]


def soa_at(octets: bytes, labels_before_zone: int) -> bytes:
    """An SOA record rendered for a zone's own name, for a name with so many octets before the zone."""
    changed = bytearray(octets)
    for at in soa_pointers(octets):
        changed[at : at + 2] = struct.pack("!H", 0xC000 | (HEADER_SIZE + labels_before_zone))
    return bytes(changed)


def take_fitting(body: Body, room: int, chance: int) -> tuple[Body, bool]:
    """The answers that fit, from the one `chance` (64 bits) chooses, and whether that is not all of the body.

    For answers that can be read one without the other; what is to be done with each record is then done with few.
    """
    offsets = body.record_offsets
    if offsets is None or len(body.octets) <= room:
        return body, False
    octets, count = body.octets, len(offsets)
    answers_end = record_end(octets, offsets[-1])
    if answers_end <= room:
        return _without_far_additionals(body, answers_end, room), True
    start = ((chance >> 32) * count) >> 32
    parts, size = [], 0
    for step in range(count):
        at = (start + step) % count
        end = offsets[at + 1] if at + 1 < count else answers_end
        size += end - offsets[at]
        if size > room:
            break
        parts.append(octets[offsets[at] : end])
    return Body(b"".join(parts), len(parts)), True


def _without_far_additionals(body: Body, at: int, room: int) -> Body:
    """The body up to the last additional record that fits; they begin at `at`."""
    taken = 0
    while taken < body.additionals and (end := record_end(body.octets, at)) <= room:
        at, taken = end, taken + 1
    return body._replace(octets=body.octets[:at], additionals=taken)


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
        name = bytes(changed[target:end])
        targets.setdefault(name, len(query.head) + target)
        if names.is_below(name, zone):
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


def last_rdata_at(body: Body) -> int:
    """Where the data of the last answer begins."""
    at = 0
    for _ in range(body.answers - 1):
        at = record_end(body.octets, at)
    return _owner_end(body.octets, at) + RDATA_AT


def join_addresses(chain: Body, addresses: Body, place: int) -> Body | None:
    """CNAMEs, and the answers to a question for the name they lead to, which stands at `place` of the message.

    None where these answers are anything but addresses of that name alone, all alike in length.
    """
    octets, count = addresses.octets, addresses.answers
    if place > MAX_POINTER or not count:
        return None
    length = record_end(octets, 0)
    kind = octets[:4]
    if kind not in _ADDRESS_KINDS or len(octets) < count * length:
        return None
    owner = struct.pack("!H", 0xC000 | place)
    parts = [chain.octets]
    for at in range(0, count * length, length):
        if octets[at : at + 4] != kind or octets[at + 10 : at + 12] != octets[10:12]:
            return None
        parts += owner, octets[at + 2 : at + length]
    if count == 1:
        return Body(b"".join(parts), chain.answers + 1)
    return Body(b"".join(parts), chain.answers + count, 0, 0, len(chain.octets), length)


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
