"""Lines of a zone file made records; dnspython is the judge of what they say."""

from __future__ import annotations

import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.dns import names
from kdns.dns.codes import type_text
from kdns.plugins.template.records import ClassedRecord, RecordSyntaxError, parse_record

DIGEST = "0123456789abcdef" * 4


def text_of(found: ClassedRecord) -> str:
    """The record as dnspython writes it."""
    record = found.record
    rdata = dns.rdata.from_wire(found.rclass, record.rtype, record.rdata, 0, len(record.rdata))
    rclass = dns.rdataclass.to_text(dns.rdataclass.RdataClass(found.rclass))
    return f"{names.to_text(record.owner)} {record.ttl} {rclass} {type_text(record.rtype)} {rdata}"


@pytest.mark.parametrize(
    ("line", "record"),
    [
        ("a.b. 60 IN A 192.0.2.1", "a.b. 60 IN A 192.0.2.1"),
        ("a.b 60 IN CNAME c.d", "a.b. 60 IN CNAME c.d."),
        ("A.b. 60 in aaaa 2001:DB8::1", "a.b. 60 IN AAAA 2001:db8::1"),
        ("a.b. A 192.0.2.1", "a.b. 3600 IN A 192.0.2.1"),
        ("a.b. IN A 192.0.2.1", "a.b. 3600 IN A 192.0.2.1"),
        ("a.b. IN 60 A 192.0.2.1", "a.b. 60 IN A 192.0.2.1"),
        ("a.b. 1h30m A 192.0.2.1", "a.b. 5400 IN A 192.0.2.1"),
        ("a.b.\t60\tIN\tA\t192.0.2.1", "a.b. 60 IN A 192.0.2.1"),
        ("a.b. 60 IN MX 10 mail.a.b.", "a.b. 60 IN MX 10 mail.a.b."),
        ("a.b. 60 IN SRV 1 2 80 x.", "a.b. 60 IN SRV 1 2 80 x."),
        ("a.b. 60 IN NS ns.a.b.", "a.b. 60 IN NS ns.a.b."),
        ("a.b. 60 IN PTR x.y.", "a.b. 60 IN PTR x.y."),
        ("a.b. 60 IN DNAME x.y.", "a.b. 60 IN DNAME x.y."),
        ('a.b. 60 IN TXT "a b" c "d\\"e" \\065;x', 'a.b. 60 IN TXT "a b" "c" "d\\"e" "A"'),
        ('a.b. 60 IN TXT "zone . from 192.0.2.1"', 'a.b. 60 IN TXT "zone . from 192.0.2.1"'),
        ('a.b. 60 IN TXT ""', 'a.b. 60 IN TXT ""'),
        ("a.b. 60 IN SOA ns. root. (1 60 60\n60 60)", "a.b. 60 IN SOA ns. root. 1 60 60 60 60"),
        ("a.b. 60 IN SOA ns root 1 1h 1m 1d 60 ; why", "a.b. 60 IN SOA ns. root. 1 3600 60 86400 60"),
        ('a.b. 60 IN CAA 0 issue "ca.test"', 'a.b. 60 IN CAA 0 issue "ca.test"'),
        ('a.b. 60 IN NAPTR 10 20 "u" "E2U+sip" "!^.*$!sip:x@y!" .',
         'a.b. 60 IN NAPTR 10 20 "u" "E2U+sip" "!^.*$!sip:x@y!" .'),
        ("a.b. 60 IN HTTPS 1 . alpn=h2,h3 ipv4hint=192.0.2.1",
         'a.b. 60 IN HTTPS 1 . alpn="h2,h3" ipv4hint="192.0.2.1"'),
        ("a.b. 60 IN SVCB 0 foo.", "a.b. 60 IN SVCB 0 foo."),
        ("a.b. 60 IN SSHFP 1 1 0123456789abcdef0123456789abcdef01234567",
         "a.b. 60 IN SSHFP 1 1 0123456789abcdef0123456789abcdef01234567"),
        ("a.b. 60 IN TLSA 3 1 1 " + DIGEST, "a.b. 60 IN TLSA 3 1 1 " + DIGEST),
        ("a.b. 60 IN DS 12345 8 2 " + DIGEST, "a.b. 60 IN DS 12345 8 2 " + DIGEST),
        ('a.b. 60 IN HINFO "a" "b"', 'a.b. 60 IN HINFO "a" "b"'),
        ('a.b. 60 IN URI 10 1 "http://x"', 'a.b. 60 IN URI 10 1 "http://x"'),
        ("a.b. 60 IN RP a. b.", "a.b. 60 IN RP a. b."),
        ('a.b. 60 IN SPF "v=spf1"', 'a.b. 60 IN SPF "v=spf1"'),
        ("a.b. 60 IN TYPE65280 \\# 2 ab cd", "a.b. 60 IN TYPE65280 \\# 2 abcd"),
        ("a.b. 60 IN A \\# 4 c0000201", "a.b. 60 IN A 192.0.2.1"),
        ('a.b. 60 CH TXT "x"', 'a.b. 60 CH TXT "x"'),
        ("a\\.c.b. 60 IN A 192.0.2.1", "a\\.c.b. 60 IN A 192.0.2.1"),
        (". 60 IN A 192.0.2.1", ". 60 IN A 192.0.2.1"),
        ("@ 60 IN CNAME @", ". 60 IN CNAME ."),
        ("*.a.b. 60 IN A 192.0.2.1", "*.a.b. 60 IN A 192.0.2.1"),
        (" 60 IN A 192.0.2.1", ". 60 IN A 192.0.2.1"),
    ],
)  # fmt: skip
def test_records(line: str, record: str):
    assert text_of(parse_record(line)) == record


def test_a_long_text_is_so_many_strings_as_it_needs():
    rdata = parse_record(f'a. 60 IN TXT "{"x" * 300}"').record.rdata
    assert rdata == b"\xff" + b"x" * 255 + b"\x2d" + b"x" * 45


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("", "no record"),
        ("a.b.", "no type"),
        ("a.b. 60", "no type"),
        ("a.b. 60\n IN A 192.0.2.1", "no type"),
        ("a.b. x IN A 192.0.2.1", 'not a TTL: "x"'),
        ("a.b. 60 60 A 192.0.2.1", 'not a TTL: "60"'),
        ("a.b. 60 IN A", "0 words of data, expected 1"),
        ("a.b. 60 IN A 192.0.2.1 x", "2 words of data, expected 1"),
        ("a.b. 60 IN A 2001:db8::1", 'bad address "2001:db8::1"'),
        ("a.b. 60 IN A 01.2.3.4", 'bad address "01.2.3.4"'),
        ("a.b. 60 IN AAAA 192.0.2.1", 'bad address "192.0.2.1"'),
        ("a.b. 60 IN AAAA fe80::1%eth0", 'bad address "fe80::1%eth0"'),
        ("a..b. 60 IN A 192.0.2.1", "label of 0 octets"),
        ("a.b. 60 IN MX x mail.", 'bad number "x"'),
        ("a.b. 60 IN MX 65536 mail.", 'bad number "65536"'),
        ("a.b. 60 IN MX 10", "1 words of data, expected 2"),
        ("a.b. 4294967296 IN A 192.0.2.1", 'bad time "4294967296"'),
        ("a.b. 60 IN TXT", "no text"),
        ('a.b. 60 IN TXT "x', "unterminated text"),
        ("a.b. 60 IN TXT \\999", "bad escape"),
        ("a.b. 60 IN SOA ns. root. (1 60 60 60 60", "unbalanced brace"),
        ("a.b. 60 IN A 192.0.2.1 )", "extra closing brace"),
        ('a.b. 60 IN HINFO "' + "x" * 65_600 + '"', "octets of data, expected at most 65535"),
        ("a.b. 60 IN TYPE65280 x", "data of type 65280 can only be given as"),
        ("a.b. 60 IN TYPE65280 \\# 3 abcd", "2 octets of data, expected 3"),
        ("a.b. 60 IN TYPE65280 \\# 1 x", "data is not hexadecimal"),
        ("a.b. 60 IN TLSA x", "bad data"),
    ],
)
def test_what_is_no_record_is_refused_with_a_reason(line: str, complaint: str):
    with pytest.raises(RecordSyntaxError) as caught:
        parse_record(line)
    assert str(caught.value).startswith("dns: ")
    assert complaint in str(caught.value)


@given(st.text(max_size=60) | st.lists(st.sampled_from(
    ["a.b.", " ", "60", "IN", "CH", "A", "TXT", "SOA", "HTTPS", "TLSA", '"', "\\", "(", ")", ";", "192.0.2.1", "\\#",
     "1", "x=", "\n"]
), max_size=14).map("".join))  # fmt: skip
def test_any_line_is_a_record_or_refused(line: str):
    try:
        assert parse_record(line).record.rdata is not None
    except RecordSyntaxError as error:
        assert str(error).startswith("dns: ")  # noqa: PT017
