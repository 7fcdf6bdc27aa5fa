"""Counts queries for `prometheus`: those the slow path answers, and those that reach no chain.

Numbers every query has go into the meters the compiled path counts in as well (hotpath/meter.pyx). Which plugin
answered with what code is a family of the registry, because there are more of both here.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from kdns.dns.codes import Rcode, rcode_text
from kdns.dns.lengths import query_length
from kdns.hotpath.meter import Meters
from kdns.metrics import Registry
from kdns.metrics.meters import DROPPED
from kdns.plugins.plugin import Request

RESPONSES = "coredns_dns_responses_total"
RESPONSES_HELP = "Responses by code and by the plugin that wrote them; none: the server itself."
RESPONSES_LABELS = ("server", "zone", "view", "rcode", "plugin")

PANICS = "coredns_panics_total"
PANICS_HELP = "Queries at which a plugin failed in a way nobody foresaw."

clock = time.perf_counter


@dataclass(frozen=True, slots=True)
class Zone:
    """A zone of a listener as metrics name it, and the number of its meter; None: there are too many zones."""

    server: str
    zone: str
    meter: int | None


class QueryMeters:
    """The slow path's hand on the meters of its process."""

    def __init__(self, metrics: Registry) -> None:
        self._metrics = metrics
        self._responses = metrics.counter(RESPONSES, RESPONSES_HELP, RESPONSES_LABELS)
        self._meters: Meters | None = None
        self._row: object = None  # the row `_meters` belong to

    def zone(self, server: str, zone: str) -> Zone:
        """Have a meter for a zone; before any process is forked."""
        return Zone(server, zone, self._metrics.meters.number(server, zone))

    def count(self, zone: Zone, request: Request, rcode: int, writer: str, size: int, seconds: float) -> None:
        """Count a query and its reply. `size` is that of the reply uncompressed, or 0 where nothing was written."""
        self._responses.add(1, (zone.server, zone.zone, "", rcode_text(rcode), writer))
        if zone.meter is None:
            return
        if self._meters is None or self._row is not self._metrics.row:
            self._row = self._metrics.row
            self._meters = Meters(self._metrics.meters.row(self._metrics.attached))
        query = request.query
        self._meters.observe(
            zone.meter,
            stream=request.stream,
            is_v6=":" in request.client[0],
            qtype=query.qtype,
            dnssec_ok=query.edns is not None and query.edns.dnssec_ok,
            request_size=query_length(query),
            response_size=size,
            seconds=seconds,
        )


class UnservedQueries:
    """Counts what a listener answers without a chain, or although one broke; only where somebody looks at metrics."""

    def __init__(self, metrics: Registry, server: str) -> None:
        self._meters = QueryMeters(metrics)
        self._zone = self._meters.zone(server, DROPPED)
        self._panics = metrics.counter(PANICS, PANICS_HELP)

    @property
    def meter(self) -> int:
        """The number of the meter, plus one, as the compiled path wants it; 0: there is none."""
        return 0 if self._zone.meter is None else self._zone.meter + 1

    def count_refused(self, request: Request) -> None:
        """Count a query nobody was asked about."""
        self._meters.count(self._zone, request, Rcode.REFUSED, "", len(request.query.head), 0.0)

    def count_panic(self, request: Request) -> None:
        """Count a query at which a plugin failed."""
        self._panics.add()
        self._meters.count(self._zone, request, Rcode.SERVFAIL, "", len(request.query.head), 0.0)
