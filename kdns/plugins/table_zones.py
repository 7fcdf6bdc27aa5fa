"""Zones whose names stand in the response table, on the slow path: what `kubernetes` and `k8s_external` have in common.

Before what a name depends on has been listed, it is not known to be absent: it gets SERVFAIL, whatever `fallthrough`
says.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

from kdns.cluster.zones import is_reverse
from kdns.dns import names
from kdns.dns.codes import ExtendedError, Rcode, RRType
from kdns.dns.compression import HEADER_SIZE, Body, write_body
from kdns.dns.query import Query
from kdns.dns.records import read_answers, read_name, read_sections
from kdns.dns.reply import Reply, udp_limit
from kdns.dns.rrset import Record
from kdns.errors import ServeError
from kdns.hotpath.table import Table
from kdns.plugins import bodies
from kdns.plugins.plugin import TABLE, BlockSettings, CurrentTable, Handler, Request, Route, ZoneTransfer
from kdns.table.render import ALIAS, HAS_PORTS, LEAVES_ZONE, SPELLS_ZONE

SCANNED_BUCKETS = 512  # of the table's index, between two looks at what else there is to do: a fraction of 1 ms

Found = tuple[bytes, int, Body | None]  # owner the table knows a name by, flags, body or None for NODATA


class TableZones(ABC):
    """Answers for zones out of the table, under the number of their view there."""

    transparent = False

    def __init__(
        self,
        directive: str,
        view_index: int,
        zones: tuple[bytes, ...],
        soa: bytes,
        fallthrough: tuple[bytes, ...],
        current: CurrentTable,
        port_depth: int,
        block: BlockSettings | None = None,
    ) -> None:
        self._directive = directive
        self._view_index = view_index
        self._zones = zones
        self._zone_set = frozenset(zones)
        self._soa = soa
        self._fallthrough = fallthrough
        self._fallthrough_set = frozenset(fallthrough)
        self._current = current
        self._port_depth = port_depth  # labels below a zone of _port._proto.<the name of a Service>
        self._block = BlockSettings() if block is None else block

    @property
    def view_index(self) -> int:
        """The number of the view in the table."""
        return self._view_index

    @property
    def zones(self) -> tuple[bytes, ...]:
        """The zones whose names these are."""
        return self._zones

    def zone_of(self, name: bytes) -> bytes | None:
        """The longest of the zones that holds a name."""
        zones, at = self._zone_set, 0
        while (suffix := name[at:]) not in zones:
            if not name[at]:
                return None
            at += 1 + name[at]
        return suffix

    def routes(self) -> list[Route]:
        """A route for each suffix from which on names are treated alike."""
        return [self._route(suffix, zone) for suffix in self._suffixes() if (zone := self.zone_of(suffix)) is not None]

    async def serve(self, request: Request, next_handler: Handler) -> Reply:
        """Answer a name of these zones; others, and what falls through, go to the next plugin."""
        query = request.query
        zone = self.zone_of(query.qname)
        if zone is None:
            return await next_handler(request)
        if query.qtype in (RRType.AXFR, RRType.IXFR):
            raise ServeError("", Rcode.REFUSED)  # transfers are the business of `transfer`
        table = self._current.table
        if table is None:
            return self._unsynced(None, query, zone)
        found = self._find(table, query.qname, query.qtype, zone)
        if found is None:
            if self._is_undecided(table, query.qname, zone):
                return self._unsynced(table, query, zone)
            if self._falls_through(query.qname):
                return await next_handler(request)
            return self._negative(table, query, zone, Rcode.NXDOMAIN)
        owner, flags, body = found
        if body is None:
            if self._is_undecided(table, owner, zone):
                return self._unsynced(table, query, zone)
            return self._negative(table, query, zone, Rcode.NOERROR)
        if query.qtype == RRType.SOA:
            body = self._with_serial(table, zone, body)
        if flags & LEAVES_ZONE:
            return replace(await _chase(request, body), writer=self._directive)
        return self._positive(request, owner, flags, body, zone)

    def decides(self, query: Query) -> bool:
        """Whether the answer is this plugin's, and nobody behind it is asked."""
        zone, table = self.zone_of(query.qname), self._current.table
        if zone is None:
            return False
        if table is None or not self._falls_through(query.qname):
            return True
        if self._find(table, query.qname, query.qtype, zone) is not None:
            return True
        return self._is_undecided(table, query.qname, zone)

    def transfer(self, zone: bytes) -> ZoneTransfer | None:
        """The records of one of the zones."""
        table = self._current.table
        if zone not in self._zone_set:
            return None
        if table is None or not table.is_synced(self._view_index):
            raise ServeError("the cluster has not been listed yet", Rcode.SERVFAIL)
        (soa,) = read_answers(question_of(zone), self._with_serial(table, zone, Body(self._soa, 1)))
        serial = table.serial(self._serial_index(zone))
        return ZoneTransfer(soa, serial, self._transferred(table, zone))

    def is_absent(self, name: bytes) -> bool:
        """Whether the answer to a name is NXDOMAIN, and nobody behind this plugin is asked about it."""
        zone, table = self.zone_of(name), self._current.table
        if zone is None or table is None or not table.is_synced(self._view_index) or self._falls_through(name):
            return False
        return table.lookup(name, 0, self._view_index) is None and self._find(table, name, 0, zone) is None

    def _suffixes(self) -> set[bytes]:
        """Where something about names changes: the zones, and the zones of `fallthrough` in them."""
        return {*self._zones, *(zone for zone in self._fallthrough if self.zone_of(zone) is not None)}

    def _route(self, suffix: bytes, zone: bytes) -> Route:
        return Route(
            suffix,
            TABLE,
            self._view_index,
            self._serial_index(zone),
            nxdomain_is_miss=self._falls_through(suffix),
            port_depth=0 if is_reverse(zone) else self._port_depth,
            zone_labels=len(names.labels_of(zone)),
            zone_length=len(zone),
            soa=self._soa,
        )

    # Transfers

    @abstractmethod
    def _transferred(self, table: Table, zone: bytes) -> Iterator[Record | None]:
        """The records of a zone, as ZoneTransfer has them."""

    def _name_servers(self, table: Table, zone: bytes, glue_ttl: int | None) -> Iterator[Record]:
        """The NS records of a zone and the addresses of their targets, with another TTL where one is given."""
        entry = table.lookup(zone, RRType.NS, self._view_index)
        if entry is None:
            return
        sections = read_sections(question_of(zone), bodies.of_entry(entry))
        yield from sections.answers
        for record in sections.additionals:
            yield record if glue_ttl is None else record._replace(ttl=glue_ttl)

    def _scan(
        self, table: Table, prefix: bytes = b"", suffix: bytes = b""
    ) -> Iterator[tuple[bytes, bodies.Entry] | None]:
        """What the table holds under names that begin and end so, a few buckets at a time."""
        for first in range(0, table.buckets, SCANNED_BUCKETS):
            yield from table.scan(self._view_index, first, SCANNED_BUCKETS, prefix, suffix)
            yield None

    # Looking names up

    def _find(self, table: Table, owner: bytes, qtype: int, zone: bytes) -> Found | None:
        """What the table has of a name, in any of its spellings; None where it does not exist."""
        view = self._view_index
        entry = table.lookup(owner, qtype, view) if qtype else None
        if entry is not None:
            return owner, entry[1], bodies.of_entry(entry)
        exists = table.lookup(owner, 0, view)
        if exists is None:
            computed = self._computed(table, owner, qtype, zone)
            if computed is not None:
                return owner, 0, computed if computed.octets else None
            other = self._other_spelling(table, owner, zone)
            return None if other is None else self._find(table, other, qtype, zone)
        if exists[1] & ALIAS:
            return self._find(table, exists[6], qtype, zone)
        # The name may have come between the two look-ups: its types were there before it was, so they are now.
        entry = table.lookup(owner, qtype, view) if qtype else None
        return (owner, 0, None) if entry is None else (owner, entry[1], bodies.of_entry(entry))

    def _is_undecided(self, table: Table, name: bytes, zone: bytes) -> bool:
        """Whether a name that lacks data of some type, or is not there, may yet turn out to have it."""
        return not table.is_synced(self._view_index)

    def _computed(self, table: Table, owner: bytes, qtype: int, zone: bytes) -> Body | None:
        """The body of a name that no table holds, empty for NODATA; None where it is none either."""
        return None

    def _other_spelling(self, table: Table, owner: bytes, zone: bytes) -> bytes | None:
        """The owner in the table that CoreDNS would take `owner` for: port and protocol without their underscores."""
        labels = names.labels_of(owner)
        if len(labels) - len(names.labels_of(zone)) != self._port_depth:
            return None
        service = table.lookup(owner[2 + len(labels[0]) + len(labels[1]) :], 0, self._view_index)
        if service is None or not service[1] & HAS_PORTS:
            return None
        marked = [part.startswith(b"_") for part in labels[:2]]
        if all(marked) or not self._may_lack_underscores(marked, zone):
            return None
        spelled = [part if part.startswith(b"_") else b"_" + part for part in labels[:2]]
        if max(map(len, spelled)) > names.MAX_LABEL or len(owner) + marked.count(False) > names.MAX_NAME:
            return None
        return names.from_labels([*spelled, *labels[2:]])

    def _may_lack_underscores(self, marked: list[bool], zone: bytes) -> bool:
        return True

    def _falls_through(self, name: bytes) -> bool:
        zones = self._fallthrough_set
        return bool(zones) and any(parent in zones for parent in names.parents(name))

    def _serial_index(self, zone: bytes) -> int:
        return 2 * self._view_index

    # Making replies

    def _positive(self, request: Request, owner: bytes, flags: int, body: Body, zone: bytes) -> Reply:
        query, is_cut = request.query, False
        is_respelled = bool(flags & SPELLS_ZONE) and query.has_upper_case
        if (is_respelled or owner != query.qname) and not request.stream:
            # The records that will be sent are chosen first: what follows looks at each of them.
            room = udp_limit(query, self._block.udp_limit) - len(query.head)
            body, is_cut = bodies.take_fitting(body, room, random.getrandbits(64))
        if owner != query.qname:
            body = bodies.move(body, len(query.qname) - len(owner))
        if is_respelled:
            body = bodies.spell_zone(body, query, zone)
        return Reply(body=body, truncated=is_cut, writer=self._directive)

    def _with_serial(self, table: Table | None, zone: bytes, body: Body) -> Body:
        serial = 0 if table is None else table.serial(self._serial_index(zone))
        return body._replace(octets=bodies.put_serial(body.octets, serial))

    def _negative(self, table: Table | None, query: Query, zone: bytes, rcode: int) -> Reply:
        """No answer, and the zone's SOA record."""
        octets = _soa_at(self._soa, len(query.name) - len(zone))
        return Reply(rcode, self._with_serial(table, zone, Body(octets, 0, 1)), writer=self._directive)

    def _unsynced(self, table: Table | None, query: Query, zone: bytes) -> Reply:
        error = (int(ExtendedError.NOT_READY), "the cluster has not been listed yet")
        if query.qname == zone and query.qtype == RRType.SOA:
            return Reply(body=self._with_serial(table, zone, Body(self._soa, 1)), writer=self._directive)
        return replace(self._negative(table, query, zone, Rcode.SERVFAIL), extended_error=error)


def question_of(name: bytes) -> bytes:
    """The header and question before a body that was rendered for a name."""
    return bytes(HEADER_SIZE) + name + bytes(4)


_soa_at = lru_cache(maxsize=256)(bodies.soa_at)  # names of one length are asked for again and again


async def _chase(request: Request, body: Body) -> Reply:
    """CNAMEs whose end lies elsewhere, and what the whole server knows about that end.

    Whatever goes wrong there, the CNAMEs stand: the reply is NOERROR, as CoreDNS's.
    """
    query = request.query
    place = bodies.last_rdata_at(body)
    name, _ = read_name(query.head + body.octets, len(query.head) + place)
    target = query.with_question(name, query.qtype)
    inner = await request.resolve(replace(request, query=target, depth=request.depth + 1))
    joined = bodies.join_addresses(body, inner.body, len(query.head) + place)
    if joined is None:
        # Names that lead in a circle would come around until the server stops asking (RFC 2181, 5: no duplicates).
        records = [*read_answers(query.head, body), *read_answers(target.head, inner.body)]
        joined = write_body(query.name, list(dict.fromkeys(records)))
    return Reply(body=joined, truncated=inner.truncated)
