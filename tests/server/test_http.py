"""The probes' endpoints, asked over sockets by a client that shows every octet."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from kdns.errors import StartError
from kdns.server import http
from kdns.server.http import HealthEndpoint, ReadyEndpoint, bind_http
from tests.fakes.loops import on_each_loop


@asynccontextmanager
async def serving(endpoint: HealthEndpoint | ReadyEndpoint) -> AsyncIterator[None]:
    """An endpoint that must leave nothing behind, and must not be long about it."""
    tasks_before = asyncio.all_tasks()
    await endpoint.start()
    try:
        yield
    finally:
        async with asyncio.timeout(1):
            await endpoint.aclose()
    assert asyncio.all_tasks() == tasks_before


async def ask(listener_address: tuple[str, int], request: str) -> tuple[str, dict[str, str], str]:
    """The status line, the headers and the body of the answer to a request line."""
    reader, writer = await asyncio.open_connection(*listener_address)
    writer.write(f"{request} HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n".encode())
    async with asyncio.timeout(5):
        answer = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition("\r\n\r\n")
    status, *headers = head.split("\r\n")
    return status, {name.lower(): value for name, value in (line.split(": ", 1) for line in headers)}, body


@pytest.fixture
def listener() -> socket.socket:
    return bind_http("127.0.0.1:0")


@on_each_loop
@pytest.mark.parametrize("request_line", ["GET /health", "GET /health?full=1", "POST /health"])
async def test_health_is_always_ok(listener: socket.socket, request_line: str) -> None:
    address = listener.getsockname()
    async with serving(HealthEndpoint(listener)):
        status, headers, body = await ask(address, request_line)
    assert (status, body) == ("HTTP/1.1 200 OK", "OK")
    assert headers["content-type"] == "text/plain; charset=utf-8"
    assert headers["content-length"] == "2"
    assert headers["server"] == "kdns"


@on_each_loop
@pytest.mark.parametrize("path", ["/", "/other", "/health/", "/healthz", "/ready"])
async def test_another_path_is_not_found(listener: socket.socket, path: str) -> None:
    address = listener.getsockname()
    async with serving(HealthEndpoint(listener)):
        status, _, body = await ask(address, f"GET {path}")
    assert (status, body) == ("HTTP/1.1 404 Not Found", "404 page not found\n")


@on_each_loop
async def test_head_gets_the_headers_without_the_body(listener: socket.socket) -> None:
    address = listener.getsockname()
    async with serving(HealthEndpoint(listener)):
        status, headers, body = await ask(address, "HEAD /health")
    assert (status, headers["content-length"], body) == ("HTTP/1.1 200 OK", "2", "")


@on_each_loop
async def test_ready_names_the_plugins_that_are_not_and_logs_each_probe(
    listener: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    unready = ["kubernetes", "erratic"]
    address = listener.getsockname()
    with caplog.at_level(logging.INFO, logger="kdns"):
        async with serving(ReadyEndpoint(listener, lambda: unready)):
            for _ in range(2):
                status, _, body = await ask(address, "GET /ready")
                assert (status, body) == ("HTTP/1.1 503 Service Unavailable", "erratic,kubernetes")
            unready.clear()
            status, _, body = await ask(address, "GET /ready")
            assert (status, body) == ("HTTP/1.1 200 OK", "OK")
    lines = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert lines == [("INFO", 'plugin/ready: Plugins not ready: "erratic,kubernetes"')] * 2


@on_each_loop
@pytest.mark.parametrize(
    "sent", [b"", b"GET /health HTTP/1.1\r\nHos", b"POST /health HTTP/1.1\r\nContent-Length: 9\r\n\r\n"]
)
async def test_a_client_that_does_not_finish_its_request_is_cut_off(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(http, "TIMEOUT_SECONDS", 0.05)
    address = listener.getsockname()
    async with serving(HealthEndpoint(listener)):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(sent)
        async with asyncio.timeout(5):
            with suppress(ConnectionResetError):
                await reader.read()
        writer.close()


@on_each_loop
async def test_a_connection_may_be_kept_for_another_request(listener: socket.socket) -> None:
    address = listener.getsockname()
    async with serving(HealthEndpoint(listener)):
        reader, writer = await asyncio.open_connection(*address)
        for _ in range(3):
            writer.write(b"GET /health HTTP/1.1\r\nHost: probe\r\n\r\n")
            async with asyncio.timeout(5):
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200 OK\r\n")
                assert await reader.readexactly(2) == b"OK"
        writer.close()


@on_each_loop
@pytest.mark.parametrize("sent", [b"", b"GET /health HT"])
async def test_after_aclose_clients_are_refused_and_connections_cut(listener: socket.socket, sent: bytes) -> None:
    address = listener.getsockname()
    endpoint = HealthEndpoint(listener)
    async with serving(endpoint):
        assert (await ask(address, "GET /health"))[0] == "HTTP/1.1 200 OK"
        reader, writer = await asyncio.open_connection(*address)
        writer.write(sent)
        await asyncio.sleep(0)
        await endpoint.aclose()
        async with asyncio.timeout(5):
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
        writer.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*address)


async def test_an_endpoint_that_was_never_started_closes_its_socket(listener: socket.socket) -> None:
    await HealthEndpoint(listener).aclose()
    assert listener.fileno() == -1


# Addresses


def test_a_wildcard_listens_on_both_families() -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    with bind_http(":0") as listener:
        port = listener.getsockname()[1]
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, port), timeout=5).close()


def test_a_socket_may_be_shared_by_its_next_owner() -> None:
    with bind_http("127.0.0.1:0") as listener:
        port = listener.getsockname()[1]
        with bind_http(f"localhost:{port}") as successor:
            assert successor.getsockname() == listener.getsockname()


@pytest.mark.parametrize("host", ["", "127.0.0.1"])
def test_a_port_in_use_is_a_start_error(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(StartError) as caught:
            bind_http(f"{host}:{port}")
    assert str(caught.value) == f"listen tcp {host}:{port}: bind: address already in use"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("192.0.2.1:8080", "listen tcp 192.0.2.1:8080: bind: cannot assign requested address"),
        ("[2001:db8::1]:8080", "listen tcp [2001:db8::1]:8080: bind: cannot assign requested address"),
        (":99999", "listen tcp: address 99999: invalid port"),
        (":nosuchservice", "listen tcp: lookup tcp/nosuchservice: unknown port"),
        (f"{64 * 'a'}:80", f"listen tcp: lookup {64 * 'a'}: no such host"),  # no label, so nobody is asked
    ],
)
def test_an_address_that_cannot_be_listened_on_is_a_start_error(address: str, message: str) -> None:
    with pytest.raises(StartError) as caught:
        bind_http(address)
    assert str(caught.value) == message
