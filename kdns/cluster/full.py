"""Every node at once: what a full build of the table reads.

The same rules as for changes, but each slice is visited once: its endpoints' names and its PTR records are made from
the same pieces, and not kept. Those that are all alike come in batches, of which no node is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from kdns.cluster import apex
from kdns.cluster.changes import ServiceKey
from kdns.cluster.endpoints import SliceEntry, SliceRecords
from kdns.cluster.evaluation import Evaluator
from kdns.cluster.objects import Service
from kdns.cluster.records import PTR
from kdns.cluster.reverse import NeighbourNames, ReverseZones, address_of
from kdns.cluster.state import ClusterState, Half, Space
from kdns.cluster.view import View
from kdns.cluster.zones import Zone
from kdns.dns import names
from kdns.dns.rrset import Answer, Batch, Node, PointerBatch, each_node


def every_node(
    view: View,
    zones: Sequence[Zone],
    standing: frozenset[bytes],
    state: ClusterState,
    evaluator: Evaluator,
    reverse: ReverseZones,
) -> Iterator[Node | Batch]:
    """All nodes of a view, each once."""
    build = _FullBuild(view, zones, state, evaluator, reverse)
    nodes = chain.from_iterable(build.blocks())
    return _with_standing(each_node(nodes), standing) if standing else nodes


class _FullBuild:
    """One pass over the state."""

    def __init__(
        self, view: View, zones: Sequence[Zone], state: ClusterState, evaluator: Evaluator, reverse: ReverseZones
    ) -> None:
        self._view = view
        self._zones = zones
        self._forward = [zone for zone in zones if not zone.is_reverse]
        self._apexes = frozenset([address for zone in zones if (address := address_of(zone.name))])
        self._state = state
        self._evaluator = evaluator
        self._reverse = reverse
        self._elsewhere = self._apexes | (state.by_cluster_ip.keys() & state.by_endpoint.keys())
        self._neighbours = NeighbourNames(reverse)
        # What slices that share addresses with others, or with a Service, say about theirs: put together at the end.
        self._shared: dict[bytes, list[bytes]] = {}

    def blocks(self) -> Iterator[Sequence[Node | Batch]]:
        """The nodes, in portions."""
        for zone in self._zones:
            yield self._evaluator.apex_nodes(zone)
            yield zone.own(apex.fixed_nodes(zone, self._view.version_ttl))
        for namespace, space in self._state.spaces.items():
            yield self._namespace_block(namespace, space)
            for imported in (False, True):
                half = space.half(imported)
                zones = [zone for zone in self._forward if zone.imported is imported]
                for name in {**half.services, **half.behind}:
                    yield self._service_block(ServiceKey(imported, namespace, name), half, zones)
        yield self._shared_pointers()
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

    def _service_block(self, key: ServiceKey, half: Half, zones: Sequence[Zone]) -> list[Node | Batch]:
        imported, namespace, name = key
        entries = half.entries(name)
        cache = self._evaluator.cache(imported)
        slices = [cache.passing_records(entry) for entry in entries]
        nodes: list[Node | Batch] = []
        for zone in zones:
            nodes += zone.own(self._evaluator.service_nodes(namespace, name, slices, zone))
            batches = self._evaluator.endpoint_batches(namespace, name, slices, zone)
            nodes += zone.own(list(each_node(batches))) if zone.inner else batches
        suffix = self._evaluator.pointer_suffix(namespace, name)
        has_pointers = self._evaluator.knows_pointers and self._evaluator.shows_pointers(namespace)
        if not imported and name and suffix and has_pointers:
            if name in half.services:
                self._add_own_pointers(nodes, half.services[name], suffix)
            for entry, part in zip(entries, slices, strict=True):
                self._add_pointers(nodes, entry, part, suffix)
        return nodes

    def _add_own_pointers(self, nodes: list[Node | Batch], service: Service, suffix: bytes) -> None:
        """Add the PTR nodes of a Service's own addresses."""
        for address in dict.fromkeys(service.addresses):
            shared = len(self._state.by_cluster_ip[address]) > 1 or address in self._state.by_endpoint
            if shared or address in self._apexes:
                self._shared.setdefault(address, [])
            elif self._reverse.depth(address) is not None:
                nodes.append(Node(names.reverse_name(address), (Answer(PTR, self._view.ttl, (suffix,)),)))

    def _add_pointers(self, nodes: list[Node | Batch], entry: SliceEntry, part: SliceRecords, suffix: bytes) -> None:
        """Add the PTR nodes of the addresses that are in this slice alone."""
        addresses = part.addresses
        holders = list(map(self._state.by_endpoint.get, addresses))
        alone = holders.count(entry) == len(addresses) == len(set(addresses))
        if not alone or (part.ipv4 and part.ipv6) or not self._elsewhere.isdisjoint(addresses):
            for address, target in zip(addresses, part.targets(suffix), strict=True):
                self._shared.setdefault(address, []).append(target)
            return
        nodes.append(PointerBatch(self._neighbours.names(addresses), part.labels, suffix, self._view.ttl))

    def _shared_pointers(self) -> list[Node]:
        nodes = []
        for address, targets in self._shared.items():
            # A zone of a single address has its record at the apex.
            if address in self._apexes or self._reverse.depth(address) is None:
                continue
            if address in self._state.by_cluster_ip:
                nodes.append(self._evaluator.pointer_node(address))
            elif found := tuple(sorted(set(filter(None, targets)))):
                nodes.append(Node(names.reverse_name(address), (Answer(PTR, self._view.ttl, found),)))
        return [node for node in nodes if node.answers is not None]


def _with_standing(nodes: Iterable[Node], standing: frozenset[bytes]) -> Iterator[Node]:
    """All of `nodes`, then those of the standing names that are not among them."""
    missing = set(standing)
    for node in nodes:
        missing.discard(node.owner)
        yield node
    for owner in missing:
        yield Node(owner, ())
