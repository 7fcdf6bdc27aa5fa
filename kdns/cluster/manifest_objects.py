"""The objects in the documents of one manifest file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from msgspec import structs

from kdns.cluster.cuts import quote
from kdns.cluster.documents import read_documents, read_item
from kdns.cluster.objects import Event, Kind, Service, ServiceType
from kdns.cluster.raw import decode, identify
from kdns.cluster.view import Needs
from kdns.cluster.workloads import (
    SelectablePod,
    SelectingService,
    read_selectable_pod,
    read_selecting_service,
)
from kdns.errors import ManifestError

EVERYTHING = Needs()
NO_LABELS: dict[str, str] = {}  # one for all; never changed
NAMESPACE_NAME_LABEL = "kubernetes.io/metadata.name"  # an API server puts it on every Namespace

ENDPOINTS_HINT = (
    "Endpoints: DNS reads EndpointSlices (discovery.k8s.io/v1) and leaves Endpoints alone;"
    " `kubectl get endpointslices -o yaml` prints them"
)

_KINDS = {
    ("", "Namespace"): Kind.NAMESPACE,
    ("", "Service"): Kind.SERVICE,
    ("", "Pod"): Kind.POD,
    ("discovery.k8s.io", "EndpointSlice"): Kind.ENDPOINT_SLICE,
    ("multicluster.x-k8s.io", "ServiceImport"): Kind.SERVICE_IMPORT,
}
_API_VERSIONS = {
    Kind.NAMESPACE: "v1",
    Kind.SERVICE: "v1",
    Kind.POD: "v1",
    Kind.ENDPOINT_SLICE: "discovery.k8s.io/v1",
    Kind.SERVICE_IMPORT: "multicluster.x-k8s.io/v1alpha1",
}


class Key(NamedTuple):
    """What tells objects apart."""

    kind: Kind
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind.value} {self.namespace}/{self.name}" if self.namespace else f"{self.kind.value} {self.name}"


@dataclass(frozen=True, slots=True)
class Held:
    """An object of a file: what DNS sees of it, and what it contributes to the endpoints made from Pods."""

    event: Event
    workload: SelectingService | SelectablePod | None = None
    place: str = field(default="", compare=False)


@dataclass(slots=True)
class Content:
    """What a file holds. `problems` are for the operator, `ignored` counts objects of kinds without a part in DNS."""

    objects: dict[Key, Held] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    ignored: int = 0


def read_objects(text: bytes, is_json: bool, before: Mapping[Key, Held], needs: Needs = EVERYTHING) -> Content:
    """The objects of a file; of one that is damaged, what the file held `before`.

    Raises ManifestError where the text itself does not parse: then all that was held before stands.
    """
    content = Content()
    unclear: set[Kind | tuple[str, str]] = set()
    for document in read_documents(text, is_json):
        for place, raw in _objects_in(document.value, f"document {document.number}"):
            try:
                kind = _kind_of(raw)
            except ManifestError as error:
                content.problems.append(f"{place}: {error}")
                if identity := identify(Kind.SERVICE, raw):
                    unclear.add(identity)
                continue
            if kind is None:
                content.ignored += 1
                if (raw["kind"], raw["apiVersion"]) == ("Endpoints", "v1"):
                    content.problems.append(f"{place}: {ENDPOINTS_HINT}")
            elif identify(kind, raw) is None:
                content.problems += [f"{place}: {problem}" for problem in decode(kind, raw, needs).problems]
                unclear.add(kind)
            else:
                _take(content, kind, raw, place, before, needs)
    # Damage to the kind or the name hides which object it was: keep what it may have been and would otherwise go.
    for key, held in before.items():
        if key not in content.objects and (key.kind in unclear or (key.namespace, key.name) in unclear):
            content.objects[key] = held
    return content


def _take(content: Content, kind: Kind, raw: Any, place: str, before: Mapping[Key, Held], needs: Needs) -> None:
    identity = identify(kind, raw)
    assert identity is not None
    key = Key(kind, *identity)
    event, problems = decode(kind, raw, needs)
    content.problems += [f"{place}: {problem}" for problem in problems]
    held = before.get(key)
    if event is None and problems:
        if held is not None:
            content.objects[key] = held
        return
    if event is None:  # a Pod on its way out: DNS keeps what it knows, Services lose the endpoint
        event = held.event if held else Event(kind, *identity, None)
    if kind is Kind.NAMESPACE:
        event = event._replace(labels={NAMESPACE_NAME_LABEL: key.name, **event.labels})
    workload: SelectingService | SelectablePod | None = None
    try:
        if kind is Kind.SERVICE:
            workload = read_selecting_service(raw, *identity, event.labels)
        elif kind is Kind.POD:
            workload = read_selectable_pod(raw, *identity)
    except ManifestError as error:
        content.problems.append(f"{place}: {key}: {error}; no endpoints are made from it")
    if _lacks_address(event) and not problems:
        content.problems.append(
            f"{place}: {key}: spec.clusterIP: met none, expected an address, which a cluster would assign, or None;"
            " the name has no addresses"
        )
    if key in content.objects:
        content.problems.append(f"{place}: {key}: is in {content.objects[key].place} already; the later one counts")
    if not needs.external_addresses and isinstance(event.object, Service) and event.object.external_addresses:
        event = event._replace(object=structs.replace(event.object, external_addresses=()))
    if not needs.labels:
        event = event._replace(labels=NO_LABELS)
    content.objects[key] = Held(event, workload, place)


def _lacks_address(event: Event) -> bool:
    service = event.object
    return isinstance(service, Service) and service.type is ServiceType.CLUSTER_IP and not service.addresses


def _objects_in(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    """The objects of a document: itself, or the items of a List, of a ServiceList and so on."""
    kind = value.get("kind") if isinstance(value, dict) else None
    items = value.get("items") if isinstance(value, dict) else None
    if not isinstance(kind, str) or not kind.endswith("List") or not isinstance(items, list | None):
        yield place, value
        return
    for index, text in enumerate(items or ()):
        try:
            item = read_item(text)
        except ManifestError as error:
            raise ManifestError(f"{place}, items[{index}]: {error}") from error
        if isinstance(item, dict) and "kind" not in item and kind != "List":
            # What an API server lists carries its kind only once.
            item = {"apiVersion": value.get("apiVersion"), "kind": kind.removesuffix("List"), **item}
        yield from _objects_in(item, f"{place}, items[{index}]")


def _kind_of(raw: Any) -> Kind | None:
    """The kind of an object, or None for one without a part in DNS. Raises ManifestError for what is no object."""
    if not isinstance(raw, dict):
        raise ManifestError(f"met {quote(raw)}, expected a Kubernetes object")
    kind, version = raw.get("kind"), raw.get("apiVersion")
    if not isinstance(kind, str):
        raise ManifestError(f"kind: met {quote(kind)}, expected the kind of a Kubernetes object")
    if not isinstance(version, str):
        known = next((known for (_, name), known in _KINDS.items() if name == kind), None)
        expected = _API_VERSIONS[known] if known else "the version of a Kubernetes API"
        raise ManifestError(f"{quote(kind)[1:-1]}: apiVersion: met {quote(version)}, expected {expected}")
    return _KINDS.get((version.rpartition("/")[0], kind))
