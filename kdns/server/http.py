"""The HTTP endpoints `/health` and `/ready`: what they answer, and the sockets they answer on.

aiohttp waits without limit for a connection's first request, so each connection has a timer here: whoever does not
get a whole request through within it is cut off, and keeps neither a descriptor nor a shutdown waiting.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from http import HTTPStatus

from aiohttp import web

from kdns.errors import StartError
from kdns.log import plugin_logger

TIMEOUT_SECONDS = 5.0  # for a request to arrive, from the connection or the request before it; CoreDNS's
BACKLOG = 128  # connections the kernel keeps for an endpoint that is busy; a kubelet opens one a probe
MAX_PORT = 65_535


def split_address(address: str) -> tuple[str, str]:
    """The host and the port of `host:port`, `[host]:port` or `:port`; StartError in the words of Go's net package."""
    host, colon, port = address.rpartition(":")
    if not colon or address.endswith("]"):
        raise StartError(f"address {address}: missing port in address")
    if host.startswith("["):
        inner, bracket, rest = host[1:].partition("]")
        if not bracket:
            raise StartError(f"address {address}: missing ']' in address")
        if rest:
            problem = "too many colons in address" if rest.startswith(":") else "missing port in address"
            raise StartError(f"address {address}: {problem}")
        host = inner
    elif ":" in host:
        raise StartError(f"address {address}: too many colons in address")
    if "[" in host or "[" in port:
        raise StartError(f"address {address}: unexpected '[' in address")
    if "]" in host or "]" in port:
        raise StartError(f"address {address}: unexpected ']' in address")
    return host, port


def bind_http(address: str) -> socket.socket:
    """A listening socket at `address`, which another process may share; StartError says why there is none."""
    host, port_text = split_address(address)
    port = _parse_port(port_text)
    try:
        family, sockaddr = _resolve(host, port)
    except socket.gaierror:
        raise StartError(f"listen tcp: lookup {host}: no such host") from None
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(bool(host)))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.setblocking(False)
        listener.bind(sockaddr)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        assert error.errno is not None
        reason = os.strerror(error.errno)
        shown = f"{_bracketed(sockaddr[0])}:{port}" if host else f":{port}"
        raise StartError(f"listen tcp {shown}: bind: {reason[0].lower()}{reason[1:]}") from error
    return listener


class _Endpoint:
    """One path on a listening socket, which it closes in the end; any other path is 404.

    As in CoreDNS, the method does not matter.
    """

    PATH = ""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._server = _TimedServer(self._on_request)
        # There is nothing to be in the middle of for longer than a turn of the loop.
        self._runner = web.ServerRunner(self._server, shutdown_timeout=0)

    async def start(self) -> None:
        """Answer from now on."""
        await self._runner.setup()
        await web.SockSite(self._runner, self._listener, backlog=BACKLOG).start()

    async def aclose(self) -> None:
        """Stop answering at once: the next client is refused."""
        await self._runner.cleanup()
        self._listener.close()
        self._server.cancel_timers()

    async def _on_request(self, request: web.BaseRequest) -> web.StreamResponse:
        self._server.on_request(request)
        if request.path == self.PATH:
            status, text = self._answer()
            return web.Response(status=status, text=text)
        return web.Response(
            status=HTTPStatus.NOT_FOUND, text="404 page not found\n", headers={"X-Content-Type-Options": "nosniff"}
        )

    def _answer(self) -> tuple[HTTPStatus, str]:
        raise NotImplementedError


class HealthEndpoint(_Endpoint):
    """`/health`: 200 as long as the process lives."""

    PATH = "/health"

    def _answer(self) -> tuple[HTTPStatus, str]:
        return HTTPStatus.OK, "OK"


class ReadyEndpoint(_Endpoint):
    """`/ready`: 200, or 503 with the names of the plugins that `unready` says are not ready."""

    PATH = "/ready"

    def __init__(self, listener: socket.socket, unready: Callable[[], Sequence[str]]) -> None:
        super().__init__(listener)
        self._unready = unready

    def _answer(self) -> tuple[HTTPStatus, str]:
        names = ",".join(sorted(self._unready()))
        if not names:
            return HTTPStatus.OK, "OK"
        plugin_logger("ready").info('Plugins not ready: "%s"', names)
        return HTTPStatus.SERVICE_UNAVAILABLE, names


class _TimedServer(web.Server):
    """aiohttp's server with a limit to how long a connection may take for its next request."""
