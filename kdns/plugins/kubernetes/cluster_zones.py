"""The names of a cluster on the slow path: the table, and what no table of names can hold.

Before everything of a cluster has been listed, nothing is known to be absent: such names get SERVFAIL, whatever
`fallthrough` says.
"""

from __future__ import annotations

from dataclasses import replace

from kdns.cluster.owners import pod_address
from kdns.cluster.services import DIRECTIVES, WILDCARD
from kdns.cluster.view import PodMode, View
from kdns.dns import names
from kdns.dns.codes import ExtendedError, Rcode, RRType
from kdns.dns.compression import EMPTY, Body, write_body
from kdns.dns.query import Query
from kdns.dns.records import read_answers
from kdns.dns.reply import Reply, refusal
from kdns.dns.rrset import Record
from kdns.hotpath.table import Table
from kdns.plugins.kubernetes import bodies
from kdns.plugins.plugin import TABLE, CurrentTable, Handler, Request, Route
from kdns.table.render import ALIAS, HAS_PORTS, LEAVES_ZONE, SPELLS_ZONE, soa_template

PORT_DEPTH = 5  # labels below the zone of _port._proto.<svc>.<ns>.svc
ZONAL_DEPTH = 6  # labels below the zone of <zone>.pin._zone.<svc>.<ns>.svc, at least
POD_DEPTH = 3  # labels below the zone of <ip>.<ns>.pod
MAX_SURPLUS = 2  # labels before a Pod's name that are ignored, as CoreDNS does

_POD = b"\x03pod"
_ADDRESS_SIZE = {RRType.A: 4, RRType.AAAA: 16}  # octets


class ClusterZones:
    """Answers for the zones of one `kubernetes` directive."""

    transparent = False

    def __init__(self, view: View, view_index: int, fallthrough: tuple[bytes, ...], current: CurrentTable) -> None:
        self._view = view
        self._view_index = view_index
        self._fallthrough = fallthrough
        self._current = current

    @property
    def view_index(self) -> int:
        """The number of the view in the table."""
        return self._view_index

    def routes(self) -> list[Route]:
        """A route for each suffix from which on names are treated alike."""
        view = self._view
        suffixes = {*view.zones, *(zone for zone in self._fallthrough if names.longest_zone(zone, view.zones))}
        if view.pods is not PodMode.DISABLED:
            suffixes.update(_POD + zone for zone in view.zones if not _is_reverse(zone))
        return [self._route(suffix) for suffix in suffixes]

    async def serve(self, request: Request, next_handler: Handler) -> Reply:
        """Answer a name of these zones; others, and what falls through, go to the next plugin."""
        query = request.query
        zone = names.longest_zone(query.qname, self._view.zones)
        if zone is None:
            return await next_handler(request)
        if query.qtype in (RRType.AXFR, RRType.IXFR):
            return refusal(Rcode.REFUSED)
        table = self._current.table
        if table is None:
            return self._unsynced(None, query, zone)
        found = self._find(table, query.qname, query.qtype, zone)
        if found is None:
            if not table.is_synced(self._view_index):
                return self._unsynced(table, query, zone)
            if self._falls_through(query.qname):
                return await next_handler(request)
            return self._negative(table, query, zone, Rcode.NXDOMAIN)
        owner, flags, body = found
        if body is None:
            if not table.is_synced(self._view_index):
                return self._unsynced(table, query, zone)
            return self._negative(table, query, zone, Rcode.NOERROR)
        if query.qtype == RRType.SOA:
            body = self._with_serial(table, zone, body)
        if flags & LEAVES_ZONE:
            return await _chase(request, body)
        if owner != query.qname:
            body = bodies.move(body, len(query.qname) - len(owner))
        if flags & SPELLS_ZONE and query.has_upper_case:
            body = bodies.spell_zone(body, query, zone)
        return Reply(body=body)

    def _route(self, suffix: bytes) -> Route:
        view = self._view
        zone = names.longest_zone(suffix, view.zones)
        assert zone is not None
        is_forward = not _is_reverse(zone)
        return Route(
            suffix,
            TABLE,
            self._view_index,
            self._serial_index(zone),
            nxdomain_is_miss=self._falls_through(suffix) or (is_forward and self._may_be_pod(suffix, zone)),
            port_depth=PORT_DEPTH if is_forward else 0,
            miss_depth=ZONAL_DEPTH if view.zonal and is_forward and zone not in view.multicluster else 0,
            zone_labels=len(names.labels_of(zone)),
            zone_length=len(zone),
            soa=soa_template(view.ttl),
        )

    def _find(self, table: Table, owner: bytes, qtype: int, zone: bytes) -> tuple[bytes, int, Body | None] | None:
        """(owner the table knows it by, flags, body or None for NODATA); None where the name does not exist."""
        view = self._view_index
        entry = table.lookup(owner, qtype, view) if qtype else None
        if entry is not None:
            return owner, entry[1], bodies.of_entry(entry)
        exists = table.lookup(owner, 0, view)
        if exists is None:
            computed = self._pod(table, owner, qtype, zone)
            if computed is not None:
                return owner, 0, computed if computed.octets else None
            other = self._other_spelling(table, owner, zone)
            return None if other is None else self._find(table, other, qtype, zone)
        if exists[1] & ALIAS:
            return self._find(table, exists[6], qtype, zone)
        # The name may have come between the two look-ups: its types were there before it was, so they are now.
        entry = table.lookup(owner, qtype, view) if qtype else None
        return (owner, 0, None) if entry is None else (owner, entry[1], bodies.of_entry(entry))

    def _other_spelling(self, table: Table, owner: bytes, zone: bytes) -> bytes | None:
        """The owner in the table that CoreDNS would take `owner` for."""
        labels = names.labels_of(owner)
        depth = len(labels) - len(names.labels_of(zone))
        if depth == PORT_DEPTH:
            service = table.lookup(
                b"".join(bytes([len(part)]) + part for part in labels[2:]) + b"\0", 0, self._view_index
            )
            if service is None or not service[1] & HAS_PORTS:
                return None
            marked = [part.startswith(b"_") for part in labels[:2]]
            if all(marked) or (zone in self._view.multicluster and not any(marked)):
                return None
            spelled = [part if part.startswith(b"_") else b"_" + part for part in labels[:2]]
            if max(map(len, spelled)) > names.MAX_LABEL or len(owner) + marked.count(False) > names.MAX_NAME:
                return None
            return names.from_labels([*spelled, *labels[2:]])
        if self._view.zonal and depth >= ZONAL_DEPTH:
            for parent in names.parents(owner)[1:]:
                if parent.startswith(DIRECTIVES):
                    wildcard = WILDCARD + parent
                    return wildcard if table.lookup(wildcard, 0, self._view_index) else None
        return None

    def _pod(self, table: Table, owner: bytes, qtype: int, zone: bytes) -> Body | None:
        """The body of a Pod's name, empty for NODATA; None where it is none."""
        if self._view.pods is PodMode.DISABLED or not self._may_be_pod(owner, zone):
            return None
        above = names.parents(owner)
        depth = len(above) - len(names.parents(zone))
        if not POD_DEPTH <= depth <= POD_DEPTH + MAX_SURPLUS:
            return None
        pod, namespace = above[depth - POD_DEPTH], above[depth - POD_DEPTH + 1]
        if table.lookup(namespace, 0, self._view_index) is None:
            return None
        address = pod_address(pod[1 : 1 + pod[0]].decode("ascii", "replace"))
        if address is None:
            return None
        if self._view.pods is PodMode.VERIFIED:
            known = table.lookup(pod, 0, self._view_index)
            if known is None:
                return None
        if _ADDRESS_SIZE.get(qtype) != len(address):  # type: ignore[call-overload]
            return EMPTY
        return write_body(owner, [Record(owner, qtype, self._view.ttl, address)])

    def _may_be_pod(self, name: bytes, zone: bytes) -> bool:
        return self._view.pods is not PodMode.DISABLED and names.is_below(name, _POD + zone)

    def _falls_through(self, name: bytes) -> bool:
        return any(names.is_below(name, zone) for zone in self._fallthrough)

    def _serial_index(self, zone: bytes) -> int:
        return 2 * self._view_index + (zone in self._view.multicluster)

    def _with_serial(self, table: Table | None, zone: bytes, body: Body) -> Body:
        serial = 0 if table is None else table.serial(self._serial_index(zone))
        return body._replace(octets=bodies.put_serial(body.octets, serial))

    def _negative(self, table: Table | None, query: Query, zone: bytes, rcode: int) -> Reply:
        """No answer, and the zone's SOA record."""
        octets = bodies.soa_at(soa_template(self._view.ttl), len(query.name) - len(zone))
        return Reply(rcode, self._with_serial(table, zone, Body(octets, 0, 1)))

    def _unsynced(self, table: Table | None, query: Query, zone: bytes) -> Reply:
        error = (int(ExtendedError.NOT_READY), "the cluster has not been listed yet")
        if query.qname == zone and query.qtype == RRType.SOA:
            return Reply(body=self._with_serial(table, zone, Body(soa_template(self._view.ttl), 1)))
        return replace(self._negative(table, query, zone, Rcode.SERVFAIL), extended_error=error)


def _is_reverse(zone: bytes) -> bool:
    return names.is_below(zone, names.IN_ADDR_ARPA) or names.is_below(zone, names.IP6_ARPA)


async def _chase(request: Request, body: Body) -> Reply:
    """CNAMEs whose end lies elsewhere, and what the whole server knows about that end.

    Whatever goes wrong there, the CNAMEs stand: the reply is NOERROR, as CoreDNS's.
    """
    query = request.query
    chain = read_answers(query.head, body)
    target = query.with_question(chain[-1].rdata, query.qtype)
    inner = await request.resolve(replace(request, query=target, depth=request.depth + 1))
    answers = read_answers(target.head, inner.body)
    # Names that lead in a circle would come around again until the server stops asking (RFC 2181, 5: no duplicates).
    return Reply(body=write_body(query.name, list(dict.fromkeys([*chain, *answers]))))
