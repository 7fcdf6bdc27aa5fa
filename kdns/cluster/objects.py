"""Kubernetes objects, cut to the fields DNS needs.

There are as many endpoints in memory as the cluster has Pods. Most are an address and nothing more, and kept as that;
the others are msgspec structs outside the garbage collector's reach: 56 octets each, and nothing to traverse.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, IntEnum
from typing import NamedTuple

import msgspec

NO_PORT = -1  # an absent or null port number: the port matches by name, but has no SRV


class Kind(Enum):
    """The kinds of object DNS depends on; the value is the Kubernetes kind."""

    NAMESPACE = "Namespace"
    SERVICE = "Service"
    ENDPOINT_SLICE = "EndpointSlice"
    POD = "Pod"
    SERVICE_IMPORT = "ServiceImport"


class ServiceType(IntEnum):
    """How a Service answers: by its own addresses, by its endpoints', or by another name."""

    CLUSTER_IP = 0  # and NodePort, LoadBalancer
    HEADLESS = 1
    EXTERNAL_NAME = 2


class Port(msgspec.Struct, frozen=True, gc=False):
    """A port of a Service or an EndpointSlice, as stored: `name` and `protocol` may be empty."""

    name: str
    protocol: str
    number: int


class Namespace(msgspec.Struct, frozen=True, gc=False):
    """A namespace."""

    name: str


class Service(msgspec.Struct, frozen=True):
    """A Service. `addresses` are the cluster IPs, packed; `external_addresses` IPs or names from outside."""

    namespace: str
    name: str
    type: ServiceType
    addresses: tuple[bytes, ...] = ()
    ports: tuple[Port, ...] = ()
    external_name: str = ""
    external_addresses: tuple[str, ...] = ()


class Endpoint(msgspec.Struct, frozen=True, gc=False):
    """One address of a ready endpoint."""

    address: bytes  # packed, 4 or 16 octets
    hostname: str = ""
    target_name: str = ""  # targetRef.name
    zone: str = ""  # topology zone
    text: str = ""  # the address as stored, where that is not its canonical spelling


class EndpointSlice(msgspec.Struct, frozen=True):
    """An EndpointSlice's ready endpoints; `service` and `service_import` name its owner, empty where there is none.

    So that equal ones are equal, there are `details` only where there is more to say than addresses (`of` sees to it).
    """

    namespace: str
    name: str
    service: str
    ports: tuple[Port, ...]
    addresses: tuple[bytes, ...]  # of the endpoints, packed
    details: tuple[Endpoint, ...]  # the endpoints, where any of them is more than an address
    targets: tuple[str, ...]  # addressType FQDN: the addresses are names
    service_import: str
    source_cluster: str

    @classmethod
    def of(
        cls,
        namespace: str,
        name: str,
        service: str,
        ports: tuple[Port, ...] = (),
        endpoints: Sequence[Endpoint] = (),
        targets: tuple[str, ...] = (),
        service_import: str = "",
        source_cluster: str = "",
    ) -> EndpointSlice:
        """A slice of these endpoints."""
        addresses = tuple([endpoint.address for endpoint in endpoints])
        is_plain = all(endpoint == Endpoint(endpoint.address) for endpoint in endpoints)
        details = () if is_plain else tuple(endpoints)
        return cls(namespace, name, service, ports, addresses, details, targets, service_import, source_cluster)

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Every endpoint with what there is to say about it; made anew at each call where that is nothing."""
        return self.details or tuple([Endpoint(address) for address in self.addresses])

    def endpoints_at(self, address: bytes) -> Sequence[Endpoint]:
        """Those at one of its addresses, equal ones maybe once."""
        if not self.details:
            return (Endpoint(address),)
        return [endpoint for endpoint in self.details if endpoint.address == address]


class Pod(msgspec.Struct, frozen=True, gc=False):
    """A running Pod with an address."""

    namespace: str
    name: str
    address: bytes  # packed status.podIP


class ServiceImport(msgspec.Struct, frozen=True):
    """A ServiceImport of the multicluster API."""

    namespace: str
    name: str
    headless: bool
    addresses: tuple[bytes, ...] = ()
    ports: tuple[Port, ...] = ()


ClusterObject = Namespace | Service | EndpointSlice | Pod | ServiceImport


class Event(NamedTuple):
    """An object as it now is, or that it is gone (`object` is None). `namespace` is empty for a Namespace."""

    kind: Kind
    namespace: str
    name: str
    object: ClusterObject | None
    labels: dict[str, str] = {}  # metadata.labels, for selectors; never changed
