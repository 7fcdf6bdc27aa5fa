"""An empty control plane for each test, without a new one."""

from __future__ import annotations

import asyncio

from tests.controlplane.blocking import BlockingApi
from tests.controlplane.cluster import ControlPlane

# What else tests make: it goes straight out of etcd, for nothing of it holds anything.
PREFIXES = (
    "services/endpoints/",
    "endpointslices/",
    "pods/",
    "minions/",
    "statefulsets/",
    "controllerrevisions/",
    "multicluster.x-k8s.io/",
    "namespaces/",
)
OWN_SERVICE = "kubernetes"  # of the API server itself, as are these:
OWN = tuple(f"namespaces/{name}" for name in ("default", "kube-system", "kube-public", "kube-node-lease"))


def wipe(plane: ControlPlane) -> None:
    """Take out everything tests have put there."""

    async def delete_services() -> None:
        session = api.session
        found = [part["metadata"] for part in await session.list_objects("Service")]
        waiting = (part for part in found if part["name"] != OWN_SERVICE)
        await asyncio.gather(*(session.delete("Service", part["namespace"], part["name"]) for part in waiting))

    # Services hold addresses and ports, which only their deletion gives back.
    with BlockingApi(plane.api()) as api:
        api.call(delete_services())
    plane.forget(*PREFIXES, but=OWN)
