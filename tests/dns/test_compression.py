"""Sections compressed against the question: read back by dnspython, they are the records that were written."""

from __future__ import annotations

import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from kdns.dns import names
from kdns.dns.codes import RRType
from kdns.dns.compression import HEADER_SIZE, MAX_POINTER, MIN_INDEXED, OWNER, write_body
from kdns.dns.rrset import Record
from tests.fakes.dns_values import ZONE, any_names, records, related_names, srv
from tests.harness.examples import examples
from tests.harness.parsed import sections_behind

sections = st.lists(records(), max_size=6)


@given(related_names, sections, sections, sections)
@settings(max_examples=examples(150), deadline=None)
def test_what_is_written_is_what_dnspython_reads(question, answers, authorities, additionals):
    body = write_body(question, answers, authorities, additionals)
    assert sections_behind(question, body) == (answers, authorities, additionals)


@given(any_names, st.lists(records(any_names), max_size=4))
@settings(max_examples=examples(100), deadline=None)
def test_labels_of_any_octets_are_compressed_rightly(question, answers):
    assert sections_behind(question, write_body(question, answers)).answer == answers


@given(related_names, sections)
@settings(max_examples=examples(100), deadline=None)
def test_a_body_serves_every_spelling_of_its_question(question, answers):
    body = write_body(question, answers)
    upper = bytes(c - 32 if 97 <= c <= 122 else c for c in question)
    found = sections_behind(upper, body).answer
    assert [record._replace(owner=names.lower(record.owner)) for record in found if record.rtype == RRType.A] == [
        record for record in answers if record.rtype == RRType.A
    ]


def test_owners_and_the_names_of_old_types_are_compressed():
    question = b"\1a" + ZONE
    answers = [Record(question, rtype, 5, b"\1b" + ZONE) for rtype in (RRType.CNAME, RRType.NS, RRType.PTR)]
    body = write_body(question, answers)
    first = OWNER + struct.pack("!HHIH", RRType.CNAME, 1, 5, 4) + b"\1b" + struct.pack("!H", 0xC000 | HEADER_SIZE + 2)
    assert body.octets.startswith(first)
    assert len(body.octets) == len(first) + 2 * (2 + 10 + 2)


def test_an_srv_target_is_written_whole_and_others_may_point_to_it():
    question, target = b"\1a" + ZONE, b"\1b" + ZONE
    body = write_body(
        question,
        [Record(question, RRType.SRV, 5, srv(0, 100, 80, target))],
        (),
        [Record(target, RRType.A, 5, bytes(4))],
    )
    assert body.octets.count(target) == 1
    assert len(body.octets) == 12 + 6 + len(target) + 2 + 10 + 4


def test_no_pointer_leads_where_none_can_reach():
    """Names behind octet 16,383 are written out, and stay right."""
    question = b"\1q" + ZONE
    answers = [Record(question, RRType.PTR, 5, names.from_text(f"host-{n}.pod-{n}.example.org")) for n in range(900)]
    answers += [Record(names.from_text(f"pod-{n}.example.org"), RRType.A, 5, bytes(4)) for n in (0, 1, 898, 899)]
    body = write_body(question, answers)
    assert len(body.octets) > MAX_POINTER
    assert sections_behind(question, body).answer == answers


def test_a_run_of_addresses_at_the_end_is_marked_for_rotation():
    question, target = b"\1q" + ZONE, b"\1t" + ZONE
    chain = Record(question, RRType.CNAME, 5, target)
    addresses = [Record(target, RRType.A, 5, bytes((10, 0, 0, n))) for n in range(20)]
    body = write_body(question, [chain, *addresses])
    assert body.record_length == 16
    assert len(body.octets) == body.rotate_from + 20 * 16
    assert body.record_offsets is None
    assert sections_behind(question, body._replace(octets=body.octets[: body.rotate_from], answers=1)).answer == [chain]


def test_one_address_and_other_types_are_not_rotated():
    question = b"\1q" + ZONE
    assert write_body(question, [Record(question, RRType.A, 5, bytes(4))]).record_length == 0
    assert write_body(question, [Record(question, RRType.TXT, 5, b"\0")] * 3).record_length == 0
    two = [Record(question, RRType.A, 5, bytes(4))] * 2
    assert write_body(question, two, (), [two[0]]).record_length == 0, "the additional section would be moved with them"


def test_many_answers_that_cannot_be_rotated_are_indexed():
    question = b"\1q" + ZONE
    answers = [Record(question, RRType.SRV, 5, srv(0, 1, n, names.from_text(f"h{n}.test"))) for n in range(MIN_INDEXED)]
    body = write_body(question, answers)
    assert body.record_offsets is not None
    ends = [*body.record_offsets[1:], len(body.octets)]
    for start, end, answer in zip(body.record_offsets, ends, answers, strict=True):
        one = body._replace(octets=body.octets[start:end], answers=1)
        assert sections_behind(question, one).answer == [answer]
    assert write_body(question, answers[1:]).record_offsets is None


def test_an_empty_body_is_a_message_of_its_own():
    body = write_body(ZONE, ())
    assert body.octets == b""
    assert sections_behind(ZONE, body) == ([], [], [])
