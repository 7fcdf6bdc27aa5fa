"""Raw Kubernetes objects, from JSON or from parsed YAML, cut to the objects DNS needs.

Whatever an API server or a careless producer writes gives an object or a reason. What is damaged is left out on its
own: one port, one endpoint or one address; the whole object only where its identity, its shape or what it is for is
damaged. Nulls and absent fields are the same thing everywhere, as they are in Go.

The quick way decodes straight into typed structs. Only where that fails is the object taken apart, to find the part to
leave out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from sys import intern
from typing import Any, NamedTuple, cast

import msgspec

from kdns.cluster import cuts, shapes
from kdns.cluster.cuts import quote
from kdns.cluster.objects import ClusterObject, Event, Kind
from kdns.cluster.view import Needs
from kdns.errors import ManifestError

DEFAULT_NAMESPACE = "default"
EVERYTHING = Needs()

# Lists of which one element may be left out, and what an element is.
_LISTS: dict[type[shapes.RawObject], tuple[tuple[str, type[msgspec.Struct]], ...]] = {
    shapes.RawNamespace: (),
    shapes.RawService: (("spec.ports", shapes.RawPort),),
    shapes.RawPlainEndpointSlice: (("endpoints", shapes.RawPlainEndpoint), ("ports", shapes.RawPort)),
    shapes.RawEndpointSlice: (("endpoints", shapes.RawEndpoint), ("ports", shapes.RawPort)),
    shapes.RawPod: (),
    shapes.RawServiceImport: (("spec.ports", shapes.RawPort),),
}
_VALIDATION = re.compile(
    r"Expected (?P<expected>.+?)(?:, got (?P<met>.+?))?(?: - at (?:`key` in )?`\$\.?(?P<field>.*)`)?"
)


class Decoded(NamedTuple):
    """What a raw object says.

    `event` is None where nothing changes: the object is malformed (`problems` says how), or it is a Pod on its way
    out, of which what is known stays until it is deleted. An object that exists but has no part in DNS gives an event
    without an object. `problems` are also what was left out of an object that is otherwise good.
    """

    event: Event | None
    problems: tuple[str, ...] = ()


def decode(kind: Kind, raw: object, needs: Needs = EVERYTHING) -> Decoded:
    """Cut an object parsed from JSON or YAML; never raises."""
    try:
        return decode_shape(kind, msgspec.convert(raw, shapes.shape_of(kind, needs)), needs)
    except msgspec.ValidationError:
        return _decode_damaged(kind, raw, needs)


def decode_json(kind: Kind, text: bytes, needs: Needs = EVERYTHING) -> Decoded:
    """Cut an object from its JSON text; never raises."""
    try:
        try:
            shape = _decoder(kind, needs).decode(text)
        except msgspec.ValidationError:
            return _decode_damaged(kind, msgspec.json.decode(text), needs)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Decoded(None, (f"{kind.value}: met {quote(text.decode('ascii', 'replace'))}, expected JSON: {error}",))
    return decode_shape(kind, shape, needs)


@lru_cache(maxsize=64)
def _decoder(kind: Kind, needs: Needs) -> msgspec.json.Decoder[shapes.RawObject]:
    return msgspec.json.Decoder(shapes.shape_of(kind, needs))


def identify(kind: Kind, raw: object) -> tuple[str, str] | None:
    """The namespace and name of a raw object, or None where it has no usable ones."""
    metadata = raw.get("metadata") if isinstance(raw, Mapping) else None
    if not isinstance(metadata, Mapping):
        return None
    name = metadata.get("name")
    namespace = "" if kind is Kind.NAMESPACE else metadata.get("namespace") or DEFAULT_NAMESPACE
    return (namespace, name) if name and isinstance(name, str) and isinstance(namespace, str) else None


def label_text(value: str | int | bool | None) -> str:
    """A label's value as text: YAML makes numbers, booleans and nulls of what is not quoted."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def explain(error: msgspec.ValidationError, below: str = "") -> str:
    """A msgspec error as `field: met X, expected Y`; `below` is the field that was converted."""
    found = _VALIDATION.fullmatch(str(error))
    if found is None:
        return f"{below or 'object'}: {error}"
    field = ".".join(filter(None, (below, found["field"]))).replace(".[", "[")
    met = f"met {found['met']}, " if found["met"] else ""
    expected = found["expected"].removesuffix(" | null`")
    return f"{field or 'object'}: {met}expected {expected}".replace("`", "")


def decode_shape(kind: Kind, shape: shapes.RawObject, needs: Needs, found: Sequence[str] = ()) -> Decoded:
    """Cut an object from its shape, of which problems were `found` before; never raises."""
    problems = list(found)
    metadata = shape.metadata or shapes.RawMetadata()
    namespace = "" if kind is Kind.NAMESPACE else intern(metadata.namespace or DEFAULT_NAMESPACE)
    name = metadata.name or ""
    try:
        cuts.check_object_name("metadata.name", name)
        if namespace:
            cuts.check_object_label("metadata.namespace", namespace)
        if kind is Kind.POD and metadata.deletion_timestamp is not None:
            return Decoded(None)
        labels = _label_texts(metadata.labels)
        if isinstance(shape, shapes.RawPlainEndpointSlice):
            made: ClusterObject | None = cuts.cut_slice(shape, namespace, name, labels, problems, needs)
        else:
            made = _cut(shape, namespace, name, problems)
    except ManifestError as error:
        return Decoded(None, _told(kind, (namespace, name), [*problems, str(error)]))
    return Decoded(Event(kind, namespace, name, made, labels), _told(kind, (namespace, name), problems))


def _label_texts(labels: Mapping[str, str | int | bool | None] | None) -> dict[str, str]:
    """metadata.labels as text, which they all are but for some of YAML's."""
    if not labels:
        return {}
    return {key: value if type(value) is str else label_text(value) for key, value in labels.items()}


def _cut(shape: shapes.RawObject, namespace: str, name: str, problems: list[str]) -> ClusterObject | None:
    match shape:
        case shapes.RawPod():
            return cuts.cut_pod(shape, namespace, name)
        case shapes.RawService():
            return cuts.cut_service(shape, namespace, name, problems)
        case shapes.RawServiceImport():
            return cuts.cut_service_import(shape, namespace, name, problems)
        case _:
            return cuts.cut_namespace(name)


def _decode_damaged(kind: Kind, raw: object, needs: Needs) -> Decoded:
    """Decode without the list elements that are not what they should be."""
    problems: list[str] = []
    try:
        shape = msgspec.convert(_without_damage(kind, raw, needs, problems), shapes.shape_of(kind, needs))
    except msgspec.ValidationError as error:
        return Decoded(None, _told(kind, identify(kind, raw), [*problems, explain(error)]))
    return decode_shape(kind, shape, needs, problems)


def _without_damage(kind: Kind, raw: object, needs: Needs, problems: list[str]) -> object:
    """`raw` with null in place of each damaged element of a list that can spare one."""
    if not isinstance(raw, Mapping):
        return raw
    whole: dict[Any, Any] = dict(raw)
    for path, element in _LISTS[shapes.shape_of(kind, needs)]:
        holder = whole
        *parents, field = path.split(".")
        for parent in parents:
            if not isinstance(holder.get(parent), Mapping):
                break
            holder[parent] = dict(holder[parent])
            holder = holder[parent]
        else:
            if isinstance(holder.get(field), list):
                holder[field] = [
                    _undamaged(item, element, f"{path}[{index}]", problems)
                    for index, item in enumerate(cast("list[object]", holder[field]))
                ]
    return whole


def _undamaged(item: object, element: type[msgspec.Struct], field: str, problems: list[str]) -> object:
    if item is None:
        return None
    try:
        return msgspec.convert(item, element)
    except msgspec.ValidationError as error:
        problems.append(explain(error, field))
        return None


def _told(kind: Kind, identity: tuple[str, str] | None, problems: list[str]) -> tuple[str, ...]:
    """Problems with the object they are about."""
    if not problems:
        return ()
    namespace, name = identity or ("", "")
    told = quote(f"{namespace}/{name}" if namespace else name)[1:-1] if name else "without a name"
    return tuple(f"{kind.value} {told}: {problem}" for problem in problems)
