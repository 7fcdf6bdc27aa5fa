"""What sections hold, and their TTLs made one."""

from __future__ import annotations

import dns.message
import dns.rrset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdns.dns import names
from kdns.dns.compression import Body, write_body
from kdns.dns.lengths import reply_length
from kdns.dns.rrset import Record
from kdns.hotpath.sections import Contents, inspect, with_ttl
from tests.harness.examples import examples

NAME = names.from_text("www.example.org")
HEAD = bytes(12) + NAME + b"\0\1\0\1"
NOW = 1_800_000_000


def body(*lines: str, authorities: tuple[str, ...] = (), additionals: tuple[str, ...] = ()) -> Body:
    """Sections from zone-file lines."""

    def records(section: tuple[str, ...]) -> list[Record]:
        found = []
        for line in section:
            owner, ttl, rtype, data = line.split(None, 3)
            rrset = dns.rrset.from_text(owner, int(ttl), "IN", rtype, data)
            found.append(Record(names.from_text(owner), int(rrset.rdtype), int(ttl), rrset[0].to_digestable()))
        return found

    return write_body(NAME, records(lines), records(authorities), records(additionals))


def look(made: Body, qtype: int = 1, now: int = NOW) -> Contents | None:
    return inspect(len(HEAD), made.octets, made.answers, made.authorities, made.additionals, qtype, now)


def test_all_sections_are_looked_at():
    made = body(
        "www.example.org. 30 CNAME a.example.org.", "a.example.org. 20 A 192.0.2.1",
        authorities=(
            "example.org. 40 SOA ns.example.org. root.example.org. 1 2 3 4 5", "example.org. 9 NS ns.example.org.",
        ),
        additionals=("ns.example.org. 50 A 192.0.2.53",),
    )  # fmt: skip
    found = look(made)
    assert found is not None
    assert found[:5] == (9, True, True, True, True)
    assert found.whole_size == reply_length(HEAD, made) - len(HEAD)


@pytest.mark.parametrize(("qtype", "answers"), [(1, True), (5, True), (28, False), (255, True)])
def test_the_type_asked_for_is_looked_for_in_the_answers(qtype: int, answers: bool):
    found = look(body("www.example.org. 1 CNAME a.test.", "a.test. 1 A 192.0.2.1"), qtype)
    assert found is not None
    assert found.answers_type is answers


def test_an_soa_record_counts_in_the_authority_section_only():
    found = look(body("www.example.org. 1 SOA a.test. b.test. 1 2 3 4 5"), 6)
    assert found is not None
    assert not found.has_soa


@pytest.mark.parametrize(("ttl", "lowest"), [(0, 0), (2**31 - 1, 2**31 - 1), (2**31, 0), (2**32 - 1, 0)])
def test_a_ttl_with_the_first_bit_set_is_none(ttl: int, lowest: int):
    octets = b"\xc0\x0c\0\1\0\1" + ttl.to_bytes(4, "big") + b"\0\4\1\2\3\4"
    found = inspect(len(HEAD), octets, 1, 0, 0, 1, NOW)
    assert found is not None
    assert found.lowest_ttl == lowest


def test_a_run_of_addresses_at_the_end_is_found():
    lines = [f"a.test. 5 A 192.0.2.{n}" for n in range(4)]
    made = body("www.example.org. 5 CNAME a.test.", *lines)
    found = look(made)
    assert found is not None
    assert (found.rotate_from, found.record_length) == (made.rotate_from, made.record_length)
    assert found.record_length == 16


@pytest.mark.parametrize("made", [
    body("www.example.org. 5 A 192.0.2.1"),
    body("www.example.org. 5 TXT a", "www.example.org. 5 TXT b"),
    body("www.example.org. 5 A 192.0.2.1", "www.example.org. 5 A 192.0.2.2", authorities=("test. 5 NS a.test.",)),
    body("www.example.org. 5 A 192.0.2.1", "www.example.org. 5 A 192.0.2.2", "x.test. 5 CNAME b.test."),
    body(),
])  # fmt: skip
def test_what_may_not_change_places_is_no_run(made: Body):
    found = look(made)
    assert found is not None
    assert found.record_length == 0


@pytest.mark.parametrize(("inception", "expiration", "valid"), [
    (NOW - 10, NOW + 10, True), (NOW, NOW, True), (NOW + 1, NOW + 10, False), (NOW - 10, NOW - 1, False),
])  # fmt: skip
def test_signatures_hold_between_their_times(inception: int, expiration: int, valid: bool):
    data = (
        b"\0\1\x0d\2\0\0\0\x14" + expiration.to_bytes(4, "big") + inception.to_bytes(4, "big") + b"\0\1" + b"\0" + b"x"
    )
    octets = b"\xc0\x0c\0\x2e\0\1\0\0\0\1" + len(data).to_bytes(2, "big") + data
    found = inspect(len(HEAD), octets, 1, 0, 0, 1, NOW)
    assert found is not None
    assert found.signatures_valid is valid


@pytest.mark.parametrize(("octets", "counts"), [
    (b"", (1, 0, 0)),
    (b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4\1\2\3", (1, 0, 0)),
    (b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4\1\2\3\4x", (1, 0, 0)),
    (b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4\1\2\3\4", (0, 0, 0)),
    (b"\xc0\x0b\0\1\0\1\0\0\0\1\0\4\1\2\3\4", (1, 0, 0)),
    (b"\xc0\x21\0\1\0\1\0\0\0\1\0\4\1\2\3\4", (1, 0, 0)),
    (b"\xff\xff\0\1\0\1\0\0\0\1\0\4\1\2\3\4", (1, 0, 0)),
    (b"\x40a\0\0\1\0\1\0\0\0\1\0\4\1\2\3\4", (1, 0, 0)),
    (b"\0\0\x29\0\1\0\0\0\1\0\0", (0, 0, 1)),
    (b"\xc0\x0c\0\5\0\1\0\0\0\1\0\4\1a\0x", (1, 0, 0)),
])  # fmt: skip
def test_what_is_not_as_the_counts_say_is_refused(octets: bytes, counts: tuple[int, int, int]):
    assert inspect(len(HEAD), octets, *counts, 1, NOW) is None


@given(octets=st.binary(max_size=200), counts=st.tuples(*[st.integers(0, 5)] * 3), end=st.integers(17, 271))
@settings(max_examples=examples(800), deadline=None)
def test_any_octets_are_read_or_refused(octets: bytes, counts: tuple[int, int, int], end: int):
    found = inspect(end, octets, *counts, 1, NOW)
    assert found is None or with_ttl(octets, sum(counts), 7) is not None


@given(cut=st.integers(0, 400), flips=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=3))
@settings(max_examples=examples(400), deadline=None)
def test_damaged_sections_are_read_or_refused(cut: int, flips: list[tuple[int, int]]):
    made = body(
        "www.example.org. 30 CNAME a.example.org.", "a.example.org. 20 MX 1 b.example.org.",
        "a.example.org. 20 SRV 1 2 3 c.example.org.",
        authorities=("example.org. 40 SOA ns.example.org. root.example.org. 1 2 3 4 5",),
    )  # fmt: skip
    octets = bytearray(made.octets[: max(0, len(made.octets) - cut // 8)])
    for at, value in flips:
        if octets:
            octets[at % len(octets)] = value
    found = look(made._replace(octets=bytes(octets)))
    assert found is None or len(with_ttl(bytes(octets), 4, 1)) == len(octets)


def test_every_record_gets_the_ttl():
    made = body("www.example.org. 30 CNAME a.test.", "a.test. 20 A 192.0.2.1", authorities=("test. 1 NS ns.test.",))
    octets = with_ttl(made.octets, 3, 77)
    counts = b"".join(count.to_bytes(2, "big") for count in (1, 2, 1, 0))
    message = dns.message.from_wire(b"\0\1\x80\0" + counts + HEAD[12:] + octets)
    assert {rrset.ttl for rrset in (*message.answer, *message.authority)} == {77}
    assert with_ttl(b"", 0, 1) == b""
