"""What is kept of each kind of raw object, and what is left out of it and why.

Each cut returns the object, or None where the object has no part in DNS; it appends to `problems` what it leaves out
and raises ManifestError where nothing can be kept. Both say `field: met X, expected Y`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from sys import intern

from kdns.cluster import shapes
from kdns.cluster.addresses import parse_address, spelling
from kdns.cluster.objects import (
    NO_PORT,
    Endpoint,
    EndpointSlice,
    Namespace,
    Pod,
    Port,
    Service,
    ServiceImport,
    ServiceType,
)
from kdns.cluster.view import Needs
from kdns.errors import ManifestError

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
IMPORT_NAME_LABEL = "multicluster.kubernetes.io/service-name"
SOURCE_CLUSTER_LABEL = "multicluster.kubernetes.io/source-cluster"
DEFAULT_PROTOCOL = "TCP"  # what an API server fills in
GONE_PHASES = frozenset({"Succeeded", "Failed", "Unknown"})  # Pods that CoreDNS does not list

MAX_PORT = 65535
MAX_TARGET_NAME = 63  # octets; a longer targetRef.name is no label and names no endpoint
MAX_HOST_NAME = 253  # characters of a name without the final dot (RFC 1123)
MAX_QUOTED = 60  # characters of a met value that a reason repeats
MAX_SHARED_PORTS = 4096  # port lists kept for sharing; a cluster has dozens of distinct ones

# Names of parts may be in mixed case and hold underscores: DNS carries them. Names of objects are as the API has them.
_LABEL_PATTERN = "[A-Za-z0-9_](?:[-A-Za-z0-9_]{0,61}[A-Za-z0-9_])?"
_LABEL = re.compile(_LABEL_PATTERN)
_HOST_NAME = re.compile(rf"{_LABEL_PATTERN}(?:\.{_LABEL_PATTERN})*\.?")
_OBJECT_LABEL = re.compile("[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")

# As many endpoints as a cluster has share few port lists.
_shared_ports: dict[tuple[Port, ...], tuple[Port, ...]] = {}


def cut_namespace(name: str) -> Namespace:
    """A Namespace is its name."""
    check_object_label("metadata.name", name)
    return Namespace(name)


def cut_service(raw: shapes.RawService, namespace: str, name: str, problems: list[str]) -> Service | None:
    """A Service; None for an ExternalName that is an address, which CoreDNS ignores."""
    check_object_label("metadata.name", name)
    spec = raw.spec or shapes.RawServiceSpec()
    external_addresses = _external_addresses(spec, raw.status)
    if spec.type == "ExternalName":
        target = spec.external_name or ""
        if parse_address(target) is not None:
            return None
        if not is_host_name(target):
            raise ManifestError(f"spec.externalName: met {quote(target)}, expected a DNS name")
        return Service(
            namespace,
            name,
            ServiceType.EXTERNAL_NAME,
            external_name=target,
            external_addresses=external_addresses,
        )
    texts = spec.cluster_ips or [spec.cluster_ip]
    ports = _ports(spec.ports, "spec.ports", problems)
    if texts[0] == "None":
        return Service(namespace, name, ServiceType.HEADLESS, (), ports, external_addresses=external_addresses)
    field = "spec.clusterIPs" if spec.cluster_ips else "spec.clusterIP"
    addresses = _addresses(texts, field, problems)
    return Service(namespace, name, ServiceType.CLUSTER_IP, addresses, ports, external_addresses=external_addresses)


def cut_slice(
    raw: shapes.RawPlainEndpointSlice,
    namespace: str,
    name: str,
    labels: dict[str, str],
    problems: list[str],
    needs: Needs,
) -> EndpointSlice:
    """An EndpointSlice with its ready endpoints; what is not needed of them would be half of its memory."""
    addresses: list[bytes] = []
    details: dict[int, Endpoint] = {}  # of some addresses, by their position
    targets: list[str] = []
    is_names = raw.address_type == "FQDN"
    has_more = needs.pod_names or needs.zones
    for index, endpoint in enumerate(raw.endpoints or ()):
        if endpoint is None:
            continue
        conditions = endpoint.conditions
        # Absent and null mean ready (EndpointSlice API, EndpointConditions).
        if conditions is not None and conditions.ready is False:
            continue
        hostname = endpoint.hostname or ""
        if hostname and not is_label(hostname):
            problems.append(f"endpoints[{index}].hostname: met {quote(hostname)}, expected a DNS label")
            continue
        target_name = zone = ""
        if has_more and isinstance(endpoint, shapes.RawEndpoint):
            target_name = _target_name(endpoint.target_ref, index, problems) if needs.pod_names else ""
            zone = _zone(endpoint.zone, index, problems) if needs.zones else ""
        for position, text in enumerate(endpoint.addresses or ()):
            packed = parse_address(text) if text else None
            if packed is not None:
                assert text is not None
                spelled = spelling(packed, text) if ":" in text else ""
                if hostname or target_name or zone or spelled:
                    details[len(addresses)] = Endpoint(packed, hostname, target_name, zone, spelled)
                addresses.append(packed)
            elif is_names and text and is_host_name(text):
                targets.append(text)
            else:
                expected = "a DNS name" if is_names else "an IP address"
                problems.append(f"endpoints[{index}].addresses[{position}]: met {quote(text)}, expected {expected}")
    return EndpointSlice(
        namespace,
        name,
        _owner(labels, SERVICE_NAME_LABEL, problems),
        _ports(raw.ports, "ports", problems),
        tuple(addresses),
        tuple([details.get(at) or Endpoint(found) for at, found in enumerate(addresses)]) if details else (),
        tuple(targets),
        _owner(labels, IMPORT_NAME_LABEL, problems),
        _owner(labels, SOURCE_CLUSTER_LABEL, problems),
    )


def cut_pod(raw: shapes.RawPod, namespace: str, name: str) -> Pod | None:
    """A Pod; None where it has ended or has no address yet."""
    status = raw.status or shapes.RawPodStatus()
    if status.phase in GONE_PHASES or not status.pod_ip:
        return None
    address = parse_address(status.pod_ip)
    if address is None:
        raise ManifestError(f"status.podIP: met {quote(status.pod_ip)}, expected an IP address")
    return Pod(namespace, name, address)


def cut_service_import(raw: shapes.RawServiceImport, namespace: str, name: str, problems: list[str]) -> ServiceImport:
    """A ServiceImport."""
    check_object_label("metadata.name", name)
    spec = raw.spec or shapes.RawImportSpec()
    ports = _ports(spec.ports, "spec.ports", problems)
    return ServiceImport(namespace, name, spec.type == "Headless", _addresses(spec.ips, "spec.ips", problems), ports)


def check_object_label(field: str, text: str) -> None:
    """Raise ManifestError unless `text` can name a Service or a Namespace."""
    if not _OBJECT_LABEL.fullmatch(text):
        raise ManifestError(f"{field}: met {quote(text)}, expected a DNS label of lower-case letters, digits and '-'")


def check_object_name(field: str, text: str) -> None:
    """Raise ManifestError unless `text` can name an EndpointSlice or a Pod."""
    if _OBJECT_LABEL.fullmatch(text):  # nearly all of them
        return
    if len(text) > MAX_HOST_NAME or not all(map(_OBJECT_LABEL.fullmatch, text.split("."))):
        raise ManifestError(
            f"{field}: met {quote(text)}, expected a DNS name of lower-case letters, digits, '-' and '.'"
        )


def is_label(text: str) -> bool:
    """Whether `text` can be the name of a port or an endpoint: one DNS label."""
    return _LABEL.fullmatch(text) is not None


def is_host_name(text: str) -> bool:
    """Whether `text` is a name of dotted labels, the final dot optional."""
    return len(text) <= MAX_HOST_NAME + text.endswith(".") and _HOST_NAME.fullmatch(text) is not None


def quote(value: object) -> str:
    """A met value as one short line of ASCII."""
    if not isinstance(value, str | int | bool | None):
        return type(value).__name__
    if isinstance(value, str) and len(value) > MAX_QUOTED:
        return json.dumps(value[:MAX_QUOTED]) + "..."
    return json.dumps(value)


def _target_name(target: shapes.RawTargetRef | None, index: int, problems: list[str]) -> str:
    name = target.name if target else None
    if not name or len(name) > MAX_TARGET_NAME:
        return ""
    # A dot is let through: CoreDNS shows such names in SRV and PTR records, though none of them resolves.
    if not name.isascii() or not _HOST_NAME.fullmatch(name):
        problems.append(f"endpoints[{index}].targetRef.name: met {quote(name)}, expected a DNS name")
        return ""
    return name


def _zone(zone: str | None, index: int, problems: list[str]) -> str:
    if zone and not is_host_name(zone):
        problems.append(f"endpoints[{index}].zone: met {quote(zone)}, expected a topology zone's name")
        return ""
    return intern(zone or "")


def _owner(labels: dict[str, str], label: str, problems: list[str]) -> str:
    text = labels.get(label)
    if not text:
        return ""
    if not _OBJECT_LABEL.fullmatch(text):
        problems.append(f"metadata.labels[{label}]: met {quote(text)}, expected a DNS label")
        return ""
    return intern(text)


def _external_addresses(spec: shapes.RawServiceSpec, status: shapes.RawServiceStatus | None) -> tuple[str, ...]:
    balancer = status.load_balancer if status else None
    ingresses = [ingress for ingress in (balancer.ingress if balancer else None) or () if ingress]
    texts = [*(spec.external_ips or ()), *[ingress.ip or ingress.hostname for ingress in ingresses]]
    # CoreDNS takes what is no address for a name: what is neither is of no use to anybody.
    return tuple([text for text in texts if text and (parse_address(text) is not None or is_host_name(text))])


def _addresses(texts: Sequence[str | None] | None, field: str, problems: list[str]) -> tuple[bytes, ...]:
    found = []
    for index, text in enumerate(texts or ()):
        if not text or text == "None":
            continue
        address = parse_address(text)
        if address is None:
            problems.append(f"{field}[{index}]: met {quote(text)}, expected an IP address")
        else:
            found.append(address)
    return tuple(found)


def _ports(raw: Sequence[shapes.RawPort | None] | None, field: str, problems: list[str]) -> tuple[Port, ...]:
    """The usable ports, in one tuple for all objects with the same ones."""
    if not raw:
        return ()
    found = []
    for index, port in enumerate(raw):
        if port is None:
            continue
        if port.port is not None and not 0 < port.port <= MAX_PORT:
            problems.append(f"{field}[{index}].port: met {port.port}, expected 1 to {MAX_PORT}")
        elif port.name and not is_label(port.name):
            problems.append(f"{field}[{index}].name: met {quote(port.name)}, expected a DNS label")
        elif port.protocol and not is_label(port.protocol):
            problems.append(f"{field}[{index}].protocol: met {quote(port.protocol)}, expected TCP, UDP or SCTP")
        else:
            number = NO_PORT if port.port is None else port.port
            found.append(Port(intern(port.name or ""), intern(port.protocol or DEFAULT_PROTOCOL), number))
    if len(_shared_ports) >= MAX_SHARED_PORTS:
        _shared_ports.clear()
    ports = tuple(found)
    return _shared_ports.setdefault(ports, ports)
