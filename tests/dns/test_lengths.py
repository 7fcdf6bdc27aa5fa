"""Lengths with every name written out, against dnspython."""

from __future__ import annotations

import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.dns import names
from kdns.dns.codes import RRType
from kdns.dns.compression import Body, write_body
from kdns.dns.lengths import query_length, reply_length
from kdns.dns.query import Edns
from kdns.dns.reply import Reply, render
from kdns.dns.rrset import Record
from tests.fakes.directives import query

NAMES = st.sampled_from([names.from_text(text) for text in (".", "test", "a.test", "b.a.test", "x.other", "c.x.other")])
TARGETS = {
    RRType.CNAME: b"",
    RRType.NS: b"",
    RRType.PTR: b"",
    RRType.DNAME: b"",
    RRType.MX: b"\0\5",
    RRType.SRV: bytes(6),
}
RECORDS = st.one_of(
    st.builds(lambda owner, octets: Record(owner, RRType.A, 5, octets), NAMES, st.binary(min_size=4, max_size=4)),
    st.builds(lambda owner, octets: Record(owner, 65280, 5, octets), NAMES, st.binary(max_size=40)),
    st.builds(
        lambda owner, rtype, name: Record(owner, rtype, 5, TARGETS[rtype] + name),
        NAMES,
        st.sampled_from(list(TARGETS)),
        NAMES,
    ),
    st.builds(lambda owner, one, two: Record(owner, RRType.SOA, 5, one + two + bytes(20)), NAMES, NAMES, NAMES),
)


@given(NAMES, st.lists(RECORDS, max_size=6), st.lists(RECORDS, max_size=3), st.lists(RECORDS, max_size=3))
def test_a_reply_is_as_long_as_its_records_written_out(
    name: bytes, answers: list[Record], authorities: list[Record], additionals: list[Record]
):
    head = bytes(12) + name + bytes(4)
    records = [*answers, *authorities, *additionals]
    expected = len(head) + sum(len(record.owner) + 10 + len(record.rdata) for record in records)
    assert reply_length(head, write_body(name, answers, authorities, additionals)) == expected


@pytest.mark.parametrize("count", [1, 2, 300])
def test_a_run_of_addresses_is_counted_at_once(count: int):
    name = names.from_text("a.test")
    alias = Record(name, RRType.CNAME, 5, names.from_text("b.a.test"))
    for chain in ([], [alias]):
        owner = alias.rdata if chain else name
        addresses = [Record(owner, RRType.AAAA, 5, bytes(15) + bytes([n & 255])) for n in range(count)]
        body = write_body(name, [*chain, *addresses])
        expected = 12 + len(name) + 4 + count * (len(owner) + 26) + len(chain) * (len(name) + 10 + len(alias.rdata))
        assert reply_length(bytes(12) + name + bytes(4), body) == expected


def test_dnspython_agrees():
    asked = query("www.a.test", "MX")
    body = write_body(asked.name, [Record(asked.name, RRType.MX, 5, b"\0\1" + names.from_text("mail.a.test"))])
    parsed = dns.message.from_wire(render(asked, Reply(body=body), stream=False, chance=0))
    plain = 12 + sum(len(rrset.name.to_wire()) + 10 + 2 + len(rrset[0].exchange.to_wire()) for rrset in parsed.answer)
    assert reply_length(asked.head, body) == plain + len(asked.name) + 4


def test_pointers_that_lead_in_a_circle_come_to_an_end():
    head = bytes(12) + b"\1a\0" + bytes(4)
    circle = Body(b"\xc0\x13" + bytes(8) + b"\0\0", 1)  # an owner that points to itself
    assert reply_length(head, circle) >= len(head)


def test_a_query_counts_its_options():
    assert query_length(query("a.test")) == 24
    assert query_length(query("a.test", edns=Edns(1232, 0, True))) == 35
    assert query_length(query("a.test", edns=Edns(1232, 0, True, ((3, b""), (10, bytes(8)))))) == 51
