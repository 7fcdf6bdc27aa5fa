"""The HTTP endpoints a Corefile asks for, as the supervisor runs them, over reloads too.

An endpoint whose address stays is left alone by a reload. A reload binds what is new before anything changes, so one
that fails has taken nothing down.
"""

from __future__ import annotations

import os
import socket
import stat
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kdns import log
from kdns.corefile import format_duration
from kdns.errors import StartError
from kdns.metrics import CounterTable
from kdns.plugins.plugin import PrometheusSettings, Surroundings

if TYPE_CHECKING:
    from kdns.server.exposition import Exposition
    from kdns.server.http import HealthEndpoint, MetricsEndpoint, ReadyEndpoint
    from kdns.server.service_metrics import ServiceMetrics

HEALTH, READY, METRICS = "health", "ready", "metrics"

Place = tuple[str, str]  # what is served, and the address

_LOG = log.plugin_logger("prometheus")


@dataclass(slots=True)
class BoundEndpoints:
    """The endpoints of a configuration: those that are served already, and those that are only bound."""

    surroundings: Surroundings
    all: dict[Place, HealthEndpoint | MetricsEndpoint | ReadyEndpoint] = field(default_factory=dict)
    new: dict[Place, socket.socket] = field(default_factory=dict)

    def close(self) -> None:
        """Give the new ones up."""
        for bound in self.new.values():
            bound.close()


@dataclass(slots=True)
class HttpEndpoints:
    """Health, readiness and metrics over HTTP. aiohttp is imported only where a Corefile asks for it."""

    surroundings: Surroundings
    # By the monotonic clock, when a table of a former process is too old to become ready with; None: it is of this one.
    outdated_at: float | None = None
    imaged_at: float | None = None  # by the same clock, when that table was right
    counters: CounterTable = field(default_factory=lambda: CounterTable(1))
    children: Callable[[], Iterable[int]] = tuple  # the ids of the processes beside this one
    informer_is_lost: bool = False  # nobody keeps the table current, and starting somebody has failed for a while
    _serving: dict[Place, HealthEndpoint | MetricsEndpoint | ReadyEndpoint] = field(default_factory=dict)
    _was_ready: set[str] = field(default_factory=set)
    _sockets: dict[Place, socket.socket] = field(default_factory=dict)
    _bound: BoundEndpoints | None = None
    _metrics: ServiceMetrics | None = None

    def bind(self) -> None:
        """Bind all addresses. Raises StartError: one that health cannot have is fatal, as in CoreDNS."""
        self._bound = self.bind_for(self.surroundings)

    def bind_for(self, surroundings: Surroundings) -> BoundEndpoints:
        """Bind what another configuration has and this one has not. Raises StartError; then nothing new is left."""
        bound = BoundEndpoints(surroundings)
        places = [(HEALTH, settings.address) for settings in surroundings.health]
        places += [(READY, address) for address in surroundings.ready]
        if not places and not surroundings.prometheus:
            return bound
        from kdns.server.health_poll import HealthPoll
        from kdns.server.http import HealthEndpoint, ReadyEndpoint, bind_http

        for kind, address in dict.fromkeys(places):
            place = kind, address
            if place in self._serving:
                bound.all[place] = self._serving[place]
                continue
            try:
                listener = bound.new[place] = bind_http(address)
            except StartError as error:
                bound.close()
                if kind == READY:
                    raise StartError(f"plugin/ready: {error}") from error
                raise
            if kind == HEALTH:
                bound.all[place] = HealthEndpoint(listener, HealthPoll(listener, address, surroundings.metrics))
            else:
                bound.all[place] = ReadyEndpoint(listener, lambda a=address: self._unready(a))  # type: ignore[misc]
        for metrics in surroundings.prometheus.values():
            self._bind_metrics(metrics, bound)
        return bound

    def _bind_metrics(self, settings: PrometheusSettings, bound: BoundEndpoints) -> None:
        """Bind where metrics are shown. A place that cannot be had is told of, and done without."""
        # With it what a scrape needs: before the first one, and before the fork, so that children share it.
        import kdns.server.service_metrics  # noqa: F401
        from kdns.server.http import MetricsEndpoint, bind_http

        # What speaks TLS otherwise is another endpoint.
        place = f"{METRICS} {settings.web_config or ''}", settings.address
        if place in self._serving:
            bound.all[place] = self._serving[place]
            return
        try:
            context = None if settings.web_config is None else settings.web_config.ssl_context()
            listener = bound.new[place] = bind_http(settings.address)
        except (StartError, OSError) as error:
            _LOG.error("Failed to start metrics handler: %s", error)
            return
        bound.all[place] = MetricsEndpoint(listener, self._exposition, context)

    def _exposition(self) -> Exposition:
        from kdns.server.service_metrics import ServiceMetrics

        if self._metrics is None:
            self._metrics = ServiceMetrics(
                self.counters, lambda: self.children(), lambda: None if self.outdated_at is None else self.imaged_at
            )
        return self._metrics.exposition(self.surroundings)

    def close_inherited(self) -> None:
        """Close a forked child's descriptors of what clients may have connected to, or be connecting to.

        A client would wait as long as one of them is open. This process makes no connection but for HTTP.
        """
        listening = {inherited.fileno() for inherited in self._sockets.values()}
        for fd in map(int, os.listdir("/proc/self/fd")):
            if fd in listening or _is_tcp_connection(fd):
                os.close(fd)

    @property
    def lameduck_seconds(self) -> float:
        """How long to linger before the end."""
        return max([0.0, *(settings.lameduck_seconds for settings in self.surroundings.health)])

    @property
    def lameduck_text(self) -> str:
        """The same, as Go prints it."""
        return format_duration(self.lameduck_seconds)

    async def start(self) -> None:
        """Serve what was bound."""
        assert self._bound is not None
        await self.change_over(self._bound)

    async def change_over(self, bound: BoundEndpoints) -> None:
        """Serve the endpoints of another configuration, and no more those it has not."""
        self.surroundings, self._bound = bound.surroundings, None
        self._was_ready.clear()
        gone = [place for place in self._serving if place not in bound.all]
        self._sockets |= bound.new
        for place in bound.new:
            self._serving[place] = bound.all[place]
            await bound.all[place].start()
        for place in gone:
            await self._close(place)

    async def close_ready(self) -> None:
        """Let probes of readiness find nobody: traffic should go elsewhere before this process ends."""
        for place in [place for place in self._serving if place[0] == READY]:
            await self._close(place)

    async def aclose(self) -> None:
        """Serve no more."""
        for place in list(self._serving):
            await self._close(place)

    async def _close(self, place: Place) -> None:
        self._sockets.pop(place, None)
        if (endpoint := self._serving.pop(place, None)) is not None:
            await endpoint.aclose()

    def _unready(self, address: str) -> list[str]:
        """The plugins that are not ready. Once ready they stay so, unless asked to be looked at continuously."""
        if self.informer_is_lost:
            return ["kubernetes"]
        if address in self._was_ready and not self.surroundings.ready.get(address, False):
            return []
        table = self.surroundings.current_table.table
        views = range(len(self.surroundings.views))
        if any(table is None or not table.is_synced(index) for index in views):
            return ["kubernetes"]
        if self.outdated_at is not None and time.monotonic() >= self.outdated_at:
            return ["kubernetes"]
        self._was_ready.add(address)
        return []


def _is_tcp_connection(fd: int) -> bool:
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            return False
        with socket.socket(fileno=os.dup(fd)) as duplicate:
            if duplicate.family not in (socket.AF_INET, socket.AF_INET6) or duplicate.type != socket.SOCK_STREAM:
                return False
            return not duplicate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError:  # the listing's own descriptor, which is gone by now
        return False
