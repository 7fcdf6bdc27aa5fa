"""Records read back from rendered bodies."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdns.dns.compression import Body, write_body
from kdns.dns.records import read_answers, read_name
from kdns.errors import FormatError
from tests.fakes.dns_values import query, records, related_names
from tests.harness.examples import examples


@given(related_names, st.lists(records(), max_size=8), st.lists(records(), max_size=2))
@settings(max_examples=examples(200), deadline=None)
def test_answers_are_read_as_they_were_written(question, answers, additionals):
    assert read_answers(query(question), write_body(question, answers, (), additionals)) == answers


@given(related_names, st.binary(max_size=60), st.integers(0, 3))
@settings(max_examples=examples(150), deadline=None)
def test_any_octets_are_answers_or_a_format_error(question, octets, count):
    with suppress(FormatError):
        assert len(read_answers(query(question), Body(octets, count))) == count


@given(st.binary(max_size=80), st.integers(0, 90))
@settings(max_examples=examples(150), deadline=None)
def test_any_octets_are_a_name_or_a_format_error(message, at):
    try:
        name, after = read_name(message, at)
    except FormatError:
        return
    assert 1 <= len(name) <= 255
    assert at < after <= len(message)


@pytest.mark.parametrize(("message", "complaint"), [
    (b"\xc0\x0c", "leads to 12, expected a place before it"),
    (b"\xc0\x0e\x01a\0", "leads to 14"),
    (b"\xc0\x00", "leads to 0"),
    (b"\x01a\xc0", "cut short"),
    (b"\x01a", "past the message"),
    (b"\x05a", "cut short"),
    (b"\x40a\0", "unknown kind 0x40"),
    (b"\x01a" * 130 + b"\0", "too long"),
])  # fmt: skip
def test_names_that_are_none_are_refused(message, complaint):
    with pytest.raises(FormatError, match=complaint):
        read_name(bytes(12) + message, 12)


def test_pointers_that_lead_in_circles_end():
    """Each pointer must lead before the name it stands in, so a circle cannot close."""
    with pytest.raises(FormatError):
        read_name(bytes(12) + b"\x01a\xc0\x10\x01b\xc0\x0c", 16)
