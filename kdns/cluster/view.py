"""What one `kubernetes` directive asks of the cluster."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from kdns.cluster.selectors import Selector


class PodMode(Enum):
    """The `pods` option."""

    DISABLED = "disabled"
    INSECURE = "insecure"
    VERIFIED = "verified"


@dataclass(frozen=True, slots=True)
class Needs:
    """What views use of objects beyond the least; a source leaves the rest out, for it is half of the memory."""

    pod_names: bool = True  # targetRef.name of endpoints
    zones: bool = True  # topology zones of endpoints
    labels: bool = True  # metadata.labels
    external_addresses: bool = True  # of Services


@dataclass(frozen=True, slots=True)
class ExternalZones:
    """The options of a `k8s_external` directive."""

    zones: tuple[bytes, ...]  # wire form, lower case, in the order of the Corefile
    apex: bytes = b"\x03dns"  # the label below which the name server's names are
    ttl: int = 5  # seconds
    headless: bool = False
    soa_minimum: int | None = None  # seconds, the last number of SOA records; None: `ttl`


@dataclass(frozen=True, slots=True)
class View:
    """The options of a `kubernetes` directive that shape its records. Equal views share their answers."""

    zones: tuple[bytes, ...]  # wire form, lower case, in the order of the Corefile, reverse zones among them
    ttl: int = 5  # seconds
    version_ttl: int = 28_800  # seconds, of `dns-version`, whatever `ttl` says (CoreDNS)
    pods: PodMode = PodMode.DISABLED
    namespaces: frozenset[str] = frozenset()  # empty: all
    labels: Selector | None = None
    namespace_labels: Selector | None = None
    endpoint_pod_names: bool = False
    noendpoints: bool = False
    ignore_empty_service: bool = False
    multicluster: tuple[bytes, ...] = ()
    zonal: bool = False
    clients: bool = False  # the namespace of a Pod is found by its address (`autopath`)
    transfers: bool = False  # what a zone transfer says is kept, too
    external: ExternalZones | None = None
    soa_minimum: int | None = None  # seconds, the last number of SOA records; None: `ttl`
    local_addresses: tuple[bytes, ...] = ()  # packed: where the DNS server itself is reached


def needs_of(views: Iterable[View]) -> Needs:
    """What at least one of the views needs."""
    views = list(views)
    return Needs(
        pod_names=any(view.endpoint_pod_names for view in views),
        zones=any(view.zonal for view in views),
        labels=any(view.labels is not None or view.namespace_labels is not None for view in views),
        external_addresses=any(view.external is not None for view in views),
    )
