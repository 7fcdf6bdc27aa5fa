"""The metrics of `forward`: CoreDNS's of today, and those of before 1.11, which dashboards still show."""

from __future__ import annotations

from kdns.dns.codes import rcode_text
from kdns.metrics import Registry

DURATION_BUCKETS = tuple(0.00025 * 2**k for k in range(16))  # seconds
_PROXY = "forward"  # the label proxy_name


class Meters:
    """The families, for all `forward` directives."""

    def __init__(self, registry: Registry) -> None:
        counter, histogram = registry.counter, registry.histogram
        self.healthcheck_broken = counter(
            "coredns_forward_healthcheck_broken_total",
            "Counter of the number of complete failures of the healthchecks.",
        )
        self.max_concurrent_rejects = counter(
            "coredns_forward_max_concurrent_rejects_total",
            "Counter of the number of queries rejected because the concurrent queries were at maximum.",
        )
        self.proxy_duration = histogram(
            "coredns_proxy_request_duration_seconds",
            "Histogram of the time each request took.",
            DURATION_BUCKETS,
            ("proxy_name", "to", "rcode"),
        )
        self.proxy_healthcheck_failures = counter(
            "coredns_proxy_healthcheck_failures_total",
            "Counter of the number of failed healthchecks.",
            ("proxy_name", "to"),
        )
        self.proxy_hits = counter(
            "coredns_proxy_conn_cache_hits_total",
            "Counter of connection cache hits per upstream and protocol.",
            ("proxy_name", "to", "proto"),
        )
        self.proxy_misses = counter(
            "coredns_proxy_conn_cache_misses_total",
            "Counter of connection cache misses per upstream and protocol.",
            ("proxy_name", "to", "proto"),
        )
        self.requests = counter("coredns_forward_requests_total", "Counter of requests made per upstream.", ("to",))
        self.responses = counter(
            "coredns_forward_responses_total", "Counter of responses received per upstream.", ("to", "rcode")
        )
        self.duration = histogram(
            "coredns_forward_request_duration_seconds",
            "Histogram of the time each request took.",
            DURATION_BUCKETS,
            ("to", "rcode"),
        )
        self.healthcheck_failures = counter(
            "coredns_forward_healthcheck_failures_total", "Counter of the number of failed healthchecks.", ("to",)
        )
        self.hits = counter(
            "coredns_forward_conn_cache_hits_total",
            "Counter of connection cache hits per upstream and protocol.",
            ("to", "proto"),
        )
        self.misses = counter(
            "coredns_forward_conn_cache_misses_total",
            "Counter of connection cache misses per upstream and protocol.",
            ("to", "proto"),
        )
        self.near_misses = counter(
            "kdns_forward_near_misses_total",
            "Counter of messages from an upstream's address that answered no question it was asked.",
            ("to",),
        )


class UpstreamMeters:
    """The same of one upstream; label values are put together once."""

    __slots__ = ("_families", "_protocols", "_rcodes", "_to")

    def __init__(self, families: Meters, address: str) -> None:
        self._families = families
        self._to = (address,)
        self._rcodes: dict[int, tuple[tuple[str, str, str], tuple[str, str]]] = {}
        self._protocols = {
            protocol: ((_PROXY, address, protocol), (address, protocol)) for protocol in ("udp", "tcp", "tcp-tls")
        }

    def note_connection(self, protocol: str, is_reused: bool) -> None:
        """A query went out over a connection that was there, or not."""
        families = self._families
        proxy_labels, labels = self._protocols[protocol]
        (families.proxy_hits if is_reused else families.proxy_misses).add(1, proxy_labels)
        (families.hits if is_reused else families.misses).add(1, labels)

    def query_places(self) -> tuple[int, ...]:
        """Where in the registry's row are counted: requests, near misses, both families of hits over UDP, of misses."""
        families = self._families
        proxy_labels, labels = self._protocols["udp"]
        return (
            families.requests.place(self._to),
            families.near_misses.place(self._to),
            families.proxy_hits.place(proxy_labels),
            families.hits.place(labels),
            families.proxy_misses.place(proxy_labels),
            families.misses.place(labels),
        )

    def reply_places(self, rcode: int) -> tuple[int, int, int]:
        """Likewise of replies: where both families of durations begin, and the count."""
        families = self._families
        proxy_labels, labels = self._labels_of(rcode)
        return (
            families.proxy_duration.place(proxy_labels),
            families.duration.place(labels),
            families.responses.place(labels),
        )

    def note_request(self) -> None:
        """The upstream is asked."""
        self._families.requests.add(1, self._to)

    def note_reply(self, rcode: int, seconds: float) -> None:
        """It answered."""
        families = self._families
        proxy_labels, labels = self._labels_of(rcode)
        families.proxy_duration.observe(seconds, proxy_labels)
        families.duration.observe(seconds, labels)
        families.responses.add(1, labels)

    def _labels_of(self, rcode: int) -> tuple[tuple[str, str, str], tuple[str, str]]:
        known = self._rcodes.get(rcode)
        if known is None:
            text = _rcode_label(rcode)
            known = self._rcodes[rcode] = ((_PROXY, self._to[0], text), (self._to[0], text))
        return known

    def note_failed_check(self) -> None:
        """A health check failed."""
        self._families.proxy_healthcheck_failures.add(1, (_PROXY, *self._to))
        self._families.healthcheck_failures.add(1, self._to)

    def note_near_miss(self) -> None:
        """Something came that was no answer."""
        self._families.near_misses.add(1, self._to)


def _rcode_label(rcode: int) -> str:
    """The mnemonic of a response code, or its number: not `RCODE23` in these families."""
    text = rcode_text(rcode)
    return str(rcode) if text.startswith("RCODE") else text
