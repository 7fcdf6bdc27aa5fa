"""What upstream servers send: what is believed of it, and what is not."""

from __future__ import annotations

import struct
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.dns.query import parse_query
from kdns.dns.records import read_sections
from kdns.dns.reply import render
from kdns.dns.walker import MIN_RECORD, is_empty, read_header, read_reply
from kdns.errors import FormatError

ID = 4711
QUERY = dns.message.make_query("www.example.test", "A", use_edns=0, payload=4096)
QUESTION = dns.message.make_query("www.example.test", "A").to_wire()[12:]
OPT = b"\0" + struct.pack("!HHIH", 41, 1232, 0, 0)


def reply_to(query: dns.message.Message = QUERY, **sections: list[str]) -> dns.message.Message:
    """A reply with records given as zone-file lines."""
    made = dns.message.make_response(query, recursion_available=True, our_payload=1232)
    made.id = ID
    for name, lines in sections.items():
        section = getattr(made, name)
        for line in lines:
            owner, ttl, rclass, rtype, rdata = line.split(None, 4)
            section.append(dns.rrset.from_text(owner, int(ttl), rclass, rtype, rdata))
    return made


def message(records: bytes, answers: int = 0, authorities: int = 0, additionals: int = 0, flags: int = 0x8180) -> bytes:
    return struct.pack("!HHHHHH", ID, flags, 1, answers, authorities, additionals) + QUESTION + records


def record(owner: bytes, rtype: int, rdata: bytes, ttl: int = 60) -> bytes:
    return owner + struct.pack("!HHIH", rtype, 1, ttl, len(rdata)) + rdata


def refused(octets: bytes) -> str:
    with pytest.raises(FormatError) as caught:
        read_reply(octets, ID, QUESTION)
    return str(caught.value)


def shown(octets: bytes, query: dns.message.Message = QUERY) -> dns.message.Message:
    """What a client makes of a reply after it went through here."""
    question = query.to_wire()
    verdict, parsed = parse_query(question)
    assert parsed is not None, verdict
    reply = read_reply(octets, ID, parsed.head[12:])
    return dns.message.from_wire(render(parsed, reply, stream=True, chance=0))


def test_sections_stay_and_the_opt_record_goes() -> None:
    sent = reply_to(
        answer=["www.example.test. 60 IN CNAME a.example.test.", "a.example.test. 30 IN A 192.0.2.1"],
        authority=["example.test. 60 IN NS ns.example.test."],
        additional=["ns.example.test. 60 IN A 192.0.2.53"],
    )
    reply = read_reply(sent.to_wire(), ID, QUESTION)
    assert (reply.body.answers, reply.body.authorities, reply.body.additionals) == (2, 1, 1)
    got = shown(sent.to_wire())
    assert (got.answer, got.authority, got.additional) == (sent.answer, sent.authority, sent.additional)
    assert got.edns == 0


def test_flags_and_rcode_are_the_upstreams() -> None:
    reply = read_reply(message(b"", flags=0x8000 | 0x0400 | 0x0200 | 0x0080 | 0x0020 | 3), ID, QUESTION)
    assert reply.authoritative
    assert reply.truncated
    assert reply.recursion_available
    assert reply.authentic_data
    assert reply.rcode == 3
    bare = read_reply(message(b"", flags=0x8000), ID, QUESTION)
    assert not any((bare.authoritative, bare.truncated, bare.recursion_available, bare.authentic_data, bare.rcode))


def test_rcode_has_its_upper_bits_in_the_opt_record() -> None:
    sent = reply_to()
    sent.set_rcode(dns.rcode.BADCOOKIE)
    assert read_reply(sent.to_wire(), ID, QUESTION).rcode == 23


def test_extended_error_is_read() -> None:
    sent = reply_to()
    sent.use_edns(0, options=[dns.edns.EDEOption(18, "blocked here"), dns.edns.EDEOption(3)])
    assert read_reply(sent.to_wire(), ID, QUESTION).extended_error == (18, "blocked here")


def test_options_go_on_but_for_those_between_neighbours() -> None:
    sent = reply_to()
    hop_by_hop = [dns.edns.GenericOption(code, b"\1\2\3\4\5\6\7\x08") for code in (10, 11, 12)]
    sent.use_edns(0, options=[dns.edns.GenericOption(3, b"me"), *hop_by_hop, dns.edns.ECSOption("192.0.2.0", 24, 20)])
    assert read_reply(sent.to_wire(), ID, QUESTION).options == ((3, b"me"), (8, b"\0\1\x18\x14\xc0\0\2"))


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (b"", "0 octets, a header has 12"),
        (message(b"")[:11], "11 octets, a header has 12"),
        (b"\0\1" + message(b"")[2:], "id 1, asked with 4711"),
        (message(b"", flags=0x0100), "not a response to a query"),
        (message(b"", flags=0xA000), "not a response to a query"),
        (message(b"").replace(b"\x03www", b"\x03xxx"), "another question"),
        (message(b"")[:-4] + b"\0\x1c\0\1", "another question"),
        (message(b"")[:-4] + b"\0\1\0\3", "another question"),
        (message(b"")[:4] + b"\0\0" + message(b"")[6:], "another question"),
        (message(b"")[:4] + b"\0\2" + message(b"")[6:], "another question"),
        (message(b"", answers=1), "more records announced than the message has room for"),
        (message(b"", answers=65535, authorities=65535), "more records announced than the message has room for"),
        (message(record(b"\xc0\x0c", 1, b"\1\2\3\4") + bytes(20), answers=3), "cut short"),
        (message(record(b"\xc0\x0c", 16, b"\1a")[:-1] + b"", answers=1), "record data of 2 octets, 1 are left"),
        (message(record(b"\xc0\x0c", 1, b"\1\2\3"), answers=1), "an address of 3 octets"),
        (message(record(b"\xc0\x0c", 28, b"\1\2\3\4"), answers=1), "an address of 4 octets"),
        (message(record(b"\x80a\0", 1, b"\1\2\3\4"), answers=1), "a label of unknown kind 0x80"),
        (message(record(b"\xc0\x0c", 5, b"\xc0\x0c\0"), 1), "data of a record of type 5 ends at octet 48, expected 49"),
        (message(record(b"\xc0\x0c", 6, bytes(21)), 1), "data of a record of type 6 ends at octet 68, expected 67"),
        (message(record(b"\xc0\x0c", 15, b"\0"), answers=1), "cut short"),
        (message(OPT + OPT, additionals=2), "a misplaced OPT record"),
        (message(OPT, answers=1), "a misplaced OPT record"),
        (message(OPT, authorities=1), "a misplaced OPT record"),
        (message(b"\1a" + OPT, additionals=1), "a misplaced OPT record"),
        (message(record(b"\0", 41, b"\0\3\0\2x"), additionals=1), "an EDNS option runs past its record"),
        (message(record(b"\0", 41, b"\0\3\0"), additionals=1), "cut short"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(octets: bytes, reason: str) -> None:
    assert refused(octets) == reason


def test_a_header_is_a_reply_if_nothing_else_is_wanted_of_it() -> None:
    assert read_header(struct.pack("!HHHHHH", ID, 0x8001, 0, 0, 0, 0), ID).rcode == 1
    for octets in (b"", b"\0\1" + bytes([0x80]) + bytes(9), struct.pack("!HHHHHH", ID, 0, 0, 0, 0, 0)):
        with pytest.raises(FormatError, match="no reply"):
            read_header(octets, ID)


def test_pointers_lead_backwards_only() -> None:
    at = 12 + len(QUESTION)
    itself = (0xC000 | at).to_bytes(2, "big")
    assert "leads to octet" in refused(message(record(itself, 1, b"\1\2\3\4"), answers=1))
    forward = (0xC000 | at + 20).to_bytes(2, "big")
    assert "leads to octet" in refused(message(record(forward, 1, b"\1\2\3\4") + bytes(20), answers=1))
    assert "leads to octet 2," in refused(message(record(b"\xc0\x02", 1, b"\1\2\3\4"), answers=1))


def test_a_name_longer_than_a_name_may_be_is_refused_however_it_is_put_together() -> None:
    label = b"\x3f" + b"a" * 63
    long_name = label * 3 + b"\x3d" + b"a" * 61 + b"\0"
    assert len(long_name) == 255
    at = 12 + len(QUESTION)
    read_reply(message(record(long_name, 1, b"\1\2\3\4"), answers=1), ID, QUESTION)
    longer = b"\1b" + (0xC000 | at).to_bytes(2, "big")
    both = record(long_name, 1, b"\1\2\3\4") + record(longer, 1, b"\1\2\3\4")
    assert refused(message(both, answers=2)) == "a name of 257 octets, expected at most 255"
    assert refused(message(record(label * 4 + b"\0", 1, b"\1\2\3\4"), answers=1)) == "a name of more than 255 octets"


def test_case_of_the_question_does_not_count_but_type_and_class_do() -> None:
    octets = message(b"").replace(b"\x03www\x07example", b"\x03wWw\x07EXAMPLE")
    assert read_reply(octets, ID, QUESTION).rcode == 0
    asked = b"\1a\0" + struct.pack("!HH", 65, 1)
    got = struct.pack("!HHHHHH", ID, 0x8180, 1, 0, 0, 0) + b"\1a\0" + struct.pack("!HH", 97, 1)
    with pytest.raises(FormatError, match="another question"):
        read_reply(got, ID, asked)  # 65 is "A" as an octet, 97 is "a"


def test_records_behind_the_opt_record_move_up_with_their_pointers() -> None:
    ns = b"\2ns\xc0\x10"  # ns.example.test
    start = 12 + len(QUESTION)
    authority = record(b"\xc0\x10", 2, ns)
    ns_at = start + len(authority) - len(ns)
    first = record(b"\2xx" + (0xC000 | ns_at).to_bytes(2, "big"), 1, b"\1\2\3\4")
    first_at = start + len(authority) + len(OPT)
    second = record((0xC000 | first_at).to_bytes(2, "big"), 15, b"\0\1" + (0xC000 | first_at).to_bytes(2, "big"))
    got = shown(message(authority + OPT + first + second, 0, 1, 3))
    assert [rrset.to_text() for rrset in got.additional] == [
        "xx.ns.example.test. 60 IN A 1.2.3.4",
        "xx.ns.example.test. 60 IN MX 1 xx.ns.example.test.",
    ]


def test_a_pointer_into_the_opt_record_is_refused_where_records_follow() -> None:
    start = 12 + len(QUESTION)
    opt = b"\0" + struct.pack("!HHIH", 41, 1232, 0, 6) + b"\0\x0f\0\2\0\0"
    into = (0xC000 | start + 15).to_bytes(2, "big")
    assert refused(message(opt + record(into, 1, b"\1\2\3\4"), additionals=2)) == "a pointer into the OPT record"


def test_octets_behind_the_last_record_are_left_out() -> None:
    reply = read_reply(message(record(b"\xc0\x0c", 1, b"\1\2\3\4") + b"garbage behind it", answers=1), ID, QUESTION)
    assert reply.body.octets == record(b"\xc0\x0c", 1, b"\1\2\3\4")


def test_addresses_that_end_the_answers_may_rotate() -> None:
    alike = record(b"\xc0\x0c", 1, b"\1\2\3\4") + record(b"\xc0\x0c", 1, b"\1\2\3\5")
    body = read_reply(message(alike, answers=2), ID, QUESTION).body
    assert (body.rotate_from, body.record_length) == (0, 16)
    alias = record(b"\xc0\x0c", 5, b"\1a\xc0\x10")
    chained = alias + alike.replace(b"\xc0\x0c", (0xC000 | 12 + len(QUESTION) + 12).to_bytes(2, "big"))
    body = read_reply(message(chained, answers=3), ID, QUESTION).body
    assert (body.rotate_from, body.record_length) == (len(alias), 16)
    for other in (
        message(alike + record(b"\0", 2, b"\0"), 2, 1),
        message(record(b"\xc0\x0c", 257, b"\1\2\3\4") * 2, 2),
        message(alike[:16], 1),
        message(alike + record(b"\xc0\x0c", 16, b"\1a"), 3),
    ):
        assert read_reply(other, ID, QUESTION).body.record_length == 0


def test_no_data_is_told_from_answers_and_from_errors() -> None:
    assert is_empty(read_reply(message(b""), ID, QUESTION))
    assert not is_empty(read_reply(message(b"", flags=0x8183), ID, QUESTION))
    assert not is_empty(read_reply(message(record(b"\xc0\x0c", 1, b"\1\2\3\4"), answers=1), ID, QUESTION))


def test_a_message_made_to_be_slow_is_walked_once() -> None:
    """Names of 127 labels, and as many records as fit that point into them at each place in turn."""
    start = 12 + len(QUESTION)
    labels = record(b"\xc0\x0c", 16, b"\1a" * 127 + b"\0")
    places = [start + 12 + 2 * step for step in range(127)]
    count = (65535 - start - len(labels)) // 16
    records = b"".join(
        record((0xC000 | places[index % 127]).to_bytes(2, "big"), 1, b"\1\2\3\4") for index in range(count)
    )
    reply = read_reply(message(labels + records, answers=count + 1), ID, QUESTION)
    assert reply.body.answers == count + 1


class _Counted(bytes):
    """Octets that count how often one of them is looked at."""

    looks = 0

    def __getitem__(self, index: Any) -> Any:
        _Counted.looks += 1
        return super().__getitem__(index)


def test_pointers_to_pointers_are_followed_once() -> None:
    start = 12 + len(QUESTION) + 12
    chain = b"\1a\0" + b"".join(
        (0xC000 | (start if at == 0 else start + 3 + 2 * (at - 1))).to_bytes(2, "big") for at in range(7000)
    )
    owner = (0xC000 | (start + 3 + 2 * 6999)).to_bytes(2, "big")
    count = 3000
    text = record(b"\xc0\x0c", 16, chain) + record(owner, 1, b"\1\2\3\4") * count
    reply = read_reply(_Counted(message(text, answers=count + 1)), ID, QUESTION)
    assert reply.body.answers == count + 1
    assert _Counted.looks < 100_000


names = st.sampled_from(["www.example.test.", "a.test.", "example.test.", "x.y.z.example.test.", "."])
lines = st.builds(
    "{} {} IN {}".format,
    names,
    st.integers(0, 2**31 - 1),
    st.one_of(
        st.builds("A 192.0.2.{}".format, st.integers(0, 255)),
        st.builds("AAAA 2001:db8::{:x}".format, st.integers(0, 65535)),
        st.builds("CNAME {}".format, names),
        st.builds("NS {}".format, names),
        st.builds("MX 10 {}".format, names),
        st.builds("SRV 1 2 3 {}".format, names),
        st.builds("SOA {} {} 1 2 3 4 5".format, names, names),
        st.builds("RP {} {}".format, names, names),
        st.just('TXT "some text"'),
        st.just(r"TYPE65280 \# 4 c00cc00c"),
    ),
)
sections = st.lists(lines, max_size=4)


@given(sections, sections, sections, st.integers(0, 4))
def test_any_reply_comes_out_as_it_went_in(
    answer: list[str], authority: list[str], additional: list[str], opt_index: int
) -> None:
    sent = reply_to(dns.message.make_query("www.example.test", "A"), answer=answer, authority=authority)
    plain = sent.to_wire(max_size=65535)
    # The additional section by hand, uncompressed, so that the OPT record can stand anywhere in it.
    parts = []
    for line in additional:
        owner, ttl, rclass, rtype, rdata = line.split(None, 4)
        rrset = dns.rrset.from_text(owner, int(ttl), rclass, rtype, rdata)
        data = rrset[0].to_wire()
        assert data is not None
        name = rrset.name.to_wire()
        assert name is not None
        parts.append(name + struct.pack("!HHIH", rrset.rdtype, 1, int(ttl), len(data)) + data)
    parts.insert(min(opt_index, len(parts)), OPT)
    counts = struct.unpack("!HHH", plain[6:12])
    octets = plain[:6] + struct.pack("!HHH", counts[0], counts[1], len(parts)) + plain[12:] + b"".join(parts)
    reply = read_reply(octets, ID, QUESTION)
    expected = read_sections(
        bytes(12) + QUESTION, reply.body._replace(octets=plain[12 + len(QUESTION) :], additionals=0)
    )
    got = read_sections(bytes(12) + QUESTION, reply.body)
    assert got[:2] == expected[:2]
    assert len(got.additionals) == len(additional)
    assert (
        b"".join(parts).replace(OPT, b"", 1) == reply.body.octets[len(reply.body.octets) - sum(map(len, parts)) + 11 :]
    )


tampered = st.lists(st.tuples(st.integers(12, 400), st.integers(0, 255)), max_size=8)


@given(st.binary(max_size=300), st.integers(0, 12), st.integers(0, 12), st.integers(0, 12))
def test_any_octets_are_refused_or_walk_within_bounds(
    records: bytes, answers: int, authorities: int, additionals: int
) -> None:
    _check_bounds(message(records, answers, authorities, additionals))


@given(sections, sections, tampered, st.integers(0, 400))
def test_a_damaged_reply_is_refused_or_walks_within_bounds(
    answer: list[str], additional: list[str], damages: list[tuple[int, int]], kept: int
) -> None:
    octets = bytearray(reply_to(answer=answer, additional=additional).to_wire(max_size=65535))
    for at, octet in damages:
        if 12 + len(QUESTION) <= at < len(octets):
            octets[at] = octet
    _check_bounds(bytes(octets[: len(octets) - kept] if kept < 100 else octets))


def _check_bounds(octets: bytes) -> None:
    """Whatever is let through, whoever reads it later finds whole records, and no more than there are octets."""
    try:
        reply = read_reply(octets, ID, QUESTION)
    except FormatError:
        return
    body = reply.body
    assert len(body.octets) <= len(octets)
    assert (body.answers + body.authorities + body.additionals) * MIN_RECORD <= len(body.octets)
    sections_read = read_sections(bytes(12) + QUESTION, body)
    assert [len(section) for section in sections_read] == [body.answers, body.authorities, body.additionals]
