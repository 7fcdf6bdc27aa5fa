"""Bodies of the table under another question than the one they were rendered for."""

from __future__ import annotations

import struct

import dns.flags
import dns.message
import dns.rcode
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdns.cluster.objects import Endpoint, EndpointSlice, Event, Namespace, Port, Service, ServiceType
from kdns.dns import names
from kdns.dns.codes import RRType
from kdns.dns.compression import Body, write_body
from kdns.dns.records import read_answers, read_name, read_sections
from kdns.dns.rrset import Record
from kdns.plugins import bodies
from kdns.table.render import soa_template
from tests.fakes.clusters import event_of
from tests.fakes.served import Served, serve
from tests.harness.examples import examples

PORTS = (Port("http", "TCP", 80), Port("dns", "UDP", 53))
COREFILE = ".:53 {\nkubernetes cluster.local {\nzonal\n}\n}\n"


def served() -> Served:
    events: list[Event] = [
        event_of(found)
        for found in (
            Namespace("shop"),
            Service("shop", "web", ServiceType.CLUSTER_IP, (b"\x0a\x60\0\1",), PORTS),
            Service("shop", "db", ServiceType.HEADLESS, (), PORTS),
            EndpointSlice.of(
                "shop", "s", "db", PORTS, (Endpoint(b"\x0a\1\1\1", "a"), Endpoint(b"\x0a\1\1\2", zone="eu-1a"))
            ),
        )
    ]
    return serve(COREFILE, events)


def asked(name: str, rtype: str) -> dns.message.Message:
    reply = served().slow(dns.message.make_query(name, rtype).to_wire())
    assert reply is not None
    return dns.message.from_wire(reply, ignore_trailing=False)  # raises where a pointer leads astray


def body_of(name: str, qtype: int) -> Body:
    entry = served().builder.table.lookup(names.from_text(name), qtype, 0)
    assert entry is not None
    return bodies.of_entry(entry)


def records(message: dns.message.Message) -> list[str]:
    return sorted(rrset.to_text() for section in (message.answer, message.additional) for rrset in section)


def test_a_longer_spelling_moves_the_pointers_behind_the_part_that_differs():
    exact = asked("_http._tcp.db.shop.svc.cluster.local", "SRV")
    assert exact.additional
    for spelling in ("http._tcp.db", "_http.tcp.db"):
        other = asked(f"{spelling}.shop.svc.cluster.local", "SRV")
        expected = [line.replace("_http._tcp.db", spelling) for line in records(exact)]
        assert records(other) == sorted(expected)


def test_a_zone_matched_by_a_wildcard_moves_them_too():
    found = asked("a.b.prefer._zone.db.shop.svc.cluster.local", "SRV")
    assert {str(rrset.name) for rrset in found.additional} == {
        "a.db.shop.svc.cluster.local.",
        "10-1-1-2.db.shop.svc.cluster.local.",
    }


def test_moving_by_nothing_changes_nothing():
    body = body_of("_http._tcp.db.shop.svc.cluster.local", 33)
    assert bodies.move(body, 0) == body


def test_targets_are_spelled_as_the_client_spelled_the_zone():
    found = asked("_HTTP._tcp.Db.shop.svc.Cluster.LOCAL", "SRV")
    targets = sorted(str(record.target) for record in found.answer[0])
    assert [target.removesuffix(".Cluster.LOCAL.") for target in targets] != targets
    assert {str(rrset.name) for rrset in found.additional} == set(targets)


@given(serial=st.integers(0, 2**32 - 1), ttl=st.integers(0, 3600), before=st.integers(0, 200))
def test_an_soa_record_is_set_up_for_any_name_below_its_zone(serial: int, ttl: int, before: int):
    zone = names.from_text("cluster.local")
    labels = [b"x" * min(62, before - at - 1) for at in range(0, before, 63) if before - at > 1]
    name = b"".join(bytes([len(label)]) + label for label in labels) + zone
    octets = bodies.put_serial(bodies.soa_at(soa_template(ttl), len(name) - len(zone)), serial)
    header = struct.pack("!HHHHHH", 1, 0x8400, 1, 0, 1, 0)
    parsed = dns.message.from_wire(header + name + struct.pack("!HH", 1, 1) + octets)
    (rrset,) = parsed.authority
    assert rrset.to_text() == (
        f"cluster.local. {min(ttl, 300)} IN SOA ns.dns.cluster.local. hostmaster.cluster.local. "
        f"{serial} 7200 1800 86400 {ttl}"
    )


def test_an_entry_keeps_what_rotation_needs():
    body = body_of("db.shop.svc.cluster.local", 1)
    assert (body.answers, body.record_length, body.rotate_from) == (2, 16, 0)
    assert len(body.octets) == 32


@pytest.mark.parametrize("length", [1, 20, 50, 60, 63])
@pytest.mark.parametrize("endpoints", [250, 300, 600])
def test_pointers_of_a_longer_question_never_lead_too_far(endpoints, length):
    """The first name of a large answer that a pointer can just reach is out of reach behind a longer question."""
    events = [event_of(Namespace("shop")), event_of(Service("shop", "big", ServiceType.HEADLESS))]
    ports = (Port("http", "TCP", 80),)
    found = tuple(Endpoint(bytes((10, 9, n >> 8, n & 255))) for n in range(endpoints))
    events.append(event_of(EndpointSlice.of("shop", "big-1", "big", ports, found)))
    served = serve(".:53 {\n kubernetes cluster.local {\n zonal\n }\n}\n", events)
    name = f"{'z' * length}.prefer._zone.big.shop.svc.cluster.local"
    reply = dns.message.from_wire(served.any(dns.message.make_query(name, "SRV").to_wire(), stream=True))
    assert reply.rcode() == dns.rcode.NOERROR
    targets = {record.target for record in reply.answer[0]}
    assert len(targets) == endpoints
    assert {rrset.name for rrset in reply.additional} <= targets


def big_service(endpoints: int) -> Served:
    ports = (Port("http", "TCP", 80),)
    found = tuple(Endpoint(bytes((10, 9, n >> 8, n & 255))) for n in range(endpoints))
    objects = (
        Namespace("shop"),
        Service("shop", "big", ServiceType.HEADLESS),
        EndpointSlice.of("shop", "s", "big", ports, found),
    )
    return serve(".:53 {\n kubernetes cluster.local {\n zonal\n }\n}\n", [event_of(one) for one in objects])


@pytest.mark.parametrize("name", ["_http._tcp.big.shop.svc.CLUSTER.local", "http.tcp.big.shop.svc.Cluster.local"])
def test_a_large_answer_in_mixed_case_is_cut_at_random_over_udp(name: str):
    served = big_service(600)
    wire = dns.message.make_query(name, "SRV", use_edns=True, payload=1232).to_wire()
    targets = set()
    for _ in range(30):
        reply = served.slow(wire)
        assert reply is not None
        assert 1000 < len(reply) <= 1232
        parsed = dns.message.from_wire(reply, raise_on_truncation=False)
        assert parsed.flags & dns.flags.TC
        targets |= {record.target.to_text() for record in parsed.answer[0]}
    assert len(targets) > 60
    assert {target.partition(".svc.")[2] for target in targets} == {name.partition(".svc.")[2] + "."}


def test_it_is_whole_over_tcp():
    reply = big_service(600).slow(
        dns.message.make_query("_http._tcp.big.shop.svc.CLUSTER.local", "SRV").to_wire(), stream=True
    )
    assert reply is not None
    assert len(dns.message.from_wire(reply).answer[0]) == 600


@given(room=st.integers(0, 60_000), chance=st.integers(0, 2**64 - 1), data=st.data())
@settings(max_examples=examples(60), deadline=None)
def test_what_fits_is_whole_records_of_the_body(room: int, chance: int, data: st.DataObject):
    endpoints = data.draw(st.sampled_from((1, 20, 40, 300)))
    body = BIG[endpoints]
    taken, is_cut = bodies.take_fitting(body, room, chance)
    assert is_cut == (body.record_offsets is not None and len(body.octets) > room)
    if not is_cut:
        assert taken == body
        return
    assert len(taken.octets) <= room
    name = names.from_text("big.shop.svc.cluster.local")
    head = bytes(12) + name + bytes(4)
    whole = read_sections(head, body)
    kept = read_sections(head, taken)
    assert set(kept.answers) <= set(whole.answers)
    assert len(set(kept.answers)) == taken.answers
    assert kept.additionals == whole.additionals[: taken.additionals]
    if taken.answers == body.answers:
        return
    sizes = {len(record.rdata) for record in whole.answers}
    assert len(taken.octets) + 12 + max(sizes) > room


def srv_body(endpoints: int) -> Body:
    entry = big_service(endpoints).builder.table.lookup(names.from_text("big.shop.svc.cluster.local"), 33, 0)
    assert entry is not None
    return bodies.of_entry(entry)


BIG = {count: srv_body(count) for count in (1, 20, 40, 300)}

QUESTION = names.from_text("alias.shop.svc.cluster.local")
TARGETS = tuple(map(names.from_text, ("www.example.org", "x.cluster.local", "y.svc.cluster.local")))


@given(
    targets=st.lists(st.sampled_from(TARGETS), min_size=1, max_size=3, unique=True),
    rdatas=st.lists(st.binary(min_size=4, max_size=4), max_size=5, unique=True),
    extra=st.sampled_from(("", "cname", "other", "aaaa")),
)
@settings(deadline=None)
def test_addresses_behind_cnames_are_what_the_writer_of_bodies_makes_of_them(targets, rdatas, extra):
    owners = [QUESTION, *targets]
    chain = [Record(owner, RRType.CNAME, 5, target) for owner, target in zip(owners, targets, strict=False)]
    last = targets[-1]
    addresses = [Record(last, RRType.A, 60, rdata) for rdata in rdatas]
    if extra == "cname":
        addresses.insert(0, Record(last, RRType.CNAME, 60, names.from_text("z.test")))
    elif extra == "other":
        addresses.append(Record(names.from_text("z.test"), RRType.A, 60, b"\1\2\3\4"))
    elif extra == "aaaa":
        addresses.append(Record(last, RRType.AAAA, 60, bytes(16)))
    body = write_body(QUESTION, chain)
    head = bytes(12) + QUESTION + bytes(4)
    place = len(head) + bodies.last_rdata_at(body)
    assert read_name(head + body.octets, place)[0] == last
    joined = bodies.join_addresses(body, write_body(last, addresses), place)
    if extra in ("cname", "other") or not addresses or (extra == "aaaa" and rdatas):
        assert joined is None
        return
    assert joined is not None
    assert read_answers(head, joined) == chain + addresses
    expected = write_body(QUESTION, chain + addresses)
    assert (joined.answers, joined.record_length, joined.rotate_from) == (
        expected.answers, expected.record_length, expected.rotate_from,
    )  # fmt: skip
