"""What kind of answer a reply is."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest

from kdns.dns import names
from kdns.dns.classify import ResponseClass, ResponseType, classify
from kdns.dns.codes import RRType
from kdns.dns.compression import write_body
from kdns.dns.query import Edns
from kdns.dns.reply import Reply
from kdns.dns.rrset import Record
from tests.fakes.directives import query

NOW = 1_700_000_000.5
NAME = names.from_text("a.test")
ADDRESS = Record(NAME, RRType.A, 60, bytes(4))
SOA = Record(NAME, RRType.SOA, 60, NAME + NAME + bytes(20))
NS = Record(NAME, RRType.NS, 60, NAME)


def kind(
    rcode: int,
    answers: Sequence[Record] = (),
    authorities: Sequence[Record] = (),
    rtype: str = "A",
    edns: Edns | None = None,
) -> ResponseType:
    return classify(query("a.test", rtype, edns), Reply(rcode, write_body(NAME, answers, authorities)), NOW)


@pytest.mark.parametrize(
    ("rcode", "answers", "authorities", "expected"),
    [
        (0, [ADDRESS], [], ResponseType.NOERROR),
        (0, [ADDRESS], [SOA], ResponseType.NOERROR),
        (0, [], [], ResponseType.NOERROR),
        (0, [], [SOA], ResponseType.NODATA),
        (0, [], [NS, SOA], ResponseType.NODATA),
        (0, [], [NS], ResponseType.DELEGATION),
        (3, [], [SOA], ResponseType.NXDOMAIN),
        (3, [], [], ResponseType.NXDOMAIN),
        (3, [ADDRESS], [SOA], ResponseType.OTHERERROR),
        (2, [], [], ResponseType.SERVERERROR),
        (4, [], [SOA], ResponseType.SERVERERROR),
        (5, [], [], ResponseType.OTHERERROR),
        (1, [], [NS], ResponseType.OTHERERROR),
    ],
)
def test_rcode_and_sections_decide(
    rcode: int, answers: list[Record], authorities: list[Record], expected: ResponseType
):
    assert kind(rcode, answers, authorities) is expected


@pytest.mark.parametrize("rtype", ["AXFR", "IXFR"])
def test_transfers_are_a_kind_of_their_own(rtype: str):
    assert kind(0, [ADDRESS], rtype=rtype) is ResponseType.META


def signature(inception: int, expiration: int) -> Record:
    times = struct.pack("!II", expiration & 0xFFFFFFFF, inception & 0xFFFFFFFF)
    return Record(NAME, RRType.RRSIG, 60, bytes(8) + times + bytes(2) + NAME + b"signature")


@pytest.mark.parametrize(
    ("begins", "ends", "expected"),
    [
        (-10, 10, ResponseType.NOERROR),
        (0, 0, ResponseType.NOERROR),
        (-10, -1, ResponseType.OTHERERROR),
        (1, 10, ResponseType.OTHERERROR),
        (-(1 << 30), 1 << 30, ResponseType.NOERROR),
    ],
)
def test_a_signature_must_hold_where_the_client_asks_for_them(begins: int, ends: int, expected: ResponseType):
    signed = [ADDRESS, signature(int(NOW) + begins, int(NOW) + ends)]
    assert kind(0, signed, edns=Edns(1232, 0, True)) is expected
    assert kind(0, signed, edns=Edns(1232, 0, False)) is ResponseType.NOERROR
    assert kind(0, signed) is ResponseType.NOERROR


def test_every_kind_has_a_class():
    classes = {one.name: one.response_class for one in ResponseType}
    assert {name for name, found in classes.items() if found is ResponseClass.SUCCESS} == {"NOERROR", "DELEGATION"}
    assert {name for name, found in classes.items() if found is ResponseClass.DENIAL} == {"NXDOMAIN", "NODATA"}
    assert set(classes.values()) == set(ResponseClass)
