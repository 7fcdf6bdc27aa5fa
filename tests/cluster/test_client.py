"""Reaching an API server: where, as whom, and what becomes of replies that are none."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from kdns.cluster.access import ApiAccess
from kdns.cluster.api_errors import ApiError, ErrorKind
from kdns.cluster.client import REFRESH_SECONDS, ApiClient
from kdns.cluster.connection import Connection
from kdns.cluster.dialing import watch_peer
from kdns.cluster.metadata_list import ACCEPT
from kdns.cluster.telemetry import Telemetry
from kdns.errors import ClusterError
from kdns.metrics import Registry
from tests.fakes.apiserver import FakeApiServer
from tests.fakes.logs import collected
from tests.fakes.loops import on_each_loop

PATH = "/api/v1/namespaces"
WATCH = {"watch": "true", "sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"} | {
    "allowWatchBookmarks": "true"
}


class Clock:
    """Time as the test has it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def connected(
    access: ApiAccess, environ: Mapping[str, str] | None = None, **options: Any
) -> AsyncIterator[ApiClient]:
    client = await ApiClient.connect(access, environ or {}, options.pop("clock", time.monotonic), **options)
    try:
        yield client
    finally:
        await client.aclose()


@pytest.fixture
def tls_server() -> Iterator[FakeApiServer]:
    with FakeApiServer(tls=True, tokens=["secret"]) as server:
        server.put({"kind": "Namespace", "metadata": {"name": "shop"}})
        yield server


@pytest.fixture
def server() -> Iterator[FakeApiServer]:
    with FakeApiServer() as plain:
        plain.put({"kind": "Namespace", "metadata": {"name": "shop"}})
        yield plain


def service_account(folder: Path, server: FakeApiServer, token: str = "secret\n") -> tuple[dict[str, str], Path]:
    """The environment and the mount of a Pod."""
    folder.mkdir(exist_ok=True)
    (folder / "token").write_text(token)
    (folder / "ca.crt").write_bytes(server.ca_file.read_bytes())
    return {"KUBERNETES_SERVICE_HOST": server.address, "KUBERNETES_SERVICE_PORT": str(server.port)}, folder


async def names_of(client: ApiClient) -> list[str]:
    return [item["metadata"]["name"] for item in json.loads(await client.get(PATH, {}))["items"]]


async def refusal(call: Awaitable[object]) -> ClusterError:
    with pytest.raises(ClusterError) as caught:
        await call
    assert "\n" not in str(caught.value)
    return caught.value


@on_each_loop
async def test_pod_needs_nothing_but_its_service_account(tls_server: FakeApiServer, tmp_path: Path) -> None:
    environ, folder = service_account(tmp_path, tls_server)
    async with connected(ApiAccess(), environ, service_account=folder) as client:
        assert await names_of(client) == ["shop"]
        async with client.stream(PATH, WATCH) as stream:
            lines = await stream.read()
        assert lines
        assert json.loads(lines[0])["object"]["metadata"]["name"] == "shop"


async def test_endpoint_with_a_client_certificate(tls_server: FakeApiServer) -> None:
    made = tls_server.client_certificate("kdns")
    tls = (str(made.certificate), str(made.key), str(tls_server.ca_file))
    async with connected(ApiAccess(endpoint=tls_server.url, tls=tls)) as client:
        assert await names_of(client) == ["shop"]


async def test_endpoint_without_a_scheme_speaks_plain_http(server: FakeApiServer) -> None:
    async with connected(ApiAccess(endpoint=f"127.0.0.1:{server.port}")) as client:
        assert client.url == server.url
        assert await names_of(client) == ["shop"]


async def test_kubeconfig_leads_there(tls_server: FakeApiServer, tmp_path: Path) -> None:
    path = tls_server.write_kubeconfig(tmp_path / "config", "secret")
    async with connected(ApiAccess(kubeconfig=str(path))) as client:
        assert await names_of(client) == ["shop"]
    async with connected(ApiAccess(), {"KUBECONFIG": str(path)}) as client:
        assert await names_of(client) == ["shop"]


async def test_kubeconfig_may_hold_certificates_which_are_not_left_on_disk(
    tls_server: FakeApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import base64

    def encoded(path: Path) -> str:
        return base64.b64encode(path.read_bytes()).decode()

    made = tls_server.client_certificate("kdns")
    path = tls_server.write_kubeconfig(tmp_path / "config")
    content = yaml.safe_load(path.read_text())
    cluster = content["clusters"][0]["cluster"]
    cluster["certificate-authority-data"] = encoded(Path(cluster.pop("certificate-authority")))
    content["users"][0]["user"] = {
        "client-certificate-data": encoded(made.certificate),
        "client-key-data": encoded(made.key),
    }
    path.write_text(yaml.safe_dump(content))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    for _ in range(2):
        async with connected(ApiAccess(kubeconfig=str(path))) as client:
            assert await names_of(client) == ["shop"]
    assert list(scratch.iterdir()) == []


async def test_other_context_of_a_kubeconfig(tls_server: FakeApiServer, tmp_path: Path) -> None:
    path = tls_server.write_kubeconfig(tmp_path / "config", "secret")
    content = yaml.safe_load(path.read_text())
    content["current-context"] = "elsewhere"
    path.write_text(yaml.safe_dump(content))
    async with connected(ApiAccess(kubeconfig=str(path), context="fake")) as client:
        assert await names_of(client) == ["shop"]
    error = await refusal(ApiClient.connect(ApiAccess(kubeconfig=str(path)), {}, time.monotonic))
    assert "elsewhere" in str(error)


async def test_plugin_of_a_kubeconfig_is_run_again_when_its_token_ends_or_is_refused(
    tls_server: FakeApiServer, tmp_path: Path
) -> None:
    tls_server.tokens = {"token-1", "token-2", "token-3"}
    runs, plugin = tmp_path / "runs", tmp_path / "plugin"
    plugin.write_text(
        f"""#!/bin/sh
        echo run >> {runs}
        n=$(wc -l < {runs})
        year=2099; [ $n = 1 ] && year=2020
        echo '{{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status":'
        echo '{{"token": "token-'$n'", "expirationTimestamp": "'$year'-01-01T00:00:00Z"}}}}'
        """
    )
    plugin.chmod(plugin.stat().st_mode | stat.S_IXUSR)
    path = tls_server.write_kubeconfig(tmp_path / "config")
    content = yaml.safe_load(path.read_text())
    api = "client.authentication.k8s.io/v1"
    content["users"][0]["user"] = {"exec": {"apiVersion": api, "command": str(plugin), "interactiveMode": "Never"}}
    path.write_text(yaml.safe_dump(content))
    clock = Clock()
    async with connected(ApiAccess(kubeconfig=str(path)), clock=clock) as client:
        assert await names_of(client) == ["shop"]
        clock.now += REFRESH_SECONDS
        assert await names_of(client) == ["shop"]
        clock.now += REFRESH_SECONDS
        assert await names_of(client) == ["shop"]
        assert runs.read_text().count("run") == 2
        tls_server.tokens = {"token-3"}
        assert await names_of(client) == ["shop"]
        assert runs.read_text().count("run") == 3


@pytest.mark.parametrize(
    ("access", "environ", "expected"),
    [
        (ApiAccess(), {}, ["KUBERNETES_SERVICE_HOST", "`kubeconfig`", "KUBECONFIG"]),
        (ApiAccess(kubeconfig="/no/such"), {}, ["/no/such", "no such file", "`kubeconfig`"]),
        (ApiAccess(), {"KUBECONFIG": "/no/such"}, ["/no/such", "KUBECONFIG"]),
        (ApiAccess(endpoint="ftp://x"), {}, ["`endpoint`", "'ftp://x'", "expected the URL"]),
        (ApiAccess(endpoint="https://[x"), {}, ["`endpoint`", "expected the URL"]),
        (ApiAccess(endpoint="https://x", tls=("/a", "/b", "/c")), {}, ["/a", "`tls`"]),
        (
            ApiAccess(),
            {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"},
            ["no-account", "service account"],
        ),
    ],
)
async def test_what_cannot_work_is_refused_with_what_to_change(
    access: ApiAccess, environ: dict[str, str], expected: list[str]
) -> None:
    error = await refusal(
        ApiClient.connect(access, environ, time.monotonic, service_account=Path("/nonexistent/no-account"))
    )
    for text in expected:
        assert text in str(error)


@pytest.mark.parametrize(
    "text", ["", "]", "[]", "7", "clusters: 7", "current-context: x", "current-context: x\ncontexts: [{}]", "\0"]
)
async def test_any_damaged_kubeconfig_is_refused_in_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    error = await refusal(ApiClient.connect(ApiAccess(kubeconfig=str(path)), {}, time.monotonic))
    assert str(path) in str(error)


async def test_authority_that_is_none_is_refused(tls_server: FakeApiServer, tmp_path: Path) -> None:
    environ, folder = service_account(tmp_path, tls_server)
    (folder / "ca.crt").write_text("not a certificate")
    error = await refusal(ApiClient.connect(ApiAccess(), environ, time.monotonic, service_account=folder))
    assert "CA" in str(error)


async def test_token_never_goes_over_plain_http(tmp_path: Path) -> None:
    headers: list[Mapping[str, str]] = []

    async def answer(request: web.BaseRequest) -> web.Response:
        headers.append(request.headers.copy())
        return web.json_response({})

    async with served(answer) as url:
        path = tmp_path / "config"
        path.write_text(
            yaml.safe_dump(
                {
                    "clusters": [{"name": "c", "cluster": {"server": url}}],
                    "users": [{"name": "u", "user": {"token": "secret"}}],
                    "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                    "current-context": "x",
                }
            )
        )
        async with connected(ApiAccess(kubeconfig=str(path))) as client:
            await client.get(PATH, {})
    assert "Authorization" not in headers[0]
    assert headers[0]["Accept-Encoding"] == "identity"
    assert headers[0]["Accept"] == "application/json"


async def test_replaced_token_is_read_within_a_minute(tls_server: FakeApiServer, tmp_path: Path) -> None:
    environ, folder = service_account(tmp_path, tls_server)
    tls_server.tokens = {"secret", "renewed"}
    clock = Clock()
    registry = Registry()
    async with connected(
        ApiAccess(), environ, service_account=folder, clock=clock, telemetry=Telemetry(registry)
    ) as client:
        await names_of(client)
        replace_file(folder / "token", "  renewed\n\n")
        clock.now += REFRESH_SECONDS
        await names_of(client)
        tls_server.tokens = {"renewed"}
        await names_of(client)
    assert codes(registry, tls_server) == {"200": 3}


async def test_refused_token_is_read_again_at_once(tls_server: FakeApiServer, tmp_path: Path) -> None:
    environ, folder = service_account(tmp_path, tls_server)
    registry = Registry()
    async with connected(ApiAccess(), environ, service_account=folder, telemetry=Telemetry(registry)) as client:
        await names_of(client)
        tls_server.tokens = {"renewed"}
        replace_file(folder / "token", "renewed")
        assert await names_of(client) == ["shop"]
        async with client.stream(PATH, WATCH) as stream:
            assert await stream.read()
        tls_server.tokens = {"other"}
        error = await refusal(client.get(PATH, {}))
        assert isinstance(error, ApiError)
        assert error.kind is ErrorKind.UNAUTHORIZED
    assert codes(registry, tls_server) == {"200": 3, "401": 2}
    host = tls_server.url.removeprefix("https://")
    duration = registry.read()["coredns_kubernetes_rest_client_request_duration_seconds"]["GET", host]
    assert sum(duration[:-1]) == 5
    assert not registry.read()["coredns_kubernetes_rest_client_rate_limiter_duration_seconds"]


def codes(registry: Registry, server: FakeApiServer) -> dict[str, float]:
    """How many requests had each status."""
    found = registry.read()["coredns_kubernetes_rest_client_requests_total"]
    assert {labels[1:] for labels in found} == {("GET", server.url.removeprefix("https://"))}
    return {code: values[0] for (code, _, _), values in found.items()}


async def test_requests_without_a_reply_and_waits_for_a_turn_are_measured() -> None:
    registry = Registry()
    with FakeApiServer() as server:
        async with connected(
            ApiAccess(endpoint=server.url, qps=1000.0, burst=1), telemetry=Telemetry(registry)
        ) as client:
            await client.get(PATH, {})
            server.stop()
            await refusal(client.get(PATH, {}))
    found = registry.read()
    host = server.url.removeprefix("http://")
    assert found["coredns_kubernetes_rest_client_requests_total"] == {
        ("200", "GET", host): [1.0],
        ("<error>", "GET", host): [1.0],
    }
    waited = found["coredns_kubernetes_rest_client_rate_limiter_duration_seconds"]["GET", host]
    assert sum(waited[:-1]) == 2


async def test_a_reply_is_handed_on_as_it_comes_and_in_the_form_that_was_asked_for(server: FakeApiServer) -> None:
    pieces: list[bytes] = []
    async with connected(ApiAccess(endpoint=server.url)) as client:
        await client.download(PATH, {"resourceVersion": "0"}, ACCEPT, pieces.append, 5.0)
        error = await refusal(client.download("/api/v1/nothing", {}, ACCEPT, pieces.append, 5.0))
    assert json.loads(b"".join(pieces))["kind"] == "PartialObjectMetadataList"
    assert isinstance(error, ApiError)
    assert error.kind is ErrorKind.NOT_FOUND


@pytest.mark.parametrize("content", ["", "  \n", "two\nlines", "caf\xe9"])
async def test_token_that_is_none_leaves_the_old_one_and_is_told_once(
    content: str, tls_server: FakeApiServer, tmp_path: Path
) -> None:
    environ, folder = service_account(tmp_path, tls_server)
    clock = Clock()
    with collected() as lines:
        async with connected(ApiAccess(), environ, service_account=folder, clock=clock) as client:
            (folder / "token").write_text(content)
            for _ in range(3):
                clock.now += REFRESH_SECONDS
                assert await names_of(client) == ["shop"]
            (folder / "token").unlink()
            clock.now += REFRESH_SECONDS
            assert await names_of(client) == ["shop"]
    assert len(lines) == 2
    assert not content.strip() or content.split()[0] not in "".join(lines)


def test_credentials_do_not_show_in_a_repr() -> None:
    assert "secret" not in repr(Connection("https://x", authorization="Bearer secret"))


@on_each_loop
async def test_new_authority_is_read_when_the_old_one_does_not_verify(
    tls_server: FakeApiServer, tmp_path: Path
) -> None:
    environ, folder = service_account(tmp_path, tls_server)
    async with connected(ApiAccess(), environ, service_account=folder) as client:
        async with client.stream(PATH, WATCH) as stream:
            await stream.read()
            tls_server.faults.add("certificate-rotated")
            error = await refusal(client.get(PATH, {}))
            assert isinstance(error, ApiError)
            assert error.kind is ErrorKind.TLS
            replace_file(folder / "ca.crt", tls_server.ca_file.read_text())
            assert await names_of(client) == ["shop"]
            tls_server.put({"kind": "Namespace", "metadata": {"name": "later"}})
            lines = [line async for line in read_until(stream.read, b"later")]  # the open watch goes on
        assert lines


async def test_new_certificate_of_the_same_authority_is_no_event(tls_server: FakeApiServer, tmp_path: Path) -> None:
    environ, folder = service_account(tmp_path, tls_server)
    async with connected(ApiAccess(), environ, service_account=folder) as client:
        await names_of(client)
        tls_server.faults.add("certificate-rotated", how="certificate")
        tls_server.cut_connections()
        assert await names_of(client) == ["shop"]


@pytest.mark.parametrize("how", ["redirect", "gzip", "content-type"])
async def test_reply_that_is_no_json_is_an_error(how: str, server: FakeApiServer) -> None:
    server.faults.add("wrong-answer", how=how)
    async with connected(ApiAccess(endpoint=server.url)) as client:
        for call in (client.get(PATH, {}), enter(client)):
            error = await refusal(call)
            assert isinstance(error, ApiError)
            assert error.kind is ErrorKind.PROTOCOL
    assert len(server.journal.requests) == 2


@pytest.mark.parametrize("how", ["status", "html", "empty"])
async def test_failure_of_the_server_is_told_with_its_status(how: str, server: FakeApiServer) -> None:
    server.faults.add("status", code=503, how=how)
    async with connected(ApiAccess(endpoint=server.url)) as client:
        error = await refusal(client.get(PATH, {}))
        assert isinstance(error, ApiError)
        assert error.kind is ErrorKind.SERVER
        assert "HTTP 503" in str(error)


async def test_throttling_says_how_long(server: FakeApiServer) -> None:
    server.faults.add("throttled", retry_after="7")
    async with connected(ApiAccess(endpoint=server.url)) as client:
        error = await refusal(enter(client))
        assert isinstance(error, ApiError)
        assert (error.kind, error.retry_after_seconds) == (ErrorKind.THROTTLED, 7.0)


async def test_server_that_is_not_there_is_unreachable(server: FakeApiServer) -> None:
    server.stop()
    async with connected(ApiAccess(endpoint=server.url)) as client:
        for call in (client.get(PATH, {}), enter(client)):
            error = await refusal(call)
            assert isinstance(error, ApiError)
            assert error.kind is ErrorKind.UNREACHABLE
            assert "127.0.0.1" in str(error)


async def test_server_that_does_not_answer_takes_no_longer_than_allowed(server: FakeApiServer) -> None:
    server.faults.add("held")
    async with connected(ApiAccess(endpoint=server.url)) as client:
        error = await refusal(client.get(PATH, {}, timeout_seconds=0.05))
        assert isinstance(error, ApiError)
        assert error.kind is ErrorKind.TIMEOUT


@pytest.mark.parametrize("how", ["reset", "half-line", "chunk", "tls-alert"])
async def test_broken_watch_ends_without_half_a_line(how: str, tls_server: FakeApiServer, tmp_path: Path) -> None:
    for number in range(20):
        tls_server.put({"kind": "Namespace", "metadata": {"name": f"n{number}"}})
    environ, folder = service_account(tmp_path, tls_server)
    tls_server.faults.add("cut", how=how, after=5)
    lines: list[bytes] = []

    async def read_all() -> None:
        async with client.stream(PATH, WATCH) as stream:
            while (piece := await stream.read()) is not None:
                lines.extend(piece)
        raise ApiError(ErrorKind.UNREACHABLE, "an end")  # as good: the watch is resumed either way

    async with connected(ApiAccess(), environ, service_account=folder) as client:
        error = await refusal(read_all())
    assert isinstance(error, ApiError)
    assert error.kind in (ErrorKind.UNREACHABLE, ErrorKind.TLS)
    assert len(lines) <= 5
    assert all(json.loads(line)["type"] == "ADDED" for line in lines)


@on_each_loop
async def test_leaving_a_busy_watch_takes_no_time(tls_server: FakeApiServer, tmp_path: Path) -> None:
    """A paused TLS stream must not be read to its end first."""
    environ, folder = service_account(tmp_path, tls_server)
    for number in range(8):
        tls_server.put({"kind": "Namespace", "metadata": {"name": f"n{number}", "annotations": {"x": "y" * 2**20}}})
    async with connected(ApiAccess(), environ, service_account=folder) as client:
        async with client.stream(PATH, WATCH) as stream:
            await stream.read()
            started = time.monotonic()
        assert time.monotonic() - started < 1
        assert len(await names_of(client)) == 9


async def test_line_of_megabytes_is_one_line(server: FakeApiServer) -> None:
    server.put({"kind": "Namespace", "metadata": {"name": "huge", "annotations": {"x": "y" * (3 * 2**20)}}})
    async with connected(ApiAccess(endpoint=server.url)) as client, client.stream(PATH, WATCH) as stream:
        lines = [line async for line in read_until(stream.read, b"initial-events-end")]
    assert max(map(len, lines)) > 3 * 2**20
    assert stream.oversize == 0


async def test_watch_that_has_ended_leaves_its_connection_to_others(server: FakeApiServer) -> None:
    async with connected(ApiAccess(endpoint=server.url)) as client:
        server.faults.add("watch-end", times=1)
        async with client.stream(PATH, WATCH) as stream:
            while await stream.read() is not None:
                pass
            other = asyncio.create_task(names_of(client))
            await asyncio.sleep(0)
        assert await other == ["shop"]


async def test_requests_are_limited_and_open_watches_do_not_count(server: FakeApiServer) -> None:
    held = server.faults.add("held", verb="list")
    async with (
        connected(ApiAccess(endpoint=server.url, max_inflight=1)) as client,
        client.stream(PATH, WATCH) as first,
        client.stream(PATH, WATCH) as second,
    ):
        assert await first.read()
        assert await second.read()
        lists = [asyncio.create_task(names_of(client)) for _ in range(3)]
        await asyncio.to_thread(held.wait_met)
        assert len([request for request in server.journal.requests if request.verb == "list"]) == 1
        held.remove()
        assert await asyncio.gather(*lists) == [["shop"]] * 3


def test_peer_that_is_gone_without_a_word_is_noticed_by_the_kernel() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as made:
        watch_peer(made)
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        idle = made.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
        interval = made.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL)
        probes = made.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT)
        assert idle + interval * probes <= 30
        assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) <= 30_000


async def enter(client: ApiClient) -> None:
    async with client.stream(PATH, WATCH):
        pass


async def read_until(read: Callable[[], Awaitable[list[bytes] | None]], text: bytes) -> AsyncIterator[bytes]:
    """The lines up to one with a text in it."""
    async with asyncio.timeout(5):
        while (lines := await read()) is not None:
            for line in lines:
                yield line
            if any(text in line for line in lines):
                return


def replace_file(path: Path, content: str) -> None:
    """As the kubelet does: at once."""
    draft = path.with_suffix(".draft")
    draft.write_text(content)
    os.replace(draft, path)


@asynccontextmanager
async def served(answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
