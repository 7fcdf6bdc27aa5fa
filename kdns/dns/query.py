"""Queries as values: the parser of the slow path, and the reference for the compiled one.

Both accept the same messages and see the same in them (a property test says so); this one is written to be read.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from enum import IntEnum

from kdns.dns import names
from kdns.dns.codes import EdnsOption, Opcode, RRClass, RRType

HEADER_SIZE = 12  # octets (RFC 1035, 4.1.1)
MAX_AUTHORITIES = 1  # the SOA record of an IXFR query (RFC 1995, 3)
MAX_ADDITIONALS = 2  # OPT and TSIG
SOA_NUMBERS = 20  # octets of the data of an SOA record behind its names, the serial first (RFC 1035, 3.3.13)

_HEADER = struct.Struct("!HBBHHHH")
_FIXED = struct.Struct("!HHIH")


class Verdict(IntEnum):
    """What a message is; the numbers are those of hotpath/wire.pxd."""

    QUERY = 0
    DROP_SHORT = 1
    DROP_RESPONSE = 2
    NOTIMP = 3
    FORMERR = 4
    BADVERS = 5
    OTHER_CLASS = 6


@dataclass(frozen=True, slots=True)
class Edns:
    """The OPT record of a query (RFC 6891)."""

    payload_size: int  # octets
    version: int
    dnssec_ok: bool
    options: tuple[tuple[int, bytes], ...] = ()  # (code, data), in the order sent

    @property
    def keepalive(self) -> bool:
        """The client sent edns-tcp-keepalive (RFC 7828)."""
        return any(code == EdnsOption.TCP_KEEPALIVE for code, _ in self.options)


@dataclass(frozen=True, slots=True)
class Query:
    """A message with one question. `name` is as sent, `qname` in lower case; `head` is its header and question."""

    head: bytes
    name: bytes
    qname: bytes
    qtype: int
    qclass: int
    edns: Edns | None
    serial: int | None = None  # of the SOA record that an IXFR query brings (RFC 1995, 3)

    @property
    def id(self) -> int:
        """The message id."""
        return int.from_bytes(self.head[:2], "big")

    @property
    def recursion_desired(self) -> bool:
        """The RD bit."""
        return bool(self.head[2] & 0x01)

    @property
    def authentic_data(self) -> bool:
        """The AD bit: the client understands it in a reply (RFC 6840, 5.7)."""
        return bool(self.head[3] & 0x20)

    @property
    def checking_disabled(self) -> bool:
        """The CD bit."""
        return bool(self.head[3] & 0x10)

    @property
    def has_upper_case(self) -> bool:
        """Whether the name came with capitals."""
        return self.name != self.qname

    def with_question(self, name: bytes, qtype: int) -> Query:
        """This query, asking something else; EDNS and flags stay."""
        question = name + struct.pack("!HH", qtype, self.qclass)
        return Query(self.head[:HEADER_SIZE] + question, name, names.lower(name), qtype, self.qclass, self.edns)

    def with_class(self, qclass: int) -> Query:
        """This query, asked in another class."""
        return replace(self, head=self.head[:-2] + struct.pack("!H", qclass), qclass=qclass)

    def with_edns(self, edns: Edns | None) -> Query:
        """This query with another OPT record, or without one."""
        return replace(self, edns=edns)


def parse_query(message: bytes) -> tuple[Verdict, Query | None]:
    """Decide what a message is; the Query comes with QUERY, BADVERS and OTHER_CLASS."""
    if len(message) < HEADER_SIZE:
        return Verdict.DROP_SHORT, None
    _, flags, _, questions, answers, authorities, additionals = _HEADER.unpack_from(message)
    if flags & 0x80:
        return Verdict.DROP_RESPONSE, None
    if (flags >> 3) & 15 != Opcode.QUERY:
        return Verdict.NOTIMP, None
    if questions != 1 or answers or authorities > MAX_AUTHORITIES or additionals > MAX_ADDITIONALS:
        return Verdict.FORMERR, None
    name_end = _question_name_end(message)
    if name_end is None or name_end + 4 > len(message):
        return Verdict.FORMERR, None
    try:
        edns = _find_edns(message, name_end + 4, authorities, additionals)
    except _Malformed:
        return Verdict.FORMERR, None
    name = message[HEADER_SIZE:name_end]
    qtype, qclass = struct.unpack_from("!HH", message, name_end)
    serial = _known_serial(message, name_end + 4) if qtype == RRType.IXFR and authorities else None
    query = Query(message[: name_end + 4], name, names.lower(name), qtype, qclass, edns, serial)
    if edns is not None and edns.version:
        return Verdict.BADVERS, query
    if qclass != RRClass.IN:
        return Verdict.OTHER_CLASS, query
    return Verdict.QUERY, query


class _Malformed(Exception):
    """A record that is not there, or not what it claims."""


def _question_name_end(message: bytes) -> int | None:
    """The offset behind the question's name. No pointer is legal in it: there is nothing before it."""
    at = HEADER_SIZE
    while at < len(message):
        if at - HEADER_SIZE >= names.MAX_NAME:
            return None
        label = message[at]
        if label == 0:
            return at + 1
        if label > names.MAX_LABEL:
            return None
        at += 1 + label
    return None


def _find_edns(message: bytes, at: int, authorities: int, additionals: int) -> Edns | None:
    """Walk the records behind the question; their one OPT, if any (RFC 6891, 6.1.1). Raises _Malformed."""
    found = None
    for index in range(authorities + additionals):
        fixed = _skip_name(message, at)
        if fixed + 10 > len(message):
            raise _Malformed
        rtype, payload_size, ttl, size = _FIXED.unpack_from(message, fixed)
        end = fixed + 10 + size
        if end > len(message):
            raise _Malformed
        if rtype == RRType.OPT:
            if found is not None or index < authorities or fixed != at + 1:
                raise _Malformed
            options = _read_options(message[fixed + 10 : end])
            found = Edns(payload_size, (ttl >> 16) & 0xFF, bool(ttl & 0x8000), options)
        at = end
    return found


def _known_serial(message: bytes, at: int) -> int | None:
    """The serial of the SOA record at `at`, whose extent has been checked; None where it is another record."""
    fixed = _skip_name(message, at)
    rtype, _, _, size = _FIXED.unpack_from(message, fixed)
    if rtype != RRType.SOA or size < SOA_NUMBERS:
        return None
    (serial,) = struct.unpack_from("!I", message, fixed + _FIXED.size + size - SOA_NUMBERS)
    return int(serial)


def _skip_name(message: bytes, at: int) -> int:
    """The offset behind a record's owner. A pointer must lead backwards; it is not followed."""
    start = at
    while at < len(message):
        label = message[at]
        if label == 0:
            return at + 1
        if label >= 0xC0:
            if at + 2 > len(message):
                raise _Malformed
            if not HEADER_SIZE <= int.from_bytes(message[at : at + 2], "big") & 0x3FFF < start:
                raise _Malformed
            return at + 2
        if label > names.MAX_LABEL or at - start + label >= names.MAX_NAME:
            raise _Malformed
        at += 1 + label
    raise _Malformed


def _read_options(options: bytes) -> tuple[tuple[int, bytes], ...]:
    found, at = [], 0
    while at < len(options):
        if at + 4 > len(options):
            raise _Malformed
        code, size = struct.unpack_from("!HH", options, at)
        found.append((code, options[at + 4 : at + 4 + size]))
        at += 4 + size
    if at != len(options):
        raise _Malformed
    return tuple(found)
