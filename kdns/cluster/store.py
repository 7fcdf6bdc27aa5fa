"""The store: events in, nodes out.

It keeps the objects a view depends on and knows, for each event, whose names it concerns. Nodes are made only when
asked for, from the state as it then is, so that any number of events cost no more than what they changed together.
"""

from __future__ import annotations

import random as random_module
from collections.abc import Callable, Iterator, Sequence
from itertools import chain

from msgspec import structs

from kdns.cluster import endpoints, full, owners, reverse
from kdns.cluster.changes import Changes, ServiceChange, ServiceKey
from kdns.cluster.client_notes import client_node
from kdns.cluster.evaluation import Evaluator
from kdns.cluster.external import ExternalNames
from kdns.cluster.objects import (
    ClusterObject,
    Endpoint,
    EndpointSlice,
    Event,
    Kind,
    Namespace,
    Pod,
    Service,
    ServiceImport,
    ServiceType,
)
from kdns.cluster.selectors import Selector
from kdns.cluster.state import ClusterState
from kdns.cluster.tracking import TrackedState
from kdns.cluster.unlisted import Unlisted
from kdns.cluster.view import PodMode, View
from kdns.cluster.zones import Zone, service_suffix, standing_names
from kdns.dns import names
from kdns.dns.rrset import Batch, Node, each_node


class Store:
    """Holds the objects of one view, and turns what changed into nodes."""

    def __init__(self, view: View, clock: Callable[[], float], random: random_module.Random | None = None) -> None:
        self.serial = 0  # of the zones' SOA records: when something in them last changed, in Unix seconds
        self.multicluster_serial = 0
        self.external_serial = 0
        self._view = view
        self._clock = clock
        self._zones = [Zone(name, view) for name in dict.fromkeys(view.zones)]
        self._forward = [zone for zone in self._zones if not zone.is_reverse]
        self._apexes = frozenset(zone.name for zone in self._zones)
        self._standing = standing_names(view.zones)
        self._state = ClusterState()
        self._evaluator = Evaluator(view, self._state, self._zones, random or random_module.Random())  # noqa: S311
        self._tracked = TrackedState(view, self._zones, self._state, self._evaluator)
        self._external: ExternalNames | None = None
        if view.external is not None:
            self._external = ExternalNames(
                view,
                view.external,
                self._state,
                self._evaluator.slices,
                random or random_module.Random(),  # noqa: S311
            )

    @property
    def serials(self) -> tuple[int, ...]:
        """All of them."""
        return self.serial, self.multicluster_serial, self.external_serial

    @property
    def unlisted(self) -> Unlisted:
        """What has not been listed yet: names that depend on it are held back. To be set before `all_nodes`."""
        return self._evaluator.unlisted

    @unlisted.setter
    def unlisted(self, kinds: Unlisted) -> None:
        self._evaluator.unlisted = kinds
        if self._external is not None:
            self._external.unlisted = kinds

    def apply(self, event: Event) -> None:
        """Take in that an object is now so, or gone. What the view does not select is gone; repetition is harmless."""
        wanted = event.object if event.object is not None and self._selects(event, event.object) else None
        match event.kind:
            case Kind.NAMESPACE:
                self._tracked.put_namespace(event.name, wanted is not None)
            case Kind.SERVICE:
                self._apply_service(event, wanted if isinstance(wanted, Service) else None)
            case Kind.SERVICE_IMPORT:
                self._apply_import(event, wanted if isinstance(wanted, ServiceImport) else None)
            case Kind.ENDPOINT_SLICE:
                self._apply_slice(event, wanted if isinstance(wanted, EndpointSlice) else None)
            case Kind.POD:
                self._apply_pod(event, wanted if isinstance(wanted, Pod) else None)

    def service_type(self, namespace: str, name: str) -> ServiceType | None:
        """The type of a Service; None where there is none."""
        service = self._state.half(False, namespace).services.get(name)
        return None if service is None else service.type

    def take_changes(self) -> list[Node]:
        """The nodes that changed since the last call, or may have: first those gone, then those that lost endpoints.

        If neither this nor `all_nodes` was called before, these are all nodes.
        """
        if self._tracked.changes is None:
            return list(self.all_nodes())
        changes = self._tracked.take_changes()
        shrunk: list[Node] = []
        nodes: list[Node] = []
        for key, change in changes.services.items():
            (shrunk if change.lost_endpoints else nodes).extend(self._service_changes(key, change))
        nodes += self._other_changes(changes)
        found = {node.owner: node for node in (*shrunk, *nodes)}
        if self._standing:
            for owner in self._standing & found.keys():
                if found[owner].answers is None:
                    found[owner] = Node(owner, ())
        gone = [node for node in found.values() if node.answers is None]
        made = [node for node in found.values() if node.answers is not None]
        others = self._external.changed_nodes(changes) if self._external is not None else []
        return [*gone, *made, *self._changed_notes(changes), *others]

    def all_nodes(self) -> Iterator[Node]:
        """Every node, changes not taken yet among them. To be read before the next `apply`."""
        return each_node(self.all_batches())

    def all_batches(self) -> Iterator[Node | Batch]:
        """The same for a full build: those that are all alike in batches."""
        self._tracked.take_changes()
        self._tracked.reverse.take_changed()
        nodes = full.every_node(
            self._view, self._zones, self._standing, self._state, self._evaluator, self._tracked.reverse
        )
        others = self._external.all_nodes() if self._external is not None else ()
        return chain(nodes, self._all_notes(), others)

    def _selects(self, event: Event, found: ClusterObject) -> bool:
        """Whether the view wants an object: by its labels, and by having a name that can be one in DNS."""
        view = self._view
        match found:
            case Namespace():
                listed = not view.namespaces or event.name in view.namespaces
                return listed and _matches(view.namespace_labels, event) and bool(owners.label(event.name))
            case ServiceImport():
                # The selector of namespaces, not the one of Services (CoreDNS quirk).
                selector, wanted = view.namespace_labels, bool(view.multicluster)
            case Pod():
                selector, wanted = view.labels, view.pods is PodMode.VERIFIED
            case _:
                selector, wanted = view.labels, True
        if isinstance(found, Service | ServiceImport) and not owners.label(event.name):
            return False
        return wanted and bool(owners.label(event.namespace)) and _matches(selector, event)

    def _apply_service(self, event: Event, new: Service | None) -> None:
        if new is not None and new.external_addresses and self._external is None:
            new = structs.replace(new, external_addresses=())
        key = ServiceKey(False, event.namespace, event.name)
        old = self._tracked.put_service(key, new)
        if self._external is not None and old != new:
            self._external.put_service(key, old, new)
            if (old and old.external_addresses) or (new and new.external_addresses):
                self.external_serial = int(self._clock())
        if _came_or_went(old, new) or (
            old and new and (old.external_name != new.external_name or old.ports != new.ports)
        ):
            self.serial = int(self._clock())

    def _apply_import(self, event: Event, new: ServiceImport | None) -> None:
        as_service = None
        if new is not None:
            kind = ServiceType.HEADLESS if new.headless else ServiceType.CLUSTER_IP
            as_service = Service(new.namespace, new.name, kind, new.addresses, new.ports)
        old = self._tracked.put_service(ServiceKey(True, event.namespace, event.name), as_service)
        if _came_or_went(old, new):
            self.serial = int(self._clock())
        elif old != as_service:
            self.multicluster_serial = int(self._clock())

    def _apply_slice(self, event: Event, new: EndpointSlice | None) -> None:
        if not self._view.noendpoints:
            service = new.service if new is not None and owners.label(new.service) else ""
            old = self._tracked.put_slice(False, event.namespace, event.name, new, service)
            if _came_or_went(old, new) or (old and new and self._differ(old, new)):
                self.serial = int(self._clock())
                if self._view.external is not None and self._view.external.headless:
                    self.external_serial = self.serial
        if self._view.multicluster:
            if new is not None and not owners.label(new.service_import):
                new = None
            old = self._tracked.put_slice(True, event.namespace, event.name, new, new.service_import if new else "")
            if _came_or_went(old, new):
                self.serial = int(self._clock())
            elif old and new and self._differ(old, new):
                self.multicluster_serial = int(self._clock())

    def _apply_pod(self, event: Event, new: Pod | None) -> None:
        old = self._tracked.put_pod(event.namespace, event.name, new)
        if _came_or_went(old, new) or (old and new and old.address != new.address):
            self.serial = int(self._clock())

    def _differ(self, old: EndpointSlice, new: EndpointSlice) -> bool:
        """Whether a change of a slice counts as one of the zone; Pod names and owners do not (CoreDNS)."""
        return (
            old.ports != new.ports
            or old.targets != new.targets
            or old.addresses != new.addresses
            or (old.details != new.details and self._show_differently(old.endpoints, new.endpoints))
        )

    def _show_differently(self, old: Sequence[Endpoint], new: Sequence[Endpoint]) -> bool:
        """Whether endpoints with the same addresses differ in what names are made of."""
        hostnames = [endpoint.hostname for endpoint in old] != [endpoint.hostname for endpoint in new]
        return hostnames or (
            self._view.zonal and [endpoint.zone for endpoint in old] != [endpoint.zone for endpoint in new]
        )

    def _service_changes(self, key: ServiceKey, change: ServiceChange) -> list[Node]:
        """The nodes of a Service that changed, made anew, and those of its names that are not there any more."""
        half = self._state.half(key.imported, key.namespace)
        service = half.services.get(key.name)
        cache = self._evaluator.cache(key.imported)
        answers_itself = service is None or (service.type is ServiceType.CLUSTER_IP and not key.imported)
        if not answers_itself or change.all_endpoints:
            slices = [cache.records(entry) for entry in half.entries(key.name)]
        else:
            named = owners.plain_addresses(change.endpoints)
            slices = [cache.records_named(entry, named) for entry in half.entries(key.name) if change.endpoints]
        labels = change.endpoints.union(*[part.names for part in slices if change.all_endpoints])
        nodes = []
        for zone in self._forward:
            suffix = service_suffix(key.namespace, key.name, zone)
            if zone.imported is not key.imported or not suffix:
                continue
            made = []
            expected = {label + suffix for label in labels if endpoints.is_found(label, 2 if key.imported else 1)}
            if change.own:
                made = self._evaluator.service_nodes(key.namespace, key.name, slices, zone, is_change=True)
                expected |= {prefix + suffix for prefix in change.stale}
            if labels:
                made += self._evaluator.endpoint_nodes(key.namespace, key.name, slices, zone, labels)
            expected.difference_update([node.owner for node in made])
            made += [Node(owner, None) for owner in expected if len(owner) <= names.MAX_NAME]
            nodes += zone.own(made)
        return nodes

    def _changed_notes(self, changes: Changes) -> list[Node]:
        """What workers must know besides names, as far as it changed."""
        nodes = []
        if self._view.transfers:
            nodes += [self._evaluator.transfer_note(key) for key in changes.services]
        if self._view.clients:
            clients = self._state.clients
            nodes += [client_node(address, min(clients.get(address, ("",)))) for _, address in changes.pods]
        return nodes

    def _all_notes(self) -> Iterator[Node]:
        if self._view.transfers:
            for namespace, space in self._state.spaces.items():
                for imported in (False, True) if space.is_exposed else ():
                    for name in space.half(imported).services:
                        yield self._evaluator.transfer_note(ServiceKey(imported, namespace, name))
        if self._view.clients:
            for address, namespaces in self._state.clients.items():
                yield client_node(address, min(namespaces))

    def _other_changes(self, changes: Changes) -> list[Node]:
        """The nodes that changed and belong to no Service."""
        nodes: list[Node] = []
        for zone in self._forward:
            for namespace in changes.namespaces:
                nodes += zone.own(self._evaluator.namespace_nodes(namespace, zone))
            for namespace, address in changes.pods:
                nodes += zone.own(self._evaluator.pod_nodes(namespace, (address,), zone))
        of_zone = changes.apex
        for address in changes.addresses:
            if self._tracked.reverse.depth(address) is not None:
                nodes.append(self._evaluator.pointer_node(address))
                of_zone |= nodes[-1].owner in self._apexes
        for partial in self._tracked.reverse.take_changed():
            answers = () if self._tracked.reverse.has_below(partial) else None
            nodes.append(Node(reverse.name_of(partial), answers))
        if of_zone:
            for zone in self._zones:
                nodes += self._evaluator.apex_nodes(zone)
        return nodes


def _matches(selector: Selector | None, event: Event) -> bool:
    return selector is None or selector.matches(event.labels)


def _came_or_went(old: object | None, new: object | None) -> bool:
    return (old is None) != (new is None)
