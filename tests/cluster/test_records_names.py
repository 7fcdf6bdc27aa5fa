"""The labels of endpoints, Pods and ports."""

from __future__ import annotations

from ipaddress import IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.cluster import owners
from kdns.cluster.objects import NO_PORT, Endpoint, Port
from kdns.cluster.ports import port_plan
from kdns.dns import names

MAPPED_PREFIX = bytes(10) + b"\xff\xff"
octets = st.one_of(st.binary(min_size=16, max_size=16), st.binary(min_size=4, max_size=4))
# Random octets hardly ever hold a run of zeros.
sparse = st.lists(st.sampled_from([0, 0, 1, 0x10]), min_size=16, max_size=16).map(bytes)


def packed(text: str) -> bytes:
    found = names.pack_address(text)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("endpoint", "name"),
    [
        (Endpoint(packed("10.244.1.7")), "10-244-1-7"),
        (Endpoint(packed("2001:db8::1")), "2001-db8--1"),
        (Endpoint(packed("2001:db8:1:2:3:4::")), "2001-db8-1-2-3-4--0"),
        (Endpoint(packed("::1")), "--1"),
        (Endpoint(packed("fd00::1"), text="FD00:0::1"), "fd00-0--1"),
        (Endpoint(packed("10.244.1.7"), "Web-0", "pod-1"), "web-0"),
        (Endpoint(packed("10.244.1.7"), target_name="pod-1"), "10-244-1-7"),
    ],
)
def test_endpoint_is_named_by_hostname_else_by_address(endpoint: Endpoint, name: str) -> None:
    assert owners.endpoint_label(endpoint, pod_names=False) == owners.label(name)


@pytest.mark.parametrize(
    ("target_name", "name"),
    [("pod-1", "pod-1"), ("", "10-0-0-1"), ("p" * 63, "p" * 63), ("p" * 64, "10-0-0-1"), ("a.pod", "a.pod")],
)
def test_pod_names_stand_in_for_addresses_up_to_their_limit(target_name: str, name: str) -> None:
    endpoint = Endpoint(packed("10.0.0.1"), target_name=target_name)
    assert owners.endpoint_label(endpoint, pod_names=True) == owners.labels(name)


@pytest.mark.parametrize("text", ["", "a.b", "x" * 64])
def test_what_cannot_be_a_label_is_none(text: str) -> None:
    assert owners.label(text) == b""


@given(st.one_of(octets, sparse))
def test_pod_label_is_the_canonical_address_with_dashes(address: bytes) -> None:
    if address.startswith(MAPPED_PREFIX):
        return
    text = names.address_text(address)
    assert owners.pod_label(address)[1:].decode() == text.replace(".", "-").replace(":", "-")
    assert owners.pod_address(owners.pod_label(address)[1:].decode()) == address


@pytest.mark.parametrize(
    ("label", "text"),
    [
        ("10-20-0-101", "10.20.0.101"),
        ("2001-db8--1", "2001:db8::1"),
        ("fd00-10-244-0-0-0-0-5", "fd00:10:244::5"),
        ("--ffff-a00-1", "10.0.0.1"),
        ("--", "::"),
    ],
)
def test_pod_label_says_its_address(label: str, text: str) -> None:
    assert owners.pod_address(label) == packed(text)


@pytest.mark.parametrize(
    "label",
    [
        "",
        "blah",
        "1-2-3",
        "1-2-3-4-5",
        "1-2-3-256",
        "01-2-3-4",
        "10.0.0.1",
        "fd00::1",
        "1--2--3",
        "--ffff-1.2.3.4",
        "%",
    ],
)
def test_label_that_says_no_address_is_no_pod(label: str) -> None:
    assert owners.pod_address(label) is None


@given(st.text(max_size=40))
def test_any_label_is_an_address_or_none(label: str) -> None:
    found = owners.pod_address(label)
    assert found is None or len(found) in (4, 16)
    if found is not None and len(found) == 16:
        assert IPv6Address(label.replace("-", ":")).packed == found


def prefix(*labels: str) -> bytes:
    return b"".join(map(owners.label, labels))


HTTP, DNS_UDP, DNS_TCP = Port("http", "TCP", 80), Port("dns", "UDP", 53), Port("dns", "TCP", 53)


def test_single_port_needs_no_node_for_a_lone_underscore() -> None:
    plan = port_plan(((HTTP,),))
    assert plan.named == ((prefix("_http", "_tcp"), 0),)
    assert plan.wild == ()
    assert dict(plan.same) == {prefix("_", "_"): b"", prefix("_http", "_"): b"", prefix("_", "_tcp"): b""}
    assert set(plan.above) == {prefix("_tcp"), prefix("_")}


def test_lone_underscore_selects_what_no_other_name_does() -> None:
    plan = port_plan(((HTTP, DNS_UDP, DNS_TCP),))
    selected = {name: plan.selections[index] for name, index in plan.wild}
    assert selected == {prefix("_dns", "_"): ((DNS_UDP, DNS_TCP),), prefix("_", "_tcp"): ((HTTP, DNS_TCP),)}
    assert dict(plan.same)[prefix("_", "_udp")] == prefix("_dns", "_udp")
    assert plan.selections[0] == ((HTTP, DNS_UDP, DNS_TCP),)


def test_unnamed_ports_are_reached_by_protocol_only() -> None:
    plan = port_plan(((Port("", "TCP", 5432), HTTP),))
    assert [name for name, _ in plan.named] == [prefix("_http", "_tcp")]
    assert dict(plan.same)[prefix("_", "_tcp")] == b""


def test_ports_are_compared_without_regard_to_case() -> None:
    plan = port_plan(((HTTP, Port("HTTP", "tcp", 81)),))
    assert plan.named == ((prefix("_http", "_tcp"), 0),)


def test_groups_without_the_port_are_not_selected() -> None:
    plan = port_plan(((HTTP,), (Port("", "", NO_PORT),)))
    ((_, index),) = plan.named
    assert plan.selections[index] == ((HTTP,), ())


def test_port_name_without_room_for_its_underscore_has_no_name() -> None:
    assert port_plan(((Port("x" * 63, "TCP", 1),),)).named == ()


def test_underscore_is_given_to_labels_that_lack_it() -> None:
    assert owners.underscored(owners.label("http")) == owners.label("_http")
    assert owners.underscored(owners.label("_http")) == owners.label("_http")
    assert owners.underscored(owners.label("x" * 63)) == owners.label("x" * 63)
