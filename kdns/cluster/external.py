"""The names of `k8s_external`: Services by the addresses they are reached at from outside.

    <svc>.<ns>.<zone>                   external addresses, SRV of every port
    _<port>._<protocol>.<svc>.<ns>...   the same, of the port
    <endpoint>.<svc>.<ns>.<zone>        with `headless`: endpoints of Services that have no external address
    <apex>.<zone>, ns1.<apex>.<zone>    where this DNS service is reached

They are made of the same pieces as the cluster's own names, but A, AAAA, NS and PTR records have a TTL of their own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from random import Random

from kdns.cluster import endpoints, owners, records, services
from kdns.cluster.addresses import parse_address
from kdns.cluster.changes import Changes, ServiceChange, ServiceKey
from kdns.cluster.endpoints import SliceCache, SliceRecords
from kdns.cluster.objects import Service, ServiceType
from kdns.cluster.ports import NO_PORTS, port_plan
from kdns.cluster.reverse import ReverseZones, address_of, name_of
from kdns.cluster.state import ClusterState
from kdns.cluster.unlisted import Unlisted
from kdns.cluster.view import ExternalZones, View
from kdns.cluster.zones import Zone, standing_names
from kdns.dns import names
from kdns.dns.rrset import Answer, ExternalNode, Node, Record
from kdns.errors import FormatError

NS1 = b"\x03ns1"

_ADDRESS_TYPES = (records.A, records.AAAA)


class ExternalNames:
    """Makes the nodes of a view's external zones, and keeps what only they depend on."""

    def __init__(
        self, view: View, options: ExternalZones, state: ClusterState, slices: SliceCache, random: Random
    ) -> None:
        self._view = view
        self._options = options
        self._state = state
        self._slices = slices
        self._random = random
        own_view = replace(view, zones=options.zones, multicluster=())
        self._zones = [Zone(name, own_view) for name in dict.fromkeys(options.zones)]
        self._forward = [zone for zone in self._zones if not zone.is_reverse]
        self._apexes = frozenset(zone.name for zone in self._zones)
        self._standing = standing_names(options.zones)
        self._pointed_zone = self._forward[0].name if self._forward else options.zones[0]
        self._by_address: dict[bytes, tuple[tuple[str, str], ...]] = {}
        self._reverse = ReverseZones(zone.name for zone in self._zones)
        self._addresses: set[bytes] = set()  # whose PTR records may have changed
        self.unlisted = Unlisted.NOTHING

    # Following the cluster

    def put_service(self, key: ServiceKey, old: Service | None, new: Service | None) -> None:
        """Follow a Service from its old external addresses to its new ones."""
        before, after = set(_packed(old)), set(_packed(new))
        holder = (key.namespace, key.name)
        for address in before - after:
            left = tuple([found for found in self._by_address[address] if found != holder])
            if left:
                self._by_address[address] = left
            else:
                del self._by_address[address]
        for address in after - before:
            self._by_address[address] = (*self._by_address.get(address, ()), holder)
        self._reverse.remove([address for address in before - after if address not in self._by_address])
        self._reverse.add([address for address in after - before if len(self._by_address[address]) == 1])
        self._addresses |= before ^ after

    def all_nodes(self) -> Iterator[Node]:
        """Every node."""
        self._addresses.clear()
        self._reverse.take_changed()
        return iter([ExternalNode(*node) for node in self._with_standing(self._every_node())])

    def changed_nodes(self, changes: Changes) -> list[Node]:
        """The nodes that changed, made anew, and those that may be gone."""
        nodes = [node for name in changes.namespaces for node in self._namespace_nodes(name)]
        for key, change in changes.services.items():
            if not key.imported:
                nodes += self._service_changes(key, change)
        if self._view.namespaces and changes.namespaces:
            self._addresses.update(
                address
                for address, holders in self._by_address.items()
                if any(namespace in changes.namespaces for namespace, _ in holders)
            )
        of_zone = changes.apex
        for address in self._addresses:
            if self._reverse.depth(address) is not None:
                nodes.append(self._pointer_node(address))
                of_zone |= nodes[-1].owner in self._apexes
        self._addresses = set()
        for partial in self._reverse.take_changed():
            nodes.append(Node(name_of(partial), () if self._reverse.has_below(partial) else None))
        if of_zone:
            nodes += [node for zone in self._zones for node in self._apex_nodes(zone)]
        found = {node.owner: node for node in nodes}
        for owner in self._standing & found.keys():
            if found[owner].answers is None:
                found[owner] = Node(owner, ())
        gone_first = sorted(found.values(), key=lambda node: node.answers is not None)
        return [ExternalNode(*node) for node in gone_first]

    def _every_node(self) -> Iterator[Node]:
        for zone in self._zones:
            yield from self._apex_nodes(zone)
        for namespace, space in self._state.spaces.items():
            yield from self._namespace_nodes(namespace)
            for name in space.own.services:
                yield from self._service_nodes(namespace, name)
        for address in self._by_address:
            if self._reverse.depth(address) is not None and names.reverse_name(address) not in self._apexes:
                yield self._pointer_node(address)
        for partial in self._reverse.partial_names():
            yield Node(partial, ())

    def _with_standing(self, nodes: Iterable[Node]) -> Iterator[Node]:
        missing = set(self._standing)
        for node in nodes:
            if node.answers is not None:
                missing.discard(node.owner)
                yield node
        for owner in missing:
            yield Node(owner, ())

    def _service_changes(self, key: ServiceKey, change: ServiceChange) -> list[Node]:
        half = self._state.half(False, key.namespace)
        labels: set[bytes] = set()
        if self._options.headless:
            labels |= change.endpoints
            if change.all_endpoints:
                labels = labels.union(*[self._slices.records(entry).names for entry in half.entries(key.name)])
        if not change.own and not labels:
            return []
        made = self._service_nodes(key.namespace, key.name, labels, own=change.own)
        found = {node.owner for node in made}
        stale = {label for label in labels if endpoints.is_found(label, 1)} | (change.stale if change.own else set())
        gone = []
        for zone in self._forward:
            suffix = self._suffix(key.namespace, key.name, zone)
            owned = [prefix + suffix for prefix in stale if suffix and len(prefix + suffix) <= names.MAX_NAME]
            gone += zone.own([Node(owner, None) for owner in owned if owner not in found])
        return gone + made

    # What names answer

    def _namespace_nodes(self, namespace: str) -> list[Node]:
        label = owners.label(namespace)
        if label == self._options.apex:
            return []
        answers = () if self._state.is_exposed(namespace) else None
        return [node for zone in self._forward for node in zone.own([Node(label + zone.name, answers)])]

    def _service_nodes(
        self, namespace: str, name: str, only: Collection[bytes] | None = None, *, own: bool = True
    ) -> list[Node]:
        """The nodes of a Service: its `own`, and those of its endpoints, all or `only` some of them."""
        half = self._state.half(False, namespace)
        service = half.services.get(name)
        if service is None or not self._state.is_exposed(namespace):
            return []
        slices: list[SliceRecords] = []
        if not service.external_addresses:
            if not self._options.headless or self.unlisted & Unlisted.ENDPOINT_SLICES:
                return []
            records_of = self._slices.passing_records if only is None else self._slices.records
            slices = [records_of(entry) for entry in half.entries(name)]
        nodes = []
        for zone in self._forward:
            owner = self._suffix(namespace, name, zone)
            if owner and own:
                nodes += zone.own(self._own_nodes(service, slices, owner))
            if owner and slices and service.type is not ServiceType.EXTERNAL_NAME:
                made = endpoints.endpoint_nodes(slices, owner, self._view.ttl, 1, only)
                nodes += zone.own([self._with_own_ttl(node) for node in made])
        return nodes

    def _own_nodes(self, service: Service, slices: Sequence[SliceRecords], owner: bytes) -> list[Node]:
        """The nodes of a Service and of its ports."""
        nodes: list[Node] = []
        if service.external_addresses:
            addresses = _packed(service)
            if not addresses:
                return _host_name_nodes(service, owner, self._view.ttl)
            nodes = services.cluster_ip_nodes(_as_cluster_ip(service, addresses), owner, self._view.ttl, imported=False)
        elif service.type is ServiceType.HEADLESS:
            nodes = services.headless_nodes(slices, owner, self._view.ttl, self._random)
        return [self._with_own_ttl(node) for node in nodes]

    def _with_own_ttl(self, node: Node) -> Node:
        """The node, its addresses with the TTL of the external zones; SRV records keep the other one (CoreDNS)."""
        ttl = self._options.ttl
        if ttl == self._view.ttl or not node.answers:
            return node
        answers = [
            answer._replace(
                ttl=ttl if answer.rtype in _ADDRESS_TYPES else answer.ttl,
                additional=tuple([record._replace(ttl=ttl) for record in answer.additional]),
            )
            for answer in node.answers
        ]
        return node._replace(answers=tuple(answers))

    def _apex_nodes(self, zone: Zone) -> list[Node]:
        ttl, apex = self._options.ttl, self._options.apex + zone.name
        server = NS1 + apex
        addresses = list(dict.fromkeys(self._name_server_addresses()))
        glue = tuple([records.address_record(server, ttl, address) for address in addresses])
        own = [Answer(records.NS, ttl, (server,), (), glue)]
        address = address_of(zone.name)
        if address and (pointer := self._pointer(address)):  # a zone of a single address
            own.append(pointer)
        return [
            Node(zone.name, tuple(own)),
            *zone.own([Node(apex, ()), Node(server, records.address_answers(ttl, addresses))]),
        ]

    def _name_server_addresses(self) -> list[bytes]:
        """The external addresses of the Services that lead to this server, or its own where none does."""
        entries = [entry for address in self._view.local_addresses for entry in self._state.holders(address)]
        if not entries or self.unlisted & Unlisted.SERVICES:
            return list(self._view.local_addresses)
        found: list[bytes] = []
        for entry in entries:
            service = self._state.half(False, entry.slice.namespace).services.get(entry.service)
            if service is None:
                continue
            if self._options.headless and service.type is ServiceType.HEADLESS:
                found += entry.slice.addresses
            else:
                found += _packed(service)
        return found

    def _pointer_node(self, address: bytes) -> Node:
        answer = self._pointer(address)
        return Node(names.reverse_name(address), (answer,) if answer else None)

    def _pointer(self, address: bytes) -> Answer | None:
        """The PTR answer of an external address: every Service that has it."""
        targets = [
            owners.label(name) + owners.label(namespace) + self._pointed_zone
            for namespace, name in self._by_address.get(address, ())
            if not self._view.namespaces or self._state.is_exposed(namespace)
        ]
        found = tuple(sorted({target for target in targets if len(target) <= names.MAX_NAME}))
        return Answer(records.PTR, self._options.ttl, found) if found else None

    def _suffix(self, namespace: str, name: str, zone: Zone) -> bytes:
        """The name of a Service, or nothing where it is too long or below the apex label."""
        label = owners.label(namespace)
        owner = owners.label(name) + label + zone.name
        return owner if label != self._options.apex and len(owner) <= names.MAX_NAME else b""


def _as_cluster_ip(service: Service, addresses: tuple[bytes, ...]) -> Service:
    return Service(service.namespace, service.name, ServiceType.CLUSTER_IP, addresses, service.ports)


def _packed(service: Service | None) -> tuple[bytes, ...]:
    """The external addresses that are IP addresses."""
    if service is None:
        return ()
    found = map(parse_address, service.external_addresses)
    return tuple(dict.fromkeys(address for address in found if address is not None))


def _host_name_nodes(service: Service, owner: bytes, ttl: int) -> list[Node]:
    """The nodes of a Service whose load balancers are known by name: CNAMEs to the first, SRV records to each."""
    targets = [target for text in service.external_addresses if (target := _host_name(text))]
    if not targets:
        return []
    plan = port_plan((service.ports or NO_PORTS,))
    srv = []
    for (selected,) in plan.selections:
        heads = records.srv_heads(selected, len(selected) * len(targets))
        srv.append(tuple([head + target for target in targets for head in heads]))
    of_prefix = dict.fromkeys((b"",), 0) | dict(plan.named) | dict(plan.wild)
    of_prefix |= {prefix: of_prefix[same] for prefix, same in plan.same}
    nodes = [Node(prefix + owner, ()) for prefix in plan.above]
    for prefix, index in of_prefix.items():
        chain = (Record(prefix + owner, records.CNAME, ttl, targets[0]),)
        answers = [Answer(rtype, ttl, (), chain, leaves_zone=True) for rtype in _ADDRESS_TYPES]
        if srv[index]:
            answers.append(Answer(records.SRV, ttl, srv[index]))
        nodes.append(Node(prefix + owner, tuple(answers), None, has_ports=not prefix))
    return [node for node in nodes if len(node.owner) <= names.MAX_NAME]


def _host_name(text: str) -> bytes:
    try:
        return names.from_text(text)
    except FormatError:
        return b""
