"""The fake API server, where it lies: each fault strikes as it says, and stops when it is removed."""

from __future__ import annotations

import asyncio
import functools
import gzip
import json
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.fakes import apiserver
from tests.fakes.apiserver import FakeApiServer, Key
from tests.fakes.apiserver.damages import DAMAGES, damaged
from tests.fakes.apiserver.faults import FAULTS
from tests.fakes_selftest.apiclient import PATHS, WATCH_LIST, connected
from tests.fakes_selftest.objects import endpoint_slice, namespace, pod, service
from tests.harness.processes import processes_of
from tests.harness.waiting import wait_until

BROKEN = (aiohttp.ClientError, ConnectionError, ssl.SSLError)
ROWS = 32


@pytest.fixture
def server() -> Iterator[FakeApiServer]:
    with FakeApiServer() as made:
        made.put(service("a"))
        yield made


def newest(server: FakeApiServer) -> str:
    return str(server.storage.rv)


def test_every_fault_is_numbered_and_told() -> None:
    assert {row for spec in FAULTS.values() for row in spec.rows} == set(range(1, ROWS + 1))
    told = apiserver.__doc__ or ""
    for name, spec in FAULTS.items():
        (line,) = [text for text in told.splitlines() if f" {name} " in text[11:35]]
        assert {int(word) for word in line[:12].split()} | {32} == {*spec.rows, 32}, name


def test_unknown_faults_and_parameters_are_refused(server: FakeApiServer) -> None:
    with pytest.raises(ValueError, match="no fault is named 'gone'"):
        server.faults.add("gone")
    with pytest.raises(ValueError, match="has no parameter"):
        server.faults.add("stall", seconds=1)
    with pytest.raises(ValueError, match="has no form 'slowly'"):
        server.faults.add("cut", how="slowly")


async def test_held_requests_are_answered_when_released(server: FakeApiServer) -> None:
    fault = server.faults.add("held", kind="Service")
    async with connected(server) as client:
        waiting = asyncio.create_task(client.list("Service"))
        await asyncio.to_thread(fault.wait_met)
        assert (await client.list("Pod"))[0] == 200
        assert not waiting.done()
        fault.remove()
        assert (await waiting)[0] == 200
    assert fault.met == 1


async def test_watch_lists_are_refused_ignored_or_never_end(server: FakeApiServer) -> None:
    async with connected(server) as client:
        server.faults.add("watch-list-missing", times=1)
        async with client.watch("Service", **WATCH_LIST) as events:
            assert events.status == 422
        for how in ("ignored", "endless"):
            server.faults.add("watch-list-missing", times=1, how=how)
            async with client.watch("Service", **WATCH_LIST) as events:
                assert await events.names(1) == [("ADDED", "a")]
                assert await events.is_silent()
        async with client.watch("Service", **WATCH_LIST) as events:
            assert [kind for kind, _ in await events.names(2)] == ["ADDED", "BOOKMARK"]


async def test_lists_fail_as_told(server: FakeApiServer) -> None:
    server.put(service("b"))
    async with connected(server) as client:
        server.faults.add("continue-expired", times=1)
        _, first = await client.list("Service", limit="1")
        more = {"limit": "1", "continue": first["metadata"]["continue"]}
        assert (await client.list("Service", **more))[0] == 410
        assert (await client.list("Service", **more))[0] == 200

        server.faults.add("list-gone", kind="Service", times=1)
        assert (await client.list("Service"))[0] == 200
        assert (await client.list("Service", resourceVersion="0"))[0] == 410

        for how, has_causes in (("cause", True), ("message", False)):
            server.faults.add("version-too-large", times=1, how=how)
            status, found = await client.list("Service", resourceVersion="0")
            assert (status, "causes" in found["details"]) == (504, has_causes)
            assert "Too large resource version" in found["message"]

        server.faults.add("stale-list", times=1, behind=1)
        _, found = await client.list("Service", resourceVersion="0")
        assert [item["metadata"]["name"] for item in found["items"]] == ["a"]

        server.faults.add("emptied-list", times=1)
        assert (await client.list("Service"))[1]["items"] == []
        assert len((await client.list("Service"))[1]["items"]) == 2


async def test_compaction_between_pages_makes_the_next_one_fail(server: FakeApiServer) -> None:
    server.put(service("b"))
    server.faults.add("compaction", times=1)
    async with connected(server) as client:
        _, first = await client.list("Service", limit="1")
        more = {"limit": "1", "continue": first["metadata"]["continue"]}
        assert (await client.list("Service", **more))[0] == 410


@pytest.mark.parametrize("how", ["event", "bare"])
async def test_an_open_watch_is_told_it_is_too_old(server: FakeApiServer, how: str) -> None:
    async with connected(server) as client, client.watch("Service", resourceVersion=newest(server)) as events:
        fault = server.faults.add("watch-gone", kind="Service", times=1, how=how)
        kind, error = await events.next()
        assert (kind, error.get("code")) == ("ERROR", 410 if how == "event" else None)
        assert await events.line() == b""
        assert not fault.is_active


async def test_a_watch_is_refused_as_too_old(server: FakeApiServer) -> None:
    server.faults.add("watch-gone", times=1, how="status")
    async with connected(server) as client:
        async with client.watch("Service", resourceVersion=newest(server)) as events:
            assert events.status == 410
        async with client.watch("Service", resourceVersion=newest(server)) as events:
            assert events.status == 200


async def test_watches_end_early(server: FakeApiServer) -> None:
    async with connected(server) as client:
        server.faults.add("short-watch", times=1)
        async with client.watch("Service", resourceVersion="0") as events:
            assert await events.line() == b""
        server.put(service("b"))
        server.faults.add("watch-end", times=1, after=1)
        async with client.watch("Service", resourceVersion="0") as events:
            assert await events.names(1) == [("ADDED", "a")]
            assert await events.line() == b""


@pytest.mark.parametrize(
    ("how", "tls"),
    [(how, tls) for how in ("reset", "half-line", "chunk") for tls in (False, True)] + [("tls-alert", True)],
)
async def test_a_stream_is_cut_in_half_a_line(how: str, tls: bool) -> None:
    with FakeApiServer(tls=tls) as server:
        server.put(service("a"))
        async with connected(server) as client, client.watch("Service", resourceVersion=newest(server)) as events:
            server.faults.add("cut", times=1, how=how)
            try:
                line = await events.line()
            except BROKEN:
                assert how != "half-line"
            else:
                assert not line.endswith(b"\n")
        async with connected(server) as client:
            assert (await client.list("Service"))[0] == 200


async def test_a_stalled_stream_goes_on_when_released(server: FakeApiServer) -> None:
    async with connected(server) as client, client.watch("Service", resourceVersion=newest(server)) as events:
        fault = server.faults.add("stall", kind="Service", times=1)
        server.put(service("b"))
        await asyncio.to_thread(fault.wait_met)
        assert await events.is_silent()
        assert len((await client.list("Service"))[1]["items"]) == 2
        fault.remove()
        assert await events.names(1) == [("ADDED", "b")]


async def test_a_frozen_server_answers_nothing(server: FakeApiServer) -> None:
    async with connected(server) as client, client.watch("Service", resourceVersion=newest(server)) as events:
        fault = server.faults.add("frozen")
        server.put(service("b"))
        waiting = asyncio.create_task(client.list("Service"))
        assert await events.is_silent()
        assert not waiting.done()
        fault.remove()
        assert await events.names(1) == [("ADDED", "b")]
        assert (await waiting)[0] == 200


async def test_bookmarks_come_without_metadata(server: FakeApiServer) -> None:
    async with connected(server) as client, client.watch("Service", resourceVersion=newest(server)) as events:
        server.put(namespace())
        server.faults.add("bookmark", times=1)
        kind, found = await events.next()
        assert (kind, found["metadata"]["resourceVersion"]) == ("BOOKMARK", newest(server))
        for how in ("bare", "null"):
            server.faults.add("bookmark", times=1, how=how)
            kind, found = await events.next()
            assert (kind, found.get("metadata")) == ("BOOKMARK", None)


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("duplicate", [("MODIFIED", "a"), ("MODIFIED", "a"), ("ADDED", "b")]),
        ("added-known", [("ADDED", "a"), ("ADDED", "b")]),
        ("modified-unknown", [("MODIFIED", "a"), ("MODIFIED", "b")]),
        ("deleted-unknown", [("DELETED", "never-was"), ("MODIFIED", "a"), ("ADDED", "b")]),
    ],
)
async def test_events_are_mistyped(server: FakeApiServer, how: str, expected: list[tuple[str, str]]) -> None:
    async with connected(server) as client, client.watch("Service", resourceVersion=newest(server)) as events:
        server.faults.add("mistyped", times=1, how=how)
        server.put(service("a", "10.96.0.2"))
        server.put(service("b"))
        assert await events.names(len(expected)) == expected


async def test_a_change_is_replayed(server: FakeApiServer) -> None:
    async with connected(server) as client, client.watch("Service", resourceVersion=newest(server)) as events:
        server.faults.add("replay", times=1)
        server.put(service("a", "10.96.0.2"))
        met = [(await events.next())[1]["spec"]["clusterIP"] for _ in range(3)]
    assert met == ["10.96.0.2", "10.96.0.1", "10.96.0.2"]
    versions = [span.version for span in server.journal.spans(Key("Service", "shop", "a"))]
    assert len(versions) == 4  # absent, the first, the second, and the first again


async def test_a_gap_hides_what_happens_in_it(server: FakeApiServer) -> None:
    start = newest(server)
    async with connected(server) as client:
        async with client.watch("Service", resourceVersion=start) as events:
            fault = server.faults.add("gap")
            with pytest.raises(BROKEN):
                await events.line()
        with pytest.raises(BROKEN):
            await client.list("Service")
        server.delete("Service", "shop", "a")
        fault.remove()
        async with client.watch("Service", resourceVersion=start) as events:
            assert (await events.next())[1]["code"] == 410
        assert (await client.list("Service"))[1]["items"] == []


async def test_everything_goes_back_to_a_version(server: FakeApiServer) -> None:
    then = int(newest(server))
    server.put(service("a", "10.96.0.2"), service("b"))
    server.delete("Service", "shop", "b")
    seen = newest(server)
    async with connected(server) as client:
        async with client.watch("Service", resourceVersion=seen) as events:
            server.faults.add("rewind", to=then)
            with pytest.raises(BROKEN):
                await events.line()
        _, found = await client.list("Service")
        assert found["metadata"]["resourceVersion"] == str(then)
        assert [item["spec"]["clusterIP"] for item in found["items"]] == ["10.96.0.1"]
        async with client.watch("Service", resourceVersion=seen) as events:
            server.put(service("c"))
            assert await events.is_silent()  # the trap: it is newer, but its number is not
    last = server.journal.spans(Key("Service", "shop", "a"))[-1]
    assert last.version is not None
    assert last.version.raw["spec"]["clusterIP"] == "10.96.0.1"


async def test_connections_are_refused(server: FakeApiServer) -> None:
    fault = server.faults.add("refused")
    async with connected(server) as client:
        with pytest.raises(aiohttp.ClientConnectorError):
            await client.list("Service")
        fault.remove()
        assert (await client.list("Service"))[0] == 200


@pytest.mark.parametrize("after", [None, "-1", "1000000000", "Fri, 31 Dec 1999 23:59:59 GMT"])
async def test_throttling_says_when_to_come_back(server: FakeApiServer, after: str | None) -> None:
    server.faults.add("throttled", times=1, retry_after=after)
    async with connected(server) as client, client.session.get(server.url + PATHS["Service"]) as response:
        assert response.status == 429
        assert response.headers.get("Retry-After") == after


@pytest.mark.parametrize("code", [401, 403, 500, 503])
async def test_a_status_comes_with_any_body(server: FakeApiServer, code: int) -> None:
    async with connected(server) as client:
        for how, start in (("status", b'{"kind"'), ("html", b"<html>"), ("empty", b"")):
            server.faults.add("status", kind="Service", verb="list", times=1, code=code, how=how)
            async with client.session.get(server.url + PATHS["Service"]) as response:
                assert response.status == code
                assert (await response.read()).startswith(start)
        assert (await client.list("Service"))[0] == 200


async def test_wrong_answers(server: FakeApiServer) -> None:
    async with connected(server) as client:

        async def ask(how: str) -> tuple[int, str, bytes]:
            server.faults.add("wrong-answer", times=1, how=how)
            async with client.session.get(server.url + PATHS["Service"], allow_redirects=False) as response:
                return response.status, response.content_type, await response.read()

        assert (await ask("redirect"))[0] == 302
        assert json.loads(gzip.decompress((await ask("gzip"))[2]))["kind"] == "List"
        assert (await ask("content-type"))[1] == "application/vnd.kubernetes.protobuf"
        assert json.loads((await ask("table"))[2])["kind"] == "Table"


async def test_tokens_rotate() -> None:
    with FakeApiServer(tokens=["old"]) as server:
        server.faults.add("token-rotated", token="new")
        async with connected(server, "old") as client:
            assert (await client.list("Service"))[0] == 401
        async with connected(server, "new") as client:
            assert (await client.list("Service"))[0] == 200


async def test_certificates_rotate_for_new_connections() -> None:
    with FakeApiServer(tls=True) as server:
        start = newest(server)
        async with connected(server) as client, client.watch("Service", resourceVersion=start) as events:
            server.faults.add("certificate-rotated", how="certificate")
            assert (await client.list("Service"))[0] == 200
            server.faults.add("certificate-rotated")
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await client.list("Service")
            server.put(service("b"))
            assert await events.names(1) == [("ADDED", "b")]
            async with connected(server) as newer:
                assert (await newer.list("Service"))[0] == 200


async def test_slow_answers_trickle(server: FakeApiServer) -> None:
    fault = server.faults.add("slow", bytes_per_second=10)
    async with connected(server) as client:
        waiting = asyncio.create_task(client.list("Service"))
        await asyncio.to_thread(fault.wait_met)
        assert not waiting.done()
        fault.remove()
        assert (await waiting)[0] == 200


async def test_slow_handshakes_keep_a_client_waiting() -> None:
    with FakeApiServer(tls=True) as server:
        fault = server.faults.add("slow-handshake", times=1, seconds=0.2)
        loop = asyncio.get_running_loop()
        async with connected(server) as client:
            before = loop.time()
            assert (await client.list("Service"))[0] == 200
            assert loop.time() - before >= 0.2
    assert fault.met == 1


async def test_objects_are_made_huge(server: FakeApiServer) -> None:
    server.put(service("b"))
    fault = server.faults.add("huge", kind="Service", name="b", octets=1_572_864)
    async with connected(server) as client:
        _, found = await client.list("Service")
    assert [len(json.dumps(item)) > 1_572_864 for item in found["items"]] == [False, True]
    assert fault.met == 1


@pytest.mark.parametrize("damage", sorted(DAMAGES))
def test_each_damage_can_be_done_to_some_object(damage: str) -> None:
    found = 0
    for raw in (service(), endpoint_slice("web", "10.1.0.1"), pod("a")):
        try:
            found += damaged(raw, damage) != raw
        except (ValueError, KeyError):
            continue
    assert found


async def test_objects_are_sent_malformed(server: FakeApiServer) -> None:
    server.put(service("b"))
    server.faults.add("malformed", kind="Service", name="b", damage="null-metadata")
    async with connected(server) as client:
        _, found = await client.list("Service")
    assert [item["metadata"] is None for item in found["items"]] == [False, True]


async def test_a_service_turns_into_another(server: FakeApiServer) -> None:
    flip = functools.partial(server.faults.add, "flip", namespace="shop", name="a")
    async with connected(server) as client, client.watch("Service", resourceVersion=newest(server)) as events:
        flip(how="headless")
        kind, headless = await events.next()
        assert (kind, headless["spec"]["clusterIP"]) == ("MODIFIED", "None")
        flip(how="external-name")
        kind, alias = await events.next()
        assert (kind, alias["spec"]["type"], "clusterIP" in alias["spec"]) == ("MODIFIED", "ExternalName", False)
        flip(how="recreated")
        assert (await events.next())[0] == "DELETED"
        kind, made = await events.next()
        assert kind == "ADDED"
        assert made["metadata"]["uid"] != alias["metadata"]["uid"]


async def test_everyone_must_list_again(server: FakeApiServer) -> None:
    start = newest(server)
    async with connected(server) as client:
        async with client.watch("Service", resourceVersion=start) as events:
            server.faults.add("relist")
            with pytest.raises(BROKEN):
                await events.line()
        async with client.watch("Service", resourceVersion=start) as events:
            assert (await events.next())[1]["code"] == 410


@pytest.mark.parametrize("how", ["null-object", "no-type", "not-an-object", "not-json", "nested"])
async def test_a_stream_is_poisoned_and_goes_on(server: FakeApiServer, how: str) -> None:
    async with connected(server) as client, client.watch("Service", resourceVersion=newest(server)) as events:
        server.faults.add("poison", times=1, how=how)
        line = await events.line()
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            assert how in ("not-json", "nested")
        else:
            assert not isinstance(found, dict) or not found.get("object") or "type" not in found
        server.put(service("b"))
        assert await events.names(1) == [("ADDED", "b")]


def test_a_client_is_stopped_and_goes_on(server: FakeApiServer) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True) as child:

        def state() -> str:
            return next((process.state for process in processes_of(child.pid) if process.pid == child.pid), "")

        wait_until(lambda: state() == "S", "the child waits")
        fault = server.faults.add("client-stopped", pid=child.pid)
        wait_until(lambda: state() == "T", "the child is stopped")
        fault.remove()
        wait_until(lambda: state() == "S", "the child waits again")
        os.kill(child.pid, signal.SIGKILL)


async def test_streams_left_are_forgotten(server: FakeApiServer) -> None:
    async with connected(server) as client:
        async with client.watch("Service", resourceVersion=newest(server)):
            assert server.open_watches == ["Service"]
        await asyncio.to_thread(wait_until, lambda: not server.open_watches, "no watch is open")


def test_kubeconfig_leads_to_the_server(tmp_path: Path) -> None:
    with FakeApiServer(tls=True) as server:
        text = server.write_kubeconfig(tmp_path / "config", "secret").read_text()
        assert f"server: {server.url}" in text
        assert str(server.ca_file) in text
