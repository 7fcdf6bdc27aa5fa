"""What arrives besides good queries, by name, with what each is: both parsers decide them alike."""

from __future__ import annotations

import struct
from typing import NamedTuple

from hypothesis import strategies as st

from kdns.dns import names
from kdns.dns.codes import EdnsOption, RRType
from kdns.dns.query import Verdict
from tests.fakes.dns_values import any_names, edns_query, opt, option, query

NAME = "web.shop.svc.cluster.local"
LONGEST = names.from_labels([b"a" * 63] * 3 + [b"b" * 61])
POINTER = b"\xc0\x0c"
_RAW_OPT = struct.Struct("!BHHBBHH")
_FIXED = struct.pack("!HHIH", RRType.A, 1, 0, 4) + bytes(4)


class Case(NamedTuple):
    """A message and its verdict."""

    text: str
    message: bytes
    verdict: Verdict


def _header(
    questions: int = 1, answers: int = 0, authorities: int = 0, additionals: int = 0, flags: int = 0x0100
) -> bytes:
    return struct.pack("!HHHHHH", 7, flags, questions, answers, authorities, additionals)


def _with_opt(tail: bytes, additionals: int = 1) -> bytes:
    return query(NAME, counts=(1, 0, 0, additionals), tail=tail)


def _with_authority(tail: bytes) -> bytes:
    return query("a", counts=(1, 0, 1, 0), tail=tail)


def _bad(text: str, message: bytes) -> Case:
    return Case(text, message, Verdict.FORMERR)


def _good(text: str, message: bytes) -> Case:
    return Case(text, message, Verdict.QUERY)


_OVERRUN = struct.pack("!BHHIH", 0, RRType.OPT, 1232, 0, 5) + b"\0\x0a\0\x05"  # ends inside its data
_IN = b"\0\x01\0\x01"
_TOO_LONG = b"".join(bytes((n,)) + b"a" * n for n in (63, 63, 63, 62)) + b"\0"
_TSIG = b"\x03key\0" + struct.pack("!HHIH", 250, 255, 0, 4) + bytes(4)
_SOA = POINTER + struct.pack("!HHIH", RRType.SOA, 1, 0, 2) + b"\0\0"

CASES = (
    *(Case(f"{size} octets", query(NAME)[:size], Verdict.DROP_SHORT) for size in range(12)),
    *(Case(f"a response, rcode {n}", query(NAME, flags=0x8100 | n), Verdict.DROP_RESPONSE) for n in range(16)),
    Case("a response to NOTIFY", query(NAME, flags=0xA400), Verdict.DROP_RESPONSE),
    Case("a response that is only a header", _header(0, flags=0x8000), Verdict.DROP_RESPONSE),
    *(Case(f"opcode {code}", query(NAME, flags=code << 11), Verdict.NOTIMP) for code in range(1, 16)),
    Case("opcode 15, header only", _header(0, flags=15 << 11), Verdict.NOTIMP),
    Case("opcode 15, every flag", _header(0, flags=15 << 11 | 0x07F0), Verdict.NOTIMP),
    _bad("a header that promises a question", _header()),
    _bad("no question", _header(0)),
    _bad("no question, a cookie", _header(0, additionals=1) + opt(options=option(10, bytes(8)))),
    _bad("two questions", query(NAME, counts=(2, 0, 0, 0))),
    _bad("two questions, both there", query(NAME, counts=(2, 0, 0, 0), tail=names.from_text("a.b") + _IN)),
    *(
        _bad(f"counts {counts}", query(NAME, counts=counts))
        for counts in (
            (65535, 0, 0, 0), (1, 65535, 0, 0), (1, 0, 65535, 0), (1, 0, 0, 65535), (65535,) * 4, (1, 1, 0, 0),
            (1, 0, 1, 0), (1, 0, 0, 1), (1, 0, 0, 2), (1, 0, 0, 3),
        )
    ),
    _bad("an answer in the query", query(NAME, counts=(1, 1, 0, 0), tail=POINTER + _FIXED)),
    _bad("a pointer to itself as name", _header() + POINTER + _IN),
    _bad("a pointer forwards as name", _header() + b"\xc0\x12" + _IN + names.from_text(NAME)),
    _bad("a pointer into the header as name", _header() + b"\xc0\x00" + _IN),
    _bad("a label, then a pointer to it", _header() + b"\x01a" + POINTER + _IN),
    _bad("a label of 64 octets", _header() + b"\x40" + b"a" * 64 + b"\0" + _IN),
    _bad("a label of kind 0x40", _header() + b"\x41\x01" + b"\0" + _IN),
    _bad("a label of kind 0x80", _header() + b"\x80a" + b"\0" + _IN),
    _bad("a name of 256 octets", _header() + _TOO_LONG + _IN),
    _bad("a name without end", _header() + b"\x01a" * 200),
    _bad("no root label", _header() + b"\x03web"),
    _bad("a label past the end", _header() + b"\x3fweb"),
    _bad("no type", query(NAME)[:-4]),
    _bad("half a type", query(NAME)[:-3]),
    _bad("no class", query(NAME)[:-2]),
    _bad("half a class", query(NAME)[:-1]),
    _good("a name of 255 octets", query(LONGEST)),
    _good("the root", query(".")),
    _good("NUL, dot and octets above 127 in labels", query(b"\x03a.b\x01\0\x02\xff\xc0\0")),
    _good("octets behind the question", query(NAME, tail=b"\xde\xad\xbe\xef")),
    _good("octets behind OPT", edns_query(NAME) + b"\0" * 100),
    _bad("additional record promised, not there", query(NAME, counts=(1, 0, 0, 1))),
    _bad("two OPT records", _with_opt(opt() + opt(), 2)),
    _bad("OPT as authority", query(NAME, counts=(1, 0, 1, 0), tail=opt())),
    _bad("OPT as authority and as additional", query(NAME, counts=(1, 0, 1, 1), tail=opt() + opt())),
    _bad("OPT as answer", query(NAME, counts=(1, 1, 0, 0), tail=opt())),
    _bad("OPT that is not the root's", _with_opt(opt(owner=b"\x01a\0"))),
    _bad("OPT owned by a pointer", _with_opt(opt(owner=POINTER))),
    _bad("OPT cut in its data", _with_opt(_OVERRUN)),
    *(_bad(f"OPT cut to {size} octets", _with_opt(opt()[:size])) for size in range(11)),
    _bad("an option past the end of OPT", _with_opt(opt(options=b"\0\x0a\0\x09" + bytes(8)))),
    _bad("an option without its length", _with_opt(opt(options=b"\0\x0a\0"))),
    *(_good(f"a COOKIE of {n} octets", edns_query(NAME, options=option(10, bytes(n)))) for n in (0, 7, 8, 9, 40, 41)),
    *(_good(f"option {code}", edns_query(NAME, options=option(code))) for code in (3, 8, 9, 11, 12, 100, 65535)),
    _good("an empty keepalive", edns_query(NAME, options=option(EdnsOption.TCP_KEEPALIVE))),
    _good("unknown EDNS flags", _with_opt(_RAW_OPT.pack(0, RRType.OPT, 1232, 0, 0, 0x7FFF, 0))),
    _good("an extended rcode in a query", _with_opt(_RAW_OPT.pack(0, RRType.OPT, 1232, 9, 0, 0, 0))),
    *(Case(f"EDNS version {n}", edns_query(NAME, version=n), Verdict.BADVERS) for n in (1, 2, 255)),
    Case("EDNS version 1, class CH", query(NAME, qclass=3, counts=(1, 0, 0, 1), tail=opt(version=1)), Verdict.BADVERS),
    _bad("EDNS version 1, an option that overruns", _with_opt(opt(version=1, options=b"\0\x0a\0\x09"))),
    *(Case(f"class {n}", query(NAME, qclass=n), Verdict.OTHER_CLASS) for n in (0, 2, 3, 4, 254, 255, 256, 65535)),
    *(_good(f"type {qtype}", query(NAME, qtype)) for qtype in (0, 1, 41, 250, 251, 252, 253, 254, 255, 666, 65535)),
    _good("TSIG behind OPT", _with_opt(opt() + _TSIG, 2)),
    _good("IXFR with its SOA", query(NAME, RRType.IXFR, counts=(1, 0, 1, 0), tail=_SOA)),
    _bad("an authority record owned by a pointer to itself", _with_authority(b"\xc0\x13" + _FIXED)),
    _bad("an authority record owned by a pointer into the header", _with_authority(b"\xc0\x0b" + _FIXED)),
    _bad("an authority record with half a pointer", _with_authority(b"\xc0")),
    _bad("an authority record whose name never ends", _with_authority(b"\x01a" * 300)),
    _bad("an authority record of label kind 0x40", _with_authority(b"\x41a\0" + _FIXED)),
    _good("every flag a query may have", query(NAME, flags=0x07F0)),
    _good("an rcode in a query", query(NAME, flags=0x010F)),
)  # fmt: skip


@st.composite
def well_formed(draw: st.DrawFn) -> bytes:
    """A query as clients send them, with any name, flags and EDNS."""
    records, counts = b"", [1, 0, 0, 0]
    if draw(st.booleans()):
        records += draw(st.sampled_from((POINTER, b"\0", b"\x01a" + POINTER))) + _FIXED
        counts[2] = 1
    for _ in range(draw(st.integers(0, 2))):
        options = b"".join(
            draw(st.lists(st.builds(option, st.sampled_from((3, 10, 11)), st.binary(max_size=9)), max_size=3))
        )
        records += opt(
            draw(st.integers(0, 65535)),
            version=draw(st.sampled_from((0, 0, 0, 1))),
            do=draw(st.booleans()),
            options=options,
        )
        counts[3] += 1
    name = bytes(draw(st.sampled_from((c, c - 32))) if 97 <= c <= 122 else c for c in draw(any_names))
    flags = draw(st.sampled_from((0, 0x0100, 0x07F0)))
    qclass = draw(st.sampled_from((1, 1, 1, 3, 255)))
    return query(name, draw(st.integers(0, 65535)), qclass=qclass, flags=flags, counts=tuple(counts), tail=records)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A query with octets changed, cut off and added."""
    message = bytearray(draw(well_formed()))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(message) - 1))
        message[at] = draw(st.sampled_from((0, 1, 11, 41, 63, 64, 0xC0, 0xFF)) | st.integers(0, 255))
    keep = draw(st.sampled_from((len(message),)) | st.integers(0, len(message)))
    return bytes(message[:keep]) + draw(st.binary(max_size=4))


any_message = damaged() | well_formed() | st.binary(max_size=64)
