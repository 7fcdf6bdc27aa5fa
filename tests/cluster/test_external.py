"""The names of `k8s_external`, and the notes for workers: made at once, and kept up with changes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdns.cluster import notes
from kdns.cluster.client_notes import client_owner
from kdns.cluster.manifest_objects import read_objects
from kdns.cluster.objects import Endpoint, EndpointSlice, Event, Kind, Namespace, Pod, Port, Service, ServiceType
from kdns.cluster.store import Store
from kdns.cluster.view import ExternalZones, PodMode, View, needs_of
from kdns.dns import names
from kdns.dns.codes import RRType
from kdns.dns.rrset import Answer, ExternalNode, Node
from tests.fakes import clusters
from tests.fakes.clusters import event_of
from tests.harness.examples import examples

EXAMPLE = names.from_text("example.com")
SHOP = b"\x04shop" + EXAMPLE
ZONES = (EXAMPLE, names.from_text("inner.example.com"), names.IN_ADDR_ARPA, names.from_text("0.d.f.ip6.arpa"))
VIEW = View(
    (names.from_text("cluster.local"), names.IN_ADDR_ARPA),
    pods=PodMode.VERIFIED,
    clients=True,
    transfers=True,
    external=ExternalZones(ZONES, ttl=9, headless=True),
    local_addresses=(b"\x0a\1\1\1",),
)
HTTP = (Port("http", "TCP", 80),)

external_texts = st.sampled_from(("203.0.113.1", "203.0.113.2", "fd00::5", "10.1.1.4", "lb.cdn.test"))
external_events = st.builds(
    lambda service, texts: event_of(replace_external(service, texts)),
    clusters.services(),
    st.lists(external_texts, max_size=3, unique=True),
)


def replace_external(service: Service, texts: list[str]) -> Service:
    return Service(
        service.namespace, service.name, service.type, service.addresses, service.ports,
        service.external_name, tuple(texts),
    )  # fmt: skip


def state_of(nodes: list[Node]) -> dict[tuple[bool, bytes], object]:
    """What nodes say, but for the order of records and where random choice has a say."""
    return {(isinstance(node, ExternalNode), node.owner): meaning(node) for node in nodes if node.answers is not None}


def meaning(node: Node) -> object:
    assert node.answers is not None
    answers = {
        answer.rtype: (answer.ttl, frozenset(answer.rdatas), answer.chain, frozenset(answer.additional))
        for answer in node.answers
    }
    alias = notes.read_service(node.alias_of) if node.owner.startswith(notes.TRANSFER) else node.alias_of
    if isinstance(alias, notes.ServiceNote):
        alias = (alias.addresses, alias.ports, alias.target, frozenset(alias.slices))
    return answers, alias, node.has_ports


@pytest.mark.parametrize(
    "view",
    [
        VIEW,
        replace(VIEW, external=ExternalZones(ZONES), namespaces=frozenset(("shop", "svc"))),
        replace(VIEW, external=ExternalZones((EXAMPLE,), apex=b"\x04shop", headless=True)),
    ],
    ids=["headless", "namespaces", "apex"],
)
@settings(max_examples=examples(60), deadline=None)
@given(data=st.data())
def test_changes_lead_to_what_a_full_build_has(view: View, data: st.DataObject):
    batch = st.lists(st.one_of(clusters.events, external_events), max_size=8)
    history = [event_of(Namespace(name)) for name in clusters.NAMESPACES[:2]]
    store = Store(view, lambda: 0.0)
    for event in history:
        store.apply(event)
    found = {(isinstance(node, ExternalNode), node.owner): node for node in store.take_changes()}
    for events in data.draw(st.lists(batch, min_size=1, max_size=4)):
        for event in events:
            store.apply(event)
            history.append(event)
        found |= {(isinstance(node, ExternalNode), node.owner): node for node in store.take_changes()}
    fresh = Store(view, lambda: 0.0)
    for event in history:
        fresh.apply(event)
    assert state_of(list(found.values())) == state_of(list(fresh.all_nodes()))


def nodes_of(view: View, *objects: Namespace | Service | EndpointSlice | Pod) -> dict[bytes, Node]:
    """The nodes of the external zones."""
    store = Store(view, lambda: 1.0)
    for found in objects:
        store.apply(event_of(found))
    return {node.owner: node for node in store.all_nodes() if isinstance(node, ExternalNode)}


def balancer(*addresses: str, ports: tuple[Port, ...] = HTTP) -> Service:
    return Service("shop", "lb", ServiceType.CLUSTER_IP, (b"\x0a\x60\0\1",), ports, external_addresses=addresses)


def answer(node: Node, rtype: int) -> Answer:
    (found,) = [answer for answer in node.answers or () if answer.rtype == rtype]
    return found


def test_addresses_have_the_ttl_of_the_external_zones_and_srv_records_that_of_the_cluster():
    node = nodes_of(VIEW, Namespace("shop"), balancer("203.0.113.1"))[b"\x02lb" + SHOP]
    assert answer(node, RRType.A).ttl == 9
    srv = answer(node, RRType.SRV)
    assert (srv.ttl, [record.ttl for record in srv.additional]) == (5, [9])


def test_a_service_without_external_addresses_is_not_there():
    found = nodes_of(VIEW, Namespace("shop"), Service("shop", "in", ServiceType.CLUSTER_IP, (b"\x0a\x60\0\2",), HTTP))
    assert b"\x02in" + SHOP not in found
    assert SHOP in found


def test_a_balancer_known_by_name_is_a_cname_at_each_of_its_names():
    found = nodes_of(VIEW, Namespace("shop"), balancer("lb.cdn.test"))
    for prefix in (b"", b"\x05_http\x04_tcp", b"\1_\1_", b"\1_\x04_tcp"):
        aliased = answer(found[prefix + b"\x02lb" + SHOP], RRType.A)
        assert aliased.leaves_zone
        assert [record.rdata for record in aliased.chain] == [names.from_text("lb.cdn.test")]
    srv = answer(found[b"\x02lb" + SHOP], RRType.SRV)
    assert srv.rdatas == (b"\0\0\0\x64\0\x50" + names.from_text("lb.cdn.test"),)


def test_ip_addresses_come_before_a_balancers_name():
    node = nodes_of(VIEW, Namespace("shop"), balancer("lb.cdn.test", "203.0.113.1"))[b"\x02lb" + SHOP]
    assert answer(node, RRType.A).rdatas == (bytes((203, 0, 113, 1)),)
    assert not answer(node, RRType.A).chain


def test_an_external_address_points_to_every_service_that_has_it():
    other = Service("svc", "b", ServiceType.CLUSTER_IP, external_addresses=("203.0.113.1",))
    found = nodes_of(VIEW, Namespace("shop"), Namespace("svc"), balancer("203.0.113.1"), other)
    pointer = answer(found[names.reverse_name(bytes((203, 0, 113, 1)))], RRType.PTR)
    assert pointer.ttl == 9
    assert set(pointer.rdatas) == {b"\x02lb" + SHOP, b"\x01b\x03svc" + EXAMPLE}


def test_the_name_server_has_the_external_addresses_of_the_service_that_leads_here():
    slice_ = EndpointSlice.of("shop", "s", "lb", HTTP, (Endpoint(b"\x0a\1\1\1"),))
    found = nodes_of(VIEW, Namespace("shop"), balancer("203.0.113.1", "lb.cdn.test"), slice_)
    server = b"\x03ns1\x03dns" + EXAMPLE
    assert answer(found[server], RRType.A).rdatas == (bytes((203, 0, 113, 1)),)
    assert answer(found[EXAMPLE], RRType.NS).rdatas == (server,)
    alone = nodes_of(VIEW, Namespace("shop"))
    assert answer(alone[server], RRType.A).rdatas == (b"\x0a\1\1\1",)


@pytest.mark.parametrize("headless", [True, False])
def test_endpoints_are_there_with_headless_where_the_service_has_no_external_address(headless: bool):
    view = replace(VIEW, external=ExternalZones((EXAMPLE,), headless=headless))
    slice_ = EndpointSlice.of("shop", "s", "db", HTTP, (Endpoint(b"\x0a\1\1\2", "a"),))
    for external in ((), ("203.0.113.1",)):
        service = Service("shop", "db", ServiceType.HEADLESS, (), HTTP, external_addresses=external)
        found = nodes_of(view, Namespace("shop"), service, slice_)
        assert (b"\x01a\x02db" + SHOP in found) is (headless and not external)
        assert (b"\x02db" + SHOP in found) is (headless or bool(external))


def test_endpoints_go_when_their_service_gets_an_external_address():
    store = Store(VIEW, lambda: 1.0)
    service = Service("shop", "db", ServiceType.HEADLESS, (), HTTP)
    slice_ = EndpointSlice.of("shop", "s", "db", HTTP, (Endpoint(b"\x0a\1\1\2", "a"),))
    for found in (Namespace("shop"), service, slice_):
        store.apply(event_of(found))
    list(store.all_nodes())
    store.apply(event_of(replace_external(service, ["203.0.113.1"])))
    changed = {node.owner: node for node in store.take_changes() if isinstance(node, ExternalNode)}
    assert changed[b"\x01a\x02db" + SHOP].answers is None
    store.apply(event_of(service))
    changed = {node.owner: node for node in store.take_changes() if isinstance(node, ExternalNode)}
    assert answer(changed[b"\x01a\x02db" + SHOP], RRType.A).rdatas == (b"\x0a\1\1\2",)


def test_one_endpoint_of_many_makes_few_nodes():
    store = Store(VIEW, lambda: 1.0)
    many = tuple(Endpoint(bytes((10, 2, n >> 8, n & 255))) for n in range(500))
    for found in (Namespace("shop"), Service("shop", "db", ServiceType.HEADLESS, (), HTTP)):
        store.apply(event_of(found))
    store.apply(event_of(EndpointSlice.of("shop", "s", "db", HTTP, many)))
    list(store.all_nodes())
    store.apply(event_of(EndpointSlice.of("shop", "s", "db", HTTP, many[1:])))
    changed = [node for node in store.take_changes() if isinstance(node, ExternalNode)]
    assert len(changed) < 30


def test_external_addresses_are_kept_only_where_they_are_shown():
    store = Store(replace(VIEW, external=None), lambda: 1.0)
    store.apply(event_of(Namespace("shop")))
    store.apply(event_of(balancer("203.0.113.1")))
    list(store.all_nodes())
    store.apply(event_of(balancer("203.0.113.2")))
    assert store.take_changes() == []


def test_the_external_serial_is_that_of_the_last_change_of_something_external():
    now = [1.0]
    store = Store(replace(VIEW, external=ExternalZones((EXAMPLE,))), lambda: now[0])
    store.apply(event_of(Service("shop", "in", ServiceType.CLUSTER_IP, (b"\x0a\x60\0\2",))))
    assert store.external_serial == 0
    now[0] = 2.0
    store.apply(event_of(balancer("203.0.113.1")))
    assert store.external_serial == 2
    now[0] = 3.0
    store.apply(event_of(balancer("203.0.113.1")))
    assert store.external_serial == 2
    store.apply(Event(Kind.SERVICE, "shop", "lb", None))
    assert store.external_serial == 3


def test_pods_that_share_an_address_have_one_namespace_until_the_last_of_them_is_gone():
    store = Store(replace(VIEW, external=None, transfers=False), lambda: 1.0)
    address = b"\x0a\1\1\x09"
    list(store.all_nodes())
    seen = []
    for event in (
        event_of(Pod("shop", "a", address)),
        event_of(Pod("local", "b", address)),
        Event(Kind.POD, "local", "b", None),
        Event(Kind.POD, "shop", "a", None),
    ):
        store.apply(event)
        seen += [node.alias_of for node in store.take_changes() if node.owner == client_owner(address)]
    assert seen == [b"\x04shop", b"\x05local", b"\x04shop", None]


@pytest.mark.parametrize("view", [VIEW, replace(VIEW, external=None)], ids=["shown", "not shown"])
def test_manifests_are_cut_to_what_is_shown(view: View):
    text = (
        b'{"apiVersion":"v1","kind":"Service","metadata":{"name":"lb","namespace":"shop"},'
        b'"spec":{"clusterIP":"10.96.0.1","externalIPs":["203.0.113.1"]}}'
    )
    (held,) = read_objects(text, True, {}, needs_of([view])).objects.values()
    found = held.event.object
    assert isinstance(found, Service)
    assert found.external_addresses == (("203.0.113.1",) if view.external else ())
