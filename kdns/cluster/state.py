"""The objects of the cluster as last seen, by namespace, and the indexes from addresses to them.

Services and ServiceImports live side by side and never mix: each has its own half of a namespace, and a slice that
names both a Service and a ServiceImport is in both halves.
"""

from __future__ import annotations

from collections.abc import Iterable

from kdns.cluster.endpoints import SliceEntry
from kdns.cluster.objects import EndpointSlice, Pod, Service

Holders = SliceEntry | tuple[SliceEntry, ...]  # one is the rule: no tuple for it


class Half:
    """The Services of a namespace, or its ServiceImports, and their slices."""

    __slots__ = ("behind", "services", "slices")

    def __init__(self) -> None:
        self.services: dict[str, Service] = {}
        self.slices: dict[str, SliceEntry] = {}
        self.behind: dict[str, tuple[SliceEntry, ...]] = {}  # by the name of the Service

    def entries(self, service: str) -> tuple[SliceEntry, ...]:
        """The slices of a Service."""
        return self.behind.get(service, ())

    def place(self, name: str, new: EndpointSlice | None, service: str) -> None:
        """Put a slice behind a Service, or take it away."""
        entry = self.slices.get(name)
        if entry is not None and (new is None or entry.service != service):
            left = tuple([sibling for sibling in self.behind[entry.service] if sibling is not entry])
            if left:
                self.behind[entry.service] = left
            else:
                del self.behind[entry.service]
        if new is None:
            self.slices.pop(name, None)
        elif entry is None:
            entry = self.slices[name] = SliceEntry(new, service)
            self.behind[service] = (*self.entries(service), entry)
        else:
            if entry.service != service:
                self.behind[service] = (*self.entries(service), entry)
            entry.slice, entry.service = new, service

    def __bool__(self) -> bool:
        return bool(self.services or self.slices)


class Space:
    """What a namespace holds, and whether its names may be seen."""

    __slots__ = ("imported", "is_exposed", "own", "pod_addresses", "pods")

    def __init__(self) -> None:
        self.is_exposed = False
        self.own = Half()
        self.imported = Half()
        self.pods: dict[str, Pod] = {}
        self.pod_addresses: dict[bytes, int] = {}  # address -> how many Pods have it

    def half(self, imported: bool) -> Half:
        """The half of ServiceImports, or of Services."""
        return self.imported if imported else self.own

    def put_pod(self, name: str, pod: Pod | None) -> None:
        """Put a Pod in its place, or take it away."""
        old = self.pods.pop(name, None)
        if old is not None:
            self.pod_addresses[old.address] -= 1
            if not self.pod_addresses[old.address]:
                del self.pod_addresses[old.address]
        if pod is not None:
            self.pods[name] = pod
            self.pod_addresses[pod.address] = self.pod_addresses.get(pod.address, 0) + 1

    def __bool__(self) -> bool:
        return bool(self.is_exposed or self.own or self.imported or self.pods)


class ClusterState:
    """Every namespace, and who has which address."""

    def __init__(self) -> None:
        self.spaces: dict[str, Space] = {}
        self.by_cluster_ip: dict[bytes, tuple[tuple[str, str], ...]] = {}  # Services (namespace, name)
        self.clients: dict[bytes, tuple[str, ...]] = {}  # namespaces of the Pods that have an address, where wanted
        self.by_endpoint: dict[bytes, Holders] = {}  # slices of Services, or of nothing

    def space(self, namespace: str) -> Space:
        """What a namespace holds, to be changed."""
        space = self.spaces.get(namespace)
        if space is None:
            space = self.spaces[namespace] = Space()
        return space

    def half(self, imported: bool, namespace: str) -> Half:
        """The Services or ServiceImports of a namespace, to be looked at."""
        space = self.spaces.get(namespace)
        return space.half(imported) if space else Half()

    def is_exposed(self, namespace: str) -> bool:
        """Whether names in a namespace may be seen."""
        space = self.spaces.get(namespace)
        return space is not None and space.is_exposed

    def drop_if_empty(self, namespace: str) -> None:
        """Forget a namespace that holds nothing any more."""
        if not self.spaces.get(namespace, True):
            del self.spaces[namespace]

    def holders(self, address: bytes) -> tuple[SliceEntry, ...]:
        """The slices of Services, or of nothing, that hold an address."""
        found = self.by_endpoint.get(address, ())
        return (found,) if isinstance(found, SliceEntry) else found

    def index_cluster_ips(self, key: tuple[str, str], old: Iterable[bytes], new: Iterable[bytes]) -> None:
        """Follow a Service from its old addresses to its new ones."""
        for address in set(old):
            left = tuple([holder for holder in self.by_cluster_ip[address] if holder != key])
            if left:
                self.by_cluster_ip[address] = left
            else:
                del self.by_cluster_ip[address]
        for address in set(new):
            self.by_cluster_ip[address] = (*self.by_cluster_ip.get(address, ()), key)

    def index_client(self, namespace: str, old: bytes | None, new: bytes | None) -> None:
        """Follow a Pod from its old address to its new one."""
        if old is not None:
            left = list(self.clients[old])
            left.remove(namespace)
            if left:
                self.clients[old] = tuple(left)
            else:
                del self.clients[old]
        if new is not None:
            self.clients[new] = (*self.clients.get(new, ()), namespace)

    def index_endpoints(self, entry: SliceEntry, lost: set[bytes], gained: set[bytes]) -> None:
        """Follow a slice from addresses it has no more to those that are new."""
        index = self.by_endpoint
        # Slices tend to share all their addresses or none: one tuple then serves all of them.
        joined: dict[Holders, tuple[SliceEntry, ...]] = {}
        for address in gained:
            held = index.setdefault(address, entry)
            if held is not entry:
                if held not in joined:
                    joined[held] = (*_tuple(held), entry)
                index[address] = joined[held]
        parted: dict[Holders, Holders] = {}
        for address in lost:
            held = index[address]
            if held is entry:
                del index[address]
                continue
            if held not in parted:
                left = tuple([holder for holder in _tuple(held) if holder is not entry])
                parted[held] = left[0] if len(left) == 1 else left
            index[address] = parted[held]


def _tuple(held: Holders) -> tuple[SliceEntry, ...]:
    return (held,) if isinstance(held, SliceEntry) else held
