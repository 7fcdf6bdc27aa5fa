"""The endpoints of Services: their addresses, SRV records and names.

A Service with thousands of endpoints has them in slices of a hundred, and an event changes one slice. So what a slice
contributes to its Service is kept for the slices used last, and answers are put together from those pieces by
operations that loop in C.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Container, Sequence
from functools import cached_property

from msgspec import structs

from kdns.cluster import owners, records
from kdns.cluster.objects import Endpoint, EndpointSlice, Port
from kdns.cluster.ports import NO_PORTS
from kdns.cluster.records import AAAA, SRV, A
from kdns.dns.names import MAX_NAME
from kdns.dns.rrset import Answer, EndpointBatch, Node, Portion, Record, each_node

MAX_CACHED_ENDPOINTS = 10_000  # across all slices; about 0.3 KB each, and two of the largest Services there are
MIN_LARGE = 256  # endpoints of a Service from which on its answers are put together of portions
MAX_LARGE = 2  # Services of which it is remembered that no address is there twice; their slices are kept as well

_new = tuple.__new__  # makes a NamedTuple at half the cost: all the cluster's endpoints go through here at once


class SliceRecords:
    """What the endpoints of one slice are called, and the records they give; computed when asked for, and kept."""

    def __init__(
        self,
        addresses: tuple[bytes, ...],
        ports: tuple[Port, ...],
        labels: Sequence[bytes],
        details: tuple[Endpoint, ...] = (),
    ) -> None:
        self.addresses = addresses
        self.ports = ports
        self.labels = labels  # of each endpoint; empty where it has no name that fits
        self._details = details  # of each endpoint, or none at all
        self.ipv6 = tuple([address for address in self.addresses if len(address) != 4])
        self.ipv4 = self.addresses
        if self.ipv6:
            self.ipv4 = tuple([address for address in self.addresses if len(address) == 4])
        self.has_plain_names = False  # all are known to be single labels that can be asked for
        self._srv: dict[tuple[bytes, tuple[bytes, ...]], Portion] = {}
        self._glue: dict[tuple[bytes, int], list[Record]] = {}
        self._targets: dict[bytes, list[bytes]] = {}

    @classmethod
    def of(cls, slice_: EndpointSlice, imported: bool, pod_names: bool) -> SliceRecords:
        """The records of a slice; below a ServiceImport, names end in the cluster they come from."""
        made = cls(slice_.addresses, slice_.ports or NO_PORTS, (), slice_.details)
        named = [endpoint for endpoint in slice_.details if pod_names or endpoint.hostname or endpoint.text]
        if named or imported or made.ipv6:
            made.labels = [owners.endpoint_label(endpoint, pod_names) for endpoint in slice_.endpoints]
        else:
            made.labels = owners.address_labels(made.addresses)
            made.has_plain_names = True
        if imported:
            cluster = owners.label(slice_.source_cluster)
            made.labels = [label + cluster if label and cluster else b"" for label in made.labels]
        return made

    @cached_property
    def names(self) -> frozenset[bytes]:
        """The labels of the endpoints."""
        return frozenset(self.labels)

    @cached_property
    def zones(self) -> dict[str, SliceRecords]:
        """The endpoints of each topology zone, by its name in lower case."""
        found: dict[str, list[int]] = {}
        for position, endpoint in enumerate(self._details):
            if endpoint.zone:
                found.setdefault(endpoint.zone.lower(), []).append(position)
        return {
            zone: SliceRecords(
                tuple([self.addresses[position] for position in positions]),
                self.ports,
                tuple([self.labels[position] for position in positions]),
            )
            for zone, positions in found.items()
        }

    def targets(self, suffix: bytes) -> list[bytes]:
        """The name of each endpoint, empty where it has none that fits; `suffix` is the Service's."""
        found = self._targets.get(suffix)
        if found is None:
            room = MAX_NAME - len(suffix)
            found = [label + suffix if 0 < len(label) <= room else b"" for label in self.labels]
            self._targets[suffix] = found
        return found

    @cached_property
    def portions(self) -> tuple[Portion, Portion]:
        """The IPv4 and the IPv6 addresses."""
        return Portion(self.ipv4), Portion(self.ipv6)

    def srv(self, suffix: bytes, heads: tuple[bytes, ...]) -> Portion:
        """The SRV data of each endpoint and port; `heads` are of `srv_heads`."""
        found = self._srv.get((suffix, heads))
        if found is None:
            targets = self.targets(suffix)
            found = Portion(tuple([head + target for target in targets if target for head in heads]))
            self._srv[suffix, heads] = found
        return found

    def glue(self, suffix: bytes, ttl: int) -> list[Record]:
        """The address record of each endpoint's name."""
        found = self._glue.get((suffix, ttl))
        if found is None:
            named = zip(self.targets(suffix), self.addresses, strict=True)
            found = self._glue[suffix, ttl] = [
                _new(Record, (target, A if len(address) == 4 else AAAA, ttl, address))
                for target, address in named
                if target
            ]
        return found


class SliceEntry:
    """An EndpointSlice in its place: stays when the slice changes, so that indexes may point at it."""

    __slots__ = ("records", "service", "slice")

    def __init__(self, slice_: EndpointSlice, service: str) -> None:
        self.slice = slice_
        self.service = service  # or the ServiceImport; empty where there is none
        self.records: SliceRecords | None = None  # held by the cache


class _Large:
    """A large Service as it was last seen, its addresses each in one place only."""

    def __init__(self) -> None:
        self._parts: dict[SliceRecords, None] = {}
        self._addresses: set[bytes] = set()

    def follow(self, slices: Sequence[SliceRecords]) -> bool:
        """Take in what it is now; whether its addresses are each in one place still. Not to be used any more if not."""
        now = dict.fromkeys(slices)
        for part in self._parts.keys() - now.keys():
            self._addresses.difference_update(part.addresses)
        for part in now.keys() - self._parts.keys():
            expected = len(self._addresses) + len(part.addresses)
            self._addresses.update(part.addresses)
            if len(self._addresses) != expected:
                return False
        self._parts = now
        return len(now) == len(slices)


class SliceCache:
    """Keeps the records of the slices used last, up to a number of endpoints."""

    def __init__(self, imported: bool, pod_names: bool, max_endpoints: int = MAX_CACHED_ENDPOINTS) -> None:
        self._imported = imported
        self._pod_names = pod_names
        self._max_endpoints = max_endpoints
        self._used: OrderedDict[SliceEntry, None] = OrderedDict()
        self._endpoints = 0
        self._large: OrderedDict[tuple[str, str], _Large] = OrderedDict()

    def records(self, entry: SliceEntry) -> SliceRecords:
        """The records of a slice, kept for the next time."""
        if entry.records is not None:
            self._used.move_to_end(entry)
            return entry.records
        made = entry.records = self.passing_records(entry)
        self._used[entry] = None
        self._endpoints += len(made.addresses)
        while self._endpoints > self._max_endpoints:
            self.forget(next(iter(self._used)))
        return made

    def passing_records(self, entry: SliceEntry) -> SliceRecords:
        """The records of a slice, not to be kept: for who visits all of them."""
        return entry.records or SliceRecords.of(entry.slice, self._imported, self._pod_names)

    def records_named(self, entry: SliceEntry, addresses: Container[bytes]) -> SliceRecords:
        """The records of a slice, or of some of its endpoints: all that may be named after one of these IPv4 addresses.

        It spares a Service that answers by its own address the names of all the endpoints that did not change.
        """
        whole = entry.slice
        if entry.records is not None or whole.details or self._imported:
            return self.records(entry)
        found = tuple([address for address in whole.addresses if address in addresses or len(address) != 4])
        return SliceRecords.of(structs.replace(whole, addresses=found), self._imported, self._pod_names)

    def are_distinct(self, namespace: str, name: str, slices: Sequence[SliceRecords]) -> bool:
        """Whether these, of one Service, are many endpoints and known to have an address each of their own.

        It costs as much as what changed since the last time.
        """
        if sum([len(part.addresses) for part in slices]) < MIN_LARGE:
            return False
        key = namespace, name
        found = self._large.pop(key, None) or _Large()
        if not found.follow(slices):
            return False
        self._large[key] = found
        if len(self._large) > MAX_LARGE:
            self._large.popitem(last=False)
        return True

    def forget(self, entry: SliceEntry) -> None:
        """Drop what is kept of a slice, because it changed or went."""
        if entry.records is not None:
            self._endpoints -= len(entry.records.addresses)
            entry.records = None
            del self._used[entry]


def endpoint_nodes(
    slices: Sequence[SliceRecords], suffix: bytes, ttl: int, labels: int, only: Collection[bytes] | None = None
) -> list[Node]:
    """The nodes of the endpoints of a Service called `suffix`, or those of `only` these labels.

    A name that is not of so many `labels` appears as a target, but is not found.
    """
    if only is None:
        return list(each_node(endpoint_batches(slices, suffix, ttl, labels)))
    return _shared_nodes(slices, suffix, ttl, labels, only)


def endpoint_batches(
    slices: Sequence[SliceRecords], suffix: bytes, ttl: int, labels: int
) -> Sequence[EndpointBatch | Node]:
    """The nodes of all of them, as few objects as may be."""
    every = set().union(*[part.labels for part in slices])
    if sum([len(part.labels) for part in slices]) == len(every):
        return [_batch(part, suffix, ttl, labels) for part in slices]
    return _shared_nodes(slices, suffix, ttl, labels, every)


def _shared_nodes(
    slices: Sequence[SliceRecords], suffix: bytes, ttl: int, labels: int, only: Collection[bytes]
) -> list[Node]:
    """The nodes of `only` these labels, which any number of endpoints may have."""
    found: dict[bytes, list[tuple[bytes, tuple[Port, ...]]]] = {}
    for part in slices:
        if not part.names.isdisjoint(only):
            for label, address in zip(part.labels, part.addresses, strict=True):
                if label in only:
                    found.setdefault(label, []).append((address, part.ports))
    return [
        _shared_node(label + suffix, candidates, ttl)
        for label, candidates in found.items()
        if is_found(label, labels) and len(label) + len(suffix) <= MAX_NAME
    ]


def is_found(name: bytes, labels: int) -> bool:
    """Whether the name of an endpoint can be asked for: of the right number of labels, none of them a port's."""
    if not name or name[1] == 0x5F:
        return False
    at = name[0] + 1
    if labels == 1:
        return at == len(name)
    return at < len(name) and name[at + 1] != 0x5F and at + name[at] + 1 == len(name)


def _batch(part: SliceRecords, suffix: bytes, ttl: int, labels: int) -> EndpointBatch:
    """The nodes of a slice whose endpoints share their names with no other."""
    found = part.labels
    if not part.has_plain_names:
        found = [label if is_found(label, labels) else b"" for label in found]
    return EndpointBatch(found, suffix, part.addresses, ttl, records.srv_heads(part.ports, len(part.ports)))


def _shared_node(owner: bytes, candidates: list[tuple[bytes, tuple[Port, ...]]], ttl: int) -> Node:
    """The node of a name that any number of endpoints have."""
    count = sum([len(ports) for _, ports in candidates])
    answers = records.address_answers(ttl, [address for address, _ in candidates])
    srv: dict[bytes, None] = {}
    glue: dict[Record, None] = {}
    for address, ports in candidates:
        heads = records.srv_heads(ports, count)
        if heads:
            srv.update(dict.fromkeys([head + owner for head in heads]))
            glue[records.address_record(owner, ttl, address)] = None
    if srv:
        answers += (Answer(SRV, ttl, tuple(srv), (), tuple(glue)),)
    return Node(owner, answers)
