"""The fake API server, where it does not lie: what kube-apiserver would say."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import aiohttp
import pytest

from tests.fakes.apiserver import FakeApiServer, Key
from tests.fakes_selftest.apiclient import WATCH_LIST, Client, connected
from tests.fakes_selftest.objects import namespace, pod, service

METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"


@pytest.fixture
def server() -> Iterator[FakeApiServer]:
    with FakeApiServer(future_wait_seconds=0.05) as made:
        yield made


async def names(client: Client, **query: str) -> list[str]:
    status, found = await client.list("Service", **query)
    assert status == 200, found
    return [item["metadata"]["name"] for item in found["items"]]


async def test_lists_objects_in_order_with_the_newest_version(server: FakeApiServer) -> None:
    server.put(service("b"), service("a"))
    async with connected(server) as client:
        status, found = await client.list("Service")
    assert status == 200
    assert (found["kind"], found["apiVersion"]) == ("ServiceList", "v1")
    assert [item["metadata"]["name"] for item in found["items"]] == ["a", "b"]
    assert found["metadata"]["resourceVersion"] == found["items"][0]["metadata"]["resourceVersion"]
    assert "kind" not in found["items"][0]


async def test_pages_are_of_one_state(server: FakeApiServer) -> None:
    server.put(service("a"), service("b"), service("c"))
    async with connected(server) as client:
        _, first = await client.list("Service", limit="2")
        server.delete("Service", "shop", "c")
        server.put(service("d"))
        _, second = await client.list("Service", limit="2", **{"continue": first["metadata"]["continue"]})
    assert [item["metadata"]["name"] for item in first["items"] + second["items"]] == ["a", "b", "c"]
    assert first["metadata"]["remainingItemCount"] == 1
    assert first["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]
    assert "continue" not in second["metadata"]


async def test_the_watch_cache_knows_no_pages(server: FakeApiServer) -> None:
    server.put(service("a"), service("b"))
    async with connected(server) as client:
        assert await names(client, resourceVersion="0", limit="1") == ["a", "b"]


async def test_an_exact_version_is_listed_as_it_was_until_it_is_compacted(server: FakeApiServer) -> None:
    then = server.put(service("a")).rv
    server.put(service("b"))
    async with connected(server) as client:
        exact = {"resourceVersion": str(then), "resourceVersionMatch": "Exact"}
        assert await names(client, **exact) == ["a"]
        assert await names(client, resourceVersion=str(then), resourceVersionMatch="NotOlderThan") == ["a", "b"]
        assert await names(client, resourceVersion=str(then), limit="5") == ["a"]
        server.compact()
        status, found = await client.list("Service", **exact)
    assert (status, found["reason"]) == (410, "Expired")


async def test_a_page_after_compaction_is_refused(server: FakeApiServer) -> None:
    server.put(service("a"), service("b"))
    async with connected(server) as client:
        _, first = await client.list("Service", limit="1")
        server.put(service("c"))
        server.compact()
        status, found = await client.list("Service", limit="1", **{"continue": first["metadata"]["continue"]})
    assert (status, found["reason"]) == (410, "Expired")


async def test_a_version_not_reached_is_too_large(server: FakeApiServer) -> None:
    async with connected(server) as client:
        status, found = await client.list("Service", resourceVersion="999999")
        assert (status, found["details"]["causes"][0]["reason"]) == (504, "ResourceVersionTooLarge")
        async with client.watch("Service", resourceVersion="999999", **WATCH_LIST) as events:
            kind, error = await events.next()
            assert (kind, error["code"]) == ("ERROR", 504)
        async with client.watch("Service", resourceVersion="999999") as events:
            assert await events.is_silent()


@pytest.mark.parametrize(
    "query",
    [
        {"resourceVersionMatch": "Exact"},
        {"resourceVersionMatch": "Exact", "resourceVersion": "0"},
        {"sendInitialEvents": "true"},
        {"watch": "true", "sendInitialEvents": "true"},
        {"watch": "true", "resourceVersion": "1", "resourceVersionMatch": "NotOlderThan"},
        {"resourceVersion": "new"},
    ],
)
async def test_parameters_that_do_not_go_together_are_refused(server: FakeApiServer, query: dict[str, str]) -> None:
    async with connected(server) as client:
        status, found = await client.list("Service", **query)
    assert (status, found["kind"]) == (422, "Status")


async def test_selectors_select(server: FakeApiServer) -> None:
    server.put(service("a", tier="front"), service("b", tier="back"), service("c"))
    server.put(pod("run"), pod("done", "Succeeded"), pod("wait", "Pending"))
    async with connected(server) as client:
        assert await names(client, labelSelector="tier in (front,back),tier!=back") == ["a"]
        assert await names(client, labelSelector="!tier") == ["c"]
        assert await names(client, fieldSelector="metadata.name=b") == ["b"]
        _, pods = await client.list("Pod", fieldSelector="status.phase!=Succeeded,status.phase!=Failed")
        assert [item["metadata"]["name"] for item in pods["items"]] == ["run", "wait"]
        assert (await client.list("Service", fieldSelector="status.phase=Running"))[0] == 400
        assert (await client.list("Service", labelSelector="a in"))[0] == 400


async def test_metadata_alone_is_sent_where_asked_for(server: FakeApiServer) -> None:
    server.put(service("a", tier="front"))
    async with connected(server) as client:
        _, found = await client.list("Service", METADATA_LIST)
    assert (found["kind"], found["apiVersion"]) == ("PartialObjectMetadataList", "meta.k8s.io/v1")
    assert found["items"][0]["metadata"]["labels"] == {"tier": "front"}
    assert "spec" not in found["items"][0]


async def test_one_object_is_got_by_its_path(server: FakeApiServer) -> None:
    server.put(service("a"), namespace("shop"))
    async with connected(server) as client:
        status, found = await client.get("/api/v1/namespaces/shop/services/a")
        assert (status, found["kind"], found["spec"]["clusterIP"]) == (200, "Service", "10.96.0.1")
        assert (await client.get("/api/v1/namespaces/shop"))[1]["kind"] == "Namespace"
        assert (await client.get("/api/v1/namespaces/shop/services"))[1]["kind"] == "ServiceList"
        assert (await client.get("/api/v1/namespaces/shop/services/b"))[0] == 404
        assert (await client.get("/api/v1/gadgets"))[0] == 404


async def test_a_watch_goes_on_from_its_version(server: FakeApiServer) -> None:
    start = server.put(service("a")).rv
    server.put(service("b"))
    async with connected(server) as client, client.watch("Service", resourceVersion=str(start)) as events:
        assert await events.names(1) == [("ADDED", "b")]
        server.patch("Service", "shop", "a", {"spec": {"clusterIP": "10.96.0.9"}})
        kind, changed = await events.next()
        assert (kind, changed["spec"]["clusterIP"], changed["kind"]) == ("MODIFIED", "10.96.0.9", "Service")
        gone = server.delete("Service", "shop", "a")
        kind, last = await events.next()
        assert (kind, last["metadata"]["resourceVersion"]) == ("DELETED", str(gone.rv))
        assert last["spec"]["clusterIP"] == "10.96.0.9"


async def test_a_watch_from_what_was_compacted_is_told_so(server: FakeApiServer) -> None:
    start = server.put(service("a")).rv
    server.put(service("b"))
    server.compact()
    async with connected(server) as client, client.watch("Service", resourceVersion=str(start)) as events:
        kind, error = await events.next()
        assert (kind, error["code"], error["reason"]) == ("ERROR", 410, "Expired")
        assert await events.line() == b""


async def test_initial_events_end_with_a_bookmark(server: FakeApiServer) -> None:
    newest = server.put(service("a"), service("b")).rv
    async with connected(server) as client, client.watch("Service", **WATCH_LIST) as events:
        assert await events.names(2) == [("ADDED", "a"), ("ADDED", "b")]
        kind, bookmark = await events.next()
        assert kind == "BOOKMARK"
        assert bookmark["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        assert bookmark["metadata"]["resourceVersion"] == str(newest)
        server.put(service("c"))
        assert await events.names(1) == [("ADDED", "c")]


async def test_who_leaves_a_selection_is_deleted_in_it(server: FakeApiServer) -> None:
    start = server.put(pod("a")).rv
    async with (
        connected(server) as client,
        client.watch("Pod", resourceVersion=str(start), fieldSelector="status.phase!=Succeeded") as events,
    ):
        server.patch("Pod", "shop", "a", {"status": {"phase": "Succeeded"}})
        assert await events.names(1) == [("DELETED", "a")]
        server.patch("Pod", "shop", "a", {"status": {"phase": "Running"}})
        assert await events.names(1) == [("ADDED", "a")]


async def test_a_watch_ends_after_its_timeout_with_a_bookmark(server: FakeApiServer) -> None:
    start = server.put(service("a")).rv
    server.put(namespace())
    query = {"resourceVersion": str(start), "timeoutSeconds": "1", "allowWatchBookmarks": "true"}
    async with connected(server) as client, client.watch("Service", **query) as events:
        assert (await events.next())[0] == "BOOKMARK"
        assert await events.line() == b""


async def test_bookmarks_come_at_their_interval() -> None:
    with FakeApiServer(bookmark_interval_seconds=0.05) as server:
        start = server.put(service("a")).rv
        newest = server.put(namespace()).rv
        query = {"resourceVersion": str(start), "allowWatchBookmarks": "true"}
        async with connected(server) as client, client.watch("Service", **query) as events:
            kind, bookmark = await events.next()
            assert (kind, bookmark["metadata"]["resourceVersion"]) == ("BOOKMARK", str(newest))


async def test_tokens_and_permissions_are_checked() -> None:
    with FakeApiServer(tokens=["secret"]) as server:
        async with connected(server) as client:
            assert (await client.list("Service"))[0] == 401
        server.denied.add(("list", "pods"))
        async with connected(server, "secret") as client:
            assert (await client.list("Service"))[0] == 200
            status, found = await client.list("Pod")
            assert (status, found["reason"]) == (403, "Forbidden")
            assert "cannot list" in found["message"]


async def test_tls_is_trusted_through_its_authority() -> None:
    with FakeApiServer(tls=True, tokens=["secret"]) as server:
        async with connected(server, "secret") as client:
            assert (await client.list("Service"))[0] == 200
        trusted = ssl.create_default_context(cafile=server.ca_file)
        held = server.client_certificate("kdns")
        trusted.load_cert_chain(held.certificate, held.key)
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusted)) as session,
            session.get(f"{server.url}/api/v1/services") as response,
        ):
            assert response.status == 200


async def test_objects_and_versions_outlive_a_restart(server: FakeApiServer) -> None:
    start = server.put(service("a")).rv
    port = server.port
    server.stop()
    server.put(service("b"))
    async with connected(server) as client:
        with pytest.raises(aiohttp.ClientConnectorError):
            await client.list("Service")
        server.start()
        assert server.port == port
        async with client.watch("Service", resourceVersion=str(start)) as events:
            assert await events.names(1) == [("ADDED", "b")]


async def test_the_journal_tells_when_a_version_was_committed_and_told(server: FakeApiServer) -> None:
    start = server.put(service("a")).rv
    key = Key("Service", "shop", "a")
    async with connected(server) as client:
        await client.list("Service")
        async with client.watch("Service", resourceVersion=str(start)) as events:
            server.patch("Service", "shop", "a", {"spec": {"clusterIP": "10.96.0.2"}})
            await events.next()
            async with client.watch("Service", resourceVersion=str(start)):
                pass
    absent, first, second = server.journal.spans(key)[:3]
    assert absent.version is None
    assert first.version is not None
    assert second.version is not None
    assert absent.until is not None
    assert first.until is not None
    assert first.version.committed <= absent.until <= second.version.committed <= first.until
    assert second.until is None
    assert [(request.verb, request.kind) for request in server.journal.requests][:2] == [
        ("list", "Service"),
        ("watch", "Service"),
    ]
