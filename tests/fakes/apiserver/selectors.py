"""Which objects a request selects, by `labelSelector` and `fieldSelector`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kdns.cluster.selectors import Selector, SelectorError
from tests.fakes.apiserver.statuses import Refused, failure

_FIELDS: Mapping[str, tuple[str, ...]] = {
    "metadata.name": ("metadata", "name"),
    "metadata.namespace": ("metadata", "namespace"),
    "status.phase": ("status", "phase"),
    "status.podIP": ("status", "podIP"),
    "spec.type": ("spec", "type"),
    "spec.clusterIP": ("spec", "clusterIP"),
}
_OF_KIND = {"Pod": {"status.phase", "status.podIP"}, "Service": {"spec.type", "spec.clusterIP"}}


def make_filter(kind: str, namespace: str, labels: str, fields: str) -> Callable[[Any], bool]:
    """A predicate of raw objects. Raises Refused where a selector is none."""
    try:
        selector = Selector.parse(labels) if labels else None
    except SelectorError as error:
        raise Refused(failure(400, f"unable to parse requirement: {error}")) from error
    wanted = [_requirement(kind, text) for text in fields.split(",") if text]

    def matches(raw: Any) -> bool:
        if namespace and _field(raw, ("metadata", "namespace")) != namespace:
            return False
        if selector is not None:
            found = raw.get("metadata")
            found = found.get("labels") if isinstance(found, Mapping) else None
            if not selector.matches(found if isinstance(found, Mapping) else {}):
                return False
        return all((_field(raw, path) == value) is equal for path, equal, value in wanted)

    return matches


def _requirement(kind: str, text: str) -> tuple[tuple[str, ...], bool, str]:
    name, operator, value = text.partition("=")
    equal = not name.endswith("!")
    name = name.removesuffix("!")
    if not operator:
        raise Refused(failure(400, f"invalid selector: '{text}'; can't understand '{text}'"))
    if name not in _FIELDS or not (name.startswith("metadata.") or name in _OF_KIND.get(kind, ())):
        raise Refused(failure(400, f"field label not supported: {name}"))
    return _FIELDS[name], equal, value.removeprefix("=")


def _field(raw: Any, path: tuple[str, ...]) -> str:
    for step in path:
        raw = raw.get(step) if isinstance(raw, Mapping) else None
    return raw if isinstance(raw, str) else ""
