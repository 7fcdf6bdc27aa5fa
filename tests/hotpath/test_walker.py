"""The compiled walker believes what kdns.dns.walker believes, and leaves the same sections."""

from __future__ import annotations

import struct

import dns.message
import dns.rrset
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kdns.dns import walker
from kdns.errors import FormatError
from kdns.hotpath.walker import read_sections
from tests.harness.examples import examples

ID = 4711
QUERY = dns.message.make_query("www.example.test", "A", use_edns=0, payload=4096)
QUESTION = QUERY.to_wire()[12:-11]
OPT = b"\0" + struct.pack("!HHIH", 41, 1232, 0, 0)
LINES = (
    "www.example.test. 60 IN A 192.0.2.1",
    "www.example.test. 60 IN A 192.0.2.2",
    "www.example.test. 60 IN CNAME a.b.example.test.",
    "a.b.example.test. 60 IN AAAA 2001:db8::1",
    "example.test. 5 IN SOA ns.example.test. root.example.test. 1 2 3 4 5",
    "www.example.test. 60 IN MX 10 mail.example.test.",
    "_x._tcp.example.test. 60 IN SRV 1 2 3 www.example.test.",
    "example.test. 60 IN NS ns.example.test.",
    'www.example.test. 60 IN TXT "hello"',
    "www.example.test. 60 IN RP a.example.test. b.example.test.",
)
NAMES = (
    b"\0",
    b"\xc0\x0c",
    b"\x01a\0",
    b"\x01a\xc0\x0c",
    b"\xc0\x10",
    b"\xc0\x22",
    b"\xc0\x2d",
    b"\x3f" + b"x" * 63 + b"\xc0\x0c",
)

sections = st.lists(st.sampled_from(LINES), max_size=4, unique=True)


@st.composite
def written(draw: st.DrawFn) -> bytes:
    """A reply as dnspython writes it, its OPT record last, or before other records."""
    reply = dns.message.make_response(QUERY, recursion_available=True, our_payload=1232)
    for section in (reply.answer, reply.authority, reply.additional):
        for line in draw(sections):
            owner, ttl, rclass, rtype, rdata = line.split(None, 4)
            section.append(dns.rrset.from_text(owner, int(ttl), rclass, rtype, rdata))
    reply.set_rcode(draw(st.sampled_from((0, 2, 3, 5, 16, 23))))
    reply.id = ID
    wire = reply.to_wire()
    if draw(st.booleans()):
        # The same record once more behind the OPT record, its name being whatever stands there.
        behind = draw(st.sampled_from(NAMES)) + struct.pack(
            "!HHIHH", draw(st.sampled_from((1, 5, 15, 16))), 1, 9, 4, 10
        )
        behind += draw(st.sampled_from((b"\xc0\x0c", b"\xc0\x30", b"\x01b")))
        wire = wire[:10] + struct.pack("!H", int.from_bytes(wire[10:12], "big") + 1) + wire[12:] + behind
    return wire


@st.composite
def made(draw: st.DrawFn) -> bytes:
    """Records put together from parts that may not fit."""
    counts = draw(st.tuples(st.integers(0, 4), st.integers(0, 2), st.integers(0, 3)))
    octets = b""
    for _ in range(sum(counts)):
        rtype = draw(st.sampled_from((1, 1, 1, 28, 5, 2, 6, 12, 15, 16, 17, 26, 33, 41, 46, 65)))
        data = draw(
            st.sampled_from((b"\1\2\3\4", b"\0" * 16, b"", *NAMES, b"\0\1\xc0\x0c", b"\0\x0a\0\2hi", b"\0\x0f\0\2\0\3"))
        )
        length = len(data) if draw(st.integers(0, 9)) else draw(st.integers(0, 40))
        octets += draw(st.sampled_from((*NAMES, b"\xc0\x0c"))) + struct.pack("!HHIH", rtype, 1, 60, length) + data
        if draw(st.integers(0, 5)) == 0:
            octets += OPT
    flags = draw(st.sampled_from((0x8180, 0x8580, 0x8380, 0x0100, 0x8183)))
    return struct.pack("!HHHHHH", ID, flags, 1, *counts) + QUESTION + octets


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A reply with octets changed, left out or added."""
    octets = bytearray(draw(st.one_of(written(), made())))
    for _ in range(draw(st.integers(1, 4))):
        octets[draw(st.integers(2, len(octets) - 1))] = draw(st.integers(0, 255))
    return bytes(octets[: draw(st.integers(2, len(octets)))]) + draw(st.binary(max_size=8))


def by_reference(message: bytes) -> tuple[object, ...] | None:
    """What the slow path's walker makes of a message."""
    try:
        reply = walker.read_reply(message, ID, QUESTION)
    except FormatError:
        return None
    flags = int.from_bytes(message[2:4], "big")
    has_options = bool(reply.options) or reply.extended_error is not None
    return flags, reply.rcode, has_options, *reply.body[:6]


@given(message=st.one_of(written(), made(), damaged(), st.binary(max_size=200).map(lambda tail: b"\x12\x67" + tail)))
@example(message=struct.pack("!HHHHHH", ID, 0x8180, 1, 0, 0, 2) + QUESTION + OPT + OPT)
@example(message=struct.pack("!HHHHHH", ID, 0x8180, 1, 1, 0, 0) + QUESTION + b"\xc0")
@example(
    message=struct.pack("!HHHHHH", ID, 0x8180, 1, 0, 0, 2)
    + QUESTION
    + OPT
    + b"\xc0\x22"
    + struct.pack("!HHIH", 16, 1, 0, 0)
)
@settings(max_examples=examples(1000), deadline=None)
def test_both_walkers_come_to_the_same(message):
    assert read_sections(message, QUESTION) == by_reference(message)


def test_letter_case_of_the_question_does_not_count():
    message = struct.pack("!HHHHHH", ID, 0x8180, 1, 0, 0, 0)
    assert read_sections(message + QUESTION.replace(b"www", b"WwW"), QUESTION) is not None
    assert read_sections(message + QUESTION[:-1] + b"\3", QUESTION) is None


def test_a_long_message_of_pointers_is_walked():
    records = b"".join(
        (b"\xc0\x0c" if index == 0 else struct.pack("!H", 0xC000 | (12 + len(QUESTION) + 12 * (index - 1))))
        + struct.pack("!HHIH", 16, 1, 60, 0)
        for index in range(300)
    )
    message = struct.pack("!HHHHHH", ID, 0x8180, 1, 300, 0, 0) + QUESTION + records
    found = read_sections(message, QUESTION)
    assert found == by_reference(message)
    assert found is not None
    assert found[4] == 300
