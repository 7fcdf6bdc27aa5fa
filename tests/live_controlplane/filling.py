"""A generated cluster in a real control plane."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench.cluster import Cluster
from bench.manifests import objects
from tests.controlplane.cluster import ControlPlane

CANARY = "canary"  # a headless Service of one endpoint, and its namespace


def fill(plane: ControlPlane, cluster: Cluster) -> int:
    """Put everything of a generated cluster into a control plane, and a canary; returns how many objects."""
    return plane.store(map(_whole, (*objects(cluster), *canary_objects())))


def _whole(raw: dict[str, Any]) -> dict[str, Any]:
    """An object with what an API server would have added."""
    if raw["kind"] == "Namespace":
        return {**raw, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}
    if raw["kind"] == "Service":
        address = raw["spec"]["clusterIP"]
        added = {"type": "ClusterIP", "clusterIPs": [address], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"}
        ports = [{"protocol": "TCP", "targetPort": port["port"], **port} for port in raw["spec"]["ports"]]
        return {**raw, "spec": {"sessionAffinity": "None", **added, **raw["spec"], "ports": ports}}
    return raw


def canary_objects(address: str = "10.250.0.0") -> Iterator[dict[str, Any]]:
    """The Service whose address changes while somebody looks."""
    metadata = {"namespace": CANARY, "name": CANARY}
    ports = [{"name": "http", "port": 80, "protocol": "TCP"}]
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": CANARY}}
    yield {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"clusterIP": "None", "ports": ports}}
    yield {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {**metadata, "labels": {"kubernetes.io/service-name": CANARY}},
        "addressType": "IPv4",
        "ports": ports,
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
    }
