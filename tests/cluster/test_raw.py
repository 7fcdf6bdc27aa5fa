"""Raw objects: what is kept of them, what is left out on its own, and what the reasons say."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdns.cluster.objects import (
    NO_PORT,
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
from kdns.cluster.raw import Decoded, decode, decode_json

IPV6 = bytes.fromhex("fd000010009600000000000000000001")


def metadata(name: str = "web", **more: Any) -> dict[str, Any]:
    return {"name": name, "namespace": "shop", **more}


def kept(kind: Kind, raw: dict[str, Any]) -> ClusterObject | None:
    """The object of a raw one that is wholly good, the same from JSON as from parsed values."""
    decoded = decode(kind, raw)
    assert decoded == decode_json(kind, msgspec.json.encode(raw))
    assert decoded.problems == ()
    assert decoded.event is not None
    return decoded.event.object


def service(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata(), "spec": spec}


def slice_of(*endpoints: Any, **more: Any) -> dict[str, Any]:
    labels = {"kubernetes.io/service-name": "web"}
    return {"metadata": metadata("web-x", labels=labels), "addressType": "IPv4", "endpoints": list(endpoints), **more}


def endpoints_of(raw: dict[str, Any]) -> tuple[Endpoint, ...]:
    found = kept(Kind.ENDPOINT_SLICE, raw)
    assert isinstance(found, EndpointSlice)
    return found.endpoints


def test_namespace_is_its_name_and_labels() -> None:
    raw = {"metadata": {"name": "shop", "labels": {"team": "a"}}, "status": {"phase": "Terminating"}}
    assert decode(Kind.NAMESPACE, raw) == Decoded(Event(Kind.NAMESPACE, "", "shop", Namespace("shop"), {"team": "a"}))


def test_service_keeps_cluster_ips_ports_and_external_addresses() -> None:
    raw = service(
        type="LoadBalancer",
        clusterIP="10.96.0.1",
        clusterIPs=["10.96.0.1", "fd00:10:96::1"],
        externalIPs=["192.0.2.1"],
        ports=[{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080, "nodePort": 30080}],
        selector={"app": "web"},
    )
    raw["status"] = {"loadBalancer": {"ingress": [{"ip": "192.0.2.2"}, {"hostname": "lb.example.com"}]}}
    assert kept(Kind.SERVICE, raw) == Service(
        "shop",
        "web",
        ServiceType.CLUSTER_IP,
        (b"\x0a\x60\0\1", IPV6),
        (Port("http", "TCP", 80),),
        external_addresses=("192.0.2.1", "192.0.2.2", "lb.example.com"),
    )


@pytest.mark.parametrize(
    ("spec", "type_", "addresses"),
    [
        ({"clusterIP": "10.96.0.1"}, ServiceType.CLUSTER_IP, (b"\x0a\x60\0\1",)),
        ({"clusterIP": "10.96.0.1", "clusterIPs": []}, ServiceType.CLUSTER_IP, (b"\x0a\x60\0\1",)),
        ({"clusterIP": "None"}, ServiceType.HEADLESS, ()),
        ({"clusterIP": None, "clusterIPs": ["None"]}, ServiceType.HEADLESS, ()),
        ({"clusterIP": ""}, ServiceType.CLUSTER_IP, ()),
        ({"clusterIPs": [""]}, ServiceType.CLUSTER_IP, ()),
        ({"clusterIPs": None, "ports": None, "externalIPs": [None]}, ServiceType.CLUSTER_IP, ()),
        ({"type": "NodePort", "clusterIPs": ["fd00:10:96::1"]}, ServiceType.CLUSTER_IP, (IPV6,)),
    ],
)
def test_service_is_headless_by_its_first_cluster_ip(
    spec: dict[str, Any], type_: ServiceType, addresses: tuple[bytes, ...]
) -> None:
    assert kept(Kind.SERVICE, service(**spec)) == Service("shop", "web", type_, addresses)


@pytest.mark.parametrize("spec", [None, {}])
def test_service_without_spec_has_a_name_and_no_address(spec: Any) -> None:
    assert kept(Kind.SERVICE, {"metadata": metadata(), "spec": spec}) == Service("shop", "web", ServiceType.CLUSTER_IP)


@pytest.mark.parametrize("target", ["api.example.com", "api.example.com.", "web", "_x.Example.COM"])
def test_external_name_is_kept_as_spelled(target: str) -> None:
    raw = service(type="ExternalName", externalName=target, clusterIP="10.96.0.1", ports=[{"port": 80}])
    assert kept(Kind.SERVICE, raw) == Service("shop", "web", ServiceType.EXTERNAL_NAME, external_name=target)


@pytest.mark.parametrize("target", ["192.0.2.1", "2001:db8::1"])
def test_external_name_that_is_an_address_has_no_part_in_dns(target: str) -> None:
    assert kept(Kind.SERVICE, service(type="ExternalName", externalName=target)) is None


@pytest.mark.parametrize("target", ["", None, ".", "a..b", "ä.example", "x" * 64, "a b", ".".join(["x" * 60] * 5)])
def test_external_name_that_is_no_name_is_malformed(target: Any) -> None:
    event, problems = decode(Kind.SERVICE, service(type="ExternalName", externalName=target))
    assert event is None
    assert problems[0].startswith("Service shop/web: spec.externalName: met ")
    assert problems[0].endswith("expected a DNS name")


@pytest.mark.parametrize(
    "condition", [None, {}, {"ready": True}, {"ready": None}, {"ready": True, "terminating": True}]
)
def test_endpoint_is_ready_unless_it_says_otherwise(condition: Any) -> None:
    assert len(endpoints_of(slice_of({"addresses": ["10.0.0.1"], "conditions": condition}))) == 1


def test_endpoint_that_is_not_ready_is_left_out_though_it_serves() -> None:
    conditions = {"ready": False, "serving": True, "terminating": True}
    assert endpoints_of(slice_of({"addresses": ["10.0.0.1"], "conditions": conditions})) == ()


def test_endpoint_keeps_every_address_with_hostname_target_and_zone() -> None:
    endpoint = {
        "addresses": ["10.0.0.1", "10.0.0.2"],
        "hostname": "web-0",
        "targetRef": {"kind": "Pod", "name": "web-0.x", "uid": "1"},
        "zone": "eu-1a",
        "nodeName": "n1",
        "hints": {"forZones": [{"name": "eu-1a"}]},
    }
    assert endpoints_of(slice_of(endpoint)) == (
        Endpoint(b"\x0a\0\0\1", "web-0", "web-0.x", "eu-1a"),
        Endpoint(b"\x0a\0\0\2", "web-0", "web-0.x", "eu-1a"),
    )


def test_target_name_over_63_octets_is_not_kept() -> None:
    endpoint = {"addresses": ["10.0.0.1"], "targetRef": {"name": "x" * 64}}
    assert endpoints_of(slice_of(endpoint)) == (Endpoint(b"\x0a\0\0\1"),)


@pytest.mark.parametrize(
    ("text", "packed", "kept_text"),
    [
        ("10.0.0.1", "0a000001", ""),
        ("fd00:10:96::1", "fd000010009600000000000000000001", ""),
        ("FD00:10:96::1", "fd000010009600000000000000000001", "FD00:10:96::1"),
        ("fd00:10:96:0:0:0:0:1", "fd000010009600000000000000000001", "fd00:10:96:0:0:0:0:1"),
        ("fd00::1.2.3.4", "fd000000000000000000000001020304", "fd00::1.2.3.4"),
        ("::102:304", "00000000000000000000000001020304", ""),
        ("::ffff:10.0.0.1", "0a000001", "::ffff:10.0.0.1"),
    ],
)
def test_spelling_of_an_address_is_kept_where_it_is_not_the_canonical_one(
    text: str, packed: str, kept_text: str
) -> None:
    assert endpoints_of(slice_of({"addresses": [text]})) == (Endpoint(bytes.fromhex(packed), text=kept_text),)


@pytest.mark.parametrize(
    "text", ["10.0.0", "010.0.0.1", "10.0.0.1/24", "fe80::1%eth0", " 10.0.0.1", "", None, "a\0b", "::g"]
)
def test_damaged_address_is_left_out_alone(text: Any) -> None:
    event, problems = decode(Kind.ENDPOINT_SLICE, slice_of({"addresses": [text, "10.0.0.2"]}))
    assert event is not None
    assert isinstance(event.object, EndpointSlice)
    assert event.object.endpoints == (Endpoint(b"\x0a\0\0\2"),)
    assert problems[0].startswith("EndpointSlice shop/web-x: endpoints[0].addresses[0]: met ")
    assert problems[0].endswith("expected an IP address")


@pytest.mark.parametrize(
    ("endpoint", "field"),
    [
        ({"addresses": ["10.0.0.1"], "hostname": "a.b"}, "endpoints[0].hostname"),
        ({"addresses": ["10.0.0.1"], "hostname": "x" * 64}, "endpoints[0].hostname"),
        ({"addresses": ["10.0.0.1"], "hostname": "é"}, "endpoints[0].hostname"),
        ({"addresses": ["10.0.0.1"], "hostname": 5}, "endpoints[0].hostname"),
        ({"addresses": "10.0.0.1"}, "endpoints[0].addresses"),
        ({"addresses": [1]}, "endpoints[0].addresses[0]"),
        ({"addresses": ["10.0.0.1"], "conditions": {"ready": "yes"}}, "endpoints[0].conditions.ready"),
        ("10.0.0.1", "endpoints[0]"),
    ],
)
def test_damaged_endpoint_is_left_out_alone(endpoint: Any, field: str) -> None:
    raw = slice_of(endpoint, {"addresses": ["10.0.0.2"]})
    event, problems = decode(Kind.ENDPOINT_SLICE, raw)
    assert event is not None
    assert isinstance(event.object, EndpointSlice)
    assert event.object.endpoints == (Endpoint(b"\x0a\0\0\2"),)
    assert event.object.service == "web"
    assert [problem.split(": ")[:2] for problem in problems] == [["EndpointSlice shop/web-x", field]]
    assert decode_json(Kind.ENDPOINT_SLICE, msgspec.json.encode(raw)) == (event, problems)


@pytest.mark.parametrize(
    ("port", "reason"),
    [
        ({"port": "80"}, "ports[0].port: met str, expected int"),
        ({"port": 70000}, "ports[0].port: met 70000, expected 1 to 65535"),
        ({"port": 0}, "ports[0].port: met 0, expected 1 to 65535"),
        ({"port": 80, "name": "a.b"}, 'ports[0].name: met "a.b", expected a DNS label'),
        ({"port": 80, "name": 8}, "ports[0].name: met int, expected str"),
        ({"port": 80, "protocol": "é"}, 'ports[0].protocol: met "\\u00e9", expected TCP, UDP or SCTP'),
        (80, "ports[0]: met int, expected object"),
    ],
)
@pytest.mark.parametrize("kind", [Kind.SERVICE, Kind.ENDPOINT_SLICE, Kind.SERVICE_IMPORT])
def test_damaged_port_is_left_out_alone(kind: Kind, port: Any, reason: str) -> None:
    ports = [port, {"port": 81, "name": "ok", "protocol": "UDP"}]
    raw = slice_of(ports=ports) if kind is Kind.ENDPOINT_SLICE else service(ports=ports)
    event, problems = decode(kind, raw)
    assert event is not None
    assert isinstance(event.object, Service | EndpointSlice | ServiceImport)
    assert event.object.ports == (Port("ok", "UDP", 81),)
    prefix = "" if kind is Kind.ENDPOINT_SLICE else "spec."
    assert [problem.split(": ", 1)[1] for problem in problems] == [prefix + reason]


def test_null_port_number_and_absent_protocol() -> None:
    raw = slice_of(ports=[{"name": None, "port": None}, {"name": "http", "port": 80, "protocol": ""}, None])
    found = kept(Kind.ENDPOINT_SLICE, raw)
    assert isinstance(found, EndpointSlice)
    assert found.ports == (Port("", "TCP", NO_PORT), Port("http", "TCP", 80))


def test_repeated_port_names_are_kept() -> None:
    ports = [{"name": "http", "port": 80}, {"name": "http", "port": 81}]
    found = kept(Kind.ENDPOINT_SLICE, slice_of(ports=ports))
    assert isinstance(found, EndpointSlice)
    assert [port.number for port in found.ports] == [80, 81]


def test_equal_port_lists_are_one_object() -> None:
    one, other = (kept(Kind.ENDPOINT_SLICE, slice_of(ports=[{"name": "http", "port": 80}])) for _ in range(2))
    assert isinstance(one, EndpointSlice)
    assert isinstance(other, EndpointSlice)
    assert one.ports is other.ports


@pytest.mark.parametrize("null", ["endpoints", "ports", "addressType"])
def test_slice_tolerates_null(null: str) -> None:
    assert isinstance(kept(Kind.ENDPOINT_SLICE, slice_of(**{null: None})), EndpointSlice)


def test_slice_tolerates_null_endpoints_and_nulls_in_them() -> None:
    endpoint = {"addresses": None, "hostname": None, "targetRef": None, "zone": None}
    assert endpoints_of(slice_of(None, endpoint)) == ()


def test_slice_of_names_has_targets() -> None:
    raw = slice_of({"addresses": ["a.example.com"]}, {"addresses": ["10.0.0.1"]}, addressType="FQDN")
    found = kept(Kind.ENDPOINT_SLICE, raw)
    assert isinstance(found, EndpointSlice)
    assert found.targets == ("a.example.com",)
    assert found.endpoints == (Endpoint(b"\x0a\0\0\1"),)


@pytest.mark.parametrize("labels", [None, {}, {"app": "web"}])
def test_slice_without_the_label_belongs_to_no_service(labels: Any) -> None:
    found = kept(Kind.ENDPOINT_SLICE, {"metadata": metadata("web-x", labels=labels)})
    assert found == EndpointSlice.of("shop", "web-x", "")


def test_slice_of_an_import_knows_its_cluster() -> None:
    labels = {
        "multicluster.kubernetes.io/service-name": "db",
        "multicluster.kubernetes.io/source-cluster": "east",
    }
    found = kept(Kind.ENDPOINT_SLICE, {"metadata": metadata("db-x", labels=labels)})
    assert found == EndpointSlice.of("shop", "db-x", "", service_import="db", source_cluster="east")


def test_slice_of_an_impossible_service_belongs_to_none() -> None:
    raw = {"metadata": metadata("x", labels={"kubernetes.io/service-name": "a.b"})}
    event, problems = decode(Kind.ENDPOINT_SLICE, raw)
    assert event is not None
    assert event.object == EndpointSlice.of("shop", "x", "")
    assert 'metadata.labels[kubernetes.io/service-name]: met "a.b"' in problems[0]


@pytest.mark.parametrize("phase", ["Running", "Pending", None])
def test_pod_with_an_address_is_kept(phase: Any) -> None:
    raw = {"metadata": metadata(), "status": {"phase": phase, "podIP": "10.0.0.1"}}
    assert kept(Kind.POD, raw) == Pod("shop", "web", b"\x0a\0\0\1")


@pytest.mark.parametrize(
    "status",
    [
        None,
        {},
        {"phase": "Running"},
        {"podIP": ""},
        *[{"phase": p, "podIP": "10.0.0.1"} for p in ("Succeeded", "Failed", "Unknown")],
    ],
)
def test_pod_that_ended_or_has_no_address_is_gone(status: Any) -> None:
    assert kept(Kind.POD, {"metadata": metadata(), "status": status}) is None


def test_terminating_pod_changes_nothing() -> None:
    raw = {"metadata": metadata(deletionTimestamp="2026-01-01T00:00:00Z"), "status": {"podIP": "10.0.0.1"}}
    assert decode(Kind.POD, raw) == Decoded(None, ())


def test_terminating_service_is_kept() -> None:
    raw = {"metadata": metadata(deletionTimestamp="2026-01-01T00:00:00Z"), "spec": {"clusterIP": "None"}}
    assert kept(Kind.SERVICE, raw) == Service("shop", "web", ServiceType.HEADLESS)


@pytest.mark.parametrize(("type_", "headless"), [("ClusterSetIP", False), ("Headless", True), (None, False)])
def test_service_import(type_: Any, headless: bool) -> None:
    raw = {"metadata": metadata(), "spec": {"type": type_, "ips": ["10.96.0.1"], "ports": [{"port": 80}]}}
    ports = (Port("", "TCP", 80),)
    assert kept(Kind.SERVICE_IMPORT, raw) == ServiceImport("shop", "web", headless, (b"\x0a\x60\0\1",), ports)


def test_labels_that_yaml_read_as_other_types_are_text_again() -> None:
    event, _ = decode(Kind.NAMESPACE, {"metadata": {"name": "a", "labels": {"n": 5, "t": True, "z": None}}})
    assert event is not None
    assert event.labels == {"n": "5", "t": "true", "z": ""}


def test_object_without_namespace_is_in_default() -> None:
    event, _ = decode(Kind.SERVICE, {"metadata": {"name": "web"}})
    assert event is not None
    assert event.namespace == "default"


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (None, "Service without a name: object: met null, expected object"),
        ([], "Service without a name: object: met array, expected object"),
        ({}, 'Service without a name: metadata.name: met "", expected a DNS name'),
        ({"metadata": {"name": 5}}, "Service without a name: metadata.name: met int, expected str"),
        ({"metadata": {"name": "Web"}}, 'Service default/Web: metadata.name: met "Web", expected'),
        ({"metadata": {"name": "a.b"}}, 'Service default/a.b: metadata.name: met "a.b", expected a DNS label'),
        ({"metadata": {"name": "a", "namespace": "x.y"}}, 'Service x.y/a: metadata.namespace: met "x.y", expected'),
        ({"metadata": {"name": "a", "labels": {"x": [1]}}}, "Service default/a: metadata.labels[...]: met array"),
        ({"metadata": {"name": "a"}, "spec": 5}, "Service default/a: spec: met int, expected object"),
        ({"metadata": {"name": "a"}, "spec": {"clusterIPs": "x"}}, "Service default/a: spec.clusterIPs: met str"),
    ],
)
def test_malformed_object_is_refused_with_object_and_field(raw: Any, reason: str) -> None:
    event, problems = decode(Kind.SERVICE, raw)
    assert event is None
    assert problems[0].startswith(reason)
    assert decode_json(Kind.SERVICE, msgspec.json.encode(raw)).problems == problems


def test_damaged_pod_address_is_refused() -> None:
    event, problems = decode(Kind.POD, {"metadata": metadata(), "status": {"podIP": "10.0.0"}})
    assert event is None
    assert problems == ('Pod shop/web: status.podIP: met "10.0.0", expected an IP address',)


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b'{"metadata":{"name":"a"}} x', b"[" * 100_000, b'{"a":1e999}'])
def test_text_that_is_no_json_is_refused(text: bytes) -> None:
    event, problems = decode_json(Kind.POD, text)
    assert event is None
    assert len(problems) == 1
    assert len(problems[0]) < 300


# fmt: off
FIELDS = [
    "metadata", "name", "namespace", "labels", "deletionTimestamp", "spec", "status", "type", "clusterIP",
    "clusterIPs", "externalName", "externalIPs", "ports", "port", "protocol", "endpoints", "addresses",
    "addressType", "conditions", "ready", "hostname", "targetRef", "zone", "podIP", "phase", "ips",
    "loadBalancer", "ingress", "ip", "kubernetes.io/service-name",
]
# fmt: on
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from(["web", "10.0.0.1", "fd00::1", "None", "ExternalName", "a.b", "TCP", "Succeeded", "FQDN"])
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=6),
    max_leaves=20,
)
NAMED = st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=6).map(
    lambda raw: {
        **raw,
        "metadata": {"name": "web", **(raw["metadata"] if isinstance(raw.get("metadata"), dict) else {})},
    }
)


@settings(max_examples=300)
@given(st.sampled_from(Kind), VALUES | NAMED)
def test_any_json_value_gives_an_object_or_a_reason(kind: Kind, raw: Any) -> None:
    event, problems = decode(kind, raw)
    terminating = kind is Kind.POD and event is None and not problems
    assert event is not None or problems or terminating
    for problem in problems:
        assert problem.isascii()
        assert problem.startswith(kind.value)
        assert "\n" not in problem
    assert decode_json(kind, msgspec.json.encode(raw)) == (event, problems)


@given(st.sampled_from(Kind), st.binary())
def test_any_bytes_give_an_object_or_a_reason(kind: Kind, text: bytes) -> None:
    event, problems = decode_json(kind, text)
    assert event is not None or problems


def test_metadata_that_dns_does_not_read_may_be_anything():
    raw = {"metadata": {"name": "web", "namespace": "shop", "resourceVersion": 12345, "uid": ["x"]}, "spec": {}}
    event, problems = decode(Kind.SERVICE, raw)
    assert event is not None
    assert event.name == "web"
    assert problems == ()
