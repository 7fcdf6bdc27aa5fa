"""Endpoints made from Pods: the same as the EndpointSlice controller makes, and no more work than a change asks for."""

from typing import Any

import pytest

from kdns.cluster.objects import Endpoint, EndpointSlice, Event, Kind, Port
from kdns.cluster.selection import EndpointSelection
from kdns.cluster.workloads import SelectablePod, read_selectable_pod, read_selecting_service
from kdns.errors import ManifestError

HTTP = {"name": "http", "port": 80, "targetPort": 8080}


class Cluster:
    """A selection with the slices it has made so far, kept up to date from its events."""

    def __init__(self) -> None:
        self.selection = EndpointSelection()
        self.slices: dict[str, Event] = {}

    def service(self, name: str = "web", labels: Any = None, **spec: Any) -> None:
        raw = {"spec": {"clusterIP": "None", "selector": {"app": name}, "ports": [HTTP], **spec}}
        self.selection.set_service(("shop", name), read_selecting_service(raw, "shop", name, labels or {}))

    def pod(self, name: str, *addresses: str, app: str = "web", ports: Any = (), **more: Any) -> None:
        status = {"podIP": addresses[0], "podIPs": [{"ip": address} for address in addresses]} if addresses else {}
        containers = [{"ports": [{"name": key, "containerPort": number} for key, number in ports]}]
        raw = {
            "metadata": {"labels": {"app": app, **more.pop("labels", {})}, **more.pop("metadata", {})},
            "spec": {"containers": containers, **more.pop("spec", {})},
            "status": {**status, **more},
        }
        self.selection.set_pod(("shop", name), read_selectable_pod(raw, "shop", name))

    def changes(self) -> list[Event]:
        events = self.selection.take_events()
        for event in events:
            if event.object is None:
                del self.slices[event.name]
            else:
                self.slices[event.name] = event
        return events

    def endpoints(self, service: str = "web") -> list[tuple[str, str]]:
        """Target and hostname of each endpoint of a Service."""
        self.changes()
        found = [event.object for event in self.slices.values()]
        return [
            (endpoint.target_name, endpoint.hostname)
            for made in found
            if isinstance(made, EndpointSlice) and made.service == service
            for endpoint in made.endpoints
        ]


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def test_slice_has_the_pods_with_all_labels_of_the_selector(cluster: Cluster) -> None:
    cluster.service(selector={"app": "web", "tier": "front"})
    cluster.pod("a", "10.0.0.1", labels={"tier": "front", "more": "x"})
    cluster.pod("b", "10.0.0.2", labels={"tier": "back"})
    cluster.pod("c", "10.0.0.3")
    [event] = cluster.changes()
    assert event.object == EndpointSlice.of(
        "shop",
        event.name,
        "web",
        (Port("http", "TCP", 8080),),
        (Endpoint(b"\x0a\0\0\1", target_name="a"),),
    )


def test_slice_carries_the_labels_of_the_service_and_its_own(cluster: Cluster) -> None:
    cluster.service(labels={"team": "a", "kubernetes.io/service-name": "other"})
    cluster.pod("a", "10.0.0.1")
    [event] = cluster.changes()
    assert event.kind is Kind.ENDPOINT_SLICE
    assert event.labels["team"] == "a"
    assert event.labels["kubernetes.io/service-name"] == "web"


def test_order_of_arrival_does_not_matter(cluster: Cluster) -> None:
    cluster.pod("b", "10.0.0.2")
    cluster.pod("a", "10.0.0.1")
    cluster.service()
    assert cluster.endpoints() == [("a", ""), ("b", "")]


def test_pod_of_another_namespace_is_not_selected(cluster: Cluster) -> None:
    cluster.service()
    pod = read_selectable_pod({"metadata": {"labels": {"app": "web"}}, "status": {"podIP": "10.0.0.1"}}, "other", "a")
    cluster.selection.set_pod(("other", "a"), pod)
    assert cluster.changes() == []


def test_named_target_port_is_each_pods_own(cluster: Cluster) -> None:
    cluster.service(ports=[{"name": "http", "port": 80, "targetPort": "web"}])
    cluster.pod("a", "10.0.0.1", ports=[("web", 8080)])
    cluster.pod("b", "10.0.0.2", ports=[("web", 9090)])
    cluster.pod("c", "10.0.0.3", ports=[("other", 1)])
    made = [event.object for event in cluster.changes()]
    ports = {made.endpoints[0].target_name: made.ports for made in made if isinstance(made, EndpointSlice)}
    assert ports == {"a": (Port("http", "TCP", 8080),), "b": (Port("http", "TCP", 9090),), "c": ()}


def test_named_target_port_must_have_the_protocol(cluster: Cluster) -> None:
    cluster.service(ports=[{"name": "dns", "port": 53, "targetPort": "dns", "protocol": "UDP"}])
    cluster.pod("a", "10.0.0.1", ports=[("dns", 53)])
    [event] = cluster.changes()
    assert isinstance(event.object, EndpointSlice)
    assert event.object.ports == ()


@pytest.mark.parametrize(("policy", "counts"), [("Always", True), (None, False)])
def test_named_target_port_of_a_sidecar_counts(cluster: Cluster, policy: Any, counts: bool) -> None:
    init = [{"restartPolicy": policy, "ports": [{"name": "web", "containerPort": 1}]}]
    cluster.service(ports=[{"port": 80, "targetPort": "web"}])
    cluster.pod("a", "10.0.0.1", spec={"initContainers": init})
    [event] = cluster.changes()
    assert isinstance(event.object, EndpointSlice)
    assert event.object.ports == ((Port("", "TCP", 1),) if counts else ())


@pytest.mark.parametrize(("target", "number"), [(None, 80), (0, 80), ("", 80), (8080, 8080), ("8080", 8080)])
def test_target_port_is_the_port_where_none_is_given(cluster: Cluster, target: Any, number: int) -> None:
    cluster.service(ports=[{"port": 80, "targetPort": target}])
    cluster.pod("a", "10.0.0.1")
    [event] = cluster.changes()
    assert isinstance(event.object, EndpointSlice)
    assert event.object.ports == (Port("", "TCP", number),)


def test_headless_service_needs_no_ports(cluster: Cluster) -> None:
    cluster.service(ports=None)
    cluster.pod("a", "10.0.0.1")
    assert cluster.endpoints() == [("a", "")]


@pytest.mark.parametrize(
    ("spec", "packed_lengths"),
    [
        ({"ipFamilies": ["IPv4", "IPv6"]}, [4, 16]),
        ({"ipFamilies": ["IPv6"]}, [16]),
        ({"ipFamilyPolicy": "PreferDualStack"}, [4, 16]),
        ({"clusterIP": "10.96.0.1"}, [4]),
        ({"clusterIPs": ["fd00::a", "10.96.0.1"]}, [4, 16]),
        ({}, [4]),
    ],
)
def test_there_is_a_slice_for_each_family_of_the_service(
    cluster: Cluster, spec: dict[str, Any], packed_lengths: list[int]
) -> None:
    cluster.service(**spec)
    cluster.pod("a", "10.0.0.1", "fd00::1")
    made = [event.object for event in cluster.changes()]
    lengths = [len(made.endpoints[0].address) for made in made if isinstance(made, EndpointSlice)]
    assert sorted(lengths) == packed_lengths


def test_pod_without_the_familys_address_is_left_out(cluster: Cluster) -> None:
    cluster.service(ipFamilies=["IPv6"])
    cluster.pod("a", "10.0.0.1")
    assert cluster.endpoints() == []


@pytest.mark.parametrize(
    ("hostname", "subdomain", "shown"),
    [("a-0", "web", "a-0"), ("a-0", "other", ""), ("a-0", None, ""), (None, "web", ""), ("a.b", "web", "")],
)
def test_endpoint_has_the_hostname_of_a_pod_whose_subdomain_is_the_service(
    cluster: Cluster, hostname: Any, subdomain: Any, shown: str
) -> None:
    cluster.service()
    cluster.pod("a", "10.0.0.1", spec={"hostname": hostname, "subdomain": subdomain})
    assert cluster.endpoints() == [("a", shown)]


def test_endpoint_has_the_zone_of_the_pods_label(cluster: Cluster) -> None:
    cluster.service()
    cluster.pod("a", "10.0.0.1", labels={"topology.kubernetes.io/zone": "eu-1a"})
    [event] = cluster.changes()
    assert isinstance(event.object, EndpointSlice)
    assert event.object.endpoints[0].zone == "eu-1a"


READY = [{"type": "Ready", "status": "True"}]
NOT_READY = [{"type": "Initialized", "status": "True"}, {"type": "Ready", "status": "False"}]


@pytest.mark.parametrize(
    ("more", "ready", "published"),
    [
        ({}, True, True),
        ({"conditions": None}, True, True),
        ({"conditions": READY}, True, True),
        ({"conditions": [{"type": "Ready", "status": True}]}, True, True),
        ({"conditions": NOT_READY}, False, True),
        ({"conditions": [{"type": "Initialized", "status": "True"}]}, False, True),
        ({"conditions": READY, "metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}, False, True),
        ({"phase": "Pending"}, True, True),
        ({"phase": "Succeeded"}, False, False),
        ({"phase": "Failed"}, False, False),
    ],
)
def test_readiness(cluster: Cluster, more: dict[str, Any], ready: bool, published: bool) -> None:
    cluster.service()
    cluster.service("eager", selector={"app": "web"}, publishNotReadyAddresses=True)
    cluster.pod("a", "10.0.0.1", **more)
    assert bool(cluster.endpoints()) is ready
    assert bool(cluster.endpoints("eager")) is published


def test_pod_without_an_address_is_no_endpoint(cluster: Cluster) -> None:
    cluster.service(publishNotReadyAddresses=True)
    cluster.pod("a")
    assert cluster.changes() == []


@pytest.mark.parametrize("spec", [{"selector": None}, {"selector": {}}, {"type": "ExternalName"}])
def test_service_without_a_selector_gets_nothing(cluster: Cluster, spec: dict[str, Any]) -> None:
    cluster.service(**spec)
    cluster.pod("a", "10.0.0.1")
    assert cluster.changes() == []


def test_changed_pod_touches_only_the_services_that_select_it(cluster: Cluster) -> None:
    for name in ("web", "db"):
        cluster.service(name)
        cluster.pod(f"{name}-0", "10.0.0.1", app=name)
    cluster.changes()
    cluster.pod("web-0", "10.0.0.2")
    [event] = cluster.changes()
    assert isinstance(event.object, EndpointSlice)
    assert event.object.service == "web"
    assert event.object.endpoints == (Endpoint(b"\x0a\0\0\2", target_name="web-0"),)


def test_pod_that_changes_its_labels_moves(cluster: Cluster) -> None:
    cluster.service("web")
    cluster.service("db")
    cluster.pod("a", "10.0.0.1", app="web")
    assert (cluster.endpoints("web"), cluster.endpoints("db")) == ([("a", "")], [])
    cluster.pod("a", "10.0.0.1", app="db")
    assert (cluster.endpoints("web"), cluster.endpoints("db")) == ([], [("a", "")])


def test_what_changes_nothing_gives_no_event(cluster: Cluster) -> None:
    cluster.service()
    cluster.pod("a", "10.0.0.1")
    cluster.changes()
    cluster.service()
    cluster.pod("a", "10.0.0.1", labels={"version": "2"})
    cluster.pod("b", "10.0.0.9", app="unselected")
    assert cluster.changes() == []


def test_service_or_pod_that_goes_takes_the_slice_along(cluster: Cluster) -> None:
    cluster.service()
    cluster.pod("a", "10.0.0.1")
    cluster.pod("b", "10.0.0.2")
    assert len(cluster.endpoints()) == 2
    cluster.selection.set_pod(("shop", "a"), None)
    assert cluster.endpoints() == [("b", "")]
    cluster.selection.set_service(("shop", "web"), None)
    assert [event.object for event in cluster.changes()] == [None]
    cluster.pod("b", "10.0.0.3")
    assert cluster.changes() == []


def test_given_slice_replaces_those_made_and_its_end_brings_them_back(cluster: Cluster) -> None:
    cluster.service()
    cluster.pod("a", "10.0.0.1")
    cluster.changes()
    cluster.selection.count_slice(("shop", "web"), 1)
    assert [event.object for event in cluster.changes()] == [None]
    cluster.selection.count_slice(("shop", "web"), -1)
    assert cluster.endpoints() == [("a", "")]


def test_changed_selector_selects_anew(cluster: Cluster) -> None:
    cluster.service()
    cluster.pod("a", "10.0.0.1")
    cluster.pod("b", "10.0.0.2", app="db")
    assert cluster.endpoints() == [("a", "")]
    cluster.service(selector={"app": "db"})
    assert cluster.endpoints() == [("b", "")]


def test_damaged_selector_and_pod_are_refused_with_the_field() -> None:
    with pytest.raises(ManifestError, match=r"^spec.selector: met str, expected object$"):
        read_selecting_service({"spec": {"selector": "app"}}, "shop", "web", {})
    with pytest.raises(ManifestError, match=r"^spec.containers\[0\].ports\[0\].containerPort: met str, expected int$"):
        read_selectable_pod({"spec": {"containers": [{"ports": [{"containerPort": "x"}]}]}}, "shop", "web")


def test_damaged_ports_and_addresses_are_left_out_alone() -> None:
    ports = [{"port": "x"}, {"port": 0}, {"port": 80, "name": "a.b"}, {"port": 81}, {"targetPort": 99999}, None]
    service = read_selecting_service({"spec": {"selector": {"n": 1}, "ports": ports}}, "shop", "web", {})
    assert service is not None
    assert service.selector == {"n": "1"}
    assert [port.target for port in service.ports] == [81]
    status = {"podIPs": [None, {"ip": "10.0.0"}, {"ip": "10.0.0.1"}]}
    pod = read_selectable_pod({"status": status}, "shop", "a")
    assert isinstance(pod, SelectablePod)
    assert [address.packed for address in pod.addresses] == [b"\x0a\0\0\1"]
