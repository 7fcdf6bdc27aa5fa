"""Every node at once: what a full build of the table reads.

The same rules as for changes, but each slice is visited once: its endpoints' names and its PTR records are made from
the same pieces, and not kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, compress, repeat

from kdns.cluster import apex, records
from kdns.cluster.endpoints import SliceEntry, SliceRecords
from kdns.cluster.evaluation import Evaluator
from kdns.cluster.records import rows
from kdns.cluster.reverse import NeighbourNames, ReverseZones, address_of
from kdns.cluster.state import ClusterState, Space
from kdns.cluster.view import View
from kdns.cluster.zones import Zone
from kdns.dns import names
from kdns.dns.rrset import Answer, Node


def every_node(
    view: View,
    zones: Sequence[Zone],
    standing: frozenset[bytes],
    state: ClusterState,
    evaluator: Evaluator,
    reverse: ReverseZones,
) -> Iterator[Node]:
    """All nodes of a view, each once."""
    build = _FullBuild(view, zones, state, evaluator, reverse)
    nodes = chain.from_iterable(build.blocks())
    return _with_standing(nodes, standing) if standing else nodes


class _FullBuild:
    """One pass over the state."""

    def __init__(
        self, view: View, zones: Sequence[Zone], state: ClusterState, evaluator: Evaluator, reverse: ReverseZones
    ) -> None:
        self._view = view
        self._zones = zones
        self._forward = [zone for zone in zones if not zone.is_reverse]
        # Zones of a single address have its PTR record at their apex.
        self._apexes = frozenset([address for zone in zones if (address := address_of(zone.name))])
        self._state = state
        self._evaluator = evaluator
        self._reverse = reverse
        self._elsewhere = self._apexes.union(state.by_cluster_ip)
        self._neighbours = NeighbourNames(reverse)
        # Addresses of slices that share some with others, or with a Service: decided one by one at the end.
        self._unclear: set[bytes] = set()

    def blocks(self) -> Iterator[Iterable[Node]]:
        """The nodes, in portions."""
        for zone in self._zones:
            yield self._evaluator.apex_nodes(zone)
            yield zone.own(apex.fixed_nodes(zone))
        for namespace, space in self._state.spaces.items():
            yield self._namespace_block(namespace, space)
            for imported in (False, True):
                half = space.half(imported)
                zones = [zone for zone in self._forward if zone.imported is imported]
                for name in {**half.services, **half.behind}:
                    yield from self._service_blocks(namespace, name, half.entries(name), imported, zones)
        yield self._pointer_block()
        yield [Node(name, ()) for name in self._reverse.partial_names()]

    def _namespace_block(self, namespace: str, space: Space) -> list[Node]:
        if not space.is_exposed:
            return []
        nodes = []
        for zone in self._forward:
            made = self._evaluator.namespace_nodes(namespace, zone)
            made += self._evaluator.pod_nodes(namespace, space.pod_addresses, zone)
            nodes += zone.own(made)
        return nodes

    def _service_blocks(
        self, namespace: str, name: str, entries: Iterable[SliceEntry], imported: bool, zones: Sequence[Zone]
    ) -> Iterator[Iterable[Node]]:
        cache = self._evaluator.cache(imported)
        slices = [cache.passing_records(entry) for entry in entries]
        for zone in zones:
            nodes = self._evaluator.service_nodes(namespace, name, slices, zone)
            nodes += self._evaluator.endpoint_nodes(namespace, name, slices, zone)
            yield zone.own(nodes)
        if not imported and name and self._evaluator.shows_pointers(namespace):
            suffix = self._evaluator.pointer_suffix(namespace, name)
            if suffix:
                for entry, part in zip(entries, slices, strict=True):
                    yield self._slice_pointers(entry, part, suffix)

    def _slice_pointers(self, entry: SliceEntry, part: SliceRecords, suffix: bytes) -> Iterable[Node]:
        """The PTR nodes of the addresses that are in this slice alone."""
        addresses = part.addresses
        holder, elsewhere = self._state.by_endpoint, self._elsewhere
        clear = [holder[address] is entry and address not in elsewhere for address in addresses]
        if not all(clear) or len(set(addresses)) != len(addresses):
            self._unclear.update(addresses)
            return ()
        room = names.MAX_NAME - len(suffix)
        owners = self._neighbours.names(addresses)
        shown = [0 < len(label) <= room and bool(owner) for label, owner in zip(part.labels, owners, strict=True)]
        targets = zip([label + suffix for label in compress(part.labels, shown)])
        # Fields in the order of Answer and Node.
        answers = rows(
            Answer, repeat(records.PTR), repeat(self._view.ttl), targets, repeat(()), repeat(()), repeat(False)
        )
        return rows(Node, compress(owners, shown), zip(answers), repeat(None), repeat(False))

    def _pointer_block(self) -> list[Node]:
        nodes = []
        for address in self._unclear.union(self._state.by_cluster_ip) - self._apexes:
            if self._reverse.depth(address) is not None:
                node = self._evaluator.pointer_node(address)
                if node.answers is not None:
                    nodes.append(node)
        return nodes


def _with_standing(nodes: Iterable[Node], standing: frozenset[bytes]) -> Iterator[Node]:
    """All of `nodes`, then those of the standing names that are not among them."""
    missing = set(standing)
    for node in nodes:
        missing.discard(node.owner)
        yield node
    for owner in missing:
        yield Node(owner, ())
