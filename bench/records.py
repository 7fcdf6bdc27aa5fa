"""What the generated cluster answers: its records, for zone files, and the right answer to any one question.

The records are those of the Kubernetes DNS specification as CoreDNS serves them, endpoint names of ClusterIP Services
included. Its accidents (addresses at `_port._proto`, names without underscores) are left out: no load asks for them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from bench.cluster import REVERSE_ZONE, ZONE, Cluster, Service, dotted
from bench.outside import OUTSIDE_ADDRESS, OUTSIDE_ZONE

TTL = 5  # seconds; the default of the `kubernetes` directive


class Record(NamedTuple):
    """A record of class IN; names are absolute, `rdata` is as a zone file writes it."""

    owner: str
    type: str
    rdata: str


class Question(NamedTuple):
    """What a client asks; `name` is absolute."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The right answer: the rcode, and the rdata of every record in the answer section."""

    rcode: str
    rdata: frozenset[str] = frozenset()


def service_name(service: Service) -> str:
    """The name of a Service."""
    return f"{service.name}.{service.namespace}.svc.{ZONE}"


def reverse_name(address: int) -> str:
    """The name of an address below in-addr.arpa."""
    return ".".join(reversed(dotted(address).split("."))) + "." + REVERSE_ZONE


def forward_records(service: Service) -> Iterator[Record]:
    """Every record at and below the name of `service`."""
    owner = service_name(service)
    endpoints = [(address, f"{label}.{owner}") for address, label in service.endpoints()]
    for address, name in endpoints:
        yield Record(name, "A", dotted(address))
        for port in service.ports:
            yield Record(name, "SRV", f"0 {_weight(len(service.ports))} {port.target} {name}")
    if service.address is None:
        addresses = [address for address, _ in endpoints]
        targets = [(port, port.target, name) for _, name in endpoints for port in service.ports]
    else:
        addresses = [service.address]
        targets = [(port, port.number, owner) for port in service.ports]
    for address in addresses:
        yield Record(owner, "A", dotted(address))
    for _, number, name in targets:
        yield Record(owner, "SRV", f"0 {_weight(len(targets))} {number} {name}")
    for port in service.ports:
        if port.name:
            named = [(number, name) for candidate, number, name in targets if candidate == port]
            for number, name in named:
                yield Record(f"_{port.name}._tcp.{owner}", "SRV", f"0 {_weight(len(named))} {number} {name}")


def reverse_records(service: Service) -> Iterator[Record]:
    """The PTR records of the cluster IP and the endpoints of `service`."""
    owner = service_name(service)
    if service.address is not None:
        yield Record(reverse_name(service.address), "PTR", owner)
    for address, label in service.endpoints():
        yield Record(reverse_name(address), "PTR", f"{label}.{owner}")


class Truth:
    """The right answer to any question about the cluster; a Service's records are made when they are asked for."""

    def __init__(self, cluster: Cluster) -> None:
        self._services = {(service.namespace, service.name): service for service in cluster.services}
        self._namespaces = frozenset(cluster.namespaces)
        self._cluster_ips = {service.address: service for service in cluster.clustered}
        self._by_first_pod = sorted(cluster.services, key=lambda service: service.first_pod)

    def answer(self, question: Question) -> Answer:
        """What the answer section must hold."""
        name = question.name.lower()
        if name == ZONE or name.endswith("." + ZONE):
            return self._forward(name[: -len(ZONE)].rstrip(".").split("."), name, question.type)
        if name.endswith("." + REVERSE_ZONE):
            return self._reverse(name, question.type)
        if name.endswith("." + OUTSIDE_ZONE):
            return Answer("NOERROR", frozenset({OUTSIDE_ADDRESS} if question.type == "A" else ()))
        return Answer("REFUSED")

    def _forward(self, labels: list[str], name: str, type_: str) -> Answer:
        if labels in ([""], ["svc"]) or (len(labels) == 2 and labels[1] == "svc" and labels[0] in self._namespaces):
            return Answer("NOERROR")
        if len(labels) < 3 or labels[-1] != "svc":
            return Answer("NXDOMAIN")
        service = self._services.get((labels[-2], labels[-3]))
        if service is None:
            return Answer("NXDOMAIN")
        return _select(list(forward_records(service)), name, type_)

    def _reverse(self, name: str, type_: str) -> Answer:
        labels = name[: -len("." + REVERSE_ZONE)].split(".")
        if len(labels) != 4 or not all(label.isdecimal() and int(label) < 256 for label in labels):
            return Answer("NXDOMAIN")
        address = int.from_bytes(bytes(int(label) for label in reversed(labels)))
        service = self._cluster_ips.get(address) or self._owner_of_pod(address)
        if service is None:
            return Answer("NXDOMAIN")
        return _select(list(reverse_records(service)), name, type_)

    def _owner_of_pod(self, address: int) -> Service | None:
        place = bisect_right(self._by_first_pod, address, key=lambda service: service.first_pod) - 1
        if place < 0:
            return None
        service = self._by_first_pod[place]
        return service if address < service.first_pod + service.endpoint_count else None


def _select(records: list[Record], name: str, type_: str) -> Answer:
    rdata = frozenset(record.rdata for record in records if record.owner == name and record.type == type_)
    below = "." + name
    if rdata or any(record.owner == name or record.owner.endswith(below) for record in records):
        return Answer("NOERROR", rdata)
    return Answer("NXDOMAIN")


def _weight(candidates: int) -> int:
    """The weight of one SRV record among `candidates`: an equal share of 100, at least 1."""
    return max(1, 100 // candidates)
