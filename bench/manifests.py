"""The generated cluster as Kubernetes manifests: what `kubectl get -o json` would print of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from bench.cluster import SLICE_SIZE, Cluster, Service, dotted

OBJECTS_PER_FILE = 2_000  # keeps a List file at a few megabytes, so that a reader need not hold the cluster twice


def write_manifests(cluster: Cluster, folder: Path) -> int:
    """Write the cluster into `folder` as List files; returns the number of objects."""
    folder.mkdir(parents=True, exist_ok=True)
    stream = objects(cluster)
    total = 0
    for number in range(1_000_000):
        items = list(islice(stream, OBJECTS_PER_FILE))
        if not items:
            break
        document = {"apiVersion": "v1", "kind": "List", "items": items}
        (folder / f"objects-{number:04}.json").write_text(json.dumps(document, separators=(",", ":")))
        total += len(items)
    return total


def objects(cluster: Cluster) -> Iterator[dict[str, Any]]:
    """Every object of the cluster: Namespaces, then each Service with its EndpointSlices."""
    for name in cluster.namespaces:
        yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    for service in cluster.services:
        yield service_object(service)
        yield from slice_objects(service)


def service_object(service: Service) -> dict[str, Any]:
    """The Service."""
    address = "None" if service.address is None else dotted(service.address)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": service.name, "namespace": service.namespace},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": address,
            "clusterIPs": [address],
            "ipFamilies": ["IPv4"],
            "ports": [_port(port.name, port.number) | {"targetPort": port.target} for port in service.ports],
        },
    }


def slice_objects(service: Service) -> Iterator[dict[str, Any]]:
    """The EndpointSlices of a Service, as the slice controller would fill them."""
    endpoints = [
        _endpoint(service, index, address, label) for index, (address, label) in enumerate(service.endpoints())
    ]
    for number, start in enumerate(range(0, len(endpoints), SLICE_SIZE)):
        yield {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"{service.name}-{number:05}",
                "namespace": service.namespace,
                "labels": {"kubernetes.io/service-name": service.name},
            },
            "addressType": "IPv4",
            "ports": [_port(port.name, port.target) for port in service.ports],
            "endpoints": endpoints[start : start + SLICE_SIZE],
        }


def _endpoint(service: Service, index: int, address: int, label: str) -> dict[str, Any]:
    endpoint: dict[str, Any] = {
        "addresses": [dotted(address)],
        "conditions": {"ready": True, "serving": True, "terminating": False},
        "targetRef": {"kind": "Pod", "namespace": service.namespace, "name": service.pod_name(index)},
    }
    if service.has_hostnames:
        endpoint["hostname"] = label
    return endpoint


def _port(name: str, number: int) -> dict[str, Any]:
    port: dict[str, Any] = {"port": number, "protocol": "TCP"}
    if name:
        port["name"] = name
    return port
