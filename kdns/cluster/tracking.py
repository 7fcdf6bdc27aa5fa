"""The state of the cluster, changed in one place, where it is noted whose names each change concerns.

An event is compared with what was there before: what is equal costs nothing, what differs is noted by the things names
depend on (`changes`). Names that may be gone are noted as they were; whether they are is seen when nodes are made.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from kdns.cluster import owners
from kdns.cluster.aliases import NOTHING, Dependents, alias_target
from kdns.cluster.changes import Changes, ServiceKey
from kdns.cluster.evaluation import Evaluator, has_endpoints
from kdns.cluster.objects import Endpoint, EndpointSlice, Pod, Service, ServiceType
from kdns.cluster.ports import NO_PORTS, port_plan
from kdns.cluster.reverse import ReverseZones
from kdns.cluster.services import ZONAL_PREFIXES, zonal_prefixes
from kdns.cluster.state import ClusterState, Half, Space
from kdns.cluster.view import View
from kdns.cluster.zones import NS_DNS, Zone
from kdns.dns import names


class TrackedState:
    """Puts objects in their places. Each `put_` returns what was there before; None stands for nothing there."""

    def __init__(self, view: View, zones: Sequence[Zone], state: ClusterState, evaluator: Evaluator) -> None:
        self._view = view
        self._zones = zones
        self._state = state
        self._evaluator = evaluator
        self._local = frozenset(view.local_addresses)
        self._dependents = Dependents()
        self.reverse = ReverseZones(zone.name for zone in zones)
        # None until nodes are first handed out: before that everything is new, and nothing worth noting.
        self.changes: Changes | None = None

    def take_changes(self) -> Changes:
        """What changed since the last time, with what depends on it; nothing is noted any more."""
        changes, self.changes = self.changes or Changes(), Changes()
        if self._dependents:
            for namespace, name in self._dependents.of(changes.things()):
                changes.service(ServiceKey(False, namespace, name)).own = True
        return changes

    def put_namespace(self, name: str, is_exposed: bool) -> None:
        """Show the names in a namespace, or hide them."""
        if self._state.is_exposed(name) == is_exposed:
            return
        space = self._state.space(name)
        if self.changes is not None:
            self._note_namespace(self.changes, name, space)
        space.is_exposed = is_exposed
        if self._view.namespaces:
            # Only with this option do PTR records depend on the namespace.
            count = self.reverse.add if is_exposed else self.reverse.remove
            for addresses in _pointed_addresses(space):
                count(addresses)
        self._state.drop_if_empty(name)

    def put_service(self, key: ServiceKey, new: Service | None) -> Service | None:
        """Put a Service, or a ServiceImport, in its place."""
        half = self._state.space(key.namespace).half(key.imported)
        old = half.services.get(key.name)
        if old != new:
            if self.changes is not None:
                self._note_service(self.changes, key, half, old, new)
            if new is None:
                del half.services[key.name]
            else:
                half.services[key.name] = new
            if not key.imported:
                before, after = set(old.addresses if old else ()), set(new.addresses if new else ())
                self._state.index_cluster_ips((key.namespace, key.name), before - after, after - before)
                self._count_pointers(key.namespace, before - after, after - before)
                self._link(key.namespace, half, key.name)
        self._state.drop_if_empty(key.namespace)
        return old

    def put_slice(
        self, imported: bool, namespace: str, name: str, new: EndpointSlice | None, service: str
    ) -> EndpointSlice | None:
        """Put a slice behind `service`, or behind the ServiceImport of that name."""
        half = self._state.space(namespace).half(imported)
        entry = half.slices.get(name)
        old, old_service = (entry.slice, entry.service) if entry else (None, "")
        if old != new:
            concerned = [found for found in dict.fromkeys((old_service, service)) if found]
            empty = [found for found in concerned if self._may_vanish(half, found)]
            change = _SliceChange.of(old, old_service, new, service)
            if self.changes is not None:
                self._note_slice(self.changes, imported, half, change)
            half.place(name, new, service)
            entry = entry or half.slices[name]
            self._evaluator.cache(imported).forget(entry)
            if not imported:
                self._state.index_endpoints(entry, change.lost, change.gained)
                if old_service and service:
                    self._count_pointers(namespace, change.lost, change.gained)
                else:
                    before, after = change.before if old_service else set(), change.after if service else set()
                    self._count_pointers(namespace, before, after)
            for found in concerned:
                if not imported:
                    self._link(namespace, half, found)
                if self.changes is not None and (found in empty) != self._may_vanish(half, found):
                    self._note_own(self.changes, ServiceKey(imported, namespace, found), half)
        self._state.drop_if_empty(namespace)
        return old

    def put_pod(self, namespace: str, name: str, new: Pod | None) -> Pod | None:
        """Put a Pod in its place."""
        space = self._state.space(namespace)
        old = space.pods.get(name)
        if old != new:
            if self.changes is not None:
                self.changes.pods.update((namespace, pod.address) for pod in (old, new) if pod)
            space.put_pod(name, new)
            if self._view.clients:
                self._state.index_client(namespace, old.address if old else None, new.address if new else None)
        self._state.drop_if_empty(namespace)
        return old

    def _may_vanish(self, half: Half, name: str) -> bool:
        """Whether `ignore empty_service` would hide a Service of addresses now."""
        if not self._view.ignore_empty_service:
            return False
        service = half.services.get(name)
        if service is None or service.type is not ServiceType.CLUSTER_IP:
            return False
        return not has_endpoints(half.entries(name))

    def _count_pointers(self, namespace: str, lost: set[bytes], gained: set[bytes]) -> None:
        if self._evaluator.shows_pointers(namespace):
            self.reverse.remove(lost)
            self.reverse.add(gained)

    def _link(self, namespace: str, half: Half, name: str) -> None:
        """Note what the Service depends on if it stands for another name."""
        service = half.services.get(name)
        if service is None or service.type is ServiceType.CLUSTER_IP:  # nearly all of them
            self._dependents.put((namespace, name), NOTHING)
            return
        target = alias_target(service, (entry.slice for entry in half.entries(name)))
        things = {_thing(target, zone) for zone in self._zones if not zone.imported} if target else set()
        self._dependents.put((namespace, name), frozenset(thing for thing in things if thing))

    def _note_namespace(self, changes: Changes, name: str, space: Space) -> None:
        changes.namespaces.add(name)
        changes.pods.update((name, address) for address in space.pod_addresses)
        for imported in (False, True):
            half = space.half(imported)
            for service in half.services:
                key = ServiceKey(imported, name, service)
                self._note_own(changes, key, half)
                changes.service(key).all_endpoints = True
        if self._view.namespaces:
            changes.addresses.update(*_pointed_addresses(space))

    def _note_own(self, changes: Changes, key: ServiceKey, half: Half) -> None:
        """Note a Service's own names, as they are before the change."""
        change = changes.service(key)
        change.own = True
        service = half.services.get(key.name)
        if service is None:
            return
        slices = [entry.slice for entry in half.entries(key.name)]
        if service.external_addresses:
            change.stale |= port_plan((service.ports or NO_PORTS,)).prefixes
        if service.type is ServiceType.CLUSTER_IP:
            change.stale |= port_plan((service.ports or NO_PORTS,)).prefixes
        elif service.type is ServiceType.HEADLESS and self._view.zonal and not key.imported:
            change.stale |= ZONAL_PREFIXES
        if service.type is not ServiceType.EXTERNAL_NAME:
            for ports in {slice_.ports for slice_ in slices}:
                self._note_stale(changes, key, [slice_ for slice_ in slices if slice_.ports == ports])
        change.stale.add(b"")

    def _note_stale(self, changes: Changes, key: ServiceKey, slices: Sequence[EndpointSlice]) -> None:
        """Note the names below a Service that slices with the same ports may be the reason of."""
        stale = changes.service(key).stale
        stale |= port_plan((slices[0].ports or NO_PORTS,)).prefixes
        stale.add(b"")
        if key.imported:
            stale |= {cluster for slice_ in slices if (cluster := owners.label(slice_.source_cluster))}
        elif self._view.zonal:
            stale |= zonal_prefixes({e.zone.lower() for slice_ in slices for e in slice_.endpoints if e.zone})

    def _note_service(
        self, changes: Changes, key: ServiceKey, half: Half, old: Service | None, new: Service | None
    ) -> None:
        self._note_own(changes, key, half)
        change = changes.service(key)
        if old is None or new is None or ServiceType.EXTERNAL_NAME in (old.type, new.type):
            change.all_endpoints = True
        elif bool(old.external_addresses) != bool(new.external_addresses):
            change.all_endpoints = True  # only Services without external addresses show their endpoints outside
        before, after = set(old.addresses if old else ()), set(new.addresses if new else ())
        change.lost_endpoints |= not before <= after
        if not key.imported:
            changes.addresses |= before ^ after
            holders = [entry for address in self._local for entry in self._state.holders(address)]
            changes.apex |= any(
                entry.service == key.name and entry.slice.namespace == key.namespace for entry in holders
            )

    def _note_slice(self, changes: Changes, imported: bool, half: Half, found: _SliceChange) -> None:
        stays = found.belongs_where_it_did
        if not imported:
            changes.addresses |= found.moved if stays else found.before | found.after
            if not (self._local.isdisjoint(found.before) and self._local.isdisjoint(found.after)):
                changes.apex = True
        lost, gained = found.parted if stays else (found.old_endpoints, found.new_endpoints)
        sides = ((found.old, found.old_service, lost), (found.new, found.service, gained))
        for slice_, name, concerned in sides:
            if slice_ is None or not name:
                continue
            key = ServiceKey(imported, slice_.namespace, name)
            change = changes.service(key)
            change.endpoints |= self._labels(imported, slice_, concerned)
            service = half.services.get(name)
            change.own |= service is not None and (imported or service.type is ServiceType.HEADLESS)
            if change.own and self._view.zonal and not imported:
                change.stale |= ZONAL_PREFIXES  # a slice of names may turn the Service into an alias
            if slice_ is found.old:
                change.lost_endpoints |= bool(concerned)
                if change.own:
                    self._note_stale(changes, key, [slice_])

    def _labels(self, imported: bool, slice_: EndpointSlice, endpoints: Iterable[Endpoint]) -> set[bytes]:
        labels = {owners.endpoint_label(endpoint, self._view.endpoint_pod_names) for endpoint in endpoints}
        cluster = owners.label(slice_.source_cluster) if imported else b""
        return {label + cluster for label in labels if label}


class _SliceChange(NamedTuple):
    """A slice, the Service it is behind and its addresses, as they were and as they are."""

    old: EndpointSlice | None
    old_service: str
    before: set[bytes]
    new: EndpointSlice | None
    service: str
    after: set[bytes]
    lost: set[bytes]  # of the addresses
    gained: set[bytes]
    has_details: bool  # then more may have changed than addresses

    @classmethod
    def of(cls, old: EndpointSlice | None, old_service: str, new: EndpointSlice | None, service: str) -> _SliceChange:
        """What changed of it."""
        before, after = _addresses(old), _addresses(new)
        has_details = bool((old and old.details) or (new and new.details))
        return cls(old, old_service, before, new, service, after, before - after, after - before, has_details)

    @property
    def belongs_where_it_did(self) -> bool:
        """Whether it was there, still is, and its endpoints are below the same name."""
        old, new = self.old, self.new
        if old is None or new is None:
            return False
        return self.old_service == self.service and old.source_cluster == new.source_cluster

    @property
    def old_endpoints(self) -> Collection[Endpoint]:
        """What it was."""
        return self.old.endpoints if self.old else ()

    @property
    def new_endpoints(self) -> Collection[Endpoint]:
        """What it is."""
        return self.new.endpoints if self.new else ()

    @property
    def moved(self) -> set[bytes]:
        """The addresses of endpoints that came, went or changed."""
        if not self.has_details:
            return self.lost | self.gained
        return {endpoint.address for endpoint in set(self.old_endpoints) ^ set(self.new_endpoints)}

    @property
    def parted(self) -> tuple[Collection[Endpoint], Collection[Endpoint]]:
        """The endpoints that went and those that came: all, unless those it still has answer as they did."""
        old, new = self.old, self.new
        if old is None or new is None or old.ports != new.ports:
            return self.old_endpoints, self.new_endpoints
        # Somebody who is there twice may be there once now: that is another answer, and no difference of sets.
        if self.has_details:
            before, after = set(old.endpoints), set(new.endpoints)
            if len(before) == len(old.addresses) and len(after) == len(new.addresses):
                return before - after, after - before
        elif len(self.before) == len(old.addresses) and len(self.after) == len(new.addresses):
            return [Endpoint(address) for address in self.lost], [Endpoint(address) for address in self.gained]
        return old.endpoints, new.endpoints


def _addresses(slice_: EndpointSlice | None) -> set[bytes]:
    return set(slice_.addresses) if slice_ else set()


def _pointed_addresses(space: Space) -> list[set[bytes]]:
    """The addresses in a namespace that have PTR records, once for each Service and slice that has them."""
    return [
        *[set(service.addresses) for service in space.own.services.values()],
        *[_addresses(entry.slice) for entry in space.own.slices.values() if entry.service],
    ]


def _thing(target: bytes, zone: Zone) -> tuple[str, str] | None:
    """What of the cluster a target in a zone depends on, as `Changes.things` tells it."""
    if not names.is_below(target, zone.name):
        return None
    if target == NS_DNS + zone.name:
        return "", ""
    labels = names.labels_of(target[: len(target) - len(zone.name)] + names.ROOT)
    if len(labels) < 3:
        return None
    thing, namespace = (label.decode("utf-8", "surrogateescape") for label in labels[-3:-1])
    return (namespace, thing) if labels[-1] == b"svc" else (namespace, "")
