"""Changes: after any events, the nodes handed out bit by bit are those of a full build, and no more than concerned."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdns.cluster import endpoints as cached
from kdns.cluster.objects import (
    NO_PORT,
    Endpoint,
    EndpointSlice,
    Event,
    Kind,
    Namespace,
    Pod,
    Port,
    Service,
    ServiceImport,
    ServiceType,
)
from kdns.cluster.selectors import Selector
from kdns.cluster.store import Store
from kdns.cluster.view import PodMode, View
from kdns.cluster.zones import Zone
from kdns.dns import names
from kdns.dns.rrset import Node


def zones(*texts: str) -> tuple[bytes, ...]:
    return tuple(map(names.from_text, texts))


def address(text: str) -> bytes:
    packed = names.pack_address(text)
    assert packed is not None
    return packed


ORDINARY = View(zones=zones("cluster.local", "in-addr.arpa", "ip6.arpa"))
VIEWS = [
    ORDINARY,
    replace(
        ORDINARY,
        zones=zones("cluster.local", "inner.cluster.local", "example.org", "10.in-addr.arpa", "ip6.arpa"),
        ignore_empty_service=True,
        pods=PodMode.VERIFIED,
        labels=Selector.parse("app=red"),
        local_addresses=(address("10.0.0.1"), address("fd00::1")),
    ),
    replace(
        ORDINARY,
        zones=zones("cluster.local", "clusterset.local", "in-addr.arpa", "0.0.10.in-addr.arpa"),
        multicluster=zones("clusterset.local"),
        ignore_empty_service=True,
        namespaces=frozenset({"one"}),
        pods=PodMode.INSECURE,
        endpoint_pod_names=True,
    ),
    replace(ORDINARY, zones=zones("."), zonal=True, local_addresses=(address("10.0.0.2"),)),
    replace(
        ORDINARY,
        zones=zones("cluster.local", "1.0.0.10.in-addr.arpa", "svc.clusterset.local", "clusterset.local"),
        multicluster=zones("clusterset.local"),
        namespace_labels=Selector.parse("app"),
        noendpoints=True,
        zonal=False,
    ),
]

ADDRESSES = [
    address(text) for text in ("10.0.0.1", "10.0.0.2", "10.0.1.1", "192.0.2.1", "fd00::1", "fd00::", "fd01::2")
]
NAMESPACES = ["one", "two"]
SERVICES = ["a", "b", "c"]
PORTS = [
    Port("http", "TCP", 80),
    Port("HTTP", "TCP", 81),
    Port("dns", "UDP", 53),
    Port("dns", "TCP", 53),
    Port("", "TCP", 9),
    Port("null", "TCP", NO_PORT),
]
TARGETS = [
    "a.one.svc.cluster.local",
    "b.one.svc.cluster.local.",
    "c.two.svc.cluster.local",
    "host.b.one.svc.cluster.local",
    "_http._tcp.b.one.svc.cluster.local",
    "dns.udp.a.one.svc.cluster.local",
    "x.pin._zone.b.one.svc",
    "y.prefer._zone.b.one.svc",
    "10-0-0-1.one.pod.cluster.local",
    "x.fd00--1.one.pod.cluster.local",
    "ns.dns.cluster.local",
    "a.one.svc.inner.cluster.local",
    "one.svc.cluster.local",
    "b.one.svc",
    "www.example.com",
    "192.0.2.9",
    "no..name",
]


def lists(values: st.SearchStrategy[object] | Sequence[object], most: int) -> st.SearchStrategy[tuple[object, ...]]:
    element = values if isinstance(values, st.SearchStrategy) else st.sampled_from(values)
    return st.lists(element, max_size=most).map(tuple)


labels = st.sampled_from([{"app": "red"}, {"app": "blue"}, {}])
ports = lists(PORTS, 3)
endpoints = st.builds(
    Endpoint,
    st.sampled_from(ADDRESSES),
    st.sampled_from(["", "", "host", "Other", "_odd", "x" * 64]),
    st.sampled_from(["", "pod-1", "pod.dotted"]),
    st.sampled_from(["", "x", "y.z"]),
)


def objects(kind: Kind, namespace: str, name: str) -> st.SearchStrategy[object]:
    match kind:
        case Kind.NAMESPACE:
            return st.just(Namespace(name))
        case Kind.POD:
            return st.builds(Pod, st.just(namespace), st.just(name), st.sampled_from(ADDRESSES))
        case Kind.SERVICE:
            with_addresses = st.builds(
                Service, st.just(namespace), st.just(name), st.just(ServiceType.CLUSTER_IP), lists(ADDRESSES, 2), ports
            )
            headless = st.just(Service(namespace, name, ServiceType.HEADLESS))
            external = st.sampled_from(TARGETS).map(
                lambda target: Service(namespace, name, ServiceType.EXTERNAL_NAME, external_name=target)
            )
            return st.one_of(with_addresses, headless, headless, external)
        case Kind.SERVICE_IMPORT:
            return st.builds(
                ServiceImport, st.just(namespace), st.just(name), st.booleans(), lists(ADDRESSES, 1), ports
            )
        case Kind.ENDPOINT_SLICE:
            return st.builds(
                EndpointSlice.of,
                st.just(namespace),
                st.just(name),
                st.sampled_from(["", *SERVICES]),
                ports,
                lists(endpoints, 3),
                lists(["www.example.com", "a.one.svc.cluster.local"], 1),
                st.sampled_from(["", *SERVICES]),
                st.sampled_from(["", "cluster1", "cluster2"]),
            )


@st.composite
def events(draw: st.DrawFn) -> Event:
    kind = draw(st.sampled_from([*Kind, Kind.SERVICE, Kind.ENDPOINT_SLICE, Kind.ENDPOINT_SLICE]))
    namespace = "" if kind is Kind.NAMESPACE else draw(st.sampled_from(NAMESPACES))
    name = draw(st.sampled_from(NAMESPACES if kind is Kind.NAMESPACE else SERVICES))
    found = draw(st.one_of(st.none(), *[objects(kind, namespace, name)] * 4))
    return Event(kind, namespace, name, found, draw(labels))


def in_order(nodes: Iterable[Node]) -> dict[bytes, Node]:
    """Nodes by owner, with everything whose order means nothing sorted."""
    found = {}
    for node in nodes:
        assert node.owner not in found
        answers = node.answers
        if answers is not None:
            answers = tuple(
                sorted(
                    answer._replace(
                        rdatas=tuple(sorted(answer.all_rdatas)),
                        additional=tuple(sorted(answer.additional)),
                        portions=(),
                    )
                    for answer in answers
                )
            )
        found[node.owner] = node._replace(answers=answers)
    return found


BOTH_NAMESPACES = [Event(Kind.NAMESPACE, "", name, Namespace(name), {"app": "red"}) for name in NAMESPACES]


@pytest.mark.parametrize("min_large", [cached.MIN_LARGE, 1])
@settings(max_examples=100, deadline=None)
@given(st.sampled_from(VIEWS), st.lists(st.lists(events(), min_size=1, max_size=4), max_size=8))
def test_changes_add_up_to_a_full_build(min_large: int, view: View, batches: list[list[Event]]) -> None:
    """Whatever counts as a large Service."""
    with patch.object(cached, "MIN_LARGE", min_large):
        _changes_add_up(view, batches)


def _changes_add_up(view: View, batches: list[list[Event]]) -> None:
    store = Store(view, lambda: 1.0)
    table: dict[bytes, Node] = {}
    last: dict[tuple[Kind, str, str], Event] = {}
    for batch in [BOTH_NAMESPACES, *batches]:
        for event in batch:
            store.apply(event)
            last[event.kind, event.namespace, event.name] = event
        for owner, node in in_order(store.take_changes()).items():
            if node.answers is None:
                table.pop(owner, None)
            else:
                table[owner] = node
        fresh = Store(view, lambda: 1.0)
        for event in last.values():
            fresh.apply(event)
        assert table == in_order(fresh.all_nodes())
        assert table == in_order(store.all_nodes())
        check_names(view, table)


def check_names(view: View, table: dict[bytes, Node]) -> None:
    """Every name is one, is in a zone, and every name above it in the zone exists too (RFC 8020)."""
    for owner, node in table.items():
        assert node.answers is not None
        assert len(owner) <= names.MAX_NAME
        zone = names.longest_zone(owner, view.zones)
        assert zone is not None
        above = names.parents(owner)
        assert all(len(label) <= names.MAX_LABEL for label in names.labels_of(owner))
        for parent in above[: above.index(zone) + 1]:
            # A headless Service without endpoints is not there, but says "no data" for each topology zone.
            assert parent in table or (view.zonal and b"_zone" in owner)
        if node.alias_of is not None:
            assert table[node.alias_of].alias_of is None
        for answer in node.answers:
            assert answer.rdatas or answer.leaves_zone


def headless_cluster(slices: int, each: int) -> tuple[Store, list[EndpointSlice]]:
    """A Service `a` in namespace `one` with so many slices of endpoints, among others, and built once."""
    store = Store(ORDINARY, lambda: 1.0)
    store.apply(BOTH_NAMESPACES[0])
    made = []
    for name in SERVICES:
        store.apply(Event(Kind.SERVICE, "one", name, Service("one", name, ServiceType.HEADLESS)))
        for number in range(slices):
            found = EndpointSlice.of(
                "one",
                f"{name}-{number}",
                name,
                (Port("http", "TCP", 80),),
                tuple(Endpoint(bytes([10, SERVICES.index(name), number, host])) for host in range(each)),
            )
            store.apply(Event(Kind.ENDPOINT_SLICE, "one", found.name, found))
            made.append(found)
    list(store.all_nodes())
    return store, made


def texts(nodes: Iterable[Node]) -> list[str]:
    return [names.to_text(node.owner) + (" gone" if node.answers is None else "") for node in nodes]


def put_slice(store: Store, found: EndpointSlice) -> None:
    store.apply(Event(Kind.ENDPOINT_SLICE, found.namespace, found.name, found))


def test_one_changed_endpoint_concerns_its_service_and_its_own_names_only() -> None:
    store, slices = headless_cluster(slices=20, each=100)
    old = slices[3]
    moved = Endpoint(address("192.0.2.1"))
    put_slice(store, EndpointSlice.of(old.namespace, old.name, old.service, old.ports, (moved, *old.endpoints[1:])))
    changed = texts(store.take_changes())
    assert changed[:2] in (
        ["10-10-0-3-0.a.one.svc.cluster.local. gone", "0.3.0.10.in-addr.arpa. gone"],
        ["10-0-3-0.a.one.svc.cluster.local. gone", "0.3.0.10.in-addr.arpa. gone"],
    )
    own = {"", "_http._tcp.", "_tcp.", "_.", "_._.", "_http._.", "_._tcp."}
    partial = {"2.0.192.in-addr.arpa.", "0.192.in-addr.arpa.", "192.in-addr.arpa."}
    assert set(changed[2:]) == {
        *(f"{prefix}a.one.svc.cluster.local." for prefix in own),
        "192-0-2-1.a.one.svc.cluster.local.",
        "1.2.0.192.in-addr.arpa.",
        *partial,
    }


def test_names_are_taken_out_before_others_change_and_services_that_lost_endpoints_come_next() -> None:
    store, slices = headless_cluster(slices=1, each=3)
    grown, shrunk = slices[0], slices[1]
    new = Endpoint(address("192.0.2.1"))
    put_slice(store, EndpointSlice.of("one", grown.name, "a", grown.ports, (*grown.endpoints, new)))
    put_slice(store, EndpointSlice.of("one", shrunk.name, "b", shrunk.ports, shrunk.endpoints[:2]))
    changed = texts(store.take_changes())
    gone = [text for text in changed if text.endswith(" gone")]
    assert changed[: len(gone)] == gone
    assert len(gone) == 2
    assert changed.index("b.one.svc.cluster.local.") < changed.index("a.one.svc.cluster.local.")


def test_repeated_events_change_nothing() -> None:
    store, slices = headless_cluster(slices=2, each=5)
    for found in slices:
        put_slice(store, found)
    store.apply(BOTH_NAMESPACES[0])
    store.apply(Event(Kind.POD, "one", "a", None))
    assert store.take_changes() == []


def test_endpoints_of_a_cluster_ip_service_leave_its_own_names_alone() -> None:
    store, slices = headless_cluster(slices=1, each=2)
    store.apply(Event(Kind.SERVICE, "one", "a", Service("one", "a", ServiceType.CLUSTER_IP, (address("192.0.2.7"),))))
    store.take_changes()
    put_slice(store, EndpointSlice.of("one", "a-0", "a", slices[0].ports, slices[0].endpoints[:1]))
    assert texts(store.take_changes()) == [
        "10-0-0-1.a.one.svc.cluster.local. gone",
        "1.0.0.10.in-addr.arpa. gone",
    ]


def test_aliases_follow_what_they_stand_for_through_other_aliases() -> None:
    store, slices = headless_cluster(slices=1, each=2)
    for name, target in (("direct", "a"), ("indirect", "direct"), ("elsewhere", "b")):
        alias = Service("one", name, ServiceType.EXTERNAL_NAME, external_name=f"{target}.one.svc.cluster.local")
        store.apply(Event(Kind.SERVICE, "one", name, alias))
    store.take_changes()
    put_slice(store, EndpointSlice.of("one", "a-0", "a", slices[0].ports, slices[0].endpoints[:1]))
    changed = texts(store.take_changes())
    assert {"direct.one.svc.cluster.local.", "indirect.one.svc.cluster.local."} < set(changed)
    assert "elsewhere.one.svc.cluster.local." not in changed


def test_names_in_an_inner_zone_are_left_to_it() -> None:
    view = replace(ORDINARY, zones=zones("cluster.local", "one.svc.cluster.local"))
    outer = Zone(view.zones[0], view)
    assert outer.inner == (view.zones[1],)
    store = Store(view, lambda: 1.0)
    store.apply(BOTH_NAMESPACES[0])
    store.apply(Event(Kind.SERVICE, "one", "a", Service("one", "a", ServiceType.CLUSTER_IP, (ADDRESSES[0],))))
    found = {names.to_text(node.owner) for node in store.all_nodes()}
    assert "a.one.svc.one.svc.cluster.local." in found
    assert "a.one.svc.cluster.local." not in found
    store.apply(Event(Kind.NAMESPACE, "", "one", None))
    gone = texts(node for node in store.take_changes() if node.answers is None)
    assert "one.svc.cluster.local. gone" not in gone
    assert "a.one.svc.one.svc.cluster.local. gone" in gone
