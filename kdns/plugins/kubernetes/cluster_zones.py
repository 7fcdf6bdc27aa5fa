"""The names of a cluster on the slow path: the table, and what no table of names can hold."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from kdns.cluster.addresses import parse_address, pod_address
from kdns.cluster.client_notes import client_owner
from kdns.cluster.view import PodMode, View
from kdns.cluster.zones import DIRECTIVES, POD, SVC, WILDCARD, is_reverse
from kdns.dns import names
from kdns.dns.codes import RRClass, RRType
from kdns.dns.compression import EMPTY, OWNER, Body
from kdns.dns.records import read_answers
from kdns.dns.rrset import Record
from kdns.hotpath.table import Table
from kdns.plugins import bodies
from kdns.plugins.kubernetes.undecided import is_undecided
from kdns.plugins.plugin import BlockSettings, CurrentTable, Route
from kdns.plugins.table_zones import TableZones, question_of
from kdns.table.render import soa_template

PORT_DEPTH = 5  # labels below the zone of _port._proto.<svc>.<ns>.svc
ZONAL_DEPTH = 6  # labels below the zone of <zone>.pin._zone.<svc>.<ns>.svc, at least
GLUE_TTL = 0  # seconds, of the addresses of name servers in a transfer
MAX_SURPLUS = 2  # labels before a Pod's name that are ignored, as CoreDNS does

_ADDRESS_TYPES = {4: RRType.A, 16: RRType.AAAA}  # by the octets of an address


class ClusterZones(TableZones):
    """Answers for the zones of one `kubernetes` directive."""

    def __init__(
        self,
        view: View,
        view_index: int,
        fallthrough: tuple[bytes, ...],
        current: CurrentTable,
        block: BlockSettings | None = None,
        denial_ttl: int | None = None,
    ) -> None:
        minimum = view.ttl if view.soa_minimum is None else view.soa_minimum
        soa = soa_template(view.ttl if denial_ttl is None else denial_ttl, minimum)
        super().__init__("kubernetes", view_index, view.zones, soa, fallthrough, current, PORT_DEPTH, block)
        self._view = view
        self._is_verified = view.pods is PodMode.VERIFIED
        has_pods = view.pods is not PodMode.DISABLED
        self._pod_suffixes = {zone: POD + zone for zone in view.zones} if has_pods else {}
        # A Pod's answer up to its address.
        self._pod_heads = {
            size: OWNER + struct.pack("!HHIH", rtype, RRClass.IN, view.ttl, size)
            for size, rtype in _ADDRESS_TYPES.items()
        }

    @property
    def view(self) -> View:
        """The options that shape its records."""
        return self._view

    def _transferred(self, table: Table, zone: bytes) -> Iterator[Record | None]:
        yield from self._name_servers(table, zone, GLUE_TTL)
        if is_reverse(zone):
            for found in self._scan(table, suffix=zone):
                if found is None:
                    yield None
                elif found[1][0] == RRType.PTR and self.zone_of(found[0]) == zone:
                    yield from read_answers(question_of(found[0]), bodies.of_entry(found[1]))
            return
        # Only who transfers a zone needs what reads notes: a tenth of the time a start takes.
        from kdns.cluster import notes
        from kdns.plugins.kubernetes.transfers import service_records

        prefix = notes.TRANSFER + notes.HALVES[zone in self._view.multicluster]
        services: list[bytes] = []
        for found in self._scan(table, prefix=prefix):
            if found is None:
                yield None
            else:
                services.append(found[0][len(prefix) :])
        # By name, then by namespace, as CoreDNS; each as it is when its turn comes.
        for service in sorted(services, key=lambda name: names.labels_of(name + names.ROOT)):
            owner = service + SVC + zone
            entry = table.lookup(prefix + service, 0, self._view_index)
            if entry is not None and len(owner) <= names.MAX_NAME and self.zone_of(owner) == zone:
                yield from service_records(owner, notes.read_service(entry[6]), self._view.ttl)

    @property
    def knows_clients(self) -> bool:
        """Whether `namespace_of` has anything to tell."""
        return self._view.clients

    def namespace_of(self, client: str) -> bytes | None:
        """The label of the namespace a client is in, by its address; None where it is no Pod, or none is looked for."""
        table = self._current.table
        if table is None or not self._view.clients or (address := parse_address(client)) is None:
            return None
        entry = table.lookup(client_owner(address), 0, self._view_index)
        return None if entry is None else entry[6]

    def _suffixes(self) -> set[bytes]:
        pods = (suffix for zone, suffix in self._pod_suffixes.items() if not is_reverse(zone))
        return super()._suffixes().union(pods)

    def _route(self, suffix: bytes, zone: bytes) -> Route:
        route = super()._route(suffix, zone)
        if is_reverse(zone):
            return route
        has_zones = self._view.zonal and zone not in self._view.multicluster
        return route._replace(
            nxdomain_is_miss=route.nxdomain_is_miss or self._may_be_pod(suffix, zone),
            computes=self._may_be_pod(suffix, zone),
            miss_depth=ZONAL_DEPTH if has_zones else 0,
        )

    def _serial_index(self, zone: bytes) -> int:
        return 2 * self._view_index + (zone in self._view.multicluster)

    def _is_undecided(self, table: Table, name: bytes, zone: bytes) -> bool:
        return is_undecided(table, self._view_index, self._view, name, zone)

    def _may_lack_underscores(self, marked: list[bool], zone: bytes) -> bool:
        return zone not in self._view.multicluster or any(marked)

    def _other_spelling(self, table: Table, owner: bytes, zone: bytes) -> bytes | None:
        depth = len(names.labels_of(owner)) - len(names.labels_of(zone))
        if not self._view.zonal or depth < ZONAL_DEPTH:
            return super()._other_spelling(table, owner, zone)
        for parent in names.parents(owner)[1:]:
            if parent.startswith(DIRECTIVES):
                wildcard = WILDCARD + parent
                return wildcard if table.lookup(wildcard, 0, self._view_index) else None
        return None

    def _computed(self, table: Table, owner: bytes, qtype: int, zone: bytes) -> Body | None:
        """The body of a Pod's name."""
        suffix = self._pod_suffixes.get(zone)
        if suffix is None or not owner.endswith(suffix):
            return None
        # <surplus>...<ip>.<ns>.pod.<zone>: where each label begins, up to `pod`.
        starts, at, end = [], 0, len(owner) - len(suffix)
        while at < end:
            starts.append(at)
            at += 1 + owner[at]
        if at > end or not 2 <= len(starts) <= 2 + MAX_SURPLUS:
            return None
        pod, namespace = starts[-2:]
        if table.lookup(owner[namespace:], 0, self._view_index) is None:
            return None
        address = pod_address(owner[pod + 1 : namespace].decode("latin-1"))
        if address is None:
            return None
        if self._is_verified and table.lookup(owner[pod:], 0, self._view_index) is None:
            return None
        size = len(address)
        if qtype != _ADDRESS_TYPES[size]:
            return EMPTY
        return Body(self._pod_heads[size] + address, 1)

    def _may_be_pod(self, name: bytes, zone: bytes) -> bool:
        suffix = self._pod_suffixes.get(zone)
        return suffix is not None and names.is_below(name, suffix)
