"""Following a whole cluster, over sockets, through a server that fails on demand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from kdns.cluster import backoff, follower
from kdns.cluster.access import ApiAccess
from kdns.cluster.objects import EndpointSlice, Kind
from kdns.cluster.selectors import Selector
from kdns.cluster.unlisted import Unlisted
from kdns.cluster.view import PodMode, View
from kdns.dns import names
from tests.fakes.apiserver import FakeApiServer
from tests.fakes.logs import collected
from tests.fakes.loops import on_each_loop
from tests.fakes.watched_cluster import Watched, watching

ZONE = names.from_labels([b"cluster", b"local"])
VIEW = View((ZONE,))


@pytest.fixture
def server() -> Iterator[FakeApiServer]:
    with FakeApiServer() as made:
        made.put({"kind": "Namespace", "metadata": {"name": "shop"}})
        made.put(service("web"))
        made.put(endpoint_slice("web-1", "10.1.0.1"))
        yield made


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "FIRST_DELAY_SECONDS", 0.02)
    monkeypatch.setattr(backoff, "MIN_RELIST_INTERVAL_SECONDS", (0.02, 0.04))
    monkeypatch.setattr(follower, "RESTART_SECONDS", 0.02)


@asynccontextmanager
async def following(server: FakeApiServer, view: View = VIEW, **options: Any) -> AsyncIterator[Watched]:
    async with watching(Watched(ApiAccess(endpoint=server.url, **options), view)) as watched:
        yield watched


def service(name: str, **metadata: Any) -> dict[str, Any]:
    spec = {"clusterIP": "10.96.0.1", "ports": [{"name": "http", "port": 80}]}
    return {"kind": "Service", "metadata": {"name": name, "namespace": "shop", **metadata}, "spec": spec}


def endpoint_slice(name: str, *addresses: str) -> dict[str, Any]:
    return {
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in addresses],
        "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
    }


@on_each_loop
async def test_everything_is_told_before_it_is_synced_and_changes_follow() -> None:
    with FakeApiServer() as server:
        server.put({"kind": "Namespace", "metadata": {"name": "shop"}})
        server.put(service("web"))
        server.put(endpoint_slice("web-1", "10.1.0.1"))
        async with following(server) as watched:
            await watched.wait_synced()
            assert watched.before_synced == {
                (Kind.NAMESPACE, "", "shop"),
                (Kind.SERVICE, "shop", "web"),
                (Kind.ENDPOINT_SLICE, "shop", "web-1"),
            }
            server.put(service("new"))
            await watched.wait_held(Kind.SERVICE, "new", "web")
            server.delete("Service", "shop", "web")
            await watched.wait_held(Kind.SERVICE, "new")
            assert watched.times_synced == 1
            told = {part.resource: part for part in watched.follower.statistics()}
            assert told["services"].events == 2
            assert told["services"].objects == 1
            assert told["services"].relists == {"start": 1}
            assert told["services"].seconds_since_contact is not None
            assert all(part.is_synced and not part.is_refused for part in told.values())


async def test_nothing_is_listed_that_the_view_does_not_need(server: FakeApiServer) -> None:
    async with following(server) as watched:
        await watched.wait_synced()
    assert {request.kind for request in server.journal.requests} == {"Namespace", "Service", "EndpointSlice"}
    assert {request.verb for request in server.journal.requests} == {"watch"}


async def test_selection_is_done_by_the_server(server: FakeApiServer) -> None:
    server.put(service("chosen", labels={"app": "a"}))
    server.put({"kind": "Namespace", "metadata": {"name": "mine", "labels": {"team": "x"}}})
    view = View((ZONE,), labels=Selector.parse("app=a"), namespace_labels=Selector.parse("team=x"))
    async with following(server, view) as watched:
        await watched.wait_synced()
        assert watched.held(Kind.SERVICE) == ["chosen"]
        assert watched.held(Kind.NAMESPACE) == ["mine"]
        server.put(service("chosen"))  # without the label
        await watched.wait_held(Kind.SERVICE)


async def test_pods_that_have_ended_are_not_held(server: FakeApiServer) -> None:
    def pod(phase: str, address: str = "10.1.0.9") -> dict[str, Any]:
        metadata = {"name": "job", "namespace": "shop"}
        return {"kind": "Pod", "metadata": metadata, "status": {"phase": phase, "podIP": address}}

    server.put(pod("Running"))
    async with following(server, View((ZONE,), pods=PodMode.VERIFIED)) as watched:
        await watched.wait_synced()
        assert watched.held(Kind.POD) == ["job"]
        server.put(pod("Succeeded"))
        await watched.wait_held(Kind.POD)


async def test_refused_resource_does_not_stop_the_others_and_is_synced_once_granted(server: FakeApiServer) -> None:
    server.denied |= {("list", "pods"), ("watch", "pods")}
    with collected() as lines:
        async with following(server, View((ZONE,), pods=PodMode.VERIFIED)) as watched:
            await watched.wait_for(lambda: watched.follower.refused, "refused")
            await watched.wait_held(Kind.SERVICE, "web")
            server.put(service("new"))
            await watched.wait_held(Kind.SERVICE, "new", "web")
            assert not watched.times_synced
            assert [resource.full_name for resource in watched.follower.refused] == ["pods"]
            server.denied.clear()
            await watched.wait_synced()
            assert watched.follower.refused == ()
    refusals = [line for line in lines if "refused" in line]
    assert len(refusals) == 1
    for text in ("pods at http://", "grant the verbs list and watch on pods", "the names of Pods are held back"):
        assert text in refusals[0]


async def test_server_that_comes_after_us_is_found(server: FakeApiServer) -> None:
    server.stop()
    with collected() as lines:
        async with following(server) as watched:
            await watched.wait_for(
                lambda: any(part.errors for part in watched.follower.statistics()), "a failure"
            )  # fmt: skip
            assert not watched.objects
            server.start()
            await watched.wait_synced()
    assert len(lines) == 2


async def test_configuration_that_comes_after_us_is_found(server: FakeApiServer, tmp_path: Any) -> None:
    path = tmp_path / "config"
    watched = Watched(ApiAccess(kubeconfig=str(path)), VIEW)
    with collected() as lines:
        task = asyncio.create_task(watched.follower.run())
        await watched.wait_for(lambda: lines, "a complaint")
        server.write_kubeconfig(path)
        await watched.wait_synced()
        task.cancel()
        await asyncio.wait([task])
    assert len(lines) == 1
    assert "no such file" in lines[0]


async def test_ghosts_go_and_what_is_unchanged_is_not_told_again(server: FakeApiServer) -> None:
    server.put(service("ghost"))
    async with following(server) as watched:
        await watched.wait_synced()
        await watched.wait_held(Kind.SERVICE, "ghost", "web")
        with collected():
            gap = server.faults.add("gap", compact=False)
            server.delete("Service", "shop", "ghost")
            server.put(service("created"))
            server.faults.add("watch-gone", kind="Service", times=1, how="status")
            watched.batches.clear()
            gap.remove()
            await watched.wait_held(Kind.SERVICE, "created", "web")
        assert [(event.name, event.object is None) for batch in watched.batches for event in batch] == [
            ("ghost", True),
            ("created", False),
        ]
        assert watched.times_synced == 1


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("watch-list-missing", {"how": "refused"}),
        ("watch-gone", {"times": 2, "how": "event"}),
        ("watch-gone", {"times": 2, "how": "status"}),
        ("watch-gone", {"times": 2, "how": "bare"}),
        ("watch-end", {"times": 3, "after": 1}),
        ("short-watch", {"times": 3}),
        ("cut", {"times": 3, "how": "reset", "after": 1}),
        ("cut", {"times": 3, "how": "half-line", "after": 1}),
        ("cut", {"times": 3, "how": "chunk", "after": 1}),
        ("bookmark", {"how": "plain", "times": 3}),
        ("bookmark", {"how": "bare", "times": 3}),
        ("bookmark", {"how": "null", "times": 3}),
        ("mistyped", {"how": "duplicate"}),
        ("mistyped", {"how": "added-known"}),
        ("mistyped", {"how": "modified-unknown"}),
        ("mistyped", {"how": "deleted-unknown"}),
        ("replay", {}),
        ("throttled", {"times": 4, "retry_after": "0"}),
        ("throttled", {"times": 4, "retry_after": None}),
        ("throttled", {"times": 4, "retry_after": "-7"}),
        ("status", {"times": 4, "code": 500}),
        ("status", {"times": 4, "code": 502, "how": "html"}),
        ("status", {"times": 4, "code": 401}),
        ("status", {"times": 4, "code": 403}),
        ("wrong-answer", {"times": 4, "how": "redirect"}),
        ("wrong-answer", {"times": 4, "how": "gzip"}),
        ("wrong-answer", {"times": 4, "how": "content-type"}),
        ("wrong-answer", {"times": 4, "how": "table"}),
        ("poison", {"times": 2, "how": "null-object"}),
        ("poison", {"times": 2, "how": "no-type"}),
        ("poison", {"times": 2, "how": "not-an-object"}),
        ("poison", {"times": 2, "how": "not-json"}),
        ("poison", {"times": 2, "how": "nested"}),
        ("refused", {"lasts": 0.1}),
        ("gap", {"lasts": 0.1}),
        ("relist", {}),
    ],
)
async def test_every_fault_ends_in_the_state_of_the_server(
    name: str, parameters: dict[str, Any], server: FakeApiServer
) -> None:
    """Before the first list, and again when everything is followed."""
    lasts = parameters.pop("lasts", 0.0)
    with collected():
        fault = server.faults.add(name, **parameters)
        async with following(server) as watched:
            if lasts:
                await asyncio.sleep(lasts)
                fault.remove()
            await watched.wait_synced()
            server.faults.clear()
            server.faults.add(name, **parameters)
            server.cut_connections()
            server.put(service("second"))
            server.delete("Service", "shop", "web")
            if lasts:
                await asyncio.sleep(lasts)
                server.faults.clear()
            server.put(endpoint_slice("web-1", "10.1.0.2"))
            server.put(service("third"))
            await watched.wait_held(Kind.SERVICE, "second", "third")
            await watched.wait_for(lambda: addresses(watched) == [b"\x0a\1\0\2"], "the new address")
            assert watched.times_synced == 1
            assert all(not part.restarts for part in watched.follower.statistics())


async def test_server_whose_history_went_back_is_listed_anew(server: FakeApiServer) -> None:
    before = server.put(service("web")).rv
    with collected() as lines:
        async with following(server) as watched:
            await watched.wait_synced()
            server.put(service("lost"))
            server.put(service("lost-too"))
            await watched.wait_held(Kind.SERVICE, "lost", "lost-too", "web")
            server.faults.add("rewind", to=before)
            await watched.wait_held(Kind.SERVICE, "web")
            server.put(service("after"))
            await watched.wait_held(Kind.SERVICE, "after", "web")
    assert any("listing everything again" in line for line in lines)


async def test_emptied_list_is_not_believed_before_it_is_seen_twice(server: FakeApiServer) -> None:
    everything = ["web", *(f"s{number}" for number in range(150))]
    for name in everything:
        server.put(service(name))
    async with following(server) as watched:
        await watched.wait_synced()
        with collected() as lines:
            # Lists that begin a watch have no such fault: pages are asked for where a watch cannot begin with a list.
            server.faults.add("watch-list-missing", kind="Service", times=2)
            server.faults.add("emptied-list", kind="Service", times=1)
            server.faults.add("relist")
            await watched.wait_for(
                lambda: watched.follower.statistics()[1].relists.get("confirm"), "a second list"
            )  # fmt: skip
            server.put(service("later"))
            await watched.wait_held(Kind.SERVICE, "later", *everything)
        assert any("lacks 151 of 151" in line for line in lines)
        assert not any(event.object is None for batch in watched.batches for event in batch)


async def test_task_that_dies_is_replaced_and_loses_nothing(server: FakeApiServer) -> None:
    async with following(server) as watched:
        await watched.wait_synced()
        with collected() as lines:
            watched.fails_at = "poison"
            server.put(service("poison"))
            await watched.wait_held(Kind.SERVICE, "poison", "web")
        assert [part.restarts for part in watched.follower.statistics()] == [0, 1, 0]
        assert lines == [
            "[ERROR] plugin/kubernetes: services: following it failed, and begins again: RuntimeError: cannot take this"
        ]
        assert watched.times_synced == 1


async def test_lists_by_pages_survive_a_token_that_expires(server: FakeApiServer) -> None:
    for number in range(250):
        server.put(service(f"s{number}"))
    with collected():
        server.faults.add("watch-list-missing")
        server.faults.add("continue-expired", kind="Service", times=1)
        async with following(server) as watched:
            await watched.wait_synced()
            assert len(watched.held(Kind.SERVICE)) == 251
            assert len([batch for batch in watched.batches if batch[0].kind is Kind.SERVICE]) == 1


async def test_damaged_object_costs_nobody_else_anything(server: FakeApiServer) -> None:
    with collected() as lines:
        server.faults.add("malformed", damage="text-port", kind="EndpointSlice")
        server.faults.add("malformed", damage="null-metadata", name="odd")
        server.put(service("odd"))
        server.put(service("good"))
        async with following(server) as watched:
            await watched.wait_synced()
            assert watched.held(Kind.SERVICE) == ["good", "web"]
            assert watched.held(Kind.ENDPOINT_SLICE) == ["web-1"]
            assert sum(part.malformed for part in watched.follower.statistics()) == 2
    assert len(lines) == 2


@pytest.mark.parametrize("access", [{"max_inflight": 1}, {"qps": 50.0, "burst": 1}])
async def test_limits_slow_down_and_never_block(access: dict[str, Any], server: FakeApiServer) -> None:
    async with following(server, **access) as watched:
        await watched.wait_synced()
        server.cut_connections()
        server.put(service("new"))
        await watched.wait_held(Kind.SERVICE, "new", "web")


def addresses(watched: Watched) -> list[bytes]:
    return [
        endpoint.address
        for found in watched.objects.values()
        if isinstance(found, EndpointSlice)
        for endpoint in found.endpoints
    ]


# What is lacking


async def test_a_refused_resource_is_told_to_be_lacking_and_told_again_when_it_is_not(server: FakeApiServer) -> None:
    view = View((ZONE,), pods=PodMode.VERIFIED)
    server.denied = {(verb, resource) for verb in ("list", "watch") for resource in ("pods", "endpointslices")}
    with collected():
        async with following(server, view) as watched:
            lacking = Unlisted.PODS | Unlisted.ENDPOINT_SLICES
            await watched.wait_for(lambda: watched.listed, "told what is lacking")
            assert watched.listed == [lacking]
            assert (watched.times_synced, watched.follower.is_synced) == (0, False)
            server.denied = {(verb, "pods") for verb in ("list", "watch")}
            await watched.wait_for(lambda: len(watched.listed) == 2, "told again")
            server.denied = set()
            await watched.wait_synced()
            assert watched.listed == [lacking, Unlisted.PODS, Unlisted.NOTHING]
            assert watched.follower.is_synced


async def test_a_resource_that_is_late_is_waited_for_and_then_told_to_be_lacking(
    server: FakeApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "PATIENCE_SECONDS", 0.3)
    held = server.faults.add("held", "EndpointSlice")
    with collected() as lines:
        async with following(server) as watched:
            await watched.wait_held(Kind.SERVICE, "web")
            assert watched.listed == []
            await watched.wait_for(lambda: watched.listed, "told what is lacking")
            assert watched.listed == [Unlisted.ENDPOINT_SLICES]
            held.remove()
            await watched.wait_synced()
    assert lines == [
        "[WARNING] plugin/kubernetes: endpointslices.discovery.k8s.io: not listed after 0.3 s; "
        "until then the names of headless Services and of endpoints are held back"
    ]


async def test_a_server_that_is_away_lacks_nothing_and_has_nothing(
    server: FakeApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "PATIENCE_SECONDS", 0.05)
    away = server.faults.add("refused")
    with collected():
        async with following(server) as watched:
            await watched.wait_for(lambda: watched.follower.statistics()[0].errors or 1, "it was tried")
            await asyncio.sleep(0.2)  # four times the patience
            assert watched.listed == []
            away.remove()
            await watched.wait_synced()
            assert watched.listed[-1] == Unlisted.NOTHING


async def test_what_a_former_process_knew_is_kept_for_longer_than_it_takes_to_be_refused(
    server: FakeApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "KNOWN_PATIENCE_SECONDS", 0.5)
    server.denied = {(verb, "endpointslices") for verb in ("list", "watch")}
    with collected():
        watched = Watched(ApiAccess(endpoint=server.url), VIEW, is_known=True)
        async with watching(watched):
            await watched.wait_for(lambda: watched.follower.refused, "refused")
            await watched.wait_held(Kind.SERVICE, "web")
            assert watched.listed == []
            await watched.wait_for(lambda: watched.listed, "told what is lacking")
            assert watched.listed == [Unlisted.ENDPOINT_SLICES]


async def test_changes_of_slices_are_told_with_the_time_they_began(server: FakeApiServer) -> None:
    told: list[tuple[str, str, float]] = []
    batches: list[int] = []

    def note(namespace: str, service: str, began: float) -> None:
        told.append((namespace, service, began))
        batches.append(len(watched.batches))

    annotations = {"endpoints.kubernetes.io/last-change-trigger-time": "2026-01-02T03:04:05Z"}
    listed = endpoint_slice("web-1", "10.1.0.1")
    listed["metadata"]["annotations"] = annotations
    server.put(listed)
    watched = Watched(ApiAccess(endpoint=server.url), VIEW, on_programmed=note)
    async with watching(watched):
        await watched.wait_synced()
        assert told == [], "what was there before took no time of ours"
        before = len(watched.batches)
        changed = endpoint_slice("web-1", "10.1.0.2")
        changed["metadata"]["annotations"] = annotations
        server.put(changed)
        server.put(endpoint_slice("web-2", "10.1.0.3"))
        await watched.wait_held(Kind.ENDPOINT_SLICE, "web-1", "web-2")
        assert told == [("shop", "web", 1767323045.0)]
        assert batches[0] > before, "after the change was told"
