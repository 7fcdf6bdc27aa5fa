"""Replies in wire form: flags, limits, cuts at whole records, rotation, OPT."""

from __future__ import annotations

import struct
from dataclasses import replace

import dns.edns
import dns.flags
import dns.message
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdns.dns import names
from kdns.dns.codes import EdnsOption, ExtendedError, Rcode, RRType
from kdns.dns.compression import Body, write_body
from kdns.dns.query import Query, parse_query
from kdns.dns.reply import (
    MAX_MESSAGE,
    OWN_UDP_PAYLOAD,
    Reply,
    record_end,
    refusal,
    render,
    render_header_only,
    udp_limit,
)
from kdns.dns.rrset import Record
from tests.fakes.dns_values import edns_query, option, query, records, related_names, srv
from tests.harness.examples import examples
from tests.harness.parsed import sections_behind, sections_of

NAME = names.from_text("db.shop.svc.cluster.local")
ADDRESSES = [Record(NAME, RRType.A, 30, bytes((10, 1, n >> 8, n & 255))) for n in range(300)]
SERVICES = [Record(NAME, RRType.SRV, 30, srv(0, 1, 80, names.from_text(f"db-{n:03}.shop.svc"))) for n in range(100)]
chances = st.integers(0, 2**64 - 1)


def parsed(message: bytes) -> Query:
    found = parse_query(message)[1]
    assert found is not None
    return found


def chance_of(position: int, count: int) -> int:
    """A draw that starts at `position` of `count`."""
    return -(-(position << 32) // count) << 32


@pytest.mark.parametrize(
    ("sent", "limit"),
    [(None, 512), (0, 512), (511, 512), (512, 512), (1000, 1000), (1232, 1232), (1233, 1232), (65535, 1232)],
)
def test_the_udp_limit_is_the_clients_within_bounds(sent, limit):
    assert udp_limit(parsed(query(NAME) if sent is None else edns_query(NAME, payload=sent))) == limit


@given(st.integers(0, 0x07FF).map(lambda flags: flags & 0x07FF))
def test_flags_come_back_as_rfc_8906_wants(flags):
    reply = render(parsed(query(NAME, flags=flags)), Reply(), stream=False, chance=0)
    answered = struct.unpack_from("!H", reply, 2)[0]
    assert answered == 0x8400 | flags & (dns.flags.RD | dns.flags.CD)


def test_a_refusal_is_not_authoritative():
    reply = dns.message.from_wire(render(parsed(query(NAME)), refusal(Rcode.REFUSED), stream=False, chance=0))
    assert reply.rcode() == Rcode.REFUSED
    assert not reply.flags & dns.flags.AA
    assert render(parsed(query(NAME)), Reply(recursion_available=True), stream=False, chance=0)[3] & 0x80


def test_the_letters_of_the_question_come_back():
    shouted = NAME.replace(b"shop", b"SHOP")
    assert shouted in render(parsed(query(shouted)), Reply(), stream=False, chance=0)


@given(
    st.integers(1, 12).flatmap(lambda n: st.lists(records(st.just(NAME)), max_size=6).map(lambda some: some * n)),
    st.lists(records(), max_size=3),
    st.integers(0, 2000),
    chances,
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=examples(200), deadline=None)
def test_a_reply_has_whole_records_within_its_limit(answers, additionals, payload, chance, rotates, stream):
    body = write_body(NAME, answers, (), additionals)
    asked = parsed(edns_query(NAME, payload=payload))
    reply = render(asked, Reply(body=body, rotates=rotates), stream=stream, chance=chance)
    assert len(reply) <= (MAX_MESSAGE if stream else udp_limit(asked))
    found = sections_of(reply)
    assert all(record in answers for record in found.answer)
    assert found.additional == additionals[: len(found.additional)]
    is_whole = sorted(found.answer) == sorted(answers) and found.additional == additionals
    assert is_whole is not bool(reply[2] & 0x02), "TC says that something is missing"
    if found.additional:
        assert sorted(found.answer) == sorted(answers), "answers go before additional records"


def test_as_many_records_as_fit_are_sent():
    body = write_body(NAME, ADDRESSES)
    reply = render(parsed(edns_query(NAME, payload=1232)), Reply(body=body), stream=False, chance=0)
    assert OWN_UDP_PAYLOAD - 16 < len(reply) <= OWN_UDP_PAYLOAD
    reply = render(parsed(query(NAME)), Reply(body=body), stream=False, chance=0)
    assert 512 - 16 < len(reply) <= 512
    assert sections_of(render(parsed(query(NAME)), Reply(body=body), stream=True, chance=0)).answer == ADDRESSES


@pytest.mark.parametrize("answers", [ADDRESSES, SERVICES], ids=["alike", "indexed"])
def test_a_cut_may_begin_at_every_record_and_goes_around_the_end(answers):
    body = write_body(NAME, answers)
    asked = parsed(edns_query(NAME, payload=1232))
    for start in range(len(answers)):
        found = sections_of(render(asked, Reply(body=body), stream=False, chance=chance_of(start, len(answers)))).answer
        assert 0 < len(found) < len(answers)
        assert found == [*answers[start:], *answers[:start]][: len(found)]


def test_answers_that_lean_on_each_other_are_cut_from_the_first_on():
    """Their names are compressed against earlier records, so none can be sent without those."""
    answers = [
        Record(NAME, RRType.PTR, 30, names.from_text(f"h{n}.a-long-service-name.example.org")) for n in range(100)
    ]
    for chance in (0, 2**63, 2**64 - 1):
        reply = render(parsed(query(NAME)), Reply(body=write_body(NAME, answers)), stream=False, chance=chance)
        found = sections_of(reply).answer
        assert 10 < len(found) < 100
        assert found == answers[: len(found)]


def test_rotation_moves_addresses_and_leaves_the_chain():
    alias = names.from_text("a.shop.svc.cluster.local")
    chain = Record(alias, RRType.CNAME, 30, NAME)
    body = write_body(alias, [chain, *ADDRESSES[:4]])
    for start in range(4):
        reply = render(parsed(query(alias)), Reply(body=body).rotated(), stream=False, chance=chance_of(start, 4))
        assert sections_of(reply).answer == [chain, *ADDRESSES[start:4], *ADDRESSES[:start]]


def test_without_loadbalance_the_order_stays():
    body = write_body(NAME, ADDRESSES[:4])
    assert (
        sections_of(render(parsed(query(NAME)), Reply(body=body), stream=False, chance=2**64 - 1)).answer
        == ADDRESSES[:4]
    )


def test_no_room_for_one_record_leaves_none():
    record = Record(NAME, RRType.TXT, 30, b"\xff" * 256 * 3)
    found = render(parsed(query(NAME)), Reply(body=write_body(NAME, [record])), stream=False, chance=0)
    assert found[2] & 0x02
    assert sections_of(found) == ([], [], [])


def test_opt_is_answered_with_opt_and_only_then():
    plain = render(parsed(query(NAME)), Reply(extended_error=(ExtendedError.NOT_READY, "wait")), stream=False, chance=0)
    assert dns.message.from_wire(plain).edns == -1
    sent = edns_query(NAME, do=True, options=option(10, bytes(8)) + option(3) + option(100))
    reply = dns.message.from_wire(render(parsed(sent), Reply(), stream=False, chance=0))
    assert (reply.edns, reply.payload, reply.ednsflags, reply.options) == (0, OWN_UDP_PAYLOAD, dns.flags.DO, ())


def test_badvers_has_its_upper_bits_in_opt():
    sent = parsed(edns_query(NAME, version=1))
    reply = dns.message.from_wire(render(sent, refusal(Rcode.BADVERS), stream=False, chance=0))
    assert (reply.rcode(), reply.edns) == (Rcode.BADVERS, 0)


def test_an_extended_error_is_sent_with_its_text():
    reply = render(
        parsed(edns_query(NAME)),
        replace(refusal(Rcode.SERVFAIL), extended_error=(ExtendedError.NOT_READY, "wait")),
        stream=False,
        chance=0,
    )
    (error,) = dns.message.from_wire(reply).options
    assert (error.code, error.text) == (ExtendedError.NOT_READY, "wait")


@pytest.mark.parametrize("stream", [False, True])
def test_keepalive_is_answered_over_streams_only(stream):
    sent = parsed(edns_query(NAME, options=option(EdnsOption.TCP_KEEPALIVE)))
    found = dns.message.from_wire(render(sent, Reply(), stream=stream, chance=0)).options
    assert [(o.otype, o.to_wire()) for o in found] == ([(11, struct.pack("!H", 100))] if stream else [])
    assert dns.message.from_wire(render(parsed(edns_query(NAME)), Reply(), stream=stream, chance=0)).options == ()


@given(st.binary(min_size=12, max_size=40), st.sampled_from((Rcode.FORMERR, Rcode.NOTIMP)))
def test_a_bare_header_repeats_id_and_opcode_alone(message, rcode):
    reply = render_header_only(message, rcode)
    assert reply == message[:2] + bytes((0x80 | message[2] & 0x78, rcode)) + bytes(8)


@given(related_names, st.lists(records(), min_size=1, max_size=8))
@settings(max_examples=examples(100), deadline=None)
def test_records_end_where_the_next_begins(question, answers):
    octets, at = write_body(question, answers).octets, 0
    for count in range(1, len(answers) + 1):
        at = record_end(octets, at)
        assert sections_behind(question, Body(octets[:at], count)).answer == answers[:count]
    assert at == len(octets)


@pytest.mark.parametrize("sent", [query(NAME), edns_query(NAME)], ids=["without EDNS", "with EDNS"])
def test_an_opt_record_may_be_forced_and_has_do_then(sent):
    reply = Reply(Rcode.REFUSED, extended_error=(ExtendedError.BLOCKED, ""), forces_opt=True)
    found = dns.message.from_wire(render(parsed(sent), reply, stream=False, chance=0))
    assert found.ednsflags & dns.flags.DO
    assert [(one.otype, one.code) for one in found.options] == [(15, 15)]


def test_a_reply_may_bring_options_of_its_own():
    reply = Reply(options=((EdnsOption.NSID, b"me"),))
    found = dns.message.from_wire(render(parsed(edns_query(NAME)), reply, stream=False, chance=0))
    assert [(one.otype, one.to_wire()) for one in found.options] == [(3, b"me")]
    assert dns.message.from_wire(render(parsed(query(NAME)), reply, stream=False, chance=0)).edns == -1
