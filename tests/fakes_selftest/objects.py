"""Small Kubernetes objects for tests."""

from __future__ import annotations

from typing import Any

KubernetesObject = dict[str, Any]


def namespace(name: str = "shop", **labels: str) -> KubernetesObject:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def service(name: str = "web", address: str = "10.96.0.1", **labels: str) -> KubernetesObject:
    """A Service in `shop`; headless where its address is None."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "shop", "labels": labels},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": address,
            "clusterIPs": [address],
            "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
        },
    }


def endpoint_slice(owner: str, *addresses: str, name: str = "") -> KubernetesObject:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name or f"{owner}-1",
            "namespace": "shop",
            "labels": {"kubernetes.io/service-name": owner},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in addresses],
        "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
    }


def pod(name: str, phase: str = "Running", address: str = "10.1.0.1") -> KubernetesObject:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop"},
        "status": {"phase": phase, "podIP": address},
    }
