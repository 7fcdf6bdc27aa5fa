"""Rendered responses, read back by dnspython: the records that went in, whatever their types and number."""

from __future__ import annotations

import struct
from array import array
from itertools import pairwise

import dns.message
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdns.dns import names
from kdns.dns.codes import RRType
from kdns.dns.compression import MAX_POINTER, MIN_INDEXED, Body
from kdns.dns.rrset import Answer, Node, Portion, Record
from kdns.table import render
from kdns.table.render import Response, render_answer, render_node, render_soa
from tests.fakes.dns_values import RDATAS, addresses, addresses6, related_names, srv, ttls
from tests.harness.examples import examples
from tests.harness.parsed import Sections, sections_behind

OWNER = names.from_text("web.shop.svc.cluster.local")


def sections_of(owner: bytes, response: Response) -> Sections:
    """What a client reads in a response."""
    return sections_behind(owner, Body(response.body, response.answers, 0, response.additionals))


def records_of(owner: bytes, answer: Answer) -> Sections:
    """What a client ought to read in an answer of `owner`."""
    last = answer.chain[-1].rdata if answer.chain else owner
    own = [Record(last, answer.rtype, answer.ttl, rdata) for rdata in answer.rdatas]
    return Sections([*answer.chain, *own], [], list(answer.additional))


@st.composite
def chains(draw: st.DrawFn, owner: bytes) -> tuple[Record, ...]:
    found = []
    for target in draw(st.lists(related_names, max_size=3, unique=True)):
        found.append(Record(owner, RRType.CNAME, draw(ttls), target))
        owner = target
    return tuple(found)


@st.composite
def owned_answers(draw: st.DrawFn) -> tuple[bytes, Answer]:
    """An owner and any answer: plain, behind a chain, with additional addresses of the targets or of others."""
    owner = draw(related_names)
    rtype = draw(st.sampled_from(sorted(RDATAS)))
    chain = draw(chains(owner)) if rtype != RRType.CNAME else ()
    rdatas = tuple(draw(st.lists(RDATAS[rtype], min_size=0 if chain else 1, max_size=20)))
    additional = ()
    if rtype == RRType.SRV and not chain:
        targets = st.sampled_from([rdata[6:] for rdata in rdatas]) | st.just(owner) | related_names
        additional = tuple(
            Record(draw(targets), RRType.A, draw(ttls), draw(addresses)) if draw(st.booleans())
            else Record(draw(targets), RRType.AAAA, draw(ttls), draw(addresses6))
            for _ in range(draw(st.integers(0, 6)))
        )  # fmt: skip
    return owner, Answer(rtype, draw(ttls), rdatas, chain, additional)


@given(owned_answers())
@settings(max_examples=examples(400), deadline=None)
def test_a_client_reads_the_records_that_were_rendered(owned):
    owner, answer = owned
    response = render_answer(owner, answer)
    assert sections_of(owner, response) == records_of(owner, answer)
    assert response.rtype == answer.rtype


@given(owned_answers())
@settings(max_examples=examples(200), deadline=None)
def test_what_the_compiled_path_needs_to_cut_is_right(owned):
    owner, answer = owned
    response = render_answer(owner, answer)
    if response.record_length:
        run = response.body[response.rotate_from :]
        assert len(run) % response.record_length == 0
        assert not response.additionals
        firsts = {run[at : at + 12] for at in range(0, len(run), response.record_length)}
        assert len(firsts) == 1, "records that change places differ in their data alone"
    if response.record_offsets is not None:
        assert not response.record_length
        offsets = array("I", response.record_offsets)
        assert len(offsets) == response.answers >= MIN_INDEXED
        for at, expected in zip(offsets, records_of(owner, answer).answer, strict=True):
            assert sections_behind(owner, Body(response.body[at : _end(response.body, at)], 1)).answer == [expected]


def _end(body: bytes, at: int) -> int:
    while body[at] and body[at] < 0xC0:
        at += 1 + body[at]
    at += 2 if body[at] else 1
    return at + 10 + struct.unpack_from("!H", body, at + 8)[0]


@pytest.mark.parametrize(("rtype", "size"), [(RRType.A, 4), (RRType.AAAA, 16)])
@pytest.mark.parametrize("count", [1, 2, 1000])
def test_addresses_are_alike_and_rotate_if_there_are_two(rtype, size, count):
    rdatas = tuple(n.to_bytes(size, "big") for n in range(count))
    response = render_answer(OWNER, Answer(rtype, 5, rdatas))
    assert len(response.body) == count * (12 + size)
    assert response.record_length == (12 + size if count > 1 else 0)
    assert response.record_offsets is None
    assert sections_of(OWNER, response).answer == [Record(OWNER, rtype, 5, rdata) for rdata in rdatas]


@pytest.mark.parametrize(
    "target",
    ["web.shop.svc.cluster.local", "shop.svc.cluster.local", "10-0-0-1.web.shop.svc.cluster.local", "www.example.org"],
)
def test_one_service_with_its_address_is_right_wherever_its_target_lies(target):
    name = names.from_text(target)
    answer = Answer(RRType.SRV, 5, (srv(0, 100, 80, name),), (), (Record(name, RRType.A, 5, bytes(4)),))
    response = render_answer(OWNER, answer)
    assert sections_of(OWNER, response) == records_of(OWNER, answer)
    assert response.body.count(name) == 1, "the address is owned by a pointer"


@pytest.mark.parametrize("count", [100, 240, 700, 2000])
def test_services_beyond_the_reach_of_pointers_are_right(count):
    """Targets behind octet 16,383 cannot be pointed to; their addresses are owned by spelled names."""
    targets = [names.from_text(f"10-0-{n >> 8}-{n & 255}.web.shop.svc.cluster.local") for n in range(count)]
    answer = Answer(
        RRType.SRV, 5, tuple(srv(0, 1, 80, target) for target in targets), (),
        tuple(Record(target, RRType.A, 5, bytes((10, 0, n >> 8, n & 255))) for n, target in enumerate(targets)),
    )  # fmt: skip
    owner = b"\5_http\4_tcp" + OWNER
    response = render_answer(owner, answer)
    assert (len(response.body) > MAX_POINTER) is (count > 200)
    if len(response.body) < 60_000:
        assert sections_of(owner, response) == records_of(owner, answer)
    else:
        first = _end(response.body, array("I", response.record_offsets)[-1])
        assert sections_behind(owner, Body(response.body[:first], count)).answer == records_of(owner, answer).answer


def test_many_names_beyond_the_reach_of_pointers_are_right():
    answer = Answer(RRType.PTR, 5, tuple(names.from_text(f"host-{n}.rack-{n}.example.org") for n in range(900)))
    assert sections_of(OWNER, render_answer(OWNER, answer)) == records_of(OWNER, answer)


def test_names_are_compressed_against_the_question_and_each_other():
    answer = Answer(RRType.NS, 5, (names.from_text("ns.dns.cluster.local"), names.from_text("ns2.dns.cluster.local")))
    response = render_answer(names.from_text("cluster.local"), answer)
    assert len(response.body) == (12 + 3 + 4 + 2) + (12 + 4 + 2)
    chain = (Record(OWNER, RRType.CNAME, 5, b"\1x" + OWNER),)
    response = render_answer(OWNER, Answer(RRType.A, 5, (bytes(4),), chain))
    assert len(response.body) == (12 + 2 + 2) + (12 + 4)


def test_a_chain_that_leaves_the_zone_says_so():
    chain = (Record(OWNER, RRType.CNAME, 5, names.from_text("www.example.org")),)
    response = render_answer(OWNER, Answer(RRType.A, 5, (), chain, leaves_zone=True))
    assert response.flags & render.LEAVES_ZONE
    assert sections_of(OWNER, response).answer == list(chain)


def test_only_srv_answers_spell_the_zone():
    assert render_answer(OWNER, Answer(RRType.SRV, 5, (srv(0, 1, 80, OWNER),))).flags == render.SPELLS_ZONE
    assert render_answer(OWNER, Answer(RRType.A, 5, (bytes(4),))).flags == 0
    assert render_answer(OWNER, Answer(RRType.PTR, 5, (OWNER,))).flags == 0


def test_more_records_than_a_count_can_say_are_cut():
    rdatas = tuple(n.to_bytes(4, "big") for n in range(70_000))
    assert render_answer(OWNER, Answer(RRType.A, 5, rdatas)).answers == 65_535
    many = render_answer(OWNER, Answer(RRType.SRV, 5, tuple(srv(0, 1, n & 0xFFFF, b"\1a\0") for n in range(70_000))))
    assert many.answers == 65_535
    assert len(many.record_offsets) == 4 * 65_535


@pytest.mark.parametrize(("ttl", "own_ttl"), [(0, 0), (5, 5), (300, 300), (3600, 300)])
def test_the_soa_record_is_coredns_own(ttl, own_ttl):
    zone = names.from_text("cluster.local")
    response = render_soa(render.soa_template(ttl))
    assert (response.flags, len(response.body)) == (render.HAS_SERIAL, 54)
    counts = struct.pack("!HHHH", 1, 1, 0, 0)
    (found,) = dns.message.from_wire(b"\0\x01\x84\0" + counts + zone + b"\0\x06\0\x01" + response.body).answer
    assert found.to_text() == (
        f"cluster.local. {own_ttl} IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 0 7200 1800 86400 {ttl}"
    )


def test_nodes_become_responses():
    assert render_node(Node(OWNER, None)) == (0, None)
    assert render_node(Node(OWNER, ())) == (0, [])
    assert render_node(Node(OWNER, (), has_ports=True)) == (render.HAS_PORTS, [])
    other = names.from_text("a.b")
    assert render_node(Node(OWNER, (), alias_of=other)) == (0, [Response(0, render.ALIAS, 0, 0, 0, 0, other, None)])
    flags, responses = render_node(
        Node(OWNER, (Answer(RRType.A, 5, (bytes(4),)), Answer(RRType.SRV, 5, (srv(0, 1, 80, OWNER),))))
    )
    assert flags == 0
    assert [response.rtype for response in responses] == [RRType.A, RRType.SRV]


@settings(max_examples=examples(200))
@given(data=st.data(), ttl=ttls, cuts=st.lists(st.integers(0, 40), max_size=6))
@pytest.mark.parametrize(
    ("rtype", "values"),
    [
        (RRType.A, addresses),
        (RRType.AAAA, addresses6),
        (RRType.SRV, st.integers(1, 60).map(lambda size: srv(0, 1, 80, bytes((size,)) + b"x" * size + b"\0"))),
    ],
)
def test_portions_are_rendered_as_the_whole_is(rtype, values, data, ttl, cuts):
    rdatas = tuple(data.draw(st.lists(values, min_size=1, max_size=40)))
    bounds = sorted({0, len(rdatas), *(cut for cut in cuts if cut < len(rdatas))})
    portions = tuple(Portion(rdatas[start:end]) for start, end in pairwise(bounds))
    owner = names.from_text("web.ns.svc.cluster.local")
    whole = render_answer(owner, Answer(rtype, ttl, rdatas))
    for _ in range(2):  # anew, and from what was kept
        assert render_answer(owner, Answer(rtype, ttl, (), portions=portions)) == whole


def test_portions_of_more_records_than_a_count_can_say_are_cut():
    portion = Portion((b"\x0a\0\0\1",) * 40_000)
    response = render_answer(names.from_text("web.local"), Answer(RRType.A, 5, (), portions=(portion, portion)))
    assert response.answers == render.MAX_RECORDS
