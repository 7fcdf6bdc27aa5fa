"""What is known is compared with what the server has: lasting differences are repaired, and no others."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from kdns.cluster import backoff, resync
from kdns.cluster.access import ApiAccess
from kdns.cluster.metadata_list import ACCEPT
from kdns.cluster.objects import Kind
from kdns.cluster.resync import JITTER, MAX_SINGLE_REPAIRS, Resync
from kdns.cluster.telemetry import Telemetry
from kdns.cluster.view import PodMode, View
from kdns.dns import names
from kdns.metrics import Registry
from tests.fakes.apiserver import FakeApiServer
from tests.fakes.logs import collected
from tests.fakes.watched_cluster import Watched, watching

ZONE = names.from_labels([b"cluster", b"local"])
VIEW = View((ZONE,))
INTERVAL = 0.05


@pytest.fixture
def server() -> Iterator[FakeApiServer]:
    with FakeApiServer() as made:
        made.put({"kind": "Namespace", "metadata": {"name": "shop"}})
        made.put(service("web"))
        yield made


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resync, "SETTLE_SECONDS", 0.1)
    monkeypatch.setattr(backoff, "FIRST_DELAY_SECONDS", 0.02)
    monkeypatch.setattr(backoff, "MIN_RELIST_INTERVAL_SECONDS", (0.02, 0.04))


class Compared(Watched):
    """A follower that compares often, and its metrics."""

    def __init__(self, server: FakeApiServer, view: View) -> None:
        self.registry = Registry()
        options = {"telemetry": Telemetry(self.registry), "resync_seconds": INTERVAL}
        super().__init__(ApiAccess(endpoint=server.url), view, **options)

    def total(self, name: str, *labels: str) -> float:
        return self.registry.read().get(name, {}).get(labels, [0.0])[0]

    def repaired(self, resource: str = "services") -> float:
        return self.total("kdns_resync_repaired_total", resource)

    async def wait_compared(self, resource: str = "services", times: int = 2) -> None:
        """Wait until comparisons that begin now have ended."""
        wanted = self.total("kdns_resync_total", resource, "compared") + times
        await self.wait_for(lambda: self.total("kdns_resync_total", resource, "compared") >= wanted, "compared")


@asynccontextmanager
async def comparing(server: FakeApiServer, view: View = VIEW) -> AsyncIterator[Compared]:
    async with watching(Compared(server, view)) as watched:
        assert isinstance(watched, Compared)
        await watched.wait_synced()
        await watched.wait_for(lambda: len(server.open_watches) >= 3, "everything is watched")
        yield watched


def service(name: str, address: str = "10.96.0.1", **metadata: Any) -> dict[str, Any]:
    spec = {"clusterIP": address, "ports": [{"name": "http", "port": 80}]}
    return {"kind": "Service", "metadata": {"name": name, "namespace": "shop", **metadata}, "spec": spec}


def lists(server: FakeApiServer, kind: str = "Service") -> list[str]:
    return [request.query for request in server.journal.requests if (request.verb, request.kind) == ("list", kind)]


async def test_nothing_is_done_where_nothing_differs(server: FakeApiServer) -> None:
    with collected() as lines:
        async with comparing(server) as watched:
            await watched.wait_compared()
            server.put(service("more"))
            await watched.wait_held(Kind.SERVICE, "more", "web")
            await watched.wait_compared()
            assert watched.repaired() == 0
    assert lines == []
    assert set(lists(server)) == {"resourceVersion=0"}
    assert not any(request.verb == "get" for request in server.journal.requests), "list and watch are all it may do"


async def test_what_was_changed_without_a_word_is_repaired(server: FakeApiServer) -> None:
    """The server went back in time, and so far ahead again that nobody noticed: no watch says a word about that."""
    server.put(service("changed", "10.96.0.5"))
    before = server.storage.rv
    with collected() as lines:
        async with comparing(server) as watched:
            server.put(service("ghost"))
            server.put(service("changed", "10.96.0.6"))
            await watched.wait_held(Kind.SERVICE, "changed", "ghost", "web")
            newest = server.storage.rv
            server.storage.restore(before)
            server.put(service("unheard"))  # at a version that has been seen
            while server.storage.rv <= newest:
                server.put({"kind": "Namespace", "metadata": {"name": "shop", "labels": {"n": str(server.storage.rv)}}})
            await watched.wait_held(Kind.SERVICE, "changed", "unheard", "web")
            found = watched.objects[Kind.SERVICE, "shop", "changed"]
            assert found.addresses == (b"\x0a\x60\x00\x05",)  # type: ignore[attr-defined]
            assert watched.repaired() == 3
            server.put(service("later"))
            await watched.wait_held(Kind.SERVICE, "changed", "later", "unheard", "web")
    (line,) = [line for line in lines if "services" in line]
    assert "3 objects were not as the API server has them, and are now: " in line
    assert all(f"shop/{name}" in line for name in ("ghost", "changed", "unheard"))


async def test_an_object_made_anew_with_the_same_version_is_another(server: FakeApiServer) -> None:
    before = server.storage.rv
    server.put(service("twin", "10.96.0.1"))
    async with comparing(server) as watched:
        server.storage.restore(before)
        assert server.put(service("twin", "10.96.0.2")).rv == before + 1
        await watched.wait_for(
            lambda: watched.objects[Kind.SERVICE, "shop", "twin"].addresses == (b"\x0a\x60\x00\x02",),  # type: ignore[attr-defined]
            "the new twin",
        )


async def test_a_server_that_went_back_is_listed_anew(server: FakeApiServer) -> None:
    before = server.storage.rv
    with collected() as lines:
        async with comparing(server) as watched:
            server.put(service("ghost"))
            await watched.wait_held(Kind.SERVICE, "ghost", "web")
            server.storage.restore(before)
            await watched.wait_held(Kind.SERVICE, "web")
            await watched.wait_for(lambda: watched.follower.statistics()[1].relists.get("regressed"), "listed again")
            server.put(service("after"))
            await watched.wait_held(Kind.SERVICE, "after", "web")
    assert any("older version than before" in line for line in lines)


async def test_many_differences_are_a_reason_to_list_everything(server: FakeApiServer) -> None:
    before = server.storage.rv
    ghosts = [f"ghost-{number}" for number in range(MAX_SINGLE_REPAIRS + 1)]
    with collected() as lines:
        async with comparing(server) as watched:
            for name in ghosts:
                server.put(service(name))
            await watched.wait_held(Kind.SERVICE, "web", *ghosts)
            newest = server.storage.rv
            server.storage.restore(before)
            while server.storage.rv <= newest:
                server.put({"kind": "Namespace", "metadata": {"name": "shop", "labels": {"n": str(server.storage.rv)}}})
            await watched.wait_held(Kind.SERVICE, "web")
            assert watched.follower.statistics()[1].relists["resync"] == 1
            assert watched.repaired() == len(ghosts)
            assert not any("fieldSelector" in query for query in lists(server))
    assert any(f"{len(ghosts)} objects are not as the API server has them" in line for line in lines)


async def test_a_watch_cache_that_lags_changes_nothing(server: FakeApiServer) -> None:
    server.put(service("late"))
    async with comparing(server) as watched:
        fault = server.faults.add("stale-list", "Service", behind=1)
        await watched.wait_compared()
        assert fault.met
        assert watched.held(Kind.SERVICE) == ["late", "web"]
        assert watched.repaired() == 0


async def test_news_that_come_meanwhile_are_no_difference(server: FakeApiServer) -> None:
    async with comparing(server) as watched:
        server.faults.add("stale-list", "Service", behind=1)
        for number in range(20):
            server.put(service("busy", f"10.96.0.{number}"))
            await asyncio.sleep(0.02)  # the rate of the changes
        await watched.wait_compared()
        assert watched.repaired() == 0
        assert watched.held(Kind.SERVICE) == ["busy", "web"]


async def test_what_cannot_be_used_is_not_asked_for_again(server: FakeApiServer) -> None:
    """Nor is a Pod on its way out, which stays what it was until it is gone."""
    with collected():
        async with comparing(server, View((ZONE,), pods=PodMode.VERIFIED)) as watched:
            status = {"phase": "Running", "podIP": "10.1.0.1"}
            pod = {"kind": "Pod", "metadata": {"name": "p", "namespace": "shop"}, "status": status}
            server.put(pod)
            await watched.wait_held(Kind.POD, "p")
            pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"  # type: ignore[index]
            server.put(pod)
            server.put(service("odd", "10.96.0.1") | {"spec": {"clusterIP": 7}})
            await watched.wait_for(lambda: watched.follower.statistics()[1].malformed, "the odd one was met")
            await watched.wait_compared()
            await watched.wait_compared("pods")
            assert watched.held(Kind.POD) == ["p"]
            assert not any("fieldSelector=metadata.name" in query for query in lists(server))
            assert not any("metadata.name" in query for query in lists(server, "Pod"))


async def test_a_refused_comparison_disturbs_nothing(server: FakeApiServer) -> None:
    async with comparing(server) as watched:
        server.faults.add("status", "Service", "list", code=403)
        await watched.wait_for(lambda: watched.total("kdns_resync_total", "services", "failed") >= 2, "it fails")
        server.put(service("more"))
        await watched.wait_held(Kind.SERVICE, "more", "web")
        assert not watched.follower.refused


async def test_names_of_namespaces_are_compared_too(server: FakeApiServer) -> None:
    before = server.storage.rv
    async with comparing(server) as watched:
        server.put({"kind": "Namespace", "metadata": {"name": "ghost"}})
        await watched.wait_held(Kind.NAMESPACE, "ghost", "shop")
        server.storage.restore(before)
        server.put(service("web"))
        server.put(service("web"))
        await watched.wait_held(Kind.NAMESPACE, "shop")
        assert watched.repaired("namespaces") == 1


async def test_comparisons_of_many_processes_are_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    delays: list[float] = []

    async def note(seconds: float) -> None:
        delays.append(seconds)
        if len(delays) == 200:
            raise asyncio.CancelledError

    monkeypatch.setattr(resync.asyncio, "sleep", note)
    with pytest.raises(asyncio.CancelledError):
        await Resync(None, {}, Telemetry(Registry()), random.Random(3), 300.0).run()  # type: ignore[arg-type]
    low, high = 300 * (1 - JITTER), 300 * (1 + JITTER)
    assert low <= min(delays) < low + 10
    assert high - 10 < max(delays) <= high


def test_only_metadata_is_asked_for() -> None:
    assert ACCEPT == "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
