"""The server under test: the example cluster, and a headless Service too large for a datagram."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.targets import Target
from tests.harness.places import open_place
from tests.harness.server import ROOT, Server

EXAMPLE_CLUSTER = ROOT / "examples" / "cluster"
MANY = 200  # endpoints
COREFILE = """\
cluster.local:53 in-addr.arpa:53 ip6.arpa:53 {
    errors
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods insecure
    }
    loadbalance
}
"""


def copy_cluster(folder: Path) -> None:
    """The example cluster as a folder that a test may change."""
    shutil.copytree(EXAMPLE_CLUSTER, folder)
    metadata = {"name": "many", "namespace": "shop"}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"clusterIP": "None", "ports": [{"name": "http", "port": 80}]},
    }
    endpoints = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {**metadata, "labels": {"kubernetes.io/service-name": "many"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [f"10.250.{number // 100}.{number % 100}"]} for number in range(MANY)],
        "ports": [{"name": "http", "port": 80}],
    }
    (folder / "many.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": [service, endpoints]}))


@pytest.fixture(scope="package")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A server for every test that only asks."""
    directory = tmp_path_factory.mktemp("server")
    copy_cluster(directory / "cluster")
    place = open_place()
    try:
        with Server(place, directory, COREFILE, manifests=directory / "cluster") as server:
            server.wait_answering()
            server.wait_answering("::1")
            server.wait_synced()
            yield Target(place, place.dns_port, "kubernetes.default.svc.cluster.local.", "many.shop.svc.cluster.local.")
    finally:
        place.close()
