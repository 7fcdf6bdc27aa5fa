"""Connections to an API server: TCP, through a proxy where there is one, and TLS."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import ssl
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from kdns.cluster.connection import Connection
from kdns.cluster.exchange import Exchange

CONNECT_SECONDS = 10.0  # for a name; then for TCP and TLS, with all its addresses

# A peer that is gone without a word is noticed by the kernel within half a minute, also with nothing to send.
KEEPALIVE_SECONDS = 15  # idle, until the first probe
KEEPALIVE_INTERVAL_SECONDS = 5
KEEPALIVE_PROBES = 3
USER_TIMEOUT_MS = 30_000  # octets of ours without acknowledgement

_DEFAULT_PORTS = {"http": 80, "https": 443}


class Origin(NamedTuple):
    """Where a URL leads."""

    is_tls: bool
    host: str
    port: int
    user_info: str  # as in the URL; empty: none

    @classmethod
    def of(cls, url: str) -> Origin:
        """That of a URL. Raises ValueError for one that leads nowhere by HTTP."""
        parts = urlsplit(url)
        if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
            raise ValueError(f"met {url!r}, expected the URL of an HTTP server")
        user_info = parts.netloc.rpartition("@")[0]
        return cls(parts.scheme == "https", parts.hostname, parts.port or _DEFAULT_PORTS[parts.scheme], user_info)

    @property
    def name(self) -> str:
        """What its certificate calls it: without the final dot that keeps a resolver from its search path."""
        return self.host.removesuffix(".")

    @property
    def authority(self) -> str:
        """As the header Host has it; an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


async def dial(connection: Connection, context: ssl.SSLContext, preferred: str = "") -> Exchange:
    """A connection that is ready for requests. Raises OSError, ValueError and what an Exchange raises.

    Of several addresses, the one that is `preferred` is tried first.
    """
    target = Origin.of(connection.url)
    server_name = connection.server_name or target.name
    if not connection.proxy:
        return await _connect(target, context, server_name, preferred)
    proxy = Origin.of(connection.proxy)
    between = await _connect(proxy, connection.proxy_ssl_context() if proxy.is_tls else None, proxy.name)
    if not target.is_tls:
        return between
    try:
        return await _tunnel(between, target, proxy_header(connection.proxy), context, server_name)
    except BaseException:
        between.abort()
        raise


def basic(url: str) -> str:
    """The credentials of a URL, as headers have them; empty where there are none."""
    user_info = unquote(Origin.of(url).user_info)
    return f"Basic {base64.b64encode(user_info.encode()).decode()}" if user_info else ""


def proxy_header(proxy: str) -> str:
    """The header line that tells a proxy who asks; empty where its URL does not say."""
    credentials = basic(proxy)
    return f"Proxy-Authorization: {credentials}\r\n" if credentials else ""


async def _connect(to: Origin, context: ssl.SSLContext | None, server_name: str, preferred: str = "") -> Exchange:
    """Try each address in turn: one that swallows packets leaves time for the others."""
    loop = asyncio.get_running_loop()
    addresses = sorted(await _resolve(to.host, to.port), key=lambda address: address != preferred)
    failure: OSError = ConnectionError("the name has no address")
    for address in addresses:
        try:
            async with asyncio.timeout(CONNECT_SECONDS / len(addresses)):
                transport, exchange = await loop.create_connection(
                    Exchange,
                    address,
                    to.port,
                    ssl=context if to.is_tls else None,
                    server_hostname=server_name if to.is_tls else None,
                )
        except ssl.SSLError:
            raise  # somebody is there
        except OSError as error:
            failure = error
            continue
        watch_peer(transport.get_extra_info("socket"))
        return exchange
    if isinstance(failure, TimeoutError):
        raise failure
    # Not its own words, which differ from one event loop to the other.
    raise ConnectionError(f"{to.authority}: {_reason(failure)}") from failure


async def _resolve(host: str, port: int) -> list[str]:
    async with asyncio.timeout(CONNECT_SECONDS):
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for _, _, _, _, address in found]


async def _tunnel(
    proxy: Exchange, target: Origin, proxy_authorization: str, context: ssl.SSLContext, server_name: str
) -> Exchange:
    """TLS to a server behind a proxy (RFC 9110, 9.3.6)."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(CONNECT_SECONDS):
        authority = target.authority
        proxy.send(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{proxy_authorization}\r\n".encode("latin-1"))
        head = await proxy.read_head()
        if not 200 <= head.status <= 299:
            raise ConnectionError(f"the proxy does not lead to {authority}: it answers HTTP {head.status}")
        exchange = Exchange()
        transport = await loop.start_tls(proxy.transport, exchange, context, server_hostname=server_name)
        assert transport is not None
        exchange.connection_made(transport)
    return exchange


def watch_peer(connected: socket.socket) -> None:
    """Have the kernel end a connection whose other end is gone without a word."""
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_SECONDS)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_SECONDS)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)


def _reason(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return error.strerror or str(error)
    return os.strerror(error.errno) if error.errno else str(error)
