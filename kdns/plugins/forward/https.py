"""Queries over HTTPS (RFC 8484), by HTTP/2 where the upstream has it.

HTTP is a library's matter; this module is loaded only where an upstream is asked in this way, before any worker is
forked. Ids are 0, as caches on the way like it; which reply answers which query is HTTP's to tell, and the question
must come back all the same.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
import time
from dataclasses import dataclass, field
from typing import Any

import httpx

from kdns.dns.reply import Reply
from kdns.dns.walker import read_header, read_reply
from kdns.errors import FormatError, UpstreamError
from kdns.plugins.forward.failures import TIMEOUT, reason
from kdns.plugins.forward.idle import PoolLimits

PATH = "/dns-query"
MEDIA_TYPE = "application/dns-message"
MAX_REPLY = 65_535  # octets (RFC 8484, 6)
MAX_CONNECTIONS = 64  # to one upstream; HTTP/2 needs one
STEP_SECONDS = 5.0  # a step of HTTP may take, after which nobody waits for it any more
_ID = b"\0\0"


@dataclass(slots=True)
class _Session:
    """A library's client, and how many queries use it."""

    client: httpx.AsyncClient
    opened: float  # on time.monotonic()'s clock
    queries: int = 0
    is_left: bool = False  # nothing more is asked over it


@dataclass(slots=True)
class HttpsPool:
    """The connections to one upstream; `server_name` is who it must be, `remote_text` its address and port."""

    remote_text: str
    method: str  # GET or POST
    tls: ssl.SSLContext
    server_name: str
    source: str | None
    limits: PoolLimits
    _session: _Session | None = None
    _is_closed: bool = False
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    async def exchange(self, message: bytes, question: bytes, deadline: float, *, is_check: bool = False) -> Reply:
        """The reply to a query, `message` being all of it but its id. Raises UpstreamError.

        The question it asks must come back with the reply; where none is given, any reply will do.
        """
        method = "POST" if is_check else self.method
        # Not cancelled when it is late: the library would lose the socket of a connection that is being made.
        fetching = asyncio.get_running_loop().create_task(self._fetch(method, _ID + message, deadline))
        self._tasks.add(fetching)
        fetching.add_done_callback(self._forget)
        await asyncio.wait((fetching,), timeout=max(0.0, deadline - time.monotonic()))
        if not fetching.done():
            raise self._error(method, TIMEOUT)
        octets = fetching.result()
        try:
            return read_reply(octets, 0, question, "forward") if question else read_header(octets, 0)
        except FormatError as error:
            raise self._error(method, str(error)) from error

    def close_expired(self) -> None:
        """Open connections anew once they are too old."""
        session = self._session
        if session is not None and 0 < self.limits.max_age_seconds < time.monotonic() - session.opened:
            self._leave()

    def close(self) -> None:
        """Ask no more; what is under way is finished."""
        self._is_closed = True
        self._leave()

    def _leave(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.is_left = True
            self._close_unused(session)

    def _close_unused(self, session: _Session) -> None:
        if session.is_left and not session.queries:
            closing = asyncio.get_running_loop().create_task(session.client.aclose())
            self._tasks.add(closing)
            closing.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # who waits for it is told; nobody may wait any more

    async def _fetch(self, method: str, query: bytes, deadline: float) -> bytes:
        if self._is_closed:
            raise self._error(method, "closed")
        if self._session is None:
            self._session = _Session(self._make_client(), time.monotonic())
        session = self._session
        url = f"https://{self.remote_text}{PATH}"
        headers = {"Accept": MEDIA_TYPE, "Content-Type": MEDIA_TYPE, "Accept-Encoding": "identity"}
        content: bytes | None = query
        if method == "GET":
            url += "?dns=" + base64.urlsafe_b64encode(query).rstrip(b"=").decode("ascii")
            content = None
        extensions = {"sni_hostname": self.server_name}
        session.queries += 1
        try:
            async with session.client.stream(
                method, url, content=content, headers=headers, extensions=extensions
            ) as response:  # fmt: skip
                if response.status_code != httpx.codes.OK:
                    raise self._error(method, f"HTTP status {response.status_code}")
                found = response.headers.get("Content-Type", "")
                if found.partition(";")[0].strip().lower() != MEDIA_TYPE:
                    raise self._error(method, f"media type {found[:64]!r}, expected {MEDIA_TYPE}")
                octets = b""
                async for piece in response.aiter_raw():
                    octets += piece
                    if time.monotonic() > deadline:
                        raise self._error(method, TIMEOUT)
                    if len(octets) > MAX_REPLY:
                        raise self._error(method, f"more than {MAX_REPLY} octets")
                return octets
        except UpstreamError:
            raise
        except Exception as error:  # the library lets through what TLS and streams raise while reading, in many types
            raise self._error(method, _cause(error)) from error
        finally:
            session.queries -= 1
            self._close_unused(session)

    def _make_client(self) -> httpx.AsyncClient:
        limits = httpx.Limits(
            max_connections=MAX_CONNECTIONS,
            max_keepalive_connections=self.limits.max_idle or None,
            keepalive_expiry=self.limits.expire_seconds,
        )
        transport = httpx.AsyncHTTPTransport(
            verify=self.tls, http2=True, limits=limits, trust_env=False, local_address=self.source
        )
        return httpx.AsyncClient(transport=transport, timeout=STEP_SECONDS, trust_env=False)

    def _error(self, method: str, text: str) -> UpstreamError:
        return UpstreamError(f'{method.capitalize()} "https://{self.remote_text}{PATH}": {text}')


def _cause(error: BaseException) -> str:
    """What the network said, behind what libraries make of it."""
    found: BaseException | None
    text, found = str(error) or type(error).__name__, error
    while found is not None:
        if isinstance(found, OSError):
            text = reason(found, "connect")
        found = found.__cause__ or found.__context__
    return text
