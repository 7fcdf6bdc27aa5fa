"""Changes without end: endpoints that go and come back, in half of the Services of a generated cluster.

The other half stays as generated, so that its answers can be judged while the changes go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import cycle
from typing import Any

Object = Mapping[str, Any]


def is_churned(service: str) -> bool:
    """Whether the endpoints of the generated Service of that name change: those with an odd number do."""
    return int(service.rsplit("-", 1)[-1]) % 2 == 1


def churned_slices(objects: Iterable[Object]) -> list[Object]:
    """The EndpointSlices, of generated ones, that changes are made to: those with an endpoint to spare."""
    return [
        item
        for item in objects
        if item["kind"] == "EndpointSlice"
        and is_churned(item["metadata"]["labels"]["kubernetes.io/service-name"])
        and len(item["endpoints"]) > 1
    ]


def changes(slices: list[Object]) -> Iterator[Object]:
    """Each slice without its first endpoint, one after the other; then each as it was; and so on."""
    for turn in cycle((True, False)):
        for item in slices:
            yield {**item, "endpoints": item["endpoints"][1:]} if turn else item
