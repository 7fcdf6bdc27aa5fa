"""`prometheus`: counts the queries of its server block, and has the server show all metrics over HTTP.

Where the compiled path answers it counts by itself, in the meter that stands in the route; this plugin counts the rest.
The time it measures is that of the plugins behind it.
"""

from __future__ import annotations

from kdns import log
from kdns.dns import names
from kdns.dns.lengths import reply_length
from kdns.dns.reply import Reply
from kdns.errors import Dropped, ServeError
from kdns.metrics import Registry
from kdns.plugins import metering
from kdns.plugins.address import check_address
from kdns.plugins.metering import QueryMeters, Zone
from kdns.plugins.plugin import Handler, PrometheusSettings, Request, Setup
from kdns.plugins.web_config import read_web_config

DEFAULT_ADDRESS = "localhost:9153"

# What CoreDNS shows from its start on, whatever its Corefile says: alerts may ask whether it is there.
ALWAYS_SHOWN = {
    "coredns_forward_healthcheck_broken_total": "How often every upstream was down, and one was asked all the same.",
    "coredns_forward_max_concurrent_rejects_total": "Queries refused because too many were under way.",
    "coredns_health_request_failures_total": "How often the health endpoint did not answer itself.",
    "coredns_local_localhost_requests_total": "Queries for names such as localhost.DOMAIN.",
    "coredns_panics_total": "Queries at which a plugin failed in a way nobody foresaw.",
    "coredns_reload_failed_total": "Reloads that failed.",
}

_LOG = log.plugin_logger("prometheus")


class Prometheus:
    """Counts; it changes nothing."""

    def __init__(self, metrics: Registry, zones: tuple[bytes, ...]) -> None:
        self._zones = zones
        self._meters = QueryMeters(metrics)
        self._places: dict[tuple[str, bytes], Zone] = {}
        self.transparent = True

    def note_listener(self, server: str, zone: bytes) -> None:
        """Have a meter for a zone of the block at a listener."""
        place = self._meters.zone(server, names.to_text(zone))
        if place.meter is None:
            _LOG.warning("too many zones: sizes, types and times of the queries of %s are not counted", place.zone)
            self.transparent = False
        self._places[server, zone] = place

    def meter_of(self, server: str, zone: bytes) -> int:
        """The number of a zone's meter, plus one, as a Route wants it; 0: there is none."""
        place = self._places.get((server, zone))
        return 0 if place is None or place.meter is None else place.meter + 1

    async def serve(self, request: Request, next_handler: Handler) -> Reply:
        """Hand on, and count what comes back."""
        started = metering.clock()
        try:
            reply = await next_handler(request)
        except ServeError as error:
            self._count(request, error.rcode, "", 0, started)
            raise
        except Dropped:
            self._count(request, 0, "", 0, started)
            raise
        self._count(request, reply.rcode, reply.writer, reply_length(request.query.head, reply.body), started)
        return reply

    def _count(self, request: Request, rcode: int, writer: str, size: int, started: float) -> None:
        zone = names.longest_zone(request.query.qname, self._zones)
        place = self._places.get((request.server, zone or names.ROOT))
        if place is not None:
            self._meters.count(place, request, rcode, writer, size, metering.clock() - started)


def setup(setup: Setup) -> Prometheus:
    """`prometheus [ADDRESS] { runtime_metrics; tls FILE }`, once per block."""
    directive = setup.directive
    address, web_config = DEFAULT_ADDRESS, None
    for _ in directive.only_occurrence():
        if (given := directive.optional_arg()) is not None:
            address = check_address(given)
        while directive.next_block():
            match directive.val:
                case "runtime_metrics":  # more of the collectors of Go's runtime, which is not here
                    if directive.next_arg():
                        raise directive.arg_error()
                case "tls":
                    arguments = directive.remaining_args()
                    if len(arguments) != 1:
                        raise directive.arg_error()
                    web_config = read_web_config(arguments[0], setup.block.folder)
                case unknown:
                    raise directive.error(f"unknown option: {unknown}", hint="expected runtime_metrics or tls")
    for name, help_text in ALWAYS_SHOWN.items():
        setup.surroundings.metrics.counter(name, help_text)
    settings = setup.surroundings.prometheus
    if web_config is not None or address not in settings:
        settings[address] = PrometheusSettings(address, web_config)
    return Prometheus(setup.surroundings.metrics, setup.zones)
