"""The generated cluster as the objects kdns keeps, for benches of one part that need no manifests and no server."""

from __future__ import annotations

from collections.abc import Iterator

from bench import cluster as generated
from kdns.cluster.objects import Endpoint, EndpointSlice, Event, Kind, Namespace, Port, Service, ServiceType


def events(cluster: generated.Cluster) -> Iterator[Event]:
    """Every object of the cluster, as it would first be seen."""
    for name in cluster.namespaces:
        yield Event(Kind.NAMESPACE, "", name, Namespace(name))
    for source in cluster.services:
        yield Event(Kind.SERVICE, source.namespace, source.name, service(source))
        for item in slices(source):
            yield Event(Kind.ENDPOINT_SLICE, item.namespace, item.name, item)


def service(source: generated.Service) -> Service:
    """The Service itself."""
    return Service(
        namespace=source.namespace,
        name=source.name,
        type=ServiceType.HEADLESS if source.address is None else ServiceType.CLUSTER_IP,
        addresses=() if source.address is None else (source.address.to_bytes(4),),
        ports=tuple(Port(port.name, "TCP", port.number) for port in source.ports),
    )


def slices(source: generated.Service) -> list[EndpointSlice]:
    """Its EndpointSlices."""
    ports = tuple(Port(port.name, "TCP", port.target) for port in source.ports)
    endpoints = [
        Endpoint(address.to_bytes(4), label if source.has_hostnames else "", source.pod_name(index))
        for index, (address, label) in enumerate(source.endpoints())
    ]
    return [
        EndpointSlice.of(
            namespace=source.namespace,
            name=f"{source.name}-{number:05}",
            service=source.name,
            ports=ports,
            endpoints=tuple(endpoints[start : start + generated.SLICE_SIZE]),
        )
        for number, start in enumerate(range(0, len(endpoints), generated.SLICE_SIZE))
    ]
