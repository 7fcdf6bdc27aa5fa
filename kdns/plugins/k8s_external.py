"""`k8s_external`: Services by the addresses they are reached at from outside, in zones of their own.

The names stand in the response table beside the cluster's, under a number of their own; `kdns/cluster/external.py`
says what they are. Where this differs from CoreDNS: before the cluster has been listed these names are SERVFAIL, a load
balancer's name gives way to its IP addresses where it has both, and the target of an SRV record that lies elsewhere
brings no addresses along.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from kdns.cluster.view import ExternalZones
from kdns.cluster.zones import is_reverse
from kdns.corefile import Dispenser
from kdns.dns import names
from kdns.dns.codes import RRType
from kdns.dns.records import read_answers
from kdns.dns.rrset import Record
from kdns.errors import CorefileError, FormatError
from kdns.hotpath.table import Table
from kdns.plugins import bodies
from kdns.plugins.plugin import BlockSettings, CurrentTable, Plugin, Route, Setup
from kdns.plugins.table_zones import TableZones, question_of
from kdns.plugins.zones import parse_zones
from kdns.table.render import external_index, external_soa_template

PORT_DEPTH = 4  # labels below the zone of _port._proto.<svc>.<ns>
ENDPOINT_DEPTH = 3  # labels below the zone of <endpoint>.<svc>.<ns>
MAX_TTL = 3600  # seconds, as CoreDNS

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_FULL_WEIGHT = b"\0\x64"  # of an SRV record: 100


class ExternalService(TableZones):
    """Answers for the zones of one `k8s_external` directive."""

    def __init__(
        self,
        options: ExternalZones,
        fallthrough: tuple[bytes, ...],
        current: CurrentTable,
        block: BlockSettings | None = None,
        denial_ttl: int | None = None,
    ) -> None:
        minimum = options.ttl if options.soa_minimum is None else options.soa_minimum
        soa = external_soa_template(options.ttl if denial_ttl is None else denial_ttl, options.apex, minimum)
        super().__init__("k8s_external", 0, options.zones, soa, fallthrough, current, PORT_DEPTH, block)

    def connect(self, plugins: Mapping[str, Plugin]) -> None:
        """Find the `kubernetes` whose cluster this is."""
        cluster = plugins.get("kubernetes")
        if not isinstance(cluster, TableZones):
            raise CorefileError("the server block has no kubernetes directive, whose Services this would show")
        self._view_index = external_index(cluster.view_index)

    def _route(self, suffix: bytes, zone: bytes) -> Route:
        return super()._route(suffix, zone)._replace(is_external=True)

    def _transferred(self, table: Table, zone: bytes) -> Iterator[Record | None]:
        yield from self._name_servers(table, zone, None)
        suffix = b"" if zone == names.ROOT else zone
        wanted = (RRType.PTR,) if is_reverse(zone) else (RRType.A, RRType.AAAA, RRType.SRV)
        for found in self._scan(table, suffix=suffix):
            if found is None:
                yield None
                continue
            owner, entry = found
            if entry[0] in wanted and self.zone_of(owner) == zone and not self._is_hidden(table, owner, zone):
                answers = read_answers(question_of(owner), bodies.of_entry(entry))
                yield from _as_transferred(owner, entry[0], answers)

    def _is_hidden(self, table: Table, owner: bytes, zone: bytes) -> bool:
        """Whether a transfer leaves a name out: an endpoint of a Service that is not there itself."""
        if is_reverse(zone) or len(names.labels_of(owner)) - len(names.labels_of(zone)) != ENDPOINT_DEPTH:
            return False
        return table.lookup(owner[1 + owner[0] :], 0, self._view_index) is None


def _as_transferred(owner: bytes, qtype: int, answers: list[Record]) -> Iterator[Record]:
    """What of an answer a transfer shows: of ports SRV alone, and each external address with all the weight."""
    labels = names.labels_of(owner)
    is_port = len(labels) > 2 and labels[0].startswith(b"_")
    if is_port and (qtype != RRType.SRV or b"_" in labels[:2]):
        return
    service = owner[2 + len(labels[0]) + len(labels[1]) :] if is_port else owner
    for record in answers:
        if record.rtype == RRType.CNAME and qtype == RRType.AAAA:
            continue  # it is there with A, too
        if qtype == RRType.SRV:
            target = record.rdata[bodies.SRV_TARGET_AT :]
            if target == service or not names.is_below(target, service):
                record = record._replace(rdata=record.rdata[:2] + _FULL_WEIGHT + record.rdata[4:])
        yield record


@dataclass(slots=True)
class _Options:
    zones: tuple[bytes, ...]
    apex: bytes = b"\x03dns"
    ttl: int = 5
    headless: bool = False
    fallthrough: tuple[bytes, ...] = ()


def setup(setup: Setup) -> ExternalService:
    """`k8s_external [ZONE...] { apex LABEL; ttl SECONDS; headless; fallthrough [ZONE...] }`."""
    directive = setup.directive
    options = _Options(setup.zones)
    while directive.next():
        options.zones = parse_zones(directive.remaining_args()) or setup.zones
        while directive.next_block():
            _parse_option(directive, options)
    ttl = denial_ttl = options.ttl
    clamp = setup.block.ttl_clamp
    if clamp is not None and clamp.covers(options.zones):
        ttl, denial_ttl = clamp.of_answer(ttl), clamp.of_denial(ttl)
    minimum = None if ttl == options.ttl else options.ttl
    found = ExternalZones(options.zones, options.apex, ttl, options.headless, minimum)
    setup.block.cluster.external = found
    return ExternalService(found, options.fallthrough, setup.surroundings.current_table, setup.block, denial_ttl)


def _parse_option(directive: Dispenser, options: _Options) -> None:
    match directive.val:
        case "ttl":
            options.ttl = _parse_ttl(directive)
        case "apex":
            options.apex = _parse_apex(directive)
        case "headless":
            options.headless = True
        case "fallthrough":
            options.fallthrough = parse_zones(directive.remaining_args()) or (names.ROOT,)
        case _:
            raise directive.unknown_property(("ttl", "apex", "headless", "fallthrough"))


def _parse_ttl(directive: Dispenser) -> int:
    arguments = directive.remaining_args()
    if not arguments:
        raise directive.arg_error()
    if not _INTEGER.fullmatch(arguments[0]):
        raise CorefileError(f'strconv.Atoi: parsing "{arguments[0]}": invalid syntax')
    ttl = int(arguments[0])
    if not 0 <= ttl <= MAX_TTL:
        raise directive.error(f"ttl must be in range [0, {MAX_TTL}]: {ttl}")
    return ttl


def _parse_apex(directive: Dispenser) -> bytes:
    arguments = directive.remaining_args()
    if not arguments:
        raise directive.arg_error()
    try:
        label = names.from_labels([arguments[0].encode("utf-8", "surrogateescape")])
    except FormatError as error:
        raise directive.error(f"apex: {error}") from error
    if "." in arguments[0]:
        raise directive.error(f"apex: met '{arguments[0]}', expected one label")
    return label[:-1]
