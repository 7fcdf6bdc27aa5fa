"""The serials of the zones' SOA records: which changes count, and for which zones."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kdns.cluster.objects import (
    ClusterObject,
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
from kdns.dns import names

PLAIN = View(zones=(names.from_text("cluster.local"),), pods=PodMode.VERIFIED)
MULTICLUSTER = replace(
    PLAIN,
    zones=(*PLAIN.zones, names.from_text("clusterset.local")),
    multicluster=(names.from_text("clusterset.local"),),
)
HTTP = (Port("http", "TCP", 80),)
HTTPS = (Port("https", "TCP", 443),)
ONE, TWO = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])

SERVICE = Service("ns", "x", ServiceType.CLUSTER_IP, (ONE,), HTTP)
ALIAS = Service("ns", "x", ServiceType.EXTERNAL_NAME, external_name="a.example.com")
SLICE = EndpointSlice.of("ns", "x", "svc", HTTP, (Endpoint(ONE, "host", "pod", "zone"),))
IMPORTED = EndpointSlice.of("ns", "x", "", HTTP, (Endpoint(ONE),), (), "svc", "cluster1")
POD = Pod("ns", "x", ONE)
IMPORT = ServiceImport("ns", "x", False, (ONE,), HTTP)


def put(store: Store, found: ClusterObject, **labels: str) -> None:
    namespace = "" if isinstance(found, Namespace) else found.namespace
    store.apply(Event(Kind(type(found).__name__), namespace, found.name, found, labels))


def serials_after(view: View, *stages: ClusterObject | None) -> tuple[int, int]:
    """The serials after an object took these stages, None being its deletion, at the seconds 1, 2, 3 ..."""
    now = 0
    store = Store(view, lambda: now + 0.9)
    last: ClusterObject | None = None
    for found in stages:
        now += 1
        if found is not None:
            put(store, found)
        else:
            assert last is not None
            store.apply(Event(Kind(type(last).__name__), "ns", last.name, None))
        last = found or last
    return store.serial, store.multicluster_serial


def test_serial_is_zero_while_nothing_was_seen() -> None:
    assert serials_after(PLAIN) == (0, 0)
    assert serials_after(PLAIN, Namespace("ns")) == (0, 0)


@pytest.mark.parametrize("found", [SERVICE, SLICE, POD], ids=["Service", "EndpointSlice", "Pod"])
def test_coming_and_going_count(found: ClusterObject) -> None:
    assert serials_after(PLAIN, found) == (1, 0)
    assert serials_after(PLAIN, found, found) == (1, 0)
    assert serials_after(PLAIN, found, found, None) == (3, 0)
    assert serials_after(PLAIN, found, None, None) == (2, 0)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (SERVICE, Service("ns", "x", ServiceType.CLUSTER_IP, (ONE,), HTTPS)),
        (ALIAS, Service("ns", "x", ServiceType.EXTERNAL_NAME, external_name="b.example.com")),
        (SLICE, EndpointSlice.of("ns", "x", "svc", HTTPS, SLICE.endpoints)),
        (SLICE, EndpointSlice.of("ns", "x", "svc", HTTP, (Endpoint(TWO, "host", "pod", "zone"),))),
        (SLICE, EndpointSlice.of("ns", "x", "svc", HTTP, (Endpoint(ONE, "other", "pod", "zone"),))),
        (POD, Pod("ns", "x", TWO)),
    ],
    ids=["ports", "external name", "slice ports", "address", "hostname", "pod address"],
)
def test_updates_of_what_names_show_count(old: ClusterObject, new: ClusterObject) -> None:
    assert serials_after(PLAIN, old, new) == (2, 0)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (SERVICE, Service("ns", "x", ServiceType.CLUSTER_IP, (TWO,), HTTP)),
        (SERVICE, Service("ns", "x", ServiceType.HEADLESS, (), HTTP)),
        (SLICE, EndpointSlice.of("ns", "x", "svc", HTTP, (Endpoint(ONE, "host", "other", "zone"),))),
        (SLICE, EndpointSlice.of("ns", "x", "svc", HTTP, (Endpoint(ONE, "host", "pod", "elsewhere"),))),
    ],
    ids=["cluster IP", "type", "target", "zone"],
)
def test_updates_coredns_does_not_compare_do_not_count(old: ClusterObject, new: ClusterObject) -> None:
    assert serials_after(PLAIN, old, new) == (1, 0)


def test_topology_zone_counts_where_zonal_is_on() -> None:
    moved = EndpointSlice.of("ns", "x", "svc", HTTP, (Endpoint(ONE, "host", "pod", "elsewhere"),))
    assert serials_after(replace(PLAIN, zonal=True), SLICE, moved) == (2, 0)


def test_imports_count_for_all_zones_when_they_come_and_for_their_own_when_they_change() -> None:
    changed = ServiceImport("ns", "x", False, (ONE,), HTTPS)
    assert serials_after(MULTICLUSTER, IMPORT) == (1, 0)
    assert serials_after(MULTICLUSTER, IMPORT, changed) == (1, 2)
    assert serials_after(MULTICLUSTER, IMPORT, changed, None) == (3, 2)
    assert serials_after(PLAIN, IMPORT, changed) == (0, 0)


def test_changed_slice_of_an_import_counts_for_both() -> None:
    changed = EndpointSlice.of("ns", "x", "", HTTP, (Endpoint(TWO),), (), "svc", "cluster1")
    assert serials_after(MULTICLUSTER, IMPORTED, changed) == (2, 2)
    assert serials_after(replace(MULTICLUSTER, noendpoints=True), IMPORTED, changed) == (1, 2)


def test_object_losing_its_labels_counts_as_gone() -> None:
    now = 1.0
    store = Store(replace(PLAIN, labels=Selector.parse("app=red")), lambda: now)
    put(store, SERVICE, app="blue")
    assert store.serial == 0
    put(store, SERVICE, app="red")
    assert store.serial == 1
    now = 5.0
    put(store, SERVICE, app="blue")
    assert store.serial == 5
