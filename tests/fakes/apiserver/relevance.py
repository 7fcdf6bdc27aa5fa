"""Which objects may decide the answer to a name: those of its Service, its Pod or its address, in any version."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator

from kdns.cluster import owners, reverse
from kdns.cluster.objects import EndpointSlice, Event, Kind, Pod, Service
from kdns.cluster.raw import decode
from kdns.cluster.view import PodMode, View
from kdns.dns import names
from tests.fakes.apiserver.storage import Key, Version

MAX_ALIASES = 8  # followed through ExternalNames, as a resolver would
KINDS = {kind.value: kind for kind in Kind}


def event_of(version: Version) -> Event | None:
    """A version as a follower of the API takes it in; None where it is malformed or a Pod on its way out."""
    kind, namespace, name = version.key
    if version.raw is None:
        return gone(version.key)
    event = decode(KINDS[kind], version.raw).event
    return event if event is not None and (event.namespace, event.name) == (namespace, name) else None


def gone(key: Key) -> Event:
    """That an object is not there."""
    return Event(KINDS[key.kind], key.namespace, key.name, None)


class Relevance:
    """Grows with every version; what once belonged to a name is looked at for good."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._lock = threading.Lock()
        self._by_service: defaultdict[tuple[str, str], set[Key]] = defaultdict(set)
        self._by_address: defaultdict[bytes, set[Key]] = defaultdict(set)
        self._aliases: defaultdict[tuple[str, str], set[str]] = defaultdict(set)

    def note(self, version: Version) -> None:
        """Take in a version of an object."""
        event = event_of(version) if version.raw is not None else None
        if event is None or event.object is None:
            return
        key, found = version.key, event.object
        with self._lock:
            if isinstance(found, EndpointSlice):
                for service in filter(None, (found.service, found.service_import)):
                    self._by_service[key.namespace, service].add(key)
                for endpoint in found.endpoints:
                    self._by_address[endpoint.address].add(key)
            elif isinstance(found, Pod):
                self._by_address[found.address].add(key)
            elif isinstance(found, Service):
                for address in found.addresses:
                    self._by_address[address].add(key)
                if found.external_name:
                    self._aliases[key.namespace, key.name].add(found.external_name)

    def keys_of(self, qname: str) -> set[Key]:
        """The objects that matter to a name. Raises ValueError for one that is not about objects."""
        with self._lock:
            return set(self._keys_of(qname, MAX_ALIASES))

    def _keys_of(self, qname: str, depth: int) -> Iterator[Key]:
        name = names.lower(names.from_text(qname))
        zone = names.longest_zone(name, self._view.zones)
        address = reverse.address_of(name)
        if zone is not None and address is not None:
            for key in self._by_address.get(address, ()):
                yield from (key, Key("Namespace", "", key.namespace))
            return
        labels = [label.decode("latin-1") for label in names.labels_of(name)]
        if zone is not None:
            labels = labels[: len(labels) - len(names.labels_of(zone))]
        if zone is None or not labels or labels[-1] not in ("svc", "pod"):
            raise ValueError(f"no objects of the cluster decide what {qname} answers")
        yield from self._keys_below(labels, depth)

    def _keys_below(self, labels: list[str], depth: int) -> Iterator[Key]:
        if len(labels) < 2:
            return
        namespace = labels[-2]
        yield Key("Namespace", "", namespace)
        if len(labels) < 3:
            return
        if labels[-1] == "pod":
            address = owners.pod_address(labels[-3])
            if address is not None and self._view.pods is PodMode.VERIFIED:
                yield from (key for key in self._by_address.get(address, ()) if key[:2] == ("Pod", namespace))
            return
        service = labels[-3]
        yield Key("Service", namespace, service)
        yield Key("ServiceImport", namespace, service)
        yield from self._by_service.get((namespace, service), ())
        for target in self._aliases.get((namespace, service), ()) if depth else ():
            try:
                yield from self._keys_of(target, depth - 1)
            except ValueError:
                continue  # outside: its answer is not the cluster's
