"""HTTP to the API server: replies as octets, watches as lines, and every failure as an ApiError."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlencode, urlsplit

from kdns.cluster.api_errors import ApiError, ErrorKind, error_of_reply
from kdns.cluster.connection import Connection
from kdns.cluster.dialing import Origin, basic, dial, proxy_header
from kdns.cluster.exchange import PARSER_ERRORS, Exchange, ReplyHead
from kdns.cluster.lines import LineSplitter

MAX_REPLY_BYTES = 2**28  # 256 MiB: a list of 500 objects of the largest kind there is, unpaged ones of common size too
MAX_ERROR_BYTES = 2**16  # of a reply that is an error
OPEN_SECONDS = 15.0  # until a watch has its first octet of a reply
MAX_IDLE = 4  # connections kept for the next request
MAX_IDLE_SECONDS = 30.0  # servers and what is between may end one soon after that, just as it is used

FAILED = "<error>"  # in place of a status: there was no reply (client-go)
JSON = "application/json"

_FAILURES = (OSError, ValueError, *PARSER_ERRORS)  # of reading a reply; TLS's and timeouts are OSErrors

Observe = Callable[[str, float], None]  # the status of a reply, and the seconds until it came


class LineStream:
    """The lines of an open watch."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._splitter = LineSplitter()

    @property
    def oversize(self) -> int:
        """How many lines were too long, and left out."""
        return self._splitter.oversize

    async def read(self, *, is_whole: bool = False) -> list[bytes] | None:
        """The lines that came since the last call, none where only part of one did; None at the end.

        With `is_whole`, part of a line is mostly waited with.
        """
        try:
            piece = await self._exchange.read(b"\n" if is_whole else b"")
        except _FAILURES as error:
            raise _translated("the watch broke", error) from error
        return self._splitter.feed(piece) if piece else None

    def read_ready(self) -> list[bytes]:
        """The lines that are there already."""
        try:
            return self._splitter.feed(self._exchange.read_ready())
        except _FAILURES as error:
            raise _translated("the watch broke", error) from error

    def abort(self) -> None:
        """End the connection; whoever reads gets an error."""
        self._exchange.abort()


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
        self._idle: list[tuple[float, Exchange]] = []  # since when; the one used last is the last
        self._preferred = ""  # the address that was there last

    @property
    def connection(self) -> Connection:
        """Where requests go, and as whom."""
        return self._connection

    def use(self, connection: Connection) -> None:
        """Send requests this way from now on. Raises ClusterError, and then goes on as before."""
        if _way(connection) != _way(self._connection):
            self._ssl = connection.ssl_context()
            self._drop_idle()
        self._connection = connection

    async def get(self, path: str, parameters: Mapping[str, str], timeout_seconds: float) -> bytes:
        """The body of a reply 200 in JSON. Raises ApiError."""
        body = bytearray()

        def take(piece: bytes) -> None:
            body.extend(piece)
            if len(body) > MAX_REPLY_BYTES:
                raise ApiError(ErrorKind.PROTOCOL, f"met a reply of more than {MAX_REPLY_BYTES} bytes, expected less")

        await self.download(path, parameters, JSON, take, timeout_seconds)
        return bytes(body)

    async def download(
        self,
        path: str,
        parameters: Mapping[str, str],
        accept: str,
        take: Callable[[bytes], None],
        timeout_seconds: float,
    ) -> None:
        """Give the body of a reply 200 in JSON to `take`, piece by piece. Raises ApiError."""
        idle = self._idle
        try:
            async with asyncio.timeout(timeout_seconds):
                exchange = await self._request(path, parameters, accept)
                with _ended_by_failure(exchange):
                    while piece := await exchange.read():
                        take(piece)
        except _FAILURES as error:
            raise _translated("no reply", error) from error
        if idle is self._idle and exchange.is_idle and len(idle) < MAX_IDLE:
            idle.append((self._clock(), exchange))
        else:
            exchange.abort()

    async def open(self, path: str, parameters: Mapping[str, str]) -> LineStream:
        """Open a watch, which the caller aborts when it is done. Raises ApiError."""
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                return LineStream(await self._request(path, parameters, JSON))
        except _FAILURES as error:
            raise _translated("no reply", error) from error

    async def aclose(self) -> None:
        """Close every connection that nobody uses."""
        self._drop_idle()

    async def _request(self, path: str, parameters: Mapping[str, str], accept: str) -> Exchange:
        """Where a reply 200 in JSON can be read, as soon as its head is there."""
        started, code = self._clock(), FAILED
        try:
            exchange, head = await self._send(path, parameters, accept)
            code = str(head.status)
        finally:
            self._observe(code, self._clock() - started)
        with _ended_by_failure(exchange):
            await _check(exchange, head)
        return exchange

    async def _send(self, path: str, parameters: Mapping[str, str], accept: str) -> tuple[Exchange, ReplyHead]:
        # As they are now: all of them may be replaced while this waits.
        connection, context, idle = self._connection, self._ssl, self._idle
        request = _compose(connection, path, parameters, accept)
        while (kept := self._take_idle(idle)) is not None:
            try:
                return kept, await _converse(kept, request)
            except OSError:
                if kept.has_reply:
                    raise
                # Ended by the server while it was idle. It has not seen the request, or may see it again: it is a GET.
        made = await dial(connection, context, self._preferred)
        self._preferred = made.peer_address
        return made, await _converse(made, request)

    def _take_idle(self, idle: list[tuple[float, Exchange]]) -> Exchange | None:
        while idle:
            since, exchange = idle.pop()
            if exchange.is_idle and self._clock() - since <= MAX_IDLE_SECONDS:
                return exchange
            exchange.abort()
        return None

    def _drop_idle(self) -> None:
        for _, exchange in self._idle:
            exchange.abort()
        self._idle.clear()
        self._idle = []  # what is under way looks at the old one, and ends with its connection


def _way(connection: Connection) -> tuple[object, ...]:
    """What a connection that is open depends on."""
    return (
        connection.url,
        connection.proxy,
        connection.server_name,
        connection.authority,
        connection.certificate,
        connection.key,
        connection.is_verified,
    )


def _compose(connection: Connection, path: str, parameters: Mapping[str, str], accept: str) -> bytes:
    """A request, whole."""
    parts = urlsplit(connection.url)
    origin = Origin.of(connection.url)
    target = f"{parts.path}{path}?{urlencode(parameters)}" if parameters else parts.path + path
    headers = f"Host: {origin.authority}\r\nAccept: {accept}\r\nAccept-Encoding: identity\r\nUser-Agent: kdns\r\n"
    # A token in the clear is a token given away: client-go does not send it either.
    if origin.is_tls:
        if authorization := connection.authorization or basic(connection.url):
            headers += f"Authorization: {authorization}\r\n"
    elif connection.proxy:  # which is not led through, but asked (RFC 9112, 3.2.2)
        target = f"http://{origin.authority}{target}"
        headers += proxy_header(connection.proxy)
    return f"GET {target} HTTP/1.1\r\n{headers}\r\n".encode("latin-1")


async def _converse(exchange: Exchange, request: bytes) -> ReplyHead:
    with _ended_by_failure(exchange):
        exchange.send(request)
        return await exchange.read_head()


@contextmanager
def _ended_by_failure(exchange: Exchange) -> Iterator[None]:
    """End the connection where what is done with it fails: nobody knows what it would say next."""
    try:
        yield
    except BaseException:
        exchange.abort()
        raise


async def _check(exchange: Exchange, head: ReplyHead) -> None:
    """Refuse what is no JSON reply. Raises ApiError."""
    if head.status != 200:
        body = bytearray()
        while len(body) < MAX_ERROR_BYTES and (piece := await exchange.read()):
            body += piece
        raise error_of_reply(head.status, bytes(body), head.headers)
    encoding = head.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise ApiError(ErrorKind.PROTOCOL, f"met Content-Encoding {encoding!r}, expected none")
    content_type = head.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != JSON:
        raise ApiError(ErrorKind.PROTOCOL, f"met Content-Type {content_type!r}, expected {JSON}")


def _translated(what: str, error: Exception) -> ApiError:
    """An error of sockets, TLS or HTTP as an ApiError."""
    match error:
        case ssl.SSLCertVerificationError():
            return ApiError(ErrorKind.TLS, f"its certificate does not verify: {error}")
        case ssl.SSLError():
            return ApiError(ErrorKind.TLS, f"{what}: {error}")
        case TimeoutError():
            return ApiError(ErrorKind.TIMEOUT, f"{what} in time")
        case OSError():
            return ApiError(ErrorKind.UNREACHABLE, f"{what}: {error or type(error).__name__}")
    return ApiError(ErrorKind.PROTOCOL, f"{what}: {error or type(error).__name__}")
