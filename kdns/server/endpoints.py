"""The HTTP endpoints a Corefile asks for, as the supervisor runs them."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kdns.corefile import format_duration
from kdns.errors import StartError
from kdns.plugins.plugin import Surroundings

if TYPE_CHECKING:
    from kdns.server.http import HealthEndpoint, ReadyEndpoint


@dataclass(slots=True)
class HttpEndpoints:
    """Health and readiness over HTTP. aiohttp is imported only where a Corefile asks for it."""

    surroundings: Surroundings
    # By the monotonic clock, when a table of a former process is too old to become ready with; None: it is of this one.
    outdated_at: float | None = None
    _health: list[HealthEndpoint] = field(default_factory=list)
    _ready: list[ReadyEndpoint] = field(default_factory=list)
    _was_ready: set[str] = field(default_factory=set)
    _sockets: list[socket.socket] = field(default_factory=list)

    def bind(self) -> None:
        """Bind all addresses. Raises StartError: one that health cannot have is fatal, as in CoreDNS."""
        surroundings = self.surroundings
        if not surroundings.health and not surroundings.ready:
            return
        from kdns.server.http import HealthEndpoint, ReadyEndpoint, bind_http

        for settings in surroundings.health:
            self._sockets.append(bind_http(settings.address))
            self._health.append(HealthEndpoint(self._sockets[-1]))
        for address, continuously in surroundings.ready.items():
            try:
                bound = bind_http(address)
            except StartError as error:
                raise StartError(f"plugin/ready: {error}") from error
            self._sockets.append(bound)
            self._ready.append(ReadyEndpoint(bound, lambda a=address, c=continuously: self._unready(a, c)))  # type: ignore[misc]

    def close_inherited(self) -> None:
        """Close a forked child's descriptors of the sockets: while one is open, a client may connect and wait."""
        for inherited in self._sockets:
            if (fd := inherited.fileno()) >= 0:
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
        """Serve."""
        for endpoint in [*self._health, *self._ready]:
            await endpoint.start()

    async def close_ready(self) -> None:
        """Let probes of readiness find nobody: traffic should go elsewhere before this process ends."""
        while self._ready:
            await self._ready.pop().aclose()

    async def aclose(self) -> None:
        """Serve no more."""
        await self.close_ready()
        while self._health:
            await self._health.pop().aclose()

    def _unready(self, address: str, continuously: bool) -> list[str]:
        """The plugins that are not ready. Once ready they stay so, unless asked to be looked at continuously."""
        if address in self._was_ready and not continuously:
            return []
        table = self.surroundings.current_table.table
        views = range(len(self.surroundings.views))
        if any(table is None or not table.is_synced(index) for index in views):
            return ["kubernetes"]
        if self.outdated_at is not None and time.monotonic() >= self.outdated_at:
            return ["kubernetes"]
        self._was_ready.add(address)
        return []
