"""A generated cluster: the same seed and sizes give the same Services, addresses and names, on any machine.

The shape follows what large clusters look like: namespaces of some fifty Services, a tenth of them headless, most
Services with a handful of endpoints and a few with thousands. A number of headless Services have an exact size, so
that a load can ask for "a headless Service of 20, 1,000 or 5,000 endpoints". Everything is IPv4 only: an AAAA question
is then a question for a name that exists without that type.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from bench.errors import BenchError

ZONE = "cluster.local."
REVERSE_ZONE = "in-addr.arpa."
SLICE_SIZE = 100  # endpoints in one EndpointSlice, as the slice controller fills them
SERVICES_PER_NAMESPACE = 50

CLUSTER_NETWORK = int(IPv4Address("10.96.0.0"))  # a /12: 1,048,576 cluster IPs
POD_NETWORK = int(IPv4Address("10.128.0.0"))  # a /9: 8,388,608 Pods
MAX_SERVICES = 1 << 20
MAX_ENDPOINTS = 1 << 23

_TEAMS = ("shop", "billing", "search", "media", "payments", "ledger", "identity", "catalog", "fraud", "infra")
_PARTS = ("api", "web", "worker", "cache", "db", "queue", "gateway", "proxy", "indexer", "scheduler", "frontend")
_ROLES = ("orders", "users", "carts", "stock", "prices", "mail", "audit", "events", "reports", "images", "tokens")


@dataclass(frozen=True, slots=True)
class Port:
    """A TCP port of a Service; `name` may be empty, `target` is the number its endpoints listen on."""

    name: str
    number: int
    target: int


@dataclass(frozen=True, slots=True)
class Service:
    """A Service and its ready endpoints: the addresses from `first_pod` on, in steps of one."""

    namespace: str
    name: str
    address: int | None  # the cluster IP; None for a headless Service
    ports: tuple[Port, ...]
    first_pod: int
    endpoint_count: int
    has_hostnames: bool  # endpoints of a StatefulSet are called NAME-0, NAME-1, ...

    def endpoints(self) -> Iterator[tuple[int, str]]:
        """The address of each endpoint and the label it has below the Service's name."""
        for index in range(self.endpoint_count):
            address = self.first_pod + index
            yield address, f"{self.name}-{index}" if self.has_hostnames else dotted(address).replace(".", "-")

    def pod_name(self, index: int) -> str:
        """The name of the Pod behind the endpoint number `index`."""
        return f"{self.name}-{index}" if self.has_hostnames else f"{self.name}-{self.first_pod + index:x}"


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large a cluster is. `headless` Services are among the `services`; `largest` is the largest headless one."""

    services: int = 10_000
    endpoints: int = 150_000
    headless: int = 1_000
    largest: int = 5_000
    seed: int = 1

    def fixed(self) -> list[int]:
        """The sizes of the headless Services that loads ask for by size, the largest first."""
        wanted = [self.largest] + [1_000] * 4 + [20] * 100
        room = self.endpoints - (self.services - self.headless)
        chosen: list[int] = []
        for size in wanted[: self.headless]:
            # Every Service not of a fixed size has at least one endpoint.
            if size <= self.largest and sum(chosen) + size + self.headless - len(chosen) - 1 <= room:
                chosen.append(size)
        return chosen


@dataclass(frozen=True, slots=True)
class Cluster:
    """A generated cluster: what a set of `Sizes` stands for."""

    sizes: Sizes
    namespaces: tuple[str, ...]
    services: tuple[Service, ...] = field(repr=False)

    @property
    def clustered(self) -> list[Service]:
        """The Services with a cluster IP."""
        return [service for service in self.services if service.address is not None]

    def headless(self, size: int) -> list[Service]:
        """The headless Services of exactly `size` endpoints."""
        return [service for service in self.services if service.address is None and service.endpoint_count == size]


def dotted(address: int) -> str:
    """The address as four numbers with dots."""
    return f"{address >> 24}.{address >> 16 & 255}.{address >> 8 & 255}.{address & 255}"


def generate(sizes: Sizes) -> Cluster:
    """The cluster of these sizes; raises BenchError for sizes that no cluster can have."""
    _check(sizes)
    draw = random.Random(sizes.seed)
    namespaces = tuple(
        f"{_TEAMS[index % len(_TEAMS)]}-{index // len(_TEAMS):03}"
        for index in range(-(-sizes.services // SERVICES_PER_NAMESPACE))
    )
    fixed = sizes.fixed()
    counts = fixed + _share(draw, sizes.endpoints - sum(fixed), sizes.services - len(fixed))
    addresses = draw.sample(range(CLUSTER_NETWORK + 10, CLUSTER_NETWORK + MAX_SERVICES), sizes.services)
    order = list(range(sizes.services))  # headless Services first, until they are dealt out to namespaces
    draw.shuffle(order)
    services: list[Service | None] = [None] * sizes.services
    pod = POD_NETWORK + 10
    for index, place in enumerate(order):
        is_headless = index < sizes.headless
        services[place] = Service(
            namespace=namespaces[place % len(namespaces)],
            name=f"{draw.choice(_ROLES)}-{draw.choice(_PARTS)}-{place:05}",
            address=None if is_headless else addresses[index],
            ports=_ports(draw, is_headless),
            first_pod=pod,
            endpoint_count=counts[index],
            has_hostnames=is_headless and index % 2 == 1,
        )
        pod += counts[index]
    return Cluster(sizes, namespaces, tuple(service for service in services if service is not None))


def _check(sizes: Sizes) -> None:
    if not 1 <= sizes.services <= MAX_SERVICES - 10:
        raise BenchError(f"--services {sizes.services}: expected 1 to {MAX_SERVICES - 10}")
    if not sizes.services <= sizes.endpoints <= MAX_ENDPOINTS - 10:
        raise BenchError(
            f"--endpoints {sizes.endpoints}: expected {sizes.services} (one per Service) to {MAX_ENDPOINTS}"
        )
    if not 0 <= sizes.headless < sizes.services:
        raise BenchError(f"--headless {sizes.headless}: expected 0 to {sizes.services - 1}, fewer than --services")
    if sizes.headless and not 1 <= sizes.largest <= sizes.endpoints - sizes.services + 1:
        most = sizes.endpoints - sizes.services + 1
        raise BenchError(
            f"--largest {sizes.largest}: expected 1 to {most}, which leaves one endpoint per other Service"
        )


def _share(draw: random.Random, total: int, parts: int) -> list[int]:
    """Share out `total` endpoints, at least one each, few with many and many with few."""
    counts = [1] * parts
    weights = [draw.expovariate(1) for _ in range(parts)]
    for index in draw.choices(range(parts), weights, k=total - parts):
        counts[index] += 1
    return counts


def _ports(draw: random.Random, is_headless: bool) -> tuple[Port, ...]:
    """The ports of a Service: one named, one without a name, or two."""
    number = draw.choice((80, 443, 5432, 6379, 8080, 9092))
    kind = draw.random()
    # A headless Service of a fixed size must not differ from another one in its number of ports.
    if is_headless or kind < 0.6:
        return (Port("http", number, number),)
    if kind < 0.8:
        return (Port("", number, 8000),)
    return (Port("http", number, 8000), Port("metrics", 9100, 9100))
