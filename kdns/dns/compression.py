"""Record sections in wire form, with names compressed against the question and against each other (RFC 1035, 4.1.4).

A section is rendered for one length of the question's name and then serves every spelling of that name: pointers lead
into the question, wherever its letters' case comes from.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from kdns.dns.codes import RRType
from kdns.dns.rrset import Record

HEADER_SIZE = 12  # octets (RFC 1035, 4.1.1)
MAX_POINTER = 0x3FFF  # the farthest octet a compression pointer can lead to
OWNER = b"\xc0\x0c"  # a pointer to the question's name
MIN_INDEXED = 16  # answer records from which on a body carries their offsets, so that a cut may begin at any of them

_FIXED = struct.Struct("!HHIH")
# The types whose data is one name that may be compressed (RFC 3597, 4: those of RFC 1035).
_NAME_TYPES = frozenset({RRType.NS, RRType.CNAME, RRType.PTR})
_SRV_FIXED = 6  # octets of priority, weight and port before the target (RFC 2782)
_MX_FIXED = 2  # octets of the preference before the exchange (RFC 1035, 3.3.9)


class Body(NamedTuple):
    """The sections behind the question."""

    octets: bytes
    answers: int
    authorities: int = 0
    additionals: int = 0
    rotate_from: int = 0  # where a run of answers alike in length begins
    record_length: int = 0  # of each of them; 0: the answers must not be rotated
    # Of each answer, where each can be read without the others; None: they must be sent from the first on.
    record_offsets: tuple[int, ...] | None = None


EMPTY = Body(b"", 0)


class Compressor:
    """Writes records behind a question, remembering where names stand."""

    def __init__(self, question_name: bytes) -> None:
        self._base = HEADER_SIZE + len(question_name) + 4
        self._offsets: dict[bytes, int] = {}
        self._parts: list[bytes] = []
        self._size = 0
        self._points_into_itself = False
        self._note(question_name, HEADER_SIZE)

    @property
    def size(self) -> int:
        """Octets written so far."""
        return self._size

    @property
    def points_into_itself(self) -> bool:
        """Whether a record leans on another one, and not on the question alone."""
        return self._points_into_itself

    def put(self, record: Record) -> None:
        """Append one record of class IN."""
        owner = self._compress(record.owner)
        at = self._base + self._size
        self._note_compressed(record.owner, owner, at)
        rdata_at = at + len(owner) + 10
        rdata = record.rdata
        if record.rtype in _NAME_TYPES:
            rdata = self._compress(record.rdata)
            self._note_compressed(record.rdata, rdata, rdata_at)
        elif record.rtype == RRType.MX:
            target = self._compress(rdata[_MX_FIXED:])
            self._note_compressed(rdata[_MX_FIXED:], target, rdata_at + _MX_FIXED)
            rdata = rdata[:_MX_FIXED] + target
        elif record.rtype == RRType.SOA:
            rdata = self._compress_soa(rdata, rdata_at)
        elif record.rtype == RRType.SRV:
            # A target is not compressed (RFC 2782), but others may point to it.
            self._note(rdata[_SRV_FIXED:], rdata_at + _SRV_FIXED)
        self._append(owner + _FIXED.pack(record.rtype, 1, record.ttl, len(rdata)) + rdata)

    def octets(self) -> bytes:
        """What has been written."""
        return b"".join(self._parts)

    def _compress_soa(self, rdata: bytes, at: int) -> bytes:
        """The data of an SOA record, its two names compressed (RFC 1035, 3.3.13)."""
        end = 0
        while rdata[end]:
            end += 1 + rdata[end]
        mname, rname, rest = rdata[: end + 1], rdata[end + 1 : -20], rdata[-20:]
        written = self._compress(mname)
        self._note_compressed(mname, written, at)
        second = self._compress(rname)
        self._note_compressed(rname, second, at + len(written))
        return written + second + rest

    def _append(self, octets: bytes) -> None:
        self._parts.append(octets)
        self._size += len(octets)

    def _compress(self, name: bytes) -> bytes:
        """`name` with the longest known end replaced by a pointer."""
        at = 0
        while name[at]:
            offset = self._offsets.get(name[at:])
            if offset is not None:
                self._points_into_itself = self._points_into_itself or offset >= self._base
                return name[:at] + struct.pack("!H", 0xC000 | offset)
            at += 1 + name[at]
        return name

    def _note(self, name: bytes, at: int) -> None:
        """Remember an uncompressed name, and every name it ends in, as standing at `at`."""
        position = 0
        while name[position] and at + position <= MAX_POINTER:
            self._offsets.setdefault(name[position:], at + position)
            position += 1 + name[position]

    def _note_compressed(self, name: bytes, written: bytes, at: int) -> None:
        """Remember the labels of `name` that were written out at `at`."""
        position = 0
        while position < len(written) and 0 < written[position] < 0xC0 and at + position <= MAX_POINTER:
            self._offsets.setdefault(name[position:], at + position)
            position += 1 + written[position]


def write_body(
    question_name: bytes,
    answers: Sequence[Record],
    authorities: Iterable[Record] = (),
    additionals: Iterable[Record] = (),
) -> Body:
    """Render sections for a question; a run of addresses at the end of the answers may be rotated later."""
    writer = Compressor(question_name)
    starts = []
    for record in answers:
        starts.append(writer.size)
        writer.put(record)
    answers_end = writer.size
    may_be_cut_anywhere = not writer.points_into_itself
    authority_count = additional_count = 0
    for authority_count, record in enumerate(authorities, 1):  # noqa: B007 - the count is the point
        writer.put(record)
    for additional_count, record in enumerate(additionals, 1):  # noqa: B007
        writer.put(record)
    octets = writer.octets()
    rotate_from = record_length = 0
    if not authority_count and not additional_count:
        rotate_from, record_length = _alike_tail(octets, answers, [*starts, answers_end])
    is_indexed = may_be_cut_anywhere and len(starts) >= MIN_INDEXED and not record_length
    offsets = tuple(starts) if is_indexed else None
    return Body(octets, len(answers), authority_count, additional_count, rotate_from, record_length, offsets)


def _alike_tail(octets: bytes, answers: Sequence[Record], starts: list[int]) -> tuple[int, int]:
    """(offset, record length) of the run of one RRset's addresses that ends the answers; (0, 0) for fewer than two."""
    if not answers or answers[-1].rtype not in (RRType.A, RRType.AAAA):
        return 0, 0
    first = len(answers)
    while first and answers[first - 1][:2] == answers[-1][:2]:
        first -= 1
    length = starts[-1] - starts[-2]
    # The first of them may spell its owner out; only records alike to the letter may change places.
    while len(answers) - first > 1 and starts[first + 1] - starts[first] != length:
        first += 1
    if len(answers) - first < 2:
        return 0, 0
    return starts[first], length
