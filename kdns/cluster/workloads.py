"""Services with a selector and the Pods they select, as the EndpointSlice controller sees them.

Only offline sources need these: an API server's EndpointSlices are made already.
"""

from __future__ import annotations

import msgspec

from kdns.cluster import shapes
from kdns.cluster.addresses import parse_address, spelling
from kdns.cluster.cuts import DEFAULT_PROTOCOL, MAX_PORT, is_host_name, is_label
from kdns.cluster.raw import explain, label_text
from kdns.errors import ManifestError

IPV4 = 4  # an address family is told by the octets of its addresses
IPV6 = 16
ENDED_PHASES = frozenset({"Succeeded", "Failed"})
ZONE_LABEL = "topology.kubernetes.io/zone"

_FAMILIES = {"IPv4": IPV4, "IPv6": IPV6}
_DUAL_STACK_POLICIES = frozenset({"PreferDualStack", "RequireDualStack"})

Labels = dict[str, str]


class TargetPort(msgspec.Struct, frozen=True):
    """A port of a Service: `target` is a number, or the name of a container's port."""

    name: str
    protocol: str
    target: int | str


class SelectingService(msgspec.Struct, frozen=True):
    """What decides the endpoints of a Service with a selector. Without `families` it is each Pod's first address."""

    namespace: str
    name: str
    labels: Labels
    selector: Labels
    ports: tuple[TargetPort, ...] = ()
    families: tuple[int, ...] = ()
    publish_not_ready: bool = False

    def selects(self, pod: SelectablePod) -> bool:
        """Whether the Pod has all labels of the selector."""
        return self.selector.items() <= pod.labels.items()


class PodAddress(msgspec.Struct, frozen=True):
    """An address of a Pod, packed, and its spelling where that is not the canonical one."""

    packed: bytes
    text: str = ""


class SelectablePod(msgspec.Struct, frozen=True):
    """What a Pod contributes to the Services that select it. `ports` are its containers' named ports."""

    namespace: str
    name: str
    labels: Labels
    addresses: tuple[PodAddress, ...]
    is_ready: bool
    hostname: str = ""
    subdomain: str = ""
    zone: str = ""
    ports: tuple[TargetPort, ...] = ()

    def port_number(self, port: TargetPort) -> int | None:
        """The number a Service's port has in this Pod, or None where no container has a port of that name."""
        if isinstance(port.target, int):
            return port.target
        for own in self.ports:
            if (own.name, own.protocol) == (port.target, port.protocol):
                assert isinstance(own.target, int)
                return own.target
        return None


class _RawPort(msgspec.Struct, gc=False, rename="camel"):
    name: str | None = None
    protocol: str | None = None
    port: int | None = None
    target_port: int | str | None = None


class _RawServiceSpec(
    msgspec.Struct,
    gc=False,
    rename={
        "cluster_ip": "clusterIP",
        "cluster_ips": "clusterIPs",
        "publish_not_ready": "publishNotReadyAddresses",
        "families": "ipFamilies",
        "family_policy": "ipFamilyPolicy",
    },
):
    type: str | None = None
    selector: dict[str, str | int | bool | None] | None = None
    cluster_ip: str | None = None
    cluster_ips: list[str | None] | None = None
    publish_not_ready: bool | None = None
    families: list[str | None] | None = None
    family_policy: str | None = None
    ports: list[object] | None = None


class _RawService(msgspec.Struct, gc=False):
    spec: _RawServiceSpec | None = None


class _RawContainerPort(msgspec.Struct, gc=False, rename="camel"):
    name: str | None = None
    protocol: str | None = None
    container_port: int | None = None


class _RawContainer(msgspec.Struct, gc=False, rename="camel"):
    ports: list[_RawContainerPort | None] | None = None
    restart_policy: str | None = None

    @property
    def is_sidecar(self) -> bool:
        return self.restart_policy == "Always"


class _RawPodSpec(msgspec.Struct, gc=False, rename="camel"):
    hostname: str | None = None
    subdomain: str | None = None
    containers: list[_RawContainer | None] | None = None
    init_containers: list[_RawContainer | None] | None = None


class _RawPodAddress(msgspec.Struct, gc=False):
    ip: str | None = None


class _RawCondition(msgspec.Struct, gc=False):
    type: str | None = None
    status: str | bool | None = None  # "True", though people leave the quotes out


class _RawPodStatus(msgspec.Struct, gc=False, rename={"pod_ip": "podIP", "pod_ips": "podIPs"}):
    phase: str | None = None
    pod_ip: str | None = None
    pod_ips: list[_RawPodAddress | None] | None = None
    conditions: list[_RawCondition | None] | None = None


class _RawPod(msgspec.Struct, gc=False):
    metadata: shapes.RawMetadata | None = None
    spec: _RawPodSpec | None = None
    status: _RawPodStatus | None = None


def read_selecting_service(raw: object, namespace: str, name: str, labels: Labels) -> SelectingService | None:
    """What selects Pods in a Service, or None where it has no selector. Raises ManifestError."""
    try:
        spec = msgspec.convert(raw, _RawService).spec or _RawServiceSpec()
    except msgspec.ValidationError as error:
        raise ManifestError(explain(error)) from error
    if not spec.selector or spec.type == "ExternalName":
        return None
    selector = {key: label_text(value) for key, value in spec.selector.items()}
    ports = [port for port in map(_target_port, spec.ports or ()) if port]
    return SelectingService(
        namespace, name, labels, selector, tuple(ports), _families(spec), bool(spec.publish_not_ready)
    )


def read_selectable_pod(raw: object, namespace: str, name: str) -> SelectablePod | None:
    """What a Pod contributes to Services, or None where it has ended or has no address. Raises ManifestError."""
    try:
        pod = msgspec.convert(raw, _RawPod)
    except msgspec.ValidationError as error:
        raise ManifestError(explain(error)) from error
    metadata = pod.metadata or shapes.RawMetadata()
    status = pod.status or _RawPodStatus()
    spec = pod.spec or _RawPodSpec()
    addresses = _pod_addresses(status)
    if status.phase in ENDED_PHASES or not addresses:
        return None
    labels = {key: label_text(value) for key, value in (metadata.labels or {}).items()}
    is_ready = metadata.deletion_timestamp is None and _is_ready(status)
    hostname = spec.hostname or ""
    zone = labels.get(ZONE_LABEL, "")
    return SelectablePod(
        namespace,
        name,
        labels,
        addresses,
        is_ready,
        hostname if is_label(hostname) else "",
        spec.subdomain or "",
        zone if is_host_name(zone) else "",
        _container_ports(spec),
    )


def _target_port(raw: object) -> TargetPort | None:
    """A Service's port, or None for a damaged one, which the Service itself has reported."""
    try:
        port = msgspec.convert(raw, _RawPort)
    except msgspec.ValidationError:
        return None
    target = port.target_port or port.port  # 0 and "" are what Go makes of an absent targetPort
    if isinstance(target, str) and target.isascii() and target.isdigit():
        target = int(target[:6])
    name, protocol = port.name or "", port.protocol or DEFAULT_PROTOCOL
    if target is None or (isinstance(target, int) and not 0 < target <= MAX_PORT):
        return None
    return TargetPort(name, protocol, target) if is_label(protocol) and (not name or is_label(name)) else None


def _families(spec: _RawServiceSpec) -> tuple[int, ...]:
    named = [_FAMILIES[family] for family in spec.families or () if family in _FAMILIES]
    if not named:
        texts = spec.cluster_ips or [spec.cluster_ip]
        named = [len(packed) for text in texts if text and (packed := parse_address(text))]
    if not named and spec.family_policy in _DUAL_STACK_POLICIES:
        named = [IPV4, IPV6]
    return tuple(dict.fromkeys(named))


def _pod_addresses(status: _RawPodStatus) -> tuple[PodAddress, ...]:
    texts = [address.ip for address in status.pod_ips or () if address] or [status.pod_ip]
    found = [(parse_address(text), text) for text in texts if text]
    return tuple([PodAddress(packed, spelling(packed, text)) for packed, text in found if packed])


def _is_ready(status: _RawPodStatus) -> bool:
    """The Ready condition; a Pod written by hand has no conditions, and its address says it is meant to be there."""
    if not status.conditions:
        return True
    return any(
        condition is not None and condition.type == "Ready" and str(condition.status).lower() == "true"
        for condition in status.conditions
    )


def _container_ports(spec: _RawPodSpec) -> tuple[TargetPort, ...]:
    # An init container that is never done is a sidecar, and may be the one that listens.
    sidecars = [container for container in spec.init_containers or () if container and container.is_sidecar]
    containers = [container for container in spec.containers or () if container] + sidecars
    ports = [port for container in containers for port in container.ports or () if port]
    return tuple(
        [
            TargetPort(port.name, port.protocol or DEFAULT_PROTOCOL, port.container_port)
            for port in ports
            if port.name and port.container_port and 0 < port.container_port <= MAX_PORT
        ]
    )
