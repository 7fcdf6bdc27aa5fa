"""Replies as values, and their wire form.

`render` writes the octets the compiled path writes wherever both answer: the same rotation, the same cut at whole
records, the same OPT record.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace

from kdns.dns.codes import EdnsOption, Rcode
from kdns.dns.compression import EMPTY, HEADER_SIZE, Body
from kdns.dns.query import Query

MIN_UDP_PAYLOAD = 512  # octets; a client that advertises less still gets this (RFC 6891, 6.2.3)
OWN_UDP_PAYLOAD = 1232  # octets; advertised, and never exceeded over UDP (DNS flag day 2020)
MAX_MESSAGE = 65535  # octets of a message over TCP (RFC 1035, 4.2.2)
KEEPALIVE_UNITS = 100  # of 100 ms: an idle connection is kept for 10 s (RFC 7828, 3.1)

_OPT = struct.Struct("!BHHBBHH")


@dataclass(frozen=True, slots=True)
class Reply:
    """What a plugin answers. `body` holds the sections behind the question, right for the question's length."""

    rcode: int = Rcode.NOERROR
    body: Body = EMPTY
    authoritative: bool = True
    recursion_available: bool = False
    authentic_data: bool = False
    recursion_desired: bool | None = None  # None: as the query says
    checking_disabled: bool | None = None  # None: as the query says; an upstream's reply keeps its own
    truncated: bool = False  # it was cut before it came here: by an upstream server
    rotates: bool = False
    extended_error: tuple[int, str] | None = None  # sent to clients that speak EDNS (RFC 8914)
    options: tuple[tuple[int, bytes], ...] = ()  # further EDNS options (code, data), to clients that speak EDNS
    forces_opt: bool = False  # an OPT record with DO goes out, to clients that speak no EDNS too
    writer: str = ""  # the directive it comes from; empty: the server itself
    # The bodies of the messages that follow over TCP: a zone transfer (RFC 5936, 2.2).
    more: AsyncGenerator[Body, None] | None = None

    def rotated(self) -> Reply:
        """This reply, its address records starting at a random one."""
        return replace(self, rotates=True)


def refusal(rcode: int) -> Reply:
    """An error the server makes itself: no sections, not authoritative."""
    return Reply(rcode, authoritative=False)


def udp_limit(query: Query, own_limit: int = OWN_UDP_PAYLOAD) -> int:
    """How many octets a reply over UDP may have; `own_limit` is what this server sends at most."""
    wanted = query.edns.payload_size if query.edns else MIN_UDP_PAYLOAD
    return min(own_limit, max(MIN_UDP_PAYLOAD, wanted))


def render(query: Query, reply: Reply, *, stream: bool, chance: int, own_limit: int = OWN_UDP_PAYLOAD) -> bytes:
    """The octets of a reply, cut to what the transport allows; `chance` (64 bits) chooses where rotation starts."""
    limit = MAX_MESSAGE if stream else udp_limit(query, own_limit)
    options = _render_options(query, reply, stream)
    has_opt = query.edns is not None or reply.forces_opt
    opt = _render_opt(query, reply, options) if has_opt else b""
    # The upper bits of a response code go into the OPT record: without one it cannot be told (RFC 6891, 6.1.3).
    rcode = reply.rcode & 15 if has_opt or reply.rcode < 16 else Rcode.SERVFAIL
    room = limit - len(query.head) - len(opt)
    body = reply.body
    cut = len(body.octets) > room
    if body.record_length and (cut or reply.rotates):
        body = _rotate(body, room, chance)
    elif cut:
        body = _cut(body, room, chance)
    recursion_desired = query.recursion_desired if reply.recursion_desired is None else reply.recursion_desired
    checking_disabled = query.checking_disabled if reply.checking_disabled is None else reply.checking_disabled
    flags = (
        0x8000
        | (0x0400 if reply.authoritative else 0)
        | (0x0200 if cut or reply.truncated else 0)
        | (0x0100 if recursion_desired else 0)
        | (0x0080 if reply.recursion_available else 0)
        | (0x0020 if reply.authentic_data else 0)
        | (0x0010 if checking_disabled else 0)
        | rcode
    )
    header = query.head[:2] + struct.pack(
        "!HHHHH", flags, 1, body.answers, body.authorities, body.additionals + has_opt
    )
    return header + query.head[HEADER_SIZE:] + body.octets + opt


def render_header_only(message: bytes, rcode: int) -> bytes:
    """An error for a message whose question cannot be trusted: id and opcode come back, all else is clear."""
    return message[:2] + bytes((0x80 | (message[2] & 0x78), rcode)) + bytes(8)


def record_end(octets: bytes, at: int) -> int:
    """The offset behind the record at `at` of a body."""
    while octets[at] and octets[at] < 0xC0:
        at += 1 + octets[at]
    at += 2 if octets[at] else 1
    return at + 10 + int.from_bytes(octets[at + 8 : at + 10], "big")


def _rotate(body: Body, room: int, chance: int) -> Body:
    """The records that are all alike, from a random one on, around the end, as many as fit."""
    head, length = body.rotate_from, body.record_length
    if room < head:
        return EMPTY
    count = (len(body.octets) - head) // length
    start = ((chance >> 32) * count) >> 32
    fit = min(count, (room - head) // length)
    run = body.octets[head + start * length :] + body.octets[head : head + start * length]
    return Body(body.octets[:head] + run[: fit * length], body.answers - count + fit)


def _cut(body: Body, room: int, chance: int) -> Body:
    """Whole records, as many as fit: answers first, from a random one on where not all of them fit."""
    octets, ends, at = body.octets, [], 0
    for _ in range(body.answers + body.authorities + body.additionals):
        at = record_end(octets, at)
        ends.append(at)
        if at > room and len(ends) >= body.answers:
            break
    if body.record_offsets is not None and ends[body.answers - 1] > room:
        return _cut_from_random(octets, body.record_offsets, ends[body.answers - 1], room, chance)
    kept = sum(end <= room for end in ends)
    return Body(
        octets[: ends[kept - 1] if kept else 0],
        min(kept, body.answers),
        min(max(kept - body.answers, 0), body.authorities),
        max(kept - body.answers - body.authorities, 0),
    )


def _cut_from_random(octets: bytes, offsets: Sequence[int], end: int, room: int, chance: int) -> Body:
    bounds = [*offsets, end]
    count = len(offsets)
    start = ((chance >> 32) * count) >> 32
    parts, size = [], 0
    for step in range(count):
        record = (start + step) % count
        part = octets[bounds[record] : bounds[record + 1]]
        if size + len(part) > room:
            break
        parts.append(part)
        size += len(part)
    return Body(b"".join(parts), len(parts))


def _render_options(query: Query, reply: Reply, stream: bool) -> bytes:
    options = b""
    if query.edns is not None and stream and query.edns.keepalive:
        options += struct.pack("!HHH", EdnsOption.TCP_KEEPALIVE, 2, KEEPALIVE_UNITS)
    if reply.extended_error is not None:
        code, text = reply.extended_error
        data = struct.pack("!H", code) + text.encode()
        options += struct.pack("!HH", EdnsOption.EXTENDED_ERROR, len(data)) + data
    for code, data in reply.options:
        options += struct.pack("!HH", code, len(data)) + data
    return options


def _render_opt(query: Query, reply: Reply, options: bytes) -> bytes:
    has_do = reply.forces_opt or (query.edns is not None and query.edns.dnssec_ok)
    flags = 0x8000 if has_do else 0
    return _OPT.pack(0, 41, OWN_UDP_PAYLOAD, reply.rcode >> 4, 0, flags, len(options)) + options
