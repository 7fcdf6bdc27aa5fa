"""The compiled parser: it sees what the slow path's parser sees, in every message."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdns.dns import names
from kdns.dns.codes import EdnsOption
from kdns.dns.query import Query, parse_query
from kdns.hotpath.wire import inspect
from tests.fakes.dns_values import query
from tests.fakes.hostile_messages import CASES, any_message
from tests.harness.examples import examples


def fields_of(found: Query) -> dict[str, object]:
    """A query as `inspect` shows it."""
    edns = found.edns
    return {
        "name": found.qname,
        "qtype": found.qtype,
        "qclass": found.qclass,
        "question_end": len(found.head),
        "labels": len(names.labels_of(found.qname)),
        "has_edns": edns is not None,
        "payload_size": edns.payload_size if edns else 0,
        "dnssec_ok": edns is not None and edns.dnssec_ok,
        "keepalive": edns is not None and edns.keepalive,
        "nsid": edns is not None and any(code == EdnsOption.NSID for code, _ in edns.options),
        "has_upper_case": found.has_upper_case,
    }


def assert_both_parsers_agree(message: bytes) -> None:
    verdict, found = parse_query(message)
    assert inspect(message) == (verdict, {} if found is None else fields_of(found))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.text)
def test_each_kind_of_message_gets_its_verdict(case):
    assert inspect(case.message)[0] == case.verdict
    assert_both_parsers_agree(case.message)


@given(any_message)
@settings(max_examples=examples(1000), deadline=None)
def test_both_parsers_see_the_same(message):
    assert_both_parsers_agree(message)


@pytest.mark.parametrize("case", [case for case in CASES if len(case.message) < 200], ids=lambda case: case.text)
def test_both_parsers_see_the_same_wherever_a_message_is_cut(case):
    for size in range(len(case.message)):
        assert_both_parsers_agree(case.message[:size])


@given(st.binary(min_size=1, max_size=63))
@settings(max_examples=examples(300), deadline=None)
def test_letters_are_folded_as_python_folds_them(label):
    """Eight octets are folded at a time; each must come out as if alone."""
    name = bytes((len(label),)) + label + b"\0"
    found = inspect(query(name))[1]
    assert found["name"] == name[:1] + label.lower() + b"\0"
    assert found["has_upper_case"] is (label != label.lower())


def test_every_octet_folds_at_every_place():
    for octet in range(256):
        for place in range(9):
            label = b"z" * place + bytes((octet,)) + b"Z" * (8 - place)
            assert inspect(query(b"\x09" + label + b"\0"))[1]["name"] == b"\x09" + label.lower() + b"\0"
