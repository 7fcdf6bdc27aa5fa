"""The HTTP endpoints `/health`, `/ready` and `/metrics`: what they answer, and the sockets they answer on."""

from __future__ import annotations

import asyncio
import gzip
import os
import socket
import ssl
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from kdns.errors import StartError
from kdns.log import plugin_logger
from kdns.plugins.address import split_address
from kdns.server.health_poll import HealthPoll

if TYPE_CHECKING:
    from kdns.server.exposition import Exposition

TIMEOUT_SECONDS = 5.0  # for a request to arrive, from the connection or the request before it; CoreDNS's
BACKLOG = 128  # connections the kernel keeps for an endpoint that is busy; a kubelet opens one a probe
MAX_CONNECTIONS = 128  # of an endpoint at a time; the next one is cut. Probes and scrapers need a handful
GZIP_LEVEL = 1  # 0 to 9; text of metrics shrinks to a tenth at once, and hardly more for four times the time
SHUTDOWN_SECONDS = 0.1  # for a request under way, which takes no time; 0 would mean for ever
MAX_PORT = 65_535

PLAIN_TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_WILDCARDS = {"", "0.0.0.0", "::"}  # noqa: S104 - compared with, not bound to


def bind_http(address: str) -> socket.socket:
    """A listening socket at `address`, which other processes may share; StartError says why there is none.

    Raises CorefileError for what is no address.
    """
    host, port_text = split_address(address)
    port = _parse_port(port_text)
    family, ip_address = _resolve(host)
    try:
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise StartError(f"listen tcp {address}: socket: {_reason(error)}") from error
    try:
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host not in _WILDCARDS)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.setblocking(False)
        listener.bind((ip_address, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        shown = host if host in _WILDCARDS else ip_address
        shown = f"[{shown}]" if ":" in shown else shown
        raise StartError(f"listen tcp {shown}:{port}: bind: {_reason(error)}") from error
    return listener


def _parse_port(port: str) -> int:
    if port.isdecimal() and port.isascii():
        if int(port) > MAX_PORT:
            raise StartError(f"listen tcp: address {port}: invalid port")
        return int(port)
    if not port:
        return 0  # the kernel's choice
    try:
        return socket.getservbyname(port, "tcp")
    except OSError:
        raise StartError(f"listen tcp: lookup tcp/{port}: unknown port") from None


def _resolve(host: str) -> tuple[socket.AddressFamily, str]:
    """The address to listen on: as in Go any wildcard means both families, and of a name's addresses IPv4 is first."""
    if host in _WILDCARDS:
        return (socket.AF_INET6, "::") if socket.has_dualstack_ipv6() else (socket.AF_INET, "0.0.0.0")  # noqa: S104 - asked for
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError):
        raise StartError(f"listen tcp: lookup {host}: no such host") from None
    family, _, _, _, sockaddr = min(found, key=lambda info: info[0] != socket.AF_INET)
    return family, str(sockaddr[0])


def _reason(error: OSError) -> str:
    """The kernel's words as Go spells them."""
    reason = os.strerror(error.errno or 0)
    return reason[0].lower() + reason[1:]


class _Endpoint(ABC):
    """One path on a listening socket, which is closed in the end; any other path is 404, and any method will do."""

    PATH = ""

    def __init__(self, listener: socket.socket, ssl_context: ssl.SSLContext | None = None) -> None:
        self._listener = listener
        self._ssl_context = ssl_context
        self._server: _TimedServer | None = None
        self._runner: web.ServerRunner | None = None

    async def start(self) -> None:
        """Answer from now on."""
        self._server = _TimedServer(
            self._on_request, keepalive_timeout=TIMEOUT_SECONDS, lingering_time=0, access_log=None
        )
        self._runner = web.ServerRunner(self._server, shutdown_timeout=SHUTDOWN_SECONDS)
        await self._runner.setup()
        await web.SockSite(self._runner, self._listener, backlog=BACKLOG, ssl_context=self._ssl_context).start()

    async def aclose(self) -> None:
        """Stop answering at once: connections are cut, and the next client is refused."""
        if self._runner is not None:
            await self._runner.cleanup()
        self._listener.close()

    async def _on_request(self, request: web.BaseRequest) -> web.Response:
        assert self._server is not None
        self._server.on_request(request.protocol)
        if request.path != self.PATH:
            return _response(HTTPStatus.NOT_FOUND, "404 page not found\n")
        return self._answer(request)

    @abstractmethod
    def _answer(self, request: web.BaseRequest) -> web.Response:
        """What is said to a request for the path."""


class HealthEndpoint(_Endpoint):
    """`/health`: 200 as long as the process lives. With a `poll` it asks itself, too."""

    PATH = "/health"

    def __init__(self, listener: socket.socket, poll: HealthPoll | None = None) -> None:
        super().__init__(listener)
        self._poll = poll
        self._polling: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Answer from now on."""
        await super().start()
        if self._poll is not None:
            self._polling = asyncio.get_running_loop().create_task(self._poll.run())

    async def aclose(self) -> None:
        """Stop answering at once."""
        if self._polling is not None:
            self._polling.cancel()
            await asyncio.wait([self._polling])
        await super().aclose()

    def _answer(self, request: web.BaseRequest) -> web.Response:
        return _response(HTTPStatus.OK, "OK")


class ReadyEndpoint(_Endpoint):
    """`/ready`: 200, or 503 with the names of the plugins that `unready` says are not ready."""

    PATH = "/ready"

    def __init__(self, listener: socket.socket, unready: Callable[[], Sequence[str]]) -> None:
        super().__init__(listener)
        self._unready = unready

    def _answer(self, request: web.BaseRequest) -> web.Response:
        names = ",".join(sorted(self._unready()))
        if not names:
            return _response(HTTPStatus.OK, "OK")
        plugin_logger("ready").info('Plugins not ready: "%s"', names)
        return _response(HTTPStatus.SERVICE_UNAVAILABLE, names)


class MetricsEndpoint(_Endpoint):
    """`/metrics`: what all processes have counted, as plain text or, to a client that takes nothing else, OpenMetrics.

    CoreDNS has plain text only, and series of a mixed fleet should be alike; it is also four times as fast.
    """

    PATH = "/metrics"

    def __init__(
        self, listener: socket.socket, exposition: Callable[[], Exposition], ssl_context: ssl.SSLContext | None = None
    ) -> None:
        super().__init__(listener, ssl_context)
        self._exposition = exposition

    def _answer(self, request: web.BaseRequest) -> web.Response:
        exposition = self._exposition()
        accepted = request.headers.get("Accept", "")
        if "application/openmetrics-text" in accepted and "text/plain" not in accepted and "*/*" not in accepted:
            body, content_type = exposition.open_metrics(), OPEN_METRICS
        else:
            body, content_type = exposition.text(), PLAIN_TEXT
        headers = {"Server": "kdns", "Content-Type": content_type}
        if _takes_gzip(request.headers.get("Accept-Encoding", "")):
            body = gzip.compress(body, GZIP_LEVEL, mtime=0)
            headers["Content-Encoding"] = "gzip"
        return web.Response(body=body, headers=headers)


def _takes_gzip(accepted: str) -> bool:
    """Whether a client takes replies that are compressed (RFC 9110, 12.5.3)."""
    for part in accepted.split(","):
        coding, _, parameters = part.partition(";")
        if coding.strip().lower() in ("gzip", "*"):
            return parameters.replace(" ", "").lower() not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


def _response(status: HTTPStatus, text: str) -> web.Response:
    # Otherwise aiohttp names itself and Python with their versions.
    return web.Response(status=status, text=text, headers={"Server": "kdns"})


class _TimedServer(web.Server):
    """aiohttp's server with a limit to how long a connection may take for its next request.

    aiohttp itself waits for the first one for ever, and so would a client that says nothing hold a descriptor.
    """

    def __init__(self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], **options: Any) -> None:
        super().__init__(handler, **options)
        self._transports: dict[RequestHandler, asyncio.Transport] = {}
        self._timers: dict[RequestHandler, asyncio.TimerHandle] = {}

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        """Start the time of a connection."""
        super().connection_made(handler, transport)
        if len(self._transports) >= MAX_CONNECTIONS:
            transport.abort()
            return
        self._transports[handler] = transport
        self._timers[handler] = asyncio.get_running_loop().call_later(TIMEOUT_SECONDS, transport.abort)

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        """Forget a connection."""
        super().connection_lost(handler, exc)
        self._transports.pop(handler, None)
        timer = self._timers.pop(handler, None)
        if timer is not None:
            timer.cancel()

    def on_request(self, handler: RequestHandler) -> None:
        """Start the time of a connection anew."""
        timer = self._timers.get(handler)
        if timer is not None:
            timer.cancel()
            transport = self._transports[handler]
            self._timers[handler] = asyncio.get_running_loop().call_later(TIMEOUT_SECONDS, transport.abort)
