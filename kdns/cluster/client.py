"""The client of one API server: finds out how to reach it, keeps credentials current, and asks.

A Pod's service account and the directive's own options are files kdns reads itself. For a kubeconfig, with its
contexts and plugins, there is a library; it is loaded only then, for it brings a class for every kind of object.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from kdns import log
from kdns.cluster.access import ApiAccess
from kdns.cluster.api_errors import ApiError, ErrorKind
from kdns.cluster.connection import SERVICE_ACCOUNT, Connection, ConnectionSource, bearer, check_url, simple_source
from kdns.cluster.telemetry import Telemetry
from kdns.cluster.throttle import Throttle
from kdns.cluster.transport import LineStream, Transport
from kdns.errors import ClusterError

REFRESH_SECONDS = 60.0  # age of credentials and CA at which a request has them read again
DEFAULT_TIMEOUT_SECONDS = 60.0  # of a request that is no watch

_LOG = log.plugin_logger("kubernetes")

METHOD = "GET"  # all that is ever asked
T = TypeVar("T")


class ApiClient:
    """Requests to one API server, within the limits of a directive."""

    def __init__(
        self,
        source: ConnectionSource,
        connection: Connection,
        throttle: Throttle,
        clock: Callable[[], float],
        telemetry: Telemetry | None,
    ) -> None:
        self._source = source
        self._transport = Transport(connection, self._observe, clock)
        self._throttle = throttle
        self._clock = clock
        self._telemetry = telemetry
        self._read_at = clock()
        self._refreshing = asyncio.Lock()
        self._trouble = ""  # of the last refresh

    @classmethod
    async def connect(
        cls,
        access: ApiAccess,
        environ: Mapping[str, str],
        clock: Callable[[], float],
        telemetry: Telemetry | None = None,
        service_account: Path = SERVICE_ACCOUNT,
    ) -> ApiClient:
        """Find out how to reach the server; it is not asked anything yet. Raises ClusterError."""
        source = simple_source(access, environ, service_account)
        if source is None:
            source = _KubeconfigSource(access.kubeconfig or environ["KUBECONFIG"], access.context)
        throttle = Throttle(access.qps, access.burst, access.max_inflight, clock)
        return cls(source, await source.load(), throttle, clock, telemetry)

    @property
    def url(self) -> str:
        """Where the server is."""
        return self._transport.connection.url

    async def get(
        self, path: str, parameters: Mapping[str, str], timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    ) -> bytes:
        """The body of a JSON reply. Raises ApiError."""
        return await self._ask(lambda: self._transport.get(path, parameters, timeout_seconds))

    async def download(
        self,
        path: str,
        parameters: Mapping[str, str],
        accept: str,
        take: Callable[[bytes], None],
        timeout_seconds: float,
    ) -> None:
        """Give a JSON reply to `take` as it comes. Raises ApiError."""
        await self._ask(lambda: self._transport.download(path, parameters, accept, take, timeout_seconds))

    @asynccontextmanager
    async def stream(self, path: str, parameters: Mapping[str, str]) -> AsyncIterator[LineStream]:
        """An open watch, ended on leaving. Raises ApiError."""
        stream = await self._ask(lambda: self._transport.open(path, parameters))
        try:
            yield stream
        finally:
            stream.abort()

    async def aclose(self) -> None:
        """Close the connections that nobody uses; those of requests end with them."""
        await self._transport.aclose()

    async def _ask(self, request: Callable[[], Awaitable[T]]) -> T:
        """Make a request, and once more where it failed by credentials or a CA that have been replaced meanwhile."""
        if self._clock() - self._read_at >= REFRESH_SECONDS:
            await self._refresh()
        try:
            return await self._try(request)
        except ApiError as error:
            if error.kind not in (ErrorKind.UNAUTHORIZED, ErrorKind.TLS) or not await self._refresh(is_refused=True):
                raise
        return await self._try(request)

    async def _try(self, request: Callable[[], Awaitable[T]]) -> T:
        waiting = self._clock()
        async with self._throttle.admitted():
            if self._telemetry is not None and self._throttle.is_limited:
                self._telemetry.rate_limiter_duration.observe(self._clock() - waiting, (METHOD, self._host))
            return await request()

    @property
    def _host(self) -> str:
        return urlsplit(self.url).netloc

    def _observe(self, code: str, seconds: float) -> None:
        if self._telemetry is not None:
            self._telemetry.request_duration.observe(seconds, (METHOD, self._host))
            self._telemetry.requests.add(1, (code, METHOD, self._host))

    async def _refresh(self, is_refused: bool = False) -> bool:
        """Read the connection again; whether it has changed. What cannot be read leaves the old one in use."""
        before = self._transport.connection
        async with self._refreshing:
            if self._transport.connection != before:  # by another request, while this one waited
                return True
            self._read_at = self._clock()
            try:
                connection = await self._source.load(is_refused)
                self._transport.use(connection)
            except ClusterError as error:
                if str(error) != self._trouble:
                    self._trouble = str(error)
                    _LOG.warning("%s; what was read before goes on being used", error)
                return False
            self._trouble = ""
            return connection != before


class _KubeconfigSource:
    """A context of a kubeconfig: read again as a whole, but for the token of a plugin that says how long it lasts."""

    def __init__(self, paths: str, context: str) -> None:
        self._paths = paths
        self._context = context
        self._plugin: Any = None  # the library's loader, where a plugin gives the credentials
        self._loaded: Connection | None = None

    async def load(self, is_refused: bool = False) -> Connection:
        """Read the files, or run the plugin, where that may give something new."""
        where = f"kubeconfig {self._paths}" + (f", context {self._context}" if self._context else "")
        if not _is_any_file(self._paths):
            raise ClusterError(f"{where}: no such file; correct `kubeconfig` in the Corefile, or KUBECONFIG")
        try:
            if self._loaded is not None and self._plugin is not None and not is_refused:
                self._loaded = await self._renew_token(self._loaded)
            else:
                self._loaded = await self._load_whole(where)
            return self._loaded
        except ClusterError:
            raise
        # The library raises whatever its reading of a damaged file runs into: KeyError, AttributeError, and its own.
        except Exception as error:
            text = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ClusterError(f"{where}: {text}; `kubectl --kubeconfig` says more") from error
        finally:
            _remove_written_files()

    async def _load_whole(self, where: str) -> Connection:
        from kubernetes_asyncio.client import Configuration
        from kubernetes_asyncio.config import load_kube_config

        logging.getLogger("kubernetes_asyncio").addHandler(logging.NullHandler())  # its errors come to us as well
        found = Configuration()
        loader = await load_kube_config(
            self._paths, self._context or None, client_configuration=found, persist_config=False
        )
        # Files are read again at no cost; a plugin may ask somebody for a password, or a service for money.
        self._plugin = loader if "exec" in (loader._user or ()) else None
        return Connection(
            check_url(found.host or "", where),
            _read_optional(found.ssl_ca_cert).decode("ascii", "replace"),
            _read_optional(found.cert_file),
            _read_optional(found.key_file),
            _authorization(found.api_key.get("BearerToken", "")),
            found.tls_server_name or "",
            found.proxy or "",
            found.verify_ssl,
        )

    async def _renew_token(self, loaded: Connection) -> Connection:
        """Run the plugin, where it said that its token ends and the end is near."""
        assert self._plugin is not None
        if not hasattr(self._plugin, "exec_plugin_expiry"):
            return loaded
        await self._plugin.load_from_exec_plugin()
        return replace(loaded, authorization=_authorization(self._plugin.token))


def _is_any_file(paths: str) -> bool:
    return any(Path(path).expanduser().is_file() for path in paths.split(":") if path)


def _authorization(header: str) -> str:
    """The header as the library has it, without what surrounded the token in its file."""
    scheme, _, credentials = header.partition(" ")
    return bearer(credentials) if scheme == "Bearer" else header


def _read_optional(path: str | None) -> bytes:
    return Path(path).read_bytes() if path else b""


def _remove_written_files() -> None:
    """Remove what the library wrote to disk, a client's key among it; it would do so when the interpreter exits."""
    from kubernetes_asyncio.config import kube_config

    kube_config._cleanup_temp_files()
