"""The records of zone files, beside those dnspython reads."""

from __future__ import annotations

from contextlib import suppress

import dns.name
import dns.zone
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.dns import names
from kdns.dns.rrset import Record
from kdns.plugins.file.zone_text import ZoneSyntaxError, parse_zone_text

ORIGIN = names.from_text("zone.test")

ZONE = r"""
$TTL 1h
@   IN SOA ns root (
        2024010101 ; serial ( a brace in a comment
        2h 30m 1w  ; times
        60 )
        NS   ns
        NS   ns.other.test.
    300 MX   10 mail
ns  A    192.0.2.53
    60 IN AAAA 2001:db8::53
IN  IN 60 A 192.0.2.1
www 60 A 192.0.2.1
*.wild TXT "one; two" "say \"it\"" three \065
alias CNAME www
_sip._tcp SRV 0 5 5060 sip.example.
$ORIGIN sub
a\.b A 192.0.2.7
$ORIGIN other.zone.test.
@ 5 PTR @
caa CAA 0 issue "ca.test"
odd TYPE65280 \# 3 010203
naptr NAPTR 100 10 "u" "E2U+sip" "!^.*$!sip:a@b.test!" .
ds DS 12345 8 2 ( 0123456789abcdef0123456789abcdef
    0123456789abcdef0123456789abcdef )
svc HTTPS 1 . alpn=h2
"""


def read(text: str, origin: bytes = ORIGIN) -> list[Record]:
    return list(parse_zone_text(text, origin, "db.test"))


def by_dnspython(text: str) -> list[Record]:
    """What another reader makes of the same text."""
    origin = dns.name.from_wire(ORIGIN, 0)[0]
    zone = dns.zone.from_text(text, origin, relativize=False)
    return [
        Record(owner.to_wire() or b"", rdata.rdtype, ttl, rdata.to_wire(origin=origin) or b"")
        for owner, ttl, rdata in zone.iterate_rdatas()
    ]


def test_every_form_of_a_record_is_read_as_dnspython_reads_it():
    # dnspython has no use for an owner that is spelled as a class.
    text = ZONE.replace("IN  IN 60 A 192.0.2.1\n", "")
    ours = [record._replace(rdata=names.lower(record.rdata)) for record in read(text)]
    others = [
        record._replace(owner=names.lower(record.owner), rdata=names.lower(record.rdata))
        for record in by_dnspython(text)
    ]
    assert sorted(ours) == sorted(others)


def test_owners_may_look_like_classes():
    assert read("IN IN 60 A 192.0.2.1") == [Record(names.from_text("in.zone.test"), 1, 60, bytes((192, 0, 2, 1)))]


def test_names_are_below_the_origin_but_with_a_final_dot_that_is_not_escaped():
    found = read("$TTL 5\na NS b\na. NS b.c.\na\\. NS @\n$ORIGIN x\na NS @\n$ORIGIN .\na NS b\n")
    assert [(names.to_text(one.owner), names.to_text(one.rdata)) for one in found] == [
        ("a.zone.test.", "b.zone.test."),
        ("a.", "b.c."),
        ("a\\..zone.test.", "zone.test."),
        ("a.x.zone.test.", "x.zone.test."),
        ("a.", "b."),
    ]


def test_a_record_without_ttl_has_the_one_of_the_zone_or_else_the_last_ones():
    soa = "@ SOA ns root 1 2 3 4 77\n"
    assert [one.ttl for one in read(soa + "a A 192.0.2.1\na 5 A 192.0.2.2\na A 192.0.2.3\n")] == [77, 77, 5, 5]
    assert [one.ttl for one in read("$TTL 9\n" + soa + "a 5 A 192.0.2.2\na A 192.0.2.3\n")] == [9, 5, 9]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("@ 60 A 192.0.2.1\nwww 60 A 192.0.2\n", 'db.test:2 - bad address "192.0.2"'),
        ("\n  60 A 192.0.2.1", "db.test:2 - no owner, and no record before it"),
        ("a A 192.0.2.1", "db.test:1 - no TTL, no $TTL, and no record before it"),
        ("a 60 CH A 192.0.2.1", "db.test:1 - class CH, expected IN"),
        ("a 60 NOTHING x", 'db.test:1 - not a TTL: "NOTHING"'),
        ("a 60", "db.test:1 - no type"),
        ("a 60 A", "db.test:1 - 0 words of data, expected 1"),
        ("$TTL 5\n\n@ SOA ns root ( 1 2\n3 4 5\n\na A 192.0.2.1\n", "db.test:3 - unbalanced brace"),
        ("$TTL 5\n@ SOA ns root (\n1 2 3 4 x\n)", 'db.test:2 - bad time "x"'),
        ("a 60 A 192.0.2.1 )", "db.test:1 - extra closing brace"),
        ('a 60 TXT "one\ntwo"', 'db.test:1 - unterminated text: "\\"one"'),
        ("$INCLUDE other.db", "db.test:1 - $INCLUDE is not available in kdns, only $ORIGIN and $TTL are"),
        ("$GENERATE 1-3 a$ A 192.0.2.$", "db.test:1 - $GENERATE is not available in kdns, only $ORIGIN and $TTL are"),
        ("$TTL", "db.test:1 - $TTL with 0 words, expected 1"),
        ("$ORIGIN a..b.", "db.test:1 - label of 0 octets, expected 1 to 63"),
        ("a 60 CNAME " + ".".join(["a" * 61] * 4), "db.test:1 - name of 259 octets, expected at most 255"),
    ],
)
def test_a_line_that_is_no_record_is_told_with_file_and_line(text: str, said: str):
    with pytest.raises(ZoneSyntaxError) as caught:
        read(text)
    assert str(caught.value) == said


_WORDS = st.sampled_from(
    ["@", "a", "a.", "\\", "\\000", "*", "$TTL", "$ORIGIN", "IN", "60", "A", "MX", "TXT", "SOA", "TYPE1", "\\#", '"',
     "(", ")", ";", "\n", "  ", "192.0.2.1", "::", "HTTPS", "DS", "CAA", "LOC", "10"]
)  # fmt: skip


@given(st.lists(st.one_of(_WORDS, st.text(max_size=4)), max_size=14).map(" ".join))
def test_any_text_is_records_or_a_syntax_error(text: str):
    found: list[Record] = []
    with suppress(ZoneSyntaxError):
        found += read(text)
    for record in found:
        assert len(record.owner) <= names.MAX_NAME
        assert len(record.rdata) <= 65535
        assert 0 <= record.ttl < 1 << 32
