"""Ways to an API server: addresses in turn, proxies, and connections that are used again."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, Self

import pytest

from kdns.cluster import dialing
from kdns.cluster.api_errors import ApiError, ErrorKind
from kdns.cluster.connection import Connection, bearer
from kdns.cluster.dialing import Origin
from kdns.cluster.transport import MAX_IDLE_SECONDS, Transport, _compose
from tests.fakes.apiserver import FakeApiServer
from tests.fakes.loops import on_each_loop

PATH = "/api/v1/namespaces"
REPLY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


@asynccontextmanager
async def served(handle: Handler, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """A TCP server of the test's own; its port."""
    server = await asyncio.start_server(_closing(handle), host, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def _closing(handle: Handler) -> Handler:
    """A connection ends with its handler."""

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await handle(reader, writer)
        finally:
            writer.close()

    return hold


class Proxy:
    """Leads wherever it is told to, and notes what it was told."""

    def __init__(self, refusal: bytes = b"") -> None:
        self.heads: list[bytes] = []
        self._refusal = refusal

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        method, target, _ = head.split(b" ", 2)
        if self._refusal or method != b"CONNECT":
            writer.write(self._refusal or REPLY)
            return
        host, _, port = target.decode().rpartition(":")
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(_pipe(reader, far_writer), _pipe(far_reader, writer))


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while piece := await reader.read(2**16):
            writer.write(piece)
            await writer.drain()
    writer.close()


def to_server(server: FakeApiServer, **options: Any) -> Connection:
    return Connection(server.url, server.ca_file.read_text(), authorization=bearer("secret"), **options)


async def refusal(transport: Transport) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await transport.get(PATH, {}, 5.0)
    return caught.value


@on_each_loop
async def test_a_server_behind_a_proxy_is_spoken_to_by_tls() -> None:
    proxy = Proxy()
    with FakeApiServer(tls=True, tokens=["secret"]) as server:
        async with served(proxy) as port:
            transport = Transport(to_server(server, proxy=f"http://me:p%40ss@127.0.0.1:{port}"))
            for _ in range(2):
                assert b'"NamespaceList"' in await transport.get(PATH, {}, 5.0)
            await transport.aclose()
    (head,) = proxy.heads
    assert head.startswith(f"CONNECT {server.address}:{server.port} HTTP/1.1\r\n".encode())
    assert b"Proxy-Authorization: Basic bWU6cEBzcw==\r\n" in head
    assert b"secret" not in head


async def test_a_proxy_is_asked_for_a_server_without_tls() -> None:
    proxy = Proxy()
    async with served(proxy) as port:
        transport = Transport(Connection("http://api.example:8080/base", proxy=f"http://127.0.0.1:{port}"))
        assert await transport.get(PATH, {"limit": "1"}, 5.0) == b"{}"
        await transport.aclose()
    assert proxy.heads[0].startswith(b"GET http://api.example:8080/base/api/v1/namespaces?limit=1 HTTP/1.1\r\n")


@on_each_loop
async def test_a_proxy_that_refuses_is_named() -> None:
    with FakeApiServer(tls=True) as server:
        async with served(Proxy(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")) as port:
            error = await refusal(Transport(to_server(server, proxy=f"http://127.0.0.1:{port}")))
    assert error.kind is ErrorKind.UNREACHABLE
    assert "the proxy" in str(error)
    assert "407" in str(error)


async def test_a_proxy_of_another_kind_is_refused() -> None:
    error = await refusal(Transport(Connection("https://10.0.0.1", proxy="socks5://127.0.0.1:1080")))
    assert error.kind is ErrorKind.PROTOCOL
    assert "socks5" in str(error)


@on_each_loop
async def test_each_address_of_a_name_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that refuses, one that swallows packets, and one that answers."""
    monkeypatch.setattr(dialing, "CONNECT_SECONDS", 0.9)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(REPLY)

    async with served(answer, "127.0.0.3") as port:
        with socket.socket() as full:
            full.bind(("127.0.0.2", port))
            full.listen(0)
            queued = [socket.socket() for _ in range(4)]  # more than it lets in: the next one waits
            for one in queued:
                one.setblocking(False)
                one.connect_ex(("127.0.0.2", port))

            async def resolve(host: str, port: int) -> list[str]:
                return ["127.0.0.1", "127.0.0.2", "127.0.0.3"]

            monkeypatch.setattr(dialing, "_resolve", resolve)
            transport = Transport(Connection(f"http://api.example:{port}"))
            assert await transport.get(PATH, {}, 5.0) == b"{}"
            await transport.aclose()
            for one in queued:
                one.close()


@on_each_loop
async def test_a_certificate_for_somebody_else_is_told() -> None:
    with FakeApiServer(tls=True) as server:
        error = await refusal(Transport(to_server(server, server_name="elsewhere.example")))
    assert error.kind is ErrorKind.TLS
    assert "elsewhere.example" in str(error)


async def test_a_connection_is_used_again_and_its_end_is_no_failure() -> None:
    connections, requests = [0], [0]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections[0] += 1
        for _ in range(2):  # then it ends, though it did not say so
            await reader.readuntil(b"\r\n\r\n")
            requests[0] += 1
            writer.write(REPLY)
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()

    now = [0.0]
    async with served(answer) as port:
        transport = Transport(Connection(f"http://127.0.0.1:{port}"), clock=lambda: now[0])
        for _ in range(3):
            assert await transport.get(PATH, {}, 5.0) == b"{}"
        assert (connections[0], requests[0]) == (2, 3)
        now[0] += MAX_IDLE_SECONDS + 1
        assert await transport.get(PATH, {}, 5.0) == b"{}"
        assert connections[0] == 3
        await transport.aclose()


@on_each_loop
async def test_another_way_begins_with_another_connection() -> None:
    with FakeApiServer(tls=True, tokens=["secret"]) as server:
        transport = Transport(to_server(server))
        await transport.get(PATH, {}, 5.0)
        transport.use(to_server(server, server_name="elsewhere.example"))
        assert (await refusal(transport)).kind is ErrorKind.TLS
        transport.use(to_server(server))
        await transport.get(PATH, {}, 5.0)
        await transport.aclose()


async def test_what_speaks_no_tls_is_told() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")

    async with served(greet) as port:
        error = await refusal(Transport(Connection(f"https://127.0.0.1:{port}", is_verified=False)))
    assert error.kind is ErrorKind.TLS


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://10.0.0.1", Origin(True, "10.0.0.1", 443, "")),
        ("http://[fd00::1]:8080/x", Origin(False, "fd00::1", 8080, "")),
        ("http://me:p@proxy.example", Origin(False, "proxy.example", 80, "me:p")),
    ],
)
def test_where_a_url_leads(url: str, expected: Origin) -> None:
    assert Origin.of(url) == expected


def test_an_ipv6_address_is_in_brackets() -> None:
    assert Origin.of("https://[fd00::1]").authority == "[fd00::1]:443"


@on_each_loop
async def test_a_final_dot_is_no_part_of_the_name_in_a_certificate() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        assert host == "localhost."  # where it keeps a resolver from its search path
        return [server.address]

    with FakeApiServer(tls=True, tokens=["secret"]) as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(dialing, "_resolve", resolve)
        authority = server.ca_file.read_text()
        connection = Connection(f"https://localhost.:{server.port}", authority, authorization=bearer("secret"))
        transport = Transport(connection)
        assert b'"NamespaceList"' in await transport.get(PATH, {}, 5.0)
        await transport.aclose()


async def test_the_address_that_was_there_last_is_tried_first(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(REPLY)

    async with served(answer, "127.0.0.3") as port:
        tried: list[str] = []
        loop = asyncio.get_running_loop()
        connect = loop.create_connection

        async def noted(factory: Any, host: str, *arguments: Any, **options: Any) -> Any:
            tried.append(host)
            return await connect(factory, host, *arguments, **options)

        async def resolve(host: str, port: int) -> list[str]:
            return ["127.0.0.2", "127.0.0.3"]

        monkeypatch.setattr(loop, "create_connection", noted)
        monkeypatch.setattr(dialing, "_resolve", resolve)
        transport = Transport(Connection(f"http://api.example:{port}"))
        for _ in range(2):
            await transport.get(PATH, {}, 5.0)
            await transport.aclose()
    assert tried == ["127.0.0.2", "127.0.0.3", "127.0.0.3"]


async def test_credentials_of_the_url_go_to_the_server_over_tls_alone() -> None:
    heads: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(REPLY)

    async with served(answer) as port:
        transport = Transport(Connection(f"http://me:secret@127.0.0.1:{port}"))
        await transport.get(PATH, {}, 5.0)
        await transport.aclose()
    assert b"Authorization" not in heads[0]
    assert f"Host: 127.0.0.1:{port}\r\n".encode() in heads[0]
    composed = _compose(Connection("https://me:secret@127.0.0.1"), PATH, {}, "application/json")
    assert b"Authorization: Basic bWU6c2VjcmV0\r\n" in composed


@on_each_loop
async def test_a_large_reply_is_whole_though_the_server_closes_behind_it() -> None:
    """What the event loop has not decrypted when it is paused must not be lost: here it has been busy for a while."""
    body = b'"' + b"x" * 900_000 + b'"'
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"

    reply = head + b"Content-Length: %d\r\n\r\n" % len(body) + body

    with FakeApiServer(tls=True) as authority, _Behind(reply, authority) as server:
        transport = Transport(Connection(f"https://127.0.0.1:{server.port}", authority.ca_file.read_text()))
        for _ in range(5):
            getting = asyncio.ensure_future(transport.get(PATH, {}, 20.0))
            await asyncio.to_thread(server.is_asked.wait, 5)
            # The loop has something else to do, and all of the reply gathers: or as much as the kernel holds.
            server.has_closed.wait(1.0)
            assert await getting == body
            server.forget()
        await transport.aclose()


class _Behind:
    """A TLS server in a thread, which goes on while the test's loop does not; it closes each connection at once."""

    def __init__(self, reply: bytes, authority: FakeApiServer) -> None:
        assert authority._context is not None
        self._reply = reply
        self._context = authority._context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.port: int = self._listener.getsockname()[1]
        self.is_asked = threading.Event()
        self.has_closed = threading.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def forget(self) -> None:
        """Wait for the next question."""
        self.has_closed.wait(5)
        self.is_asked.clear()
        self.has_closed.clear()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**23)  # it does not wait for the reader
            with self._context.wrap_socket(connection, server_side=True) as wrapped:
                wrapped.recv(2**16)
                self.is_asked.set()
                wrapped.sendall(self._reply)
            self.has_closed.set()
