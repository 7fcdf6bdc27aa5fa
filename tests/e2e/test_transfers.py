"""Secondaries: they get whole zones over TCP, and hear of changes once, however many workers there are."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import dns.flags
import dns.message
import dns.opcode
import dns.query
import dns.rdatatype
import dns.zone
import pytest

from tests.e2e.conftest import MANY, copy_cluster
from tests.fakes.nameserver import FakeNameServer
from tests.harness.places import Place, open_place
from tests.harness.server import Server
from tests.harness.waiting import wait_until

ZONE = "cluster.local."


class Secondary:
    """Accepts notifications, and keeps the zone each was about."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self._lock = threading.Lock()

    def __call__(self, wire: bytes, transport: str) -> Sequence[bytes]:
        message = dns.message.from_wire(wire)
        assert message.opcode() == dns.opcode.NOTIFY
        with self._lock:
            self.told.append(message.question[0].name.to_text())
        return [dns.message.make_response(message).to_wire()]


@pytest.fixture
def place() -> Iterator[Place]:
    made = open_place()
    yield made
    made.close()


def transfer(server: Server) -> dns.zone.Zone:
    """The zone, as a secondary would load it."""
    peer = server.peer()
    return dns.zone.from_xfr(
        dns.query.xfr(peer.address, ZONE, port=peer.port, relativize=False, timeout=5),
        relativize=False,
        check_origin=False,  # without an address but loopback there are no name servers to tell of
    )


def addresses(zone: dns.zone.Zone, name: str) -> set[str]:
    found = zone.get_rdataset(name, dns.rdatatype.A)
    return {record.address for record in found or ()}


def test_a_secondary_follows_the_cluster(place: Place, tmp_path: Path) -> None:
    copy_cluster(tmp_path / "cluster")
    secondary = Secondary()
    with place.run(lambda: FakeNameServer(secondary)) as listener:
        corefile = f"cluster.local:53 {{\nkubernetes\ntransfer {{\nto {listener.address}:{listener.port}\n}}\n}}\n"
        with Server(place, tmp_path, corefile, manifests=tmp_path / "cluster", workers=2) as server:
            server.wait_answering()
            server.wait_synced()
            wait_until(lambda: secondary.told == [ZONE], "the start is notified", 10.0)
            before = place.run(lambda: transfer(server))
            assert len(addresses(before, "many.shop.svc.cluster.local.")) == MANY
            service = {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "fresh", "namespace": "shop"},
                "spec": {"clusterIP": "10.96.1.77", "ports": [{"name": "http", "port": 80}]},
            }
            (tmp_path / "cluster" / "fresh.json").write_text(json.dumps(service))
            wait_until(lambda: len(secondary.told) == 2, "the change is notified", 15.0)
            after = place.run(lambda: transfer(server))
            assert addresses(after, "fresh.shop.svc.cluster.local.") == {"10.96.1.77"}
            serials = [zone.get_soa().serial for zone in (before, after)]
            assert serials[0] < serials[1]
    assert secondary.told == [ZONE, ZONE]
