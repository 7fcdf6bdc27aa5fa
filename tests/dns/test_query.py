"""The slow path's parser: what a message is, and what stands in it."""

from __future__ import annotations

import time

import dns.exception
import dns.flags
import dns.message
import dns.rrset
import pytest
from hypothesis import given, settings

from kdns.dns import names
from kdns.dns.codes import EdnsOption, RRType
from kdns.dns.query import Edns, Verdict, parse_query
from tests.fakes.dns_values import edns_query, option, query
from tests.fakes.hostile_messages import CASES, NAME, any_message, well_formed
from tests.harness.examples import examples


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.text)
def test_each_kind_of_message_gets_its_verdict(case):
    verdict, parsed = parse_query(case.message)
    assert verdict == case.verdict
    assert (parsed is not None) == (verdict in (Verdict.QUERY, Verdict.BADVERS, Verdict.OTHER_CLASS))


@given(any_message)
@settings(max_examples=examples(250), deadline=None)
def test_any_message_has_a_verdict(message):
    verdict, parsed = parse_query(message)
    if parsed is not None:
        assert message.startswith(parsed.head)
        assert parsed.qname == names.lower(parsed.name)
        assert 1 <= len(parsed.name) <= names.MAX_NAME
    assert verdict in Verdict


@given(well_formed())
@settings(max_examples=examples(150), deadline=None)
def test_what_is_accepted_reads_as_dnspython_reads_it(message):
    parsed = parse_query(message)[1]
    if parsed is None:
        return
    try:
        expected = dns.message.from_wire(message)
    except (dns.exception.DNSException, ValueError):
        return  # dnspython looks into options kdns skips
    assert parsed.name == expected.question[0].name.to_wire()
    assert (parsed.qtype, parsed.qclass) == (expected.question[0].rdtype, expected.question[0].rdclass)
    assert parsed.id == expected.id
    assert parsed.recursion_desired == bool(expected.flags & dns.flags.RD)
    assert parsed.checking_disabled == bool(expected.flags & dns.flags.CD)
    if parsed.edns is None:
        assert expected.edns == -1
    else:
        assert (parsed.edns.version, parsed.edns.payload_size) == (expected.edns, expected.payload)
        assert parsed.edns.dnssec_ok == bool(expected.ednsflags & dns.flags.DO)


def test_a_query_shows_what_was_sent():
    message = edns_query(b"\x01A\x01b\0", RRType.SRV, 4096, do=True, options=option(EdnsOption.TCP_KEEPALIVE))
    verdict, parsed = parse_query(message)
    assert verdict == Verdict.QUERY
    assert parsed is not None
    assert (parsed.name, parsed.qname, parsed.has_upper_case) == (b"\x01A\x01b\0", b"\x01a\x01b\0", True)
    assert (parsed.id, parsed.qtype, parsed.qclass) == (0x4242, RRType.SRV, 1)
    assert parsed.edns == Edns(4096, 0, True, ((11, b""),))
    assert parsed.recursion_desired
    assert not parsed.checking_disabled


def test_a_query_can_be_asked_about_something_else():
    _, parsed = parse_query(edns_query(NAME))
    other = parsed.with_question(b"\x01B\0", RRType.AAAA)
    assert other.head == parsed.head[:12] + b"\x01B\0" + b"\0\x1c\0\x01"
    assert (other.qname, other.edns, other.has_upper_case) == (b"\x01b\0", parsed.edns, True)


def test_counts_cost_nothing():
    """A header may promise 65,535 records of each kind; none is believed, or room made for it."""
    message = query(NAME, counts=(1, 65535, 65535, 65535))
    start = time.process_time()
    for _ in range(1000):
        assert parse_query(message) == (Verdict.FORMERR, None)
    assert time.process_time() - start < 1.0


def with_authority(rtype: str, record: str) -> bytes:
    message = dns.message.make_query("a.test.", rtype)
    message.authority.append(dns.rrset.from_text(*record.split(" ", 4)))
    return message.to_wire()


@pytest.mark.parametrize(
    ("rtype", "record", "serial"),
    [
        ("IXFR", "a.test. 0 IN SOA ns.a.test. root.b.test. 4294967295 1 2 3 4", 4294967295),
        ("IXFR", "b.test. 0 IN A 192.0.2.1", None),
        ("AXFR", "a.test. 0 IN SOA . . 7 1 2 3 4", None),
    ],
)
def test_an_incremental_transfer_says_which_serial_is_known(rtype, record, serial):
    verdict, parsed = parse_query(with_authority(rtype, record))
    assert (verdict, parsed.serial) == (Verdict.QUERY, serial)


def test_a_record_that_claims_to_be_an_soa_record_has_no_serial():
    wire = with_authority("IXFR", "a.test. 0 IN SOA . . 7 1 2 3 4")
    short = wire[:-24] + (8).to_bytes(2, "big") + wire[-8:]
    verdict, parsed = parse_query(short)
    assert (verdict, parsed.serial) == (Verdict.QUERY, None)
