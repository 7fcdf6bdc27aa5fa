"""HTTP to the API server: replies as octets, watches as lines, and every failure as an ApiError."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import aiohttp

from kdns.cluster.api_errors import ApiError, ErrorKind, error_of_reply
from kdns.cluster.connection import Connection
from kdns.cluster.lines import LineSplitter

READ_BUFFER_BYTES = 2**18  # aiohttp holds twice this before it stops reading; lines are put together by us
MAX_REPLY_BYTES = 2**28  # 256 MiB: a list of 500 objects of the largest kind there is, unpaged ones of common size too
MAX_ERROR_BYTES = 2**16  # of a reply that is an error
CONNECT_SECONDS = 10.0  # name, TCP and TLS
OPEN_SECONDS = 15.0  # until a watch has its first octet of a reply

# A peer that is gone without a word is noticed by the kernel within half a minute, also with nothing to send.
KEEPALIVE_SECONDS = 15  # idle, until the first probe
KEEPALIVE_INTERVAL_SECONDS = 5
KEEPALIVE_PROBES = 3
USER_TIMEOUT_MS = 30_000  # octets of ours without acknowledgement

FAILED = "<error>"  # in place of a status: there was no reply (client-go)
HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "kdns"}


Observe = Callable[[str, float], None]  # the status of a reply, and the seconds until it came


class LineStream:
    """The lines of an open watch."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self._splitter = LineSplitter()

    @property
    def oversize(self) -> int:
        """How many lines were too long, and left out."""
        return self._splitter.oversize

    async def read(self) -> list[bytes] | None:
        """The lines that came since the last call, none where only part of one did; None at the end."""
        with _translated("the watch broke"):
            piece = await self._response.content.readany()
        return self._splitter.feed(piece) if piece else None

    def read_ready(self) -> list[bytes]:
        """The lines that are there already."""
        with _translated("the watch broke"):
            return self._splitter.feed(self._response.content.read_nowait())

    def abort(self) -> None:
        """End the connection; whoever reads gets an error."""
        # Not close(): under uvloop a paused TLS stream would first be read to its end, which may be never.
        connection = self._response.connection  # None after its end: then it serves somebody else by now
        if connection is not None and connection.transport is not None:
            connection.transport.abort()
        self._response.close()


class Transport:
    """Requests on behalf of one connection at a time; what is open stays open when it is replaced."""

    def __init__(
        self,
        connection: Connection,
        observe: Observe = lambda code, seconds: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._observe = observe
        self._clock = clock
        self._ssl = connection.ssl_context()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, socket_factory=_make_socket),
            headers=HEADERS,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            read_bufsize=READ_BUFFER_BYTES,
        )

    @property
    def connection(self) -> Connection:
        """Where requests go, and as whom."""
        return self._connection

    def use(self, connection: Connection) -> None:
        """Send requests this way from now on. Raises ClusterError, and then goes on as before."""
        old = self._connection
        tls = (connection.authority, connection.certificate, connection.key, connection.is_verified)
        if tls != (old.authority, old.certificate, old.key, old.is_verified):
            self._ssl = connection.ssl_context()  # connections in the pool belong to a context: none is used again
        self._connection = connection

    async def get(self, path: str, parameters: Mapping[str, str], timeout_seconds: float) -> bytes:
        """The body of a reply 200 in JSON. Raises ApiError."""
        timeout = aiohttp.ClientTimeout(total=timeout_seconds, sock_connect=CONNECT_SECONDS)
        with _translated("no reply"):
            async with await self._request(path, parameters, timeout) as response:
                await _check(response)
                return await _read_body(response, MAX_REPLY_BYTES)

    async def download(
        self,
        path: str,
        parameters: Mapping[str, str],
        accept: str,
        take: Callable[[bytes], None],
        timeout_seconds: float,
    ) -> None:
        """Give the body of a reply 200 in JSON to `take`, piece by piece. Raises ApiError."""
        timeout = aiohttp.ClientTimeout(total=timeout_seconds, sock_connect=CONNECT_SECONDS)
        with _translated("no reply"):
            async with await self._request(path, parameters, timeout, {"Accept": accept}) as response:
                await _check(response)
                async for piece in response.content.iter_any():
                    take(piece)

    async def open(self, path: str, parameters: Mapping[str, str]) -> LineStream:
        """Open a watch, which the caller aborts when it is done. Raises ApiError."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
        with _translated("no reply"):
            async with asyncio.timeout(OPEN_SECONDS):
                response = await self._request(path, parameters, timeout)
                stream = LineStream(response)
                try:
                    await _check(response)
                except BaseException:
                    stream.abort()
                    raise
        return stream

    async def aclose(self) -> None:
        """Close every connection."""
        await self._session.close()

    async def _request(
        self,
        path: str,
        parameters: Mapping[str, str],
        limits: aiohttp.ClientTimeout,
        headers: Mapping[str, str] | None = None,
    ) -> aiohttp.ClientResponse:
        """The reply, as soon as its head is there."""
        started, code = self._clock(), FAILED
        try:
            response = await self._session.get(
                self._connection.url + path,
                params=parameters,
                timeout=limits,
                allow_redirects=False,
                **self._options(headers or {}),
            )
            code = str(response.status)
            return response
        finally:
            self._observe(code, self._clock() - started)

    def _options(self, headers: Mapping[str, str]) -> dict[str, Any]:
        """What the connection says about each request."""
        connection = self._connection
        is_tls = connection.url.startswith("https:")
        # A token in the clear is a token given away: client-go does not send it either.
        token = {"Authorization": connection.authorization} if connection.authorization and is_tls else {}
        return {
            "headers": {**headers, **token},
            "ssl": self._ssl,
            "server_hostname": (connection.server_name or None) if is_tls else None,
            "proxy": connection.proxy or None,
        }


async def _check(response: aiohttp.ClientResponse) -> None:
    """Refuse what is no JSON reply. Raises ApiError."""
    if response.status != 200:
        body = await _read_body(response, MAX_ERROR_BYTES, is_cut=True)
        raise error_of_reply(response.status, body, response.headers)
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise ApiError(ErrorKind.PROTOCOL, f"met Content-Encoding {encoding!r}, expected none")
    if response.content_type != "application/json":
        raise ApiError(ErrorKind.PROTOCOL, f"met Content-Type {response.content_type!r}, expected application/json")


async def _read_body(response: aiohttp.ClientResponse, limit: int, is_cut: bool = False) -> bytes:
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > limit:
            if is_cut:
                break
            raise ApiError(ErrorKind.PROTOCOL, f"met a reply of more than {limit} bytes, expected less")
    return bytes(body)


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """Errors of sockets, TLS and HTTP as ApiError."""
    try:
        yield
    except aiohttp.ClientConnectorCertificateError as error:
        raise ApiError(ErrorKind.TLS, f"its certificate does not verify: {error.certificate_error}") from error
    except (aiohttp.ClientSSLError, ssl.SSLError) as error:
        raise ApiError(ErrorKind.TLS, f"{what}: {error}") from error
    except TimeoutError as error:
        raise ApiError(ErrorKind.TIMEOUT, f"{what} in time") from error
    except (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError) as error:
        raise ApiError(ErrorKind.UNREACHABLE, f"{what}: the connection ended early") from error
    except aiohttp.ClientConnectorError as error:
        raise ApiError(ErrorKind.UNREACHABLE, f"{error.host}: {error.os_error}") from error
    except (aiohttp.ClientConnectionError, OSError) as error:
        raise ApiError(ErrorKind.UNREACHABLE, f"{what}: {error or type(error).__name__}") from error
    except (aiohttp.ClientError, ValueError) as error:
        raise ApiError(ErrorKind.PROTOCOL, f"{what}: {error or type(error).__name__}") from error


def _make_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_SECONDS)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_SECONDS)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
    return made
