"""The metrics of `cache`."""

from __future__ import annotations

from kdns.metrics import Registry

SUCCESS, DENIAL = "success", "denial"


class CacheMeters:
    """What one server block's cache counts; names and labels are CoreDNS's."""

    def __init__(self, metrics: Registry, zones: str) -> None:
        one = ("server", "zones", "view")
        by_type = ("server", "type", "zones", "view")
        self._zones = zones
        self._entries = metrics.gauge("coredns_cache_entries", "The number of elements in the cache.", by_type)
        self._requests = metrics.counter("coredns_cache_requests_total", "The count of cache requests.", one)
        self._hits = metrics.counter("coredns_cache_hits_total", "The count of cache hits.", by_type)
        self._misses = metrics.counter(
            "coredns_cache_misses_total",
            "The count of cache misses. Deprecated, derive misses from cache hits/requests counters.",
            one,
        )
        self._evictions = metrics.counter("coredns_cache_evictions_total", "The count of cache evictions.", by_type)
        self._prefetches = metrics.counter(
            "coredns_cache_prefetch_total", "The number of times the cache has prefetched a cached item.", one
        )
        self._drops = metrics.counter(
            "coredns_cache_drops_total",
            "The number responses that are not cached, because the reply is malformed.",
            one,
        )
        self._stale = metrics.counter(
            "coredns_cache_served_stale_total", "The number of requests served from stale cache entries.", one
        )
        self._evicted: dict[str, tuple[int, int]] = {}

    def places(self, server: str) -> tuple[int, int, int, int]:
        """Where in the registry's row a listener's requests, hits of answers and of denials, and misses are counted."""
        return (
            self._requests.place((server, self._zones, "")),
            self._hits.place((server, SUCCESS, self._zones, "")),
            self._hits.place((server, DENIAL, self._zones, "")),
            self._misses.place((server, self._zones, "")),
        )

    def count_lookup(self, server: str, is_denial: bool | None) -> None:
        """Count a look-up: a hit of either kind, or a miss where that is None."""
        self._requests.add(1, (server, self._zones, ""))
        if is_denial is None:
            self._misses.add(1, (server, self._zones, ""))
        else:
            self._hits.add(1, (server, DENIAL if is_denial else SUCCESS, self._zones, ""))

    def count_prefetch(self, server: str) -> None:
        """Count an entry that is renewed behind a reply."""
        self._prefetches.add(1, (server, self._zones, ""))

    def count_stale(self, server: str) -> None:
        """Count a reply from an entry that had expired."""
        self._stale.add(1, (server, self._zones, ""))

    def count_drop(self, server: str) -> None:
        """Count a reply that is not what was asked for."""
        self._drops.add(1, (server, self._zones, ""))

    def note_entries(self, server: str, counts: tuple[int, int, int, int]) -> None:
        """Tell how many entries there are in this process's part, and how many have made room since the last time."""
        before = self._evicted.get(server, counts[2:])
        self._evicted[server] = counts[2:]
        for kind, entries, evicted, known in zip((SUCCESS, DENIAL), counts[:2], counts[2:], before, strict=True):
            labels = (server, kind, self._zones, "")
            self._entries.set(entries, labels)
            if evicted > known:
                self._evictions.add(evicted - known, labels)
