"""What followers count, as metrics."""

from __future__ import annotations

from dataclasses import replace

from kdns.cluster.tally import ResourceStatistics
from kdns.cluster.telemetry import TallyMetrics, Telemetry
from kdns.metrics import Registry

SERVICES = ResourceStatistics(
    resource="services",
    is_synced=True,
    is_refused=False,
    objects=3,
    seconds_since_contact=0.5,
    events=7,
    malformed=1,
    relists={"start": 1},
    errors={"timeout": 2},
    restarts=0,
)


def shown(registry: Registry) -> dict[tuple[str, ...], float]:
    return {
        (name, *labels): values[0]
        for name, cells in registry.read().items()
        for labels, values in cells.items()
        if name.startswith("kdns_")
    }


def test_counts_are_shown_by_view_and_resource() -> None:
    registry = Registry()
    TallyMetrics(Telemetry(registry)).show("1", [SERVICES])
    assert shown(registry) == {
        ("kdns_kubernetes_events_total", "1", "services"): 7,
        ("kdns_kubernetes_malformed_total", "1", "services"): 1,
        ("kdns_kubernetes_lists_total", "1", "services", "start"): 1,
        ("kdns_kubernetes_errors_total", "1", "services", "timeout"): 2,
        ("kdns_kubernetes_objects", "1", "services"): 3,
        ("kdns_kubernetes_last_contact_seconds", "1", "services"): 0.5,
    }


def test_a_successor_goes_on_counting() -> None:
    registry = Registry()
    for events in (7, 4):  # of the first process, and of the next, which counts from nothing
        metrics = TallyMetrics(Telemetry(registry))
        metrics.show("0", [replace(SERVICES, events=events - 1)])
        metrics.show("0", [replace(SERVICES, events=events, seconds_since_contact=None)])
    assert shown(registry)["kdns_kubernetes_events_total", "0", "services"] == 11
    assert shown(registry)["kdns_kubernetes_last_contact_seconds", "0", "services"] == 0.5


def test_asking_for_the_families_again_gives_the_same_ones() -> None:
    registry = Registry()
    first, again = Telemetry(registry), Telemetry(registry)
    assert first.requests is again.requests
    assert len(first.programming_duration.buckets) == 20
    assert first.programming_duration.buckets[-1] == 0.001 * 2**19
