"""Generated clusters for property tests: small, and full of the cases that make answers differ."""

from __future__ import annotations

from hypothesis import strategies as st

from kdns.cluster.objects import (
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

NAMESPACES = ("shop", "svc", "local")
SERVICES = ("web", "db", "alias", "pod")
HOSTNAMES = ("", "", "a", "b", "pin")
TARGETS = (
    "web.shop.svc.cluster.local",
    "db.svc.svc.cluster.local.",
    "alias.local.svc.cluster.local",
    "10-1-1-1.shop.pod.cluster.local",
    "ns.dns.cluster.local",
    "www.example.org",
)
EXTERNAL_ADDRESSES = ((), (), ("10.1.1.5",), ("10.1.1.5", "10.1.1.6", "fd00::7"), ("www.example.org",))
PORTS = (Port("http", "TCP", 80), Port("dns", "UDP", 53), Port("dns-tcp", "TCP", 53), Port("", "TCP", -1))

addresses = st.one_of(
    st.integers(0, 40).map(lambda n: bytes((10, 1, 1, n))),
    st.integers(0, 6).map(lambda n: bytes.fromhex("fd00") + bytes(13) + bytes((n,))),
)
ports = st.lists(st.sampled_from(PORTS), max_size=3, unique=True).map(tuple)
endpoints = st.builds(
    Endpoint,
    address=addresses,
    hostname=st.sampled_from(HOSTNAMES),
    target_name=st.sampled_from(("", "web-0")),
    zone=st.sampled_from(("", "eu-1a", "eu.1b")),
)
service_types = st.sampled_from(list(ServiceType))


@st.composite
def services(draw: st.DrawFn) -> Service:
    """A Service of any type."""
    namespace, name, kind = draw(st.sampled_from(NAMESPACES)), draw(st.sampled_from(SERVICES)), draw(service_types)
    outside = draw(st.sampled_from(EXTERNAL_ADDRESSES))
    if kind is ServiceType.EXTERNAL_NAME:
        target = draw(st.sampled_from(TARGETS))
        return Service(namespace, name, kind, external_name=target, external_addresses=outside)
    own = tuple(draw(st.lists(addresses, max_size=2))) if kind is ServiceType.CLUSTER_IP else ()
    return Service(namespace, name, kind, own, draw(ports), external_addresses=outside)


@st.composite
def slices(draw: st.DrawFn, most_endpoints: int = 40) -> EndpointSlice:
    """An EndpointSlice of a Service, of an import or of nothing."""
    return EndpointSlice.of(
        draw(st.sampled_from(NAMESPACES)),
        draw(st.sampled_from(("s1", "s2"))),
        draw(st.sampled_from(("", *SERVICES))),
        draw(ports),
        tuple(draw(st.lists(endpoints, max_size=most_endpoints))),
        service_import=draw(st.sampled_from(("", "web"))),
        source_cluster="c1",
    )


namespaces = st.sampled_from(NAMESPACES).map(Namespace)
pods = st.builds(Pod, namespace=st.sampled_from(NAMESPACES), name=st.sampled_from(("p1", "p2")), address=addresses)
imports = st.builds(
    ServiceImport,
    namespace=st.sampled_from(NAMESPACES),
    name=st.sampled_from(SERVICES),
    headless=st.booleans(),
    addresses=st.lists(addresses, max_size=2).map(tuple),
    ports=ports,
)

KINDS = {
    Namespace: Kind.NAMESPACE,
    Service: Kind.SERVICE,
    EndpointSlice: Kind.ENDPOINT_SLICE,
    Pod: Kind.POD,
    ServiceImport: Kind.SERVICE_IMPORT,
}


def event_of(found: Namespace | Service | EndpointSlice | Pod | ServiceImport) -> Event:
    """The event that an object is there."""
    return Event(KINDS[type(found)], getattr(found, "namespace", ""), found.name, found)


objects = st.one_of(services(), slices(), namespaces, pods, imports)
events = st.one_of(objects.map(event_of), objects.map(event_of).map(lambda event: event._replace(object=None)))
clusters = st.builds(
    lambda some, others: [*map(event_of, map(Namespace, some)), *others],
    st.sets(st.sampled_from(NAMESPACES), min_size=2),
    st.lists(events, max_size=25),
)
