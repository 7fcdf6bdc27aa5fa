"""What each name answers, computed from the state of the cluster and nothing else.

Everything that decides about a name is asked for here: whether its namespace may be seen, which kind of Service is
behind it, which slices. The rules of each kind of name are in their own modules.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from random import Random

from kdns.cluster import aliases, apex, endpoints, notes, owners, records, reverse, services
from kdns.cluster.addresses import pod_address
from kdns.cluster.changes import ServiceKey
from kdns.cluster.endpoints import SliceCache, SliceEntry, SliceRecords
from kdns.cluster.objects import Service, ServiceType
from kdns.cluster.state import ClusterState
from kdns.cluster.unlisted import Unlisted
from kdns.cluster.view import PodMode, View
from kdns.cluster.zones import NS_DNS, WILDCARD, Zone, service_suffix
from kdns.dns import names
from kdns.dns.rrset import Answer, EndpointBatch, Node

MAX_LABELS_BEFORE_POD = 2  # labels in front of a Pod's name that change nothing (CoreDNS quirk)


class Evaluator:
    """Makes the nodes of a view's names."""

    def __init__(self, view: View, state: ClusterState, zones: Sequence[Zone], random: Random) -> None:
        self._view = view
        self._state = state
        self._random = random
        self._ttl = view.ttl
        self._primary = next((zone for zone in zones if not zone.is_reverse), None)
        self.unlisted = Unlisted.NOTHING  # what of the cluster is not in the state yet
        self.slices = SliceCache(imported=False, pod_names=view.endpoint_pod_names)
        self.imported_slices = SliceCache(imported=True, pod_names=view.endpoint_pod_names)

    def cache(self, imported: bool) -> SliceCache:
        """What keeps the records of slices of ServiceImports, or of Services."""
        return self.imported_slices if imported else self.slices

    def namespace_nodes(self, namespace: str, zone: Zone) -> list[Node]:
        """The nodes of a namespace, gone where it may not be seen."""
        label = owners.label(namespace)
        answers = () if self._state.is_exposed(namespace) else None
        nodes = [Node(label + zone.svc, answers)]
        if self._view.pods is not PodMode.DISABLED:
            nodes.append(Node(label + zone.pod, answers))
        return nodes

    def service_nodes(
        self, namespace: str, name: str, slices: Sequence[SliceRecords], zone: Zone, *, is_change: bool = False
    ) -> list[Node]:
        """The nodes of a Service, or of a ServiceImport, its ports' and topology zones' among them.

        `is_change`: it has changed, and may again.
        """
        service = self._visible_service(namespace, name, zone.imported)
        owner = service_suffix(namespace, name, zone)
        if service is None or not owner:
            return []
        if self.unlisted and self._is_undecided(service, owner, zone):
            return [Node(owner, ())]
        if service.type is ServiceType.CLUSTER_IP:
            nodes = services.cluster_ip_nodes(service, owner, self._ttl, zone.imported)
            if not nodes and any(part.addresses for part in slices):
                nodes = [Node(owner, ())]
        elif not zone.imported and (target := self._alias_target(namespace, name)):
            chain = aliases.follow(owner, target, zone.name, self._ttl, lambda found: self.look_up(found, zone))
            return [aliases.alias_node(owner, target, self._ttl, chain)]
        elif service.type is ServiceType.HEADLESS:
            are_distinct = is_change and self.cache(zone.imported).are_distinct(namespace, name, slices)
            nodes = services.headless_nodes(slices, owner, self._ttl, self._random, are_distinct=are_distinct)
            if self._view.zonal and not zone.imported:
                nodes += services.zonal_nodes(slices, owner, self._ttl, self._random)
        else:
            return []
        if zone.imported:
            clusters = [
                label[label[0] + 1 :] for part in slices for label in part.labels if endpoints.is_found(label, 2)
            ]
            nodes += [Node(cluster + owner, ()) for cluster in dict.fromkeys(clusters)]
        return nodes

    def endpoint_batches(
        self, namespace: str, name: str, slices: Sequence[SliceRecords], zone: Zone
    ) -> Sequence[EndpointBatch | Node]:
        """The nodes of all of a Service's endpoints."""
        owner = self._endpoints_owner(namespace, name, zone)
        return endpoints.endpoint_batches(slices, owner, self._ttl, _depth(zone)) if owner else []

    def endpoint_nodes(
        self, namespace: str, name: str, slices: Sequence[SliceRecords], zone: Zone, only: Collection[bytes]
    ) -> list[Node]:
        """The nodes of `only` some of a Service's endpoints, by their labels."""
        owner = self._endpoints_owner(namespace, name, zone)
        return endpoints.endpoint_nodes(slices, owner, self._ttl, _depth(zone), only) if owner else []

    def _endpoints_owner(self, namespace: str, name: str, zone: Zone) -> bytes:
        """The name below which a Service's endpoints have theirs; empty where they have none."""
        service = self._visible_service(namespace, name, zone.imported)
        if service is None or service.type is ServiceType.EXTERNAL_NAME:
            return b""
        return service_suffix(namespace, name, zone)

    def pod_nodes(self, namespace: str, addresses: Iterable[bytes], zone: Zone) -> list[Node]:
        """The nodes of Pods' addresses, gone where no Pod has them."""
        space = self._state.spaces.get(namespace)
        suffix = owners.label(namespace) + zone.pod
        nodes = []
        for address in addresses:
            exists = space is not None and space.is_exposed and address in space.pod_addresses
            answers = records.address_answers(self._ttl, (address,)) if exists else None
            nodes.append(Node(owners.pod_label(address) + suffix, answers))
        return nodes

    def apex_nodes(self, zone: Zone) -> list[Node]:
        """The nodes whose data is where this DNS service is reached: the apex and `ns.dns`."""
        nodes = apex.name_server_nodes(zone, self._name_servers(zone), self._ttl)
        apex_node = nodes[0]
        address = reverse.address_of(zone.name)
        pointer = self.pointer(address) if address else None
        if pointer:  # a zone of a single address
            nodes[0] = apex_node._replace(answers=(*(apex_node.answers or ()), pointer))
        return nodes

    def pointer_node(self, address: bytes) -> Node:
        """The node of an address in its reverse zone, gone where nothing has the address."""
        answer = self.pointer(address)
        return Node(names.reverse_name(address), (answer,) if answer else None)

    def pointer(self, address: bytes) -> Answer | None:
        """The PTR answer of an address: the Service that owns it, else every endpoint that has it."""
        if not self.knows_pointers:
            return None
        owned = [key for key in self._state.by_cluster_ip.get(address, ()) if self.shows_pointers(key[0])]
        if owned:
            targets = [self.pointer_suffix(*min(owned))]
        else:
            targets = [
                label + suffix
                for entry in self._state.holders(address)
                if entry.service and self.shows_pointers(entry.slice.namespace)
                if (suffix := self.pointer_suffix(entry.slice.namespace, entry.service))
                for endpoint in entry.slice.endpoints_at(address)
                if (label := owners.endpoint_label(endpoint, self._view.endpoint_pod_names))
            ]
        found = tuple(sorted({target for target in targets if 0 < len(target) <= names.MAX_NAME}))
        return Answer(records.PTR, self._ttl, found) if found else None

    def pointer_suffix(self, namespace: str, name: str) -> bytes:
        """The name of a Service that PTR records show, in the primary zone whatever the reverse zone."""
        return service_suffix(namespace, name, self._primary) if self._primary else b""

    def shows_pointers(self, namespace: str) -> bool:
        """Whether addresses in a namespace have PTR records.

        As in CoreDNS, hidden namespaces do have them, unless they are hidden by the `namespaces` option.
        """
        return not self._view.namespaces or self._state.is_exposed(namespace)

    @property
    def knows_pointers(self) -> bool:
        """Whether PTR answers can be told: an endpoint's address may be a Service's own."""
        return not (self.unlisted and self.unlisted & Unlisted.SERVICES)

    def look_up(self, name: bytes, zone: Zone) -> Node | bytes | None:
        """What a name of a zone of Services answers, in any of its spellings: its node, or the name it stands for."""
        labels = names.labels_of(name[: len(name) - len(zone.name)] + names.ROOT)
        if name == NS_DNS + zone.name:
            return apex.name_server_nodes(zone, self._name_servers(zone), self._ttl)[1]
        if len(labels) < 3 or labels[-1] not in (b"svc", b"pod"):
            return None
        thing, namespace = (label.decode("utf-8", "surrogateescape") for label in labels[-3:-1])
        if labels[-1] == b"pod":
            return self._look_up_pod(thing, namespace, len(labels) - 3, zone)
        if self._visible_service(namespace, thing, imported=False) is None:
            return None
        target = self._alias_target(namespace, thing)
        if target is not None:
            return target if len(labels) == 3 else None
        cache = self.slices
        slices = [cache.records(entry) for entry in self._state.half(False, namespace).entries(thing)]
        if len(labels) == 4:
            first = name[: name[0] + 1]
            return next(iter(self.endpoint_nodes(namespace, thing, slices, zone, {first})), None)
        nodes = {node.owner: node for node in self.service_nodes(namespace, thing, slices, zone)}
        return _find(nodes, name)

    def _look_up_pod(self, label: str, namespace: str, labels_before: int, zone: Zone) -> Node | None:
        address = pod_address(label)
        if address is None or labels_before > MAX_LABELS_BEFORE_POD or not self._state.is_exposed(namespace):
            return None
        if self._view.pods is PodMode.INSECURE:
            return Node(b"", records.address_answers(self._ttl, (address,)))
        if self._view.pods is PodMode.VERIFIED and owners.pod_label(address)[1:] == label.encode():
            return self.pod_nodes(namespace, (address,), zone)[0]
        return None

    def _visible_service(self, namespace: str, name: str, imported: bool) -> Service | None:
        """A Service whose names exist as far as its namespace and `ignore empty_service` are concerned."""
        space = self._state.spaces.get(namespace)
        if space is None or not space.is_exposed:
            return None
        half = space.half(imported)
        service = half.services.get(name)
        if service is None or not self._view.ignore_empty_service or service.type is not ServiceType.CLUSTER_IP:
            return service
        if self.unlisted & Unlisted.ENDPOINT_SLICES:
            return service
        return service if has_endpoints(half.entries(name)) else None

    def _is_undecided(self, service: Service, owner: bytes, zone: Zone) -> bool:
        """Whether what a Service answers depends on objects that have not been listed."""
        waits_for_slices = bool(self.unlisted & Unlisted.ENDPOINT_SLICES)
        if service.type is ServiceType.HEADLESS:
            return waits_for_slices
        if service.type is ServiceType.CLUSTER_IP:
            may_be_hidden = self._view.ignore_empty_service
            return waits_for_slices and (may_be_hidden or (zone.imported and not service.ports))
        target = self._alias_target(service.namespace, service.name)
        if target is None or not (waits_for_slices or self.unlisted & Unlisted.PODS):
            return False
        chain = aliases.follow(owner, target, zone.name, self._ttl, lambda found: self.look_up(found, zone))
        return chain is not None and not chain.leaves_zone

    def transfer_note(self, key: ServiceKey) -> Node:
        """What a zone transfer says of a Service; `ignore empty_service` has no part in that (CoreDNS)."""
        owner = notes.service_owner(*key)
        half = self._state.half(key.imported, key.namespace)
        service = half.services.get(key.name) if self._state.is_exposed(key.namespace) else None
        target = None if key.imported else self._alias_target(key.namespace, key.name)
        return notes.service_node(
            owner, service, target or b"", half.entries(key.name), self._view.endpoint_pod_names
        )  # fmt: skip

    def _alias_target(self, namespace: str, name: str) -> bytes | None:
        half = self._state.half(False, namespace)
        service = half.services.get(name)
        return aliases.alias_target(service, (entry.slice for entry in half.entries(name))) if service else None

    def _name_servers(self, zone: Zone) -> list[apex.NameServer]:
        """This DNS service by name and address: the Services whose slices hold an address of this server."""
        entries = [entry for address in self._view.local_addresses for entry in self._state.holders(address)]
        if not entries or self.unlisted & Unlisted.SERVICES:
            return apex.fallback_name_servers(zone, self._view.local_addresses)
        found = []
        for entry in entries:
            namespace = entry.slice.namespace
            service = self._state.half(False, namespace).services.get(entry.service)
            suffix = service_suffix(namespace, entry.service, zone)
            if service is None or not suffix:
                continue
            if service.type is ServiceType.HEADLESS:
                parts = self.slices.records(entry)
                found += [
                    apex.NameServer(label + suffix, address)
                    for label, address in zip(parts.labels, parts.addresses, strict=True)
                    if label and len(label + suffix) <= names.MAX_NAME
                ]
            else:
                found += [apex.NameServer(suffix, address) for address in service.addresses]
        return found


def has_endpoints(entries: Iterable[SliceEntry]) -> bool:
    """Whether any slice has a ready endpoint."""
    return any(entry.slice.addresses or entry.slice.targets for entry in entries)


def _depth(zone: Zone) -> int:
    """How many labels an endpoint's name has below its Service's: a cluster's may be among them."""
    return 2 if zone.imported else 1


def _find(nodes: dict[bytes, Node], name: bytes) -> Node | None:
    """The node of a name, of its spelling with underscores, or the wildcard above it; aliases followed."""
    first, second = name[: name[0] + 1], name[name[0] + 1 :]
    second, rest = second[: second[0] + 1], second[second[0] + 1 :]
    spelled = b"".join([owners.underscored(label) for label in (first, second)]) + rest
    wildcards = [WILDCARD + parent for parent in names.parents(name)[1:]]
    node = next((nodes[found] for found in (name, spelled, *wildcards) if found in nodes), None)
    return nodes[node.alias_of] if node and node.alias_of else node
