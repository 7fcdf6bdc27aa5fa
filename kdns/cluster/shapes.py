"""The shapes of raw Kubernetes objects: the fields DNS reads, as the API spells them; each may be null or absent.

The structs live for one decoding and hold no cycles: the garbage collector need not know them.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from kdns.cluster.objects import Kind
from kdns.cluster.view import Needs


class RawMetadata(msgspec.Struct, gc=False, rename="camel"):
    """metadata. YAML makes numbers and booleans of unquoted label values; they are turned back into text."""

    name: str | None = None
    namespace: str | None = None
    labels: dict[str, str | int | bool | None] | None = None
    deletion_timestamp: object = None
    resource_version: object = None  # of any type, as all that DNS does not read
    uid: object = None


class RawPort(msgspec.Struct, gc=False):
    """A port of a Service, an EndpointSlice or a ServiceImport."""

    name: str | None = None
    protocol: str | None = None
    port: int | None = None


class RawIngress(msgspec.Struct, gc=False):
    """One element of status.loadBalancer.ingress."""

    ip: str | None = None
    hostname: str | None = None


class RawLoadBalancer(msgspec.Struct, gc=False):
    """status.loadBalancer."""

    ingress: list[RawIngress | None] | None = None


class RawServiceStatus(msgspec.Struct, gc=False, rename="camel"):
    """status of a Service."""

    load_balancer: RawLoadBalancer | None = None


class RawServiceSpec(
    msgspec.Struct,
    gc=False,
    rename={
        "cluster_ip": "clusterIP",
        "cluster_ips": "clusterIPs",
        "external_name": "externalName",
        "external_ips": "externalIPs",
    },
):
    """spec of a Service."""

    type: str | None = None
    cluster_ip: str | None = None
    cluster_ips: list[str | None] | None = None
    external_name: str | None = None
    external_ips: list[str | None] | None = None
    ports: list[RawPort | None] | None = None


class RawConditions(msgspec.Struct, gc=False):
    """conditions of an endpoint; `serving` and `terminating` have no part in DNS."""

    ready: bool | None = None


class RawTargetRef(msgspec.Struct, gc=False):
    """targetRef of an endpoint."""

    name: str | None = None


class RawPlainEndpoint(msgspec.Struct, gc=False, rename="camel"):
    """An endpoint of an EndpointSlice, for views that use no more of it."""

    addresses: list[str | None] | None = None
    conditions: RawConditions | None = None
    hostname: str | None = None


class RawEndpoint(RawPlainEndpoint, gc=False, rename="camel"):
    """An endpoint of an EndpointSlice."""

    target_ref: RawTargetRef | None = None
    zone: str | None = None


class RawPodStatus(msgspec.Struct, gc=False, rename={"pod_ip": "podIP"}):
    """status of a Pod."""

    phase: str | None = None
    pod_ip: str | None = None


class RawImportSpec(msgspec.Struct, gc=False):
    """spec of a ServiceImport."""

    type: str | None = None
    ips: list[str | None] | None = None
    ports: list[RawPort | None] | None = None


class RawObject(msgspec.Struct, gc=False, rename="camel"):
    """What all objects have."""

    kind: str | None = None
    metadata: RawMetadata | None = None


class RawNamespace(RawObject, gc=False):
    """A Namespace."""


class RawService(RawObject, gc=False):
    """A Service."""

    spec: RawServiceSpec | None = None
    status: RawServiceStatus | None = None


class RawPlainEndpointSlice(RawObject, gc=False, rename="camel"):
    """An EndpointSlice, for views that use no more of its endpoints."""

    address_type: str | None = None
    endpoints: Sequence[RawPlainEndpoint | None] | None = None
    ports: list[RawPort | None] | None = None


class RawEndpointSlice(RawPlainEndpointSlice, gc=False, rename="camel"):
    """An EndpointSlice."""

    endpoints: Sequence[RawEndpoint | None] | None = None


class RawPod(RawObject, gc=False):
    """A Pod."""

    status: RawPodStatus | None = None


class RawServiceImport(RawObject, gc=False):
    """A ServiceImport."""

    spec: RawImportSpec | None = None


_TYPES: dict[Kind, type[RawObject]] = {
    Kind.NAMESPACE: RawNamespace,
    Kind.SERVICE: RawService,
    Kind.ENDPOINT_SLICE: RawEndpointSlice,
    Kind.POD: RawPod,
    Kind.SERVICE_IMPORT: RawServiceImport,
}


def shape_of(kind: Kind, needs: Needs) -> type[RawObject]:
    """The shape of a kind, without what no view needs."""
    if kind is Kind.ENDPOINT_SLICE and not (needs.pod_names or needs.zones):
        return RawPlainEndpointSlice
    return _TYPES[kind]
