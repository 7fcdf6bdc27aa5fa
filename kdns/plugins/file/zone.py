"""A zone in memory, and what it answers (RFC 1034, 4.3.2; RFC 4592; RFC 6672).

Names that only have others below them are nodes as well, so that they exist, and stop wildcards.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from heapq import merge
from itertools import islice
from typing import NamedTuple

from kdns.dns import names
from kdns.dns.codes import Rcode, RRType, type_text
from kdns.dns.compression import Body
from kdns.dns.reply import MAX_MESSAGE
from kdns.dns.rrset import Record
from kdns.errors import KdnsError
from kdns.plugins.file.zone_text import SIGNATURES

MAX_CHAIN = 8  # CNAMEs followed in the zone, as CoreDNS
MAX_RENDERED = 10_000  # answers of a zone that are kept in wire form
MAX_RECORDS = 5_000_000  # of a zone, about 2 GB
MAX_RRSET = MAX_MESSAGE // 12  # records of a name and type; no reply holds more
RECORDS_PER_TURN = 128  # about a millisecond; then others may be served
YXDOMAIN = 6  # what a DNAME makes of a name is too long (RFC 6672, 2.2)
WILDCARD = b"\x01*"

_ADDRESSES = (RRType.A, RRType.AAAA)
# Types whose data ends in a name whose addresses are sent along, and the octets before it.
_TARGET_AT = {RRType.NS: 0, RRType.MX: 2, RRType.SRV: 6}

Records = tuple[Record, ...]


class ZoneError(KdnsError):
    """Records that make no zone."""


class Found(NamedTuple):
    """What a zone says to a question, or the beginning of it."""

    rcode: int = Rcode.NOERROR
    answers: Records = ()
    authorities: Records = ()
    additionals: Records = ()
    is_referral: bool = False
    # The answers end in a CNAME, and the zone does not know what it leads to: somebody else is to be asked.
    target: bytes | None = None


@dataclass(slots=True)
class Zone:
    """The records of one zone, by owner and type."""

    origin: bytes
    ignored: int = 0  # records of other zones
    unsigned: int = 0  # records that only a signing server has a use for
    rendered: dict[tuple[bytes, int], Body] = field(default_factory=dict)  # by name and type
    _nodes: dict[bytes, dict[int, Records]] = field(default_factory=dict)
    _cuts: dict[bytes, int] = field(default_factory=dict)  # owners below which there is nothing: type NS or DNAME

    @staticmethod
    def build(origin: bytes, records: Iterable[Record]) -> Iterator[Zone | None]:
        """The zone, after a None whenever it is another's turn. Raises ZoneError, and what `records` raises."""
        zone, seen = Zone(origin), set[tuple[bytes, int, bytes]]()
        for count, record in enumerate(records, 1):
            key = (record.owner, record.rtype, record.rdata)
            if key not in seen or record.rtype in SIGNATURES:
                seen.add(key)
                zone._add(record)
            if count % RECORDS_PER_TURN == 0:
                yield None
            if count > MAX_RECORDS:
                raise ZoneError(f"more than {MAX_RECORDS} records")
        if RRType.SOA not in zone._nodes.get(origin, {}):
            raise ZoneError(f"no SOA record for origin {names.to_text(origin)}")
        yield zone

    @property
    def soa(self) -> Record:
        """The SOA record; the last one, should there be more."""
        return self._nodes[self.origin][RRType.SOA][-1]

    @property
    def serial(self) -> int:
        """The zone's serial."""
        return serial_of(self.soa)

    @property
    def name_servers(self) -> Records:
        """The NS records of the zone itself."""
        return self._nodes[self.origin].get(RRType.NS, ())

    def records(self) -> Iterator[Record | None]:
        """All records but the SOA, for a transfer: each name before those below it. None: it is another's turn."""
        yield from self.name_servers
        parts: list[list[bytes]] = []
        owners = iter(self._nodes)
        while part := sorted(islice(owners, RECORDS_PER_TURN), key=_canonical):
            parts.append(part)
            yield None
        for count, owner in enumerate(merge(*parts, key=_canonical), 1):
            for rtype, records in self._nodes[owner].items():
                if owner != self.origin or rtype not in (RRType.SOA, RRType.NS):
                    yield from records
            if count % RECORDS_PER_TURN == 0:
                yield None

    def find(self, qname: bytes, qtype: int) -> Found:
        """The answer to a question for a name of the zone, CNAMEs followed as far as the zone knows."""
        answers: Records = ()
        name, seen = qname, set[bytes]()
        while len(seen) <= MAX_CHAIN and name not in seen:
            seen.add(name)
            cut = self._cut_above(name, qtype) if self._cuts else None
            if cut is not None and self._cuts[cut] == RRType.NS:
                return self._referral(cut) if not answers else Found(answers=answers, target=name)
            if cut is not None:
                links, target = self._renamed(name, cut)
                answers += links
                if target is None:
                    return Found(YXDOMAIN, answers)
                if qtype == RRType.CNAME:
                    break
            else:
                node, owner = self._node_of(name)
                if node is None:
                    return Found(Rcode.NXDOMAIN, answers, (self.soa,))
                if (aliases := node.get(RRType.CNAME)) is None or qtype == RRType.CNAME:
                    return self._answer(answers, node.get(qtype, ()), owner)
                answers += _owned(aliases[:1], owner)
                target = aliases[0].rdata
            if not names.is_below(target, self.origin):
                return Found(answers=answers, target=target)
            name = target
        return Found(answers=answers, authorities=self.name_servers)

    def keep(self, qname: bytes, qtype: int, body: Body) -> None:
        """Keep a rendered answer; the oldest makes room for it."""
        if len(self.rendered) >= MAX_RENDERED:
            del self.rendered[next(iter(self.rendered))]
        self.rendered[qname, qtype] = body

    def is_only_above(self, name: bytes) -> bool:
        """Whether a name exists for the sake of those below it alone."""
        return self._nodes.get(name) == {}

    def _add(self, record: Record) -> None:
        owner, rtype = record.owner, record.rtype
        if not names.is_below(owner, self.origin):
            self.ignored += 1
            return
        if rtype in SIGNATURES:
            self.unsigned += 1
            return
        node = self._nodes.get(owner)
        if node is None:
            node = self._nodes[owner] = {}
            self._add_above(owner)
        known = node.get(rtype, ())
        if len(known) >= MAX_RRSET:
            raise ZoneError(f"more than {MAX_RRSET} records of {names.to_text(owner)} {type_text(rtype)}")
        node[rtype] = (*known, record)
        is_cut = rtype == RRType.NS and owner != self.origin and not owner.startswith(WILDCARD)
        if is_cut or (rtype == RRType.DNAME and self._cuts.get(owner) != RRType.NS):
            self._cuts[owner] = rtype

    def _add_above(self, owner: bytes) -> None:
        """Let the names between an owner and the zone's exist."""
        while owner != self.origin:
            owner = owner[1 + owner[0] :]
            if owner in self._nodes:
                return
            self._nodes[owner] = {}

    def _cut_above(self, name: bytes, qtype: int) -> bytes | None:
        """The highest cut a name lies below: its own, for a delegation, unless the question is one for the parent."""
        found, at = None, name
        while True:
            cut = self._cuts.get(at)
            if cut is not None and (at != name or (cut == RRType.NS and qtype != RRType.DS)):
                found = at
            if at == self.origin:
                return found
            at = at[1 + at[0] :]

    def _node_of(self, name: bytes) -> tuple[dict[int, Records] | None, bytes | None]:
        """(records of a name or of the wildcard that stands for it, the owner they are to have if not their own)."""
        node = self._nodes.get(name)
        if node is not None:
            return node, None
        above = name
        while above not in self._nodes:
            above = above[1 + above[0] :]
        return self._nodes.get(WILDCARD + above), name

    def _answer(self, chain: Records, records: Records, owner: bytes | None) -> Found:
        """An answer of one RRset behind a chain of CNAMEs; there is none for no records."""
        if not records:
            return Found(answers=chain, authorities=(self.soa,))
        rtype = records[0].rtype
        is_own_ns = rtype == RRType.NS and records[0].owner == self.origin
        authorities = () if is_own_ns else self.name_servers
        additionals = self._addresses_of(records) if rtype in _TARGET_AT else ()
        return Found(Rcode.NOERROR, chain + _owned(records, owner), authorities, additionals)

    def _referral(self, cut: bytes) -> Found:
        servers = self._nodes[cut][RRType.NS]
        return Found(authorities=servers, additionals=self._addresses_of(servers), is_referral=True)

    def _addresses_of(self, records: Records) -> Records:
        """The addresses the zone knows of the names in these records' data."""
        at = _TARGET_AT[records[0].rtype]  # type: ignore[index]
        targets = dict.fromkeys(record.rdata[at:] for record in records)
        nodes = [node for target in targets if (node := self._nodes.get(target))]
        return tuple(address for node in nodes for rtype in _ADDRESSES for address in node.get(rtype, ()))

    def _renamed(self, name: bytes, cut: bytes) -> tuple[Records, bytes | None]:
        """(DNAME and the CNAME made of it, what the name becomes); None where that would be too long."""
        dname = self._nodes[cut][RRType.DNAME][0]
        target = name[: len(name) - len(cut)] + dname.rdata
        if len(target) > names.MAX_NAME:
            return (dname,), None
        return (dname, Record(name, RRType.CNAME, dname.ttl, target)), target


def serial_of(soa: Record) -> int:
    """The serial in an SOA record."""
    return int.from_bytes(soa.rdata[-20:-16], "big")


def _canonical(name: bytes) -> list[bytes]:
    """What names are sorted by (RFC 4034, 6.1)."""
    return names.labels_of(name)[::-1]


def _owned(records: Records, owner: bytes | None) -> Records:
    """The records of a wildcard under the name that was asked for."""
    return records if owner is None else tuple(record._replace(owner=owner) for record in records)
