"""EndpointSlices for Services with a selector, made of Pods as the EndpointSlice controller of a cluster makes them.

A Service that has a slice of its own in the source gets none from here. What the controller does, and what of it shows
in DNS:

- a slice holds one address family and one set of ports: Pods whose containers number a named port differently are in
  different slices;
- an endpoint has the Pod's hostname only where the Pod's subdomain is the name of the Service;
- ready = publishNotReadyAddresses, or the Pod is ready and not terminating.

The controller cuts slices at 100 endpoints, and keeps an empty one where nothing is selected. Neither shows in DNS, and
is not done here. Names are such as no EndpointSlice can have, so that nothing collides.

A change of a Pod makes the slices of the Services that select it again, and of no others: one label of each selector
leads from a Pod to its Services, the rarest of them from a Service to its Pods.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from kdns.cluster.cuts import SERVICE_NAME_LABEL
from kdns.cluster.objects import Endpoint, EndpointSlice, Event, Kind, Port
from kdns.cluster.workloads import IPV4, PodAddress, SelectablePod, SelectingService

MANAGED_BY_LABEL = "endpointslice.kubernetes.io/managed-by"
MANAGER = "kdns"

_Owner = tuple[str, str]  # namespace and name
_LabelKey = tuple[str, str, str]  # namespace, key and value


class EndpointSelection:
    """Which Pods each Service selects, kept up to date; `take_events` gives what changed since it was last called."""

    def __init__(self) -> None:
        self._services: dict[_Owner, SelectingService] = {}
        self._pods: dict[_Owner, SelectablePod] = {}
        self._services_by_label: defaultdict[_LabelKey, set[_Owner]] = defaultdict(set)
        self._pods_by_label: defaultdict[_LabelKey, set[_Owner]] = defaultdict(set)
        self._given_slices: Counter[_Owner] = Counter()
        self._made: dict[_Owner, dict[str, Event]] = {}
        self._touched: set[_Owner] = set()

    def set_service(self, owner: _Owner, service: SelectingService | None) -> None:
        """Note a Service as it now is, or that it is gone or selects nothing."""
        old = self._services.pop(owner, None)
        if old is not None:
            self._drop(self._services_by_label, _leading_label(old), owner)
        if service is not None:
            self._services[owner] = service
            self._services_by_label[_leading_label(service)].add(owner)
        self._touched.add(owner)

    def set_pod(self, owner: _Owner, pod: SelectablePod | None) -> None:
        """Note a Pod as it now is, or that it is gone."""
        old = self._pods.pop(owner, None)
        if old is not None:
            self._touched.update(self._selecting(old))
            for label in _label_keys(old):
                self._drop(self._pods_by_label, label, owner)
        if pod is not None:
            self._pods[owner] = pod
            for label in _label_keys(pod):
                self._pods_by_label[label].add(owner)
            self._touched.update(self._selecting(pod))

    def count_slice(self, service: _Owner, change: int) -> None:
        """Note that the source has one EndpointSlice of the Service more (`change` is 1) or fewer (-1)."""
        self._given_slices[service] += change
        if not self._given_slices[service]:
            del self._given_slices[service]
        self._touched.add(service)

    def take_events(self) -> list[Event]:
        """The slices made, changed and removed since the last call."""
        events: list[Event] = []
        for owner in sorted(self._touched):
            old = self._made.pop(owner, {})
            new = self._make_slices(owner)
            if new:
                self._made[owner] = new
            events += [event._replace(object=None) for name, event in old.items() if name not in new]
            events += [event for name, event in new.items() if old.get(name) != event]
        self._touched.clear()
        return events

    def _selecting(self, pod: SelectablePod) -> list[_Owner]:
        found = [owner for label in _label_keys(pod) for owner in self._services_by_label.get(label, ())]
        return [owner for owner in found if self._services[owner].selects(pod)]

    def _selected(self, service: SelectingService) -> list[SelectablePod]:
        keys = [(service.namespace, key, value) for key, value in service.selector.items()]
        rarest = min((self._pods_by_label.get(key, set()) for key in keys), key=len)
        pods = [self._pods[owner] for owner in sorted(rarest)]
        return [pod for pod in pods if service.selects(pod)]

    def _make_slices(self, owner: _Owner) -> dict[str, Event]:
        service = self._services.get(owner)
        if service is None or owner in self._given_slices:
            return {}
        endpoints: defaultdict[tuple[int, tuple[Port, ...]], list[Endpoint]] = defaultdict(list)
        for pod in self._selected(service):
            if pod.is_ready or service.publish_not_ready:
                ports = _ports(service, pod)
                for address in _addresses(service, pod):
                    endpoints[len(address.packed), ports].append(_endpoint(service, pod, address))
        labels = {**service.labels, SERVICE_NAME_LABEL: service.name, MANAGED_BY_LABEL: MANAGER}
        made = {}
        for (family, ports), found in endpoints.items():
            name = _slice_name(service.name, family, ports)
            content = EndpointSlice.of(service.namespace, name, service.name, ports, tuple(found))
            made[name] = Event(Kind.ENDPOINT_SLICE, service.namespace, name, content, labels)
        return made

    @staticmethod
    def _drop(index: defaultdict[_LabelKey, set[_Owner]], label: _LabelKey, owner: _Owner) -> None:
        index[label].discard(owner)
        if not index[label]:
            del index[label]


def _leading_label(service: SelectingService) -> _LabelKey:
    """The label a Service is found by: the first by name of its selector."""
    return (service.namespace, *min(service.selector.items()))


def _label_keys(pod: SelectablePod) -> list[_LabelKey]:
    return [(pod.namespace, key, value) for key, value in pod.labels.items()]


def _ports(service: SelectingService, pod: SelectablePod) -> tuple[Port, ...]:
    """The Service's ports as the Pod numbers them; one it does not have is left out."""
    numbered = [(port, pod.port_number(port)) for port in service.ports]
    return tuple([Port(port.name, port.protocol, number) for port, number in numbered if number is not None])


def _addresses(service: SelectingService, pod: SelectablePod) -> list[PodAddress]:
    """The Pod's first address of each family of the Service; without families, its first address."""
    if not service.families:
        return [pod.addresses[0]]
    first = {len(address.packed): address for address in reversed(pod.addresses)}
    return [first[family] for family in service.families if family in first]


def _endpoint(service: SelectingService, pod: SelectablePod, address: PodAddress) -> Endpoint:
    hostname = pod.hostname if pod.subdomain == service.name else ""
    return Endpoint(address.packed, hostname, pod.name, pod.zone, address.text)


def _slice_name(service: str, family: int, ports: tuple[Port, ...]) -> str:
    told = ",".join(f"{port.name}:{port.number}/{port.protocol}" for port in ports)
    return f"{service}/{'IPv4' if family == IPV4 else 'IPv6'}/{told}"
