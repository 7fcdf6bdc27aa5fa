"""The metrics of following API servers."""

from __future__ import annotations

from collections.abc import Iterable

from kdns.cluster.tally import ResourceStatistics
from kdns.metrics import Family, Registry

# From 1 ms to 9 minutes, and the bounds of Prometheus's own clients: those of CoreDNS.
PROGRAMMING_BUCKETS = tuple(0.001 * 2**power for power in range(20))
REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

CLUSTER_IP, HEADLESS = "cluster_ip", "headless_with_selector"  # of service_kind


class Telemetry:
    """The families. Asking for them again, in another process, gives the same ones."""

    def __init__(self, registry: Registry) -> None:
        self.programming_duration = registry.histogram(
            "coredns_kubernetes_dns_programming_duration_seconds",
            "Histogram of the time (in seconds) it took to program a dns instance.",
            PROGRAMMING_BUCKETS,
            ("service_kind",),
        )
        self.request_duration = registry.histogram(
            "coredns_kubernetes_rest_client_request_duration_seconds",
            "Request latency in seconds. Broken down by verb and host.",
            REQUEST_BUCKETS,
            ("verb", "host"),
        )
        self.rate_limiter_duration = registry.histogram(
            "coredns_kubernetes_rest_client_rate_limiter_duration_seconds",
            "Client side rate limiter latency in seconds. Broken down by verb and host.",
            REQUEST_BUCKETS,
            ("verb", "host"),
        )
        self.requests = registry.counter(
            "coredns_kubernetes_rest_client_requests_total",
            "Number of HTTP requests, partitioned by status code, method, and host.",
            ("code", "method", "host"),
        )
        self.resyncs = registry.counter(
            "kdns_resync_total",
            "Comparisons of what is served with what the API server has, by their result: compared or failed.",
            ("resource", "result"),
        )
        self.repaired = registry.counter(
            "kdns_resync_repaired_total",
            "Objects that a comparison found to differ from what the API server has.",
            ("resource",),
        )
        self.events = registry.counter(
            "kdns_kubernetes_events_total", "Changes of objects that were taken in.", ("view", "resource")
        )
        self.malformed = registry.counter(
            "kdns_kubernetes_malformed_total",
            "Objects, and lines of watches, left out or cut because of what is in them.",
            ("view", "resource"),
        )
        self.lists = registry.counter(
            "kdns_kubernetes_lists_total",
            "Lists of everything, by what made them necessary.",
            ("view", "resource", "cause"),
        )
        self.errors = registry.counter(
            "kdns_kubernetes_errors_total", "Failures of following a resource, by kind.", ("view", "resource", "kind")
        )
        self.objects = registry.gauge("kdns_kubernetes_objects", "Objects that are known.", ("view", "resource"))
        self.silence = registry.gauge(
            "kdns_kubernetes_last_contact_seconds",
            "Seconds since the API server last said anything about a resource.",
            ("view", "resource"),
        )


class TallyMetrics:
    """Shows what followers count; they count from nothing in each process, the metrics do not."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._shown: dict[tuple[str, tuple[str, ...]], int] = {}

    def show(self, view: str, statistics: Iterable[ResourceStatistics]) -> None:
        """Bring the metrics of a view up to date."""
        found = self._telemetry
        for part in statistics:
            labels = (view, part.resource)
            self._count(found.events, part.events, labels)
            self._count(found.malformed, part.malformed, labels)
            for cause, count in part.relists.items():
                self._count(found.lists, count, (*labels, cause))
            for kind, count in part.errors.items():
                self._count(found.errors, count, (*labels, kind))
            found.objects.set(part.objects, labels)
            if part.seconds_since_contact is not None:
                found.silence.set(part.seconds_since_contact, labels)

    def _count(self, family: Family, total: int, labels: tuple[str, ...]) -> None:
        shown = self._shown.get((family.name, labels), 0)
        if total > shown:
            family.add(total - shown, labels)
            self._shown[family.name, labels] = total
