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


_OVERRUN = struct.pack("!BHHIH", 0, RRType.OPT, 1232, 0, 5) + b"\0\x0a\0\x05"  # ends inside its data
_IN = b"\0\x01\0\x01"

CASES = (
    *(Case(f"{size} octets", query(NAME)[:size], Verdict.DROP_SHORT) for size in range(12)),
    *(Case(f"a response, rcode {rcode}", query(NAME, flags=0x8100 | rcode), Verdict.DROP_RESPONSE) for rcode in range(16)),
    Case("a response to NOTIFY", query(NAME, flags=0xA400), Verdict.DROP_RESPONSE),
    Case("a response that is only a header", _header(0, flags=0x8000), Verdict.DROP_RESPONSE),
    *(Case(f"opcode {code}", query(NAME, flags=code << 11), Verdict.NOTIMP) for code in range(1, 16)),
    Case("opcode 15, header only", _header(0, flags=15 << 11), Verdict.NOTIMP),
    Case("opcode 15, every flag", _header(0, flags=15 << 11 | 0x07F0), Verdict.NOTIMP),
    Case("a header that promises a question", _header(), Verdict.FORMERR),
    Case("no question", _header(0), Verdict.FORMERR),
    Case("no question, a cookie", _header(0, additionals=1) + opt(options=option(10, bytes(8))), Verdict.FORMERR),
    Case("two questions", query(NAME, counts=(2, 0, 0, 0)), Verdict.FORMERR),
    Case("two questions, both there", query(NAME, counts=(2, 0, 0, 0), tail=names.from_text("a.b") + _IN), Verdict.FORMERR),
    *(
        Case(f"counts {counts}", query(NAME, counts=counts), Verdict.FORMERR)
        for counts in (
            (65535, 0, 0, 0), (1, 65535, 0, 0), (1, 0, 65535, 0), (1, 0, 0, 65535), (65535,) * 4, (1, 1, 0, 0),
            (1, 0, 1, 0), (1, 0, 0, 1), (1, 0, 0, 2), (1, 0, 0, 3),
        )
    ),
    Case("an answer in the query", query(NAME, counts=(1, 1, 0, 0), tail=POINTER + _FIXED), Verdict.FORMERR),
    Case("a pointer to itself as name", _header() + POINTER + _IN, Verdict.FORMERR),
    Case("a pointer forwards as name", _header() + b"\xc0\x12" + _IN + names.from_text(NAME), Verdict.FORMERR),
    Case("a pointer into the header as name", _header() + b"\xc0\x00" + _IN, Verdict.FORMERR),
    Case("a label, then a pointer to it", _header() + b"\x01a" + POINTER + _IN, Verdict.FORMERR),
    Case("a label of 64 octets", _header() + b"\x40" + b"a" * 64 + b"\0" + _IN, Verdict.FORMERR),
    Case("a label of kind 0x40", _header() + b"\x41\x01" + b"\0" + _IN, Verdict.FORMERR),
    Case("a label of kind 0x80", _header() + b"\x80a" + b"\0" + _IN, Verdict.FORMERR),
    Case("a name of 256 octets", _header() + b"\x3f" + b"a" * 63 + b"\x3f" + b"a" * 63 + b"\x3f" + b"a" * 63 + b"\x3e" + b"b" * 62 + b"\0" + _IN, Verdict.FORMERR),
    Case("a name without end", _header() + b"\x01a" * 200, Verdict.FORMERR),
    Case("no root label", _header() + b"\x03web", Verdict.FORMERR),
    Case("a label past the end", _header() + b"\x3fweb", Verdict.FORMERR),
    Case("no type", query(NAME)[:-4], Verdict.FORMERR),
    Case("half a type", query(NAME)[:-3], Verdict.FORMERR),
    Case("no class", query(NAME)[:-2], Verdict.FORMERR),
    Case("half a class", query(NAME)[:-1], Verdict.FORMERR),
    Case("a name of 255 octets", query(LONGEST), Verdict.QUERY),
    Case("the root", query("."), Verdict.QUERY),
    Case("NUL, dot and octets above 127 in labels", query(b"\x03a.b\x01\0\x02\xff\xc0\0"), Verdict.QUERY),
    Case("octets behind the question", query(NAME, tail=b"\xde\xad\xbe\xef"), Verdict.QUERY),
    Case("octets behind OPT", edns_query(NAME) + b"\0" * 100, Verdict.QUERY),
    Case("additional record promised, not there", query(NAME, counts=(1, 0, 0, 1)), Verdict.FORMERR),
    Case("two OPT records", _with_opt(opt() + opt(), 2), Verdict.FORMERR),
    Case("OPT as authority", query(NAME, counts=(1, 0, 1, 0), tail=opt()), Verdict.FORMERR),
    Case("OPT as authority and as additional", query(NAME, counts=(1, 0, 1, 1), tail=opt() + opt()), Verdict.FORMERR),
    Case("OPT as answer", query(NAME, counts=(1, 1, 0, 0), tail=opt()), Verdict.FORMERR),
    Case("OPT that is not the root's", _with_opt(opt(owner=b"\x01a\0")), Verdict.FORMERR),
    Case("OPT owned by a pointer", _with_opt(opt(owner=POINTER)), Verdict.FORMERR),
    Case("OPT cut in its data", _with_opt(_OVERRUN), Verdict.FORMERR),
    *(Case(f"OPT cut to {size} octets", _with_opt(opt()[:size]), Verdict.FORMERR) for size in range(11)),
    Case("an option past the end of OPT", _with_opt(opt(options=b"\0\x0a\0\x09" + bytes(8))), Verdict.FORMERR),
    Case("an option without its length", _with_opt(opt(options=b"\0\x0a\0")), Verdict.FORMERR),
    *(Case(f"a COOKIE of {n} octets", edns_query(NAME, options=option(10, bytes(n))), Verdict.QUERY) for n in (0, 7, 8, 9, 16, 40, 41)),
    *(Case(f"option {code}", edns_query(NAME, options=option(code)), Verdict.QUERY) for code in (3, 8, 9, 11, 12, 100, 65535)),
    Case("an empty keepalive", edns_query(NAME, options=option(EdnsOption.TCP_KEEPALIVE)), Verdict.QUERY),
    Case("unknown EDNS flags", _with_opt(b"\0" + struct.pack("!HHBBHH", RRType.OPT, 1232, 0, 0, 0x7FFF, 0)), Verdict.QUERY),
    Case("an extended rcode in a query", _with_opt(b"\0" + struct.pack("!HHBBHH", RRType.OPT, 1232, 9, 0, 0, 0)), Verdict.QUERY),
    *(Case(f"EDNS version {n}", edns_query(NAME, version=n), Verdict.BADVERS) for n in (1, 2, 255)),
    Case("EDNS version 1, class CH", query(NAME, qclass=3, counts=(1, 0, 0, 1), tail=opt(version=1)), Verdict.BADVERS),
    Case("EDNS version 1, an option that overruns", _with_opt(opt(version=1, options=b"\0\x0a\0\x09")), Verdict.FORMERR),
    *(Case(f"class {qclass}", query(NAME, qclass=qclass), Verdict.OTHER_CLASS) for qclass in (0, 2, 3, 4, 254, 255, 256, 65535)),
    *(Case(f"type {qtype}", query(NAME, qtype), Verdict.QUERY) for qtype in (0, 1, 41, 250, 251, 252, 253, 254, 255, 666, 65535)),
    Case("TSIG behind OPT", _with_opt(opt() + b"\x03key\0" + struct.pack("!HHIH", 250, 255, 0, 4) + bytes(4), 2), Verdict.QUERY),
    Case("IXFR with its SOA", query(NAME, RRType.IXFR, counts=(1, 0, 1, 0), tail=POINTER + struct.pack("!HHIH", 6, 1, 0, 2) + b"\0\0"), Verdict.QUERY),
    Case("an authority record owned by a pointer to itself", query("a", counts=(1, 0, 1, 0), tail=b"\xc0\x13" + _FIXED), Verdict.FORMERR),
    Case("an authority record owned by a pointer into the header", query("a", counts=(1, 0, 1, 0), tail=b"\xc0\x0b" + _FIXED), Verdict.FORMERR),
    Case("an authority record with half a pointer", query("a", counts=(1, 0, 1, 0), tail=b"\xc0"), Verdict.FORMERR),
    Case("an authority record whose name never ends", query("a", counts=(1, 0, 1, 0), tail=b"\x01a" * 300), Verdict.FORMERR),
    Case("an authority record of label kind 0x40", query("a", counts=(1, 0, 1, 0), tail=b"\x41a\0" + _FIXED), Verdict.FORMERR),
    Case("every flag a query may have", query(NAME, flags=0x07F0), Verdict.QUERY),
    Case("an rcode in a query", query(NAME, flags=0x010F), Verdict.QUERY),
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
