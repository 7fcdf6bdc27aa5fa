"""The metrics only the supervisor knows: the table, its image, what is enabled; and all of them put together."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from prometheus_client.metrics_core import Metric

from kdns.cluster.telemetry import Telemetry
from kdns.hotpath.table import Table
from kdns.metrics import CounterTable
from kdns.plugins.plugin import Surroundings
from kdns.server.exposition import Exposition, metric_of
from kdns.server.process_metrics import ProcessMetrics
from kdns.server.worker_metrics import WorkerMetrics

ENABLED_LABELS = ("server", "zone", "view", "name")


class ServiceMetrics:
    """Makes the exposition of the configuration at work. `imaged_at`: when the image in use was right, if one is."""

    def __init__(
        self,
        counters: CounterTable,
        children: Callable[[], Iterable[int]],
        imaged_at: Callable[[], float | None],
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._counters = counters
        self._processes = ProcessMetrics(children)
        self._imaged_at = imaged_at
        self._clock = clock
        self._wall_clock = wall_clock

    def exposition(self, surroundings: Surroundings) -> Exposition:
        """Everything there is to show. What children add to is shown if this process knows its families."""
        WorkerMetrics(surroundings.metrics)
        if surroundings.views:
            Telemetry(surroundings.metrics)
        sources = [lambda: self.of_table(surroundings), lambda: [enabled(surroundings)], self._processes.collect]
        return Exposition(surroundings.metrics, self._counters, sources)

    def of_table(self, surroundings: Surroundings) -> Iterator[Metric]:
        """The table, and the image it may have come from."""
        table = surroundings.current_table.table
        if table is None:
            return
        for name, help_text, value in self._table_values(table, len(surroundings.views)):
            yield metric_of("gauge", name, help_text, (), [((), value)])
        if (imaged_at := self._imaged_at()) is not None:
            help_text = "How long ago the image that is served was right; not shown once the cluster has been read."
            yield metric_of("gauge", "kdns_image_age_seconds", help_text, (), [((), self._clock() - imaged_at)])

    def _table_values(self, table: Table, views: int) -> list[tuple[str, str, float]]:
        found = table.statistics()
        unsynced = sum(not table.is_synced(view) for view in range(views))
        values = [
            ("kdns_table_generation", "Number of the table's generation.", found["generation"]),
            ("kdns_table_entries", "Responses in the table, by name and type.", found["slots"]),
            ("kdns_table_bytes", "Octets of the table in use, with its index.", found["used_bytes"]),
            ("kdns_table_retired_bytes", "Octets of responses that were replaced.", found["retired_bytes"]),
            ("kdns_table_unsynced_views", "Views not all of whose objects are known.", float(unsynced)),
        ]
        if found["heartbeat_ns"]:
            age = max(0.0, self._clock() - found["heartbeat_ns"] / 1e9)
            values.append(("kdns_table_age_seconds", "How long ago the table's writer was last alive.", age))
        if found["last_change_ns"]:
            age = max(0.0, self._wall_clock() - found["last_change_ns"] / 1e9)
            values.append(("kdns_table_unchanged_seconds", "How long ago the table last changed.", age))
        return values


def enabled(surroundings: Surroundings) -> Metric:
    """Which directives are in the chains of server blocks that have `prometheus`."""
    values = [((server, zone, "", name), 1.0) for server, zone, name in surroundings.enabled]
    return metric_of("gauge", "coredns_plugin_enabled", "Always 1, for each plugin of a zone.", ENABLED_LABELS, values)
