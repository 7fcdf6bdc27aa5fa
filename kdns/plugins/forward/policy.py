"""The `policy` option: in which order upstreams are asked."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
Counter = Callable[[], int]  # the next number of a row that all workers draw from


def random_order(upstreams: Sequence[T], _: Counter) -> Sequence[T]:
    """Any order, each equally often."""
    return random.sample(upstreams, len(upstreams))


def round_robin(upstreams: Sequence[T], draw: Counter) -> Sequence[T]:
    """As listed, from one further on each time."""
    start = draw() % len(upstreams)
    return [*upstreams[start:], *upstreams[:start]]


def sequential(upstreams: Sequence[T], _: Counter) -> Sequence[T]:
    """As listed."""
    return upstreams


POLICIES = {"random": random_order, "round_robin": round_robin, "sequential": sequential}
