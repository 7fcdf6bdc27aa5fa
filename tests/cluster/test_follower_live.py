"""Following a real control plane: what the fake only claims to do."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from kdns.cluster.access import ApiAccess
from kdns.cluster.objects import Kind
from kdns.cluster.view import View
from kdns.dns import names
from tests.controlplane.cluster import USER, ControlPlane
from tests.controlplane.fixtures import controlplane_binary
from tests.controlplane.kinds import reader
from tests.fakes.logs import collected
from tests.fakes.watched_cluster import Watched, watching

__all__ = ["controlplane_binary"]

VIEW = View((names.from_labels([b"cluster", b"local"]),))
SLICES = "discovery.k8s.io"


def service(name: str) -> dict[str, Any]:
    spec = {"clusterIP": "None", "ports": [{"name": "http", "port": 80}]}
    metadata = {"name": name, "namespace": "shop"}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


SHOP = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}


async def test_permissions_that_come_late_and_changes_that_come_at_once(
    controlplane_binary: Path,
    tmp_path: Path,
) -> None:
    with ControlPlane(controlplane_binary, tmp_path / "plane") as plane, collected() as lines:
        access = ApiAccess(kubeconfig=str(plane.write_kubeconfig(tmp_path / "config")))
        async with plane.api() as api, watching(Watched(access, VIEW)) as watched:
            await api.apply(SHOP, service("web"), *reader(USER, "services", "namespaces"))
            await watched.wait_held(Kind.SERVICE, "kubernetes", "web")
            assert not watched.times_synced
            # What was granted a moment ago may be refused once more: authorization is eventually consistent.
            refused = ["endpointslices"]
            await watched.wait_for(
                lambda: [resource.plural for resource in watched.follower.refused] == refused, "slices alone refused"
            )
            advice = "grant the verbs list and watch on endpointslices.discovery.k8s.io"
            await watched.wait_for(lambda: any(advice in line for line in lines), "the advice")
            await api.apply(*reader(USER, "endpointslices", group=SLICES))
            await watched.wait_synced()

            delays = []
            for number in range(20):
                await api.apply(service(f"s{number}"))
                created = time.monotonic()
                key = (Kind.SERVICE, "shop", f"s{number}")
                await watched.wait_for(lambda key=key: key in watched.objects, "the Service")
                delays.append(time.monotonic() - created)
            assert sorted(delays)[10] < 0.1
            await api.delete("Service", "shop", "s0")
            await watched.wait_for(lambda: (Kind.SERVICE, "shop", "s0") not in watched.objects, "s0 gone")


async def test_server_that_restarts_without_its_past_is_listed_and_its_ghosts_go(
    controlplane_binary: Path,
    tmp_path: Path,
) -> None:
    with ControlPlane(controlplane_binary, tmp_path / "plane") as plane, collected():
        access = ApiAccess(kubeconfig=str(plane.write_kubeconfig(tmp_path / "config", "admin")))
        async with watching(Watched(access, VIEW)) as watched:
            async with plane.api() as api:
                await api.apply(SHOP, service("web"), service("ghost"))
            await watched.wait_held(Kind.SERVICE, "ghost", "kubernetes", "web")
            await watched.wait_for(lambda: watched.times_synced == 1, "all is listed")
            batches = len(watched.batches)
            plane.restart()  # in this thread: whatever follows runs only when it is up again
            async with plane.api() as api:
                await api.delete("Service", "shop", "ghost")
                await api.apply(service("new"))
            await watched.wait_held(Kind.SERVICE, "kubernetes", "new", "web")
            plane.compact()
            plane.restart()
            async with plane.api() as api:
                await api.apply(service("newer"))
            await watched.wait_held(Kind.SERVICE, "kubernetes", "new", "newer", "web")
            told = [event.name for batch in watched.batches[batches:] for event in batch if event.kind is Kind.SERVICE]
            assert told == ["ghost", "new", "newer"]
            assert watched.times_synced == 1
