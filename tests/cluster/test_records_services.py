"""The nodes of Services: what the conformance cases do not reach."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from struct import unpack

import pytest

from kdns.cluster import records
from kdns.cluster.endpoints import SliceCache, SliceEntry, SliceRecords, endpoint_nodes
from kdns.cluster.objects import Endpoint, EndpointSlice, Event, Kind, Namespace, Port, Service, ServiceType
from kdns.cluster.services import cluster_ip_nodes, headless_nodes, zonal_nodes
from kdns.cluster.store import Store
from kdns.cluster.view import View
from kdns.dns import names
from kdns.dns.rrset import Answer, Node

HTTP = (Port("http", "TCP", 80),)
OWNER = names.from_text("web.ns.svc.cluster.local")
TTL = 5


def slice_of(number: int, hosts: Iterable[int], ports: tuple[Port, ...] = HTTP, zone: str = "") -> SliceRecords:
    endpoints = tuple(Endpoint(bytes([10, number >> 8, number & 255, host]), zone=zone) for host in hosts)
    found = EndpointSlice.of("ns", f"web-{number}", "web", ports, endpoints)
    return SliceRecords.of(found, imported=False, pod_names=False)


def node_at(nodes: Iterable[Node], text: str) -> Node:
    return next(node for node in nodes if node.owner == names.from_text(text))


def answer_of(node: Node, rtype: int) -> Answer:
    found = records.answer(node, rtype)
    assert found is not None
    return found


def test_srv_records_beyond_a_message_are_cut_and_come_without_addresses() -> None:
    slices = [slice_of(number, range(100)) for number in range(50)]
    node = node_at(headless_nodes(slices, OWNER, TTL, Random(1)), "web.ns.svc.cluster.local")
    srv = answer_of(node, records.SRV)
    octets = sum(len(rdata) + records.RECORD_OVERHEAD for rdata in srv.rdatas)
    assert records.MAX_MESSAGE * 0.98 < octets <= records.MAX_MESSAGE * 1.02
    assert len(set(srv.rdatas)) == len(srv.rdatas)
    assert srv.additional == ()
    assert len(answer_of(node, records.A).rdatas) == 5000


def test_every_endpoint_has_its_turn_in_a_cut_srv_answer() -> None:
    slices = [slice_of(number, range(100)) for number in range(30)]
    random = Random(7)
    seen: set[bytes] = set()
    for _ in range(60):
        node = headless_nodes(slices, OWNER, TTL, random)[0]
        seen.update(answer_of(node, records.SRV).rdatas)
    assert len(seen) == 3000


def test_a_large_service_put_together_of_portions_answers_the_same() -> None:
    few = [slice_of(number, range(100)) for number in range(5)]
    many = [slice_of(number, range(100)) for number in range(50)]
    for slices in (few, many):
        whole = headless_nodes(slices, OWNER, TTL, Random(1))
        parts = headless_nodes(slices, OWNER, TTL, Random(1), are_distinct=True)
        assert [node.owner for node in parts] == [node.owner for node in whole]
        for node, other in zip(parts, whole, strict=True):
            assert [answer.rtype for answer in node.answers or ()] == [answer.rtype for answer in other.answers or ()]
            for answer, same in zip(node.answers or (), other.answers or (), strict=True):
                assert answer.additional == same.additional
                if answer.rtype == records.A or slices is few:
                    assert answer.all_rdatas == same.rdatas
    srv = answer_of(parts[0], records.SRV)
    octets = sum(len(rdata) + records.RECORD_OVERHEAD for rdata in srv.all_rdatas)
    assert records.MAX_MESSAGE * 0.98 < octets <= records.MAX_MESSAGE
    assert len(set(srv.all_rdatas)) == len(srv.all_rdatas)
    assert set(srv.all_rdatas) < {rdata for part in many for rdata in part.srv(OWNER, (srv.all_rdatas[0][:6],)).rdatas}


def test_what_is_known_of_a_large_service_follows_it() -> None:
    cache = SliceCache(imported=False, pod_names=False)
    slices = [slice_of(number, range(100)) for number in range(4)]
    assert not cache.are_distinct("ns", "web", slices[:2]), "few are not worth it"
    assert cache.are_distinct("ns", "web", slices)
    assert cache.are_distinct("ns", "web", [*slices[:3], slice_of(3, range(1, 100))])
    assert cache.are_distinct("ns", "web", [*slices[:3], slice_of(3, range(101))])
    assert not cache.are_distinct("ns", "web", [*slices, slice_of(2, [7])]), "an address is in two slices"
    assert not cache.are_distinct("ns", "web", [*slices, slice_of(5, [7, 7])]), "an address is there twice"
    assert not cache.are_distinct("ns", "web", [*slices, slices[0]])
    assert cache.are_distinct("ns", "web", slices)
    for number in range(5):
        assert cache.are_distinct("ns", f"web-{number}", slices)


def test_repeated_endpoints_do_not_make_an_srv_answer_too_large() -> None:
    """1,400 candidates would not fit, but they are 700 records, which do."""
    slices = [slice_of(number, range(100)) for number in range(7)] * 2
    node = headless_nodes(slices, OWNER, TTL, Random(1))[0]
    srv = answer_of(node, records.SRV)
    assert len(srv.rdatas) == len(srv.additional) == 700
    assert len(answer_of(node, records.A).rdatas) == 700


@pytest.mark.parametrize(("count", "weight"), [(1, 100), (3, 33), (99, 1), (100, 1), (250, 1)])
def test_srv_weight_is_shared_by_the_candidates_and_never_less_than_one(count: int, weight: int) -> None:
    node = headless_nodes([slice_of(1, range(count))], OWNER, TTL, Random(1))[0]
    weights = {unpack(">HHH", rdata[:6]) for rdata in answer_of(node, records.SRV).rdatas}
    assert weights == {(0, weight, 80)}


def test_port_of_some_slices_shows_the_addresses_of_those_only() -> None:
    slices = [slice_of(1, [1], HTTP), slice_of(2, [2], (*HTTP, Port("metrics", "TCP", 9100)))]
    nodes = headless_nodes(slices, OWNER, TTL, Random(1))
    metrics = node_at(nodes, "_metrics._tcp.web.ns.svc.cluster.local")
    assert answer_of(metrics, records.A).rdatas == (bytes([10, 0, 2, 2]),)
    assert [unpack(">HHH", rdata[:6]) for rdata in answer_of(metrics, records.SRV).rdatas] == [(0, 100, 9100)]
    assert len(answer_of(nodes[0], records.A).rdatas) == 2


def test_endpoints_with_one_name_answer_together() -> None:
    endpoints = (Endpoint(bytes([10, 0, 0, 1]), "web-0"), Endpoint(bytes(15) + b"\x01", "web-0"))
    found = [
        SliceRecords.of(EndpointSlice.of("ns", "web", "web", HTTP, (endpoint,)), imported=False, pod_names=False)
        for endpoint in endpoints
    ]
    (node,) = endpoint_nodes(found, OWNER, TTL, 1)
    assert answer_of(node, records.A).rdatas == (endpoints[0].address,)
    assert answer_of(node, records.AAAA).rdatas == (endpoints[1].address,)
    srv = answer_of(node, records.SRV)
    assert len(srv.rdatas) == 1
    assert unpack(">HHH", srv.rdatas[0][:6]) == (0, 50, 80)
    assert len(srv.additional) == 2


def test_zones_are_told_apart_without_regard_to_case() -> None:
    slices = [slice_of(1, [1], zone="West-A"), slice_of(2, [2], zone="west-a"), slice_of(3, [3])]
    nodes = zonal_nodes(slices, OWNER, TTL, Random(1))
    pinned = node_at(nodes, "west-a.pin._zone.web.ns.svc.cluster.local")
    assert answer_of(pinned, records.A).rdatas == (bytes([10, 0, 1, 1]), bytes([10, 0, 2, 2]))
    assert node_at(nodes, "*.pin._zone.web.ns.svc.cluster.local").alias_of is None
    assert node_at(nodes, "*.prefer._zone.web.ns.svc.cluster.local").alias_of == OWNER


def test_port_names_that_do_not_fit_below_a_long_service_name_are_left_out() -> None:
    long = names.from_labels([b"s" * 63, b"n" * 63, b"svc", b"z" * 50])
    service = Service("n" * 63, "s" * 63, ServiceType.CLUSTER_IP, (bytes(4),), (Port("p" * 62, "TCP", 1),))
    nodes = cluster_ip_nodes(service, long, TTL, imported=False)
    assert all(len(node.owner) <= names.MAX_NAME for node in nodes)
    assert nodes[0].owner == long
    assert answer_of(nodes[0], records.SRV).rdatas


def test_slice_cache_keeps_to_its_bound_and_drops_what_was_used_least_recently() -> None:
    cache = SliceCache(imported=False, pod_names=False, max_endpoints=250)
    entries = [
        SliceEntry(
            EndpointSlice.of("ns", str(n), "web", HTTP, [Endpoint(bytes([10, 0, n, i])) for i in range(100)]),
            "web",
        )
        for n in range(3)
    ]
    first = cache.records(entries[0])
    cache.records(entries[1])
    assert cache.records(entries[0]) is first
    cache.records(entries[2])
    assert [entry.records is not None for entry in entries] == [True, False, True]
    cache.forget(entries[0])
    assert cache.records(entries[0]) is not first


@pytest.mark.parametrize("name", ["with.dot", "x" * 64, ""])
def test_objects_whose_names_are_no_labels_are_left_out(name: str) -> None:
    store = Store(View(zones=(names.from_text("cluster.local"),)), lambda: 1.0)
    bare = len(list(store.all_nodes()))
    store.apply(Event(Kind.NAMESPACE, "", name, Namespace(name)))
    store.apply(Event(Kind.SERVICE, "ns", name, Service("ns", name, ServiceType.CLUSTER_IP, (bytes(4),), HTTP)))
    store.apply(Event(Kind.ENDPOINT_SLICE, "ns", "s", EndpointSlice.of("ns", "s", name, HTTP, (Endpoint(bytes(4)),))))
    assert store.take_changes() == []
    assert len(list(store.all_nodes())) == bare
