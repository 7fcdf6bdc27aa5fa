"""What a worker shows of itself once a second: what it has under way, and what became of its TCP connections."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from kdns.metrics import Registry
from kdns.server.tcp_slots import TcpStatistics

PERIOD_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Load:
    """What a listener has under way in a worker."""

    misses: int  # datagrams on the slow path
    tcp: TcpStatistics


class WorkerMetrics:
    """The families. Asking for them again, in another process, gives the same ones."""

    def __init__(self, registry: Registry) -> None:
        self._queries = registry.gauge("kdns_slow_path_queries", "Queries on the slow path, by transport.", ("proto",))
        self._connections = registry.gauge("kdns_tcp_connections", "TCP connections of clients.")
        self._events = registry.counter(
            "kdns_tcp_events_total", "What became of TCP connections and their messages.", ("event",)
        )
        # Dashboards look at it for how much is going on at a time, which is what tasks are here.
        self._tasks = registry.gauge("go_goroutines", "Tasks of all workers: kdns has no goroutines.")
        self._counted: Counter[str] = Counter()

    async def run(self, loads: Callable[[], Iterable[Load]]) -> None:
        """Publish until cancelled."""
        while True:
            self.publish(list(loads()), len(asyncio.all_tasks()))
            await asyncio.sleep(PERIOD_SECONDS)

    def publish(self, loads: Iterable[Load], tasks: int) -> None:
        """Show what is under way now, and what has happened since the last time."""
        misses = messages = connections = 0
        events: Counter[str] = Counter()
        for load in loads:
            misses += load.misses
            messages += load.tcp.messages_in_flight
            connections += load.tcp.connections
            events.update({event.value: count for event, count in load.tcp.events.items()})
        self._queries.set(misses, ("udp",))
        self._queries.set(messages, ("tcp",))
        self._connections.set(connections)
        self._tasks.set(tasks)
        for event, count in (events - self._counted).items():
            self._events.add(count, (event,))
        self._counted = events
