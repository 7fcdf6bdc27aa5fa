"""docs/metrics.md names every family the service itself shows."""

from __future__ import annotations

import re
from pathlib import Path

from kdns.cluster.telemetry import Telemetry
from kdns.hotpath.meter import Meters
from kdns.hotpath.table import Table
from kdns.hotpath.table_writer import TableWriter
from kdns.metrics import CounterTable, Registry
from kdns.plugins.plugin import Surroundings
from kdns.server.publisher import Publisher
from kdns.server.service_metrics import ServiceMetrics
from kdns.server.worker_metrics import WorkerMetrics
from tests.fakes.directives import build

PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()


def shown() -> set[str]:
    """The families of a service that follows a cluster, counts, and serves an image."""
    surroundings = Surroundings(has_manifests=True)
    build(". {\nprometheus\nhealth\nreload\nkubernetes cluster.local\nforward . 127.0.0.1\n}\n", surroundings)
    writers: list[TableWriter] = []
    Publisher(surroundings.views, writers.append).start()
    writers[-1].beat()
    surroundings.current_table.table = Table(writers[-1].fd)
    metrics = surroundings.metrics
    Meters(metrics.meters.row(0)).observe(
        0, stream=False, is_v6=False, qtype=1, dnssec_ok=True, request_size=1, response_size=1, seconds=0.0
    )
    made = ServiceMetrics(CounterTable(1), list, lambda: 0.0).exposition(surroundings)
    text = made.text().decode()
    return set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)) | set(metrics.families)


def test_every_family_is_documented():
    documented = set(re.findall(r"`((?:coredns|kdns|process|go)_\w+)`", PAGE))
    assert shown() - documented == set()


def test_what_is_documented_as_kdns_own_is_there():
    registry = Registry()
    Telemetry(registry)
    WorkerMetrics(registry)
    own = {name for name in re.findall(r"`(kdns_\w+)`", PAGE) if not name.startswith("kdns_process")}
    assert own - shown() - set(registry.families) == set()
