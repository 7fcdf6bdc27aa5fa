"""What does the response table cost: to build from objects in memory, to hold, and to change by one endpoint?

CPU is this process's own, measured around the calls the informer makes; the objects are made before. One endpoint is
taken out of a slice and put back, again and again, so that every change is a real one and the cluster stays the same.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from bench import objects
from bench.cluster import ZONE, Sizes, generate
from kdns.cluster.objects import EndpointSlice, Event, Kind
from kdns.cluster.store import Store
from kdns.cluster.view import View
from kdns.dns import names
from kdns.server.informer import build_table, expected_keys, set_state
from kdns.table.builder import TableBuilder

CHANGES = 200  # of each kind; the median is quoted


@dataclass(frozen=True, slots=True)
class TableCosts:
    """Costs of one table; times are CPU."""

    apply_seconds: float  # objects into the store
    build_seconds: float  # the store into a table
    slots: int
    responses: int
    used_bytes: int
    bytes_per_slot: float
    bytes_per_response: float
    small_change_ms: float  # one endpoint of a slice of a ClusterIP Service
    large_change_ms: float  # one endpoint of the largest headless Service

    def as_dict(self) -> dict[str, Any]:
        """For the results file."""
        return asdict(self)


def measure_table(sizes: Sizes) -> TableCosts:
    """Build the table of a generated cluster and change it."""
    cluster = generate(sizes)
    events = list(objects.events(cluster))
    view = View(tuple(names.from_text(zone) for zone in (ZONE, "in-addr.arpa", "ip6.arpa")))
    gc.collect()
    gc.disable()
    start = time.process_time()
    store = Store(view, time.time)
    for event in events:
        store.apply(event)
    applied = time.process_time()
    builder = build_table([store], [view], lambda table: None, expected_keys(events, [view]))
    built = time.process_time()
    gc.collect()
    gc.freeze()
    gc.enable()
    numbers = builder.table.statistics()
    largest = max((s for s in cluster.services if s.address is None), key=lambda s: s.endpoint_count)
    small = next(s for s in cluster.clustered if 2 <= s.endpoint_count <= 10)
    return TableCosts(
        apply_seconds=applied - start,
        build_seconds=built - applied,
        slots=int(numbers["slots"]),
        responses=int(numbers["blobs"]),
        used_bytes=int(numbers["used_bytes"]),
        bytes_per_slot=numbers["used_bytes"] / numbers["slots"],
        bytes_per_response=numbers["used_bytes"] / numbers["blobs"],
        small_change_ms=_change_ms(store, builder, objects.slices(small)[0]),
        large_change_ms=_change_ms(store, builder, objects.slices(largest)[0]),
    )


def render(costs: TableCosts) -> str:
    """The costs as lines for people."""
    return "\n".join(
        (
            f"objects into the store      {costs.apply_seconds:8.2f} s",
            f"store into a table          {costs.build_seconds:8.2f} s",
            f"keys                        {costs.slots:8,}   {costs.bytes_per_slot:6.1f} octets each",
            f"responses                   {costs.responses:8,}   {costs.bytes_per_response:6.1f} octets each",
            f"table                       {costs.used_bytes / 1e6:8.1f} MB",
            f"one endpoint changed        {costs.small_change_ms:8.3f} ms",
            f"... of the largest Service  {costs.large_change_ms:8.3f} ms",
        )
    )


def _change_ms(store: Store, builder: TableBuilder, item: EndpointSlice) -> float:
    """The median CPU of taking one endpoint out of a slice, or putting it back, until it is published."""
    without = EndpointSlice(item.namespace, item.name, item.service, item.ports, item.endpoints[1:])
    samples = []
    for turn in range(CHANGES):
        event = Event(Kind.ENDPOINT_SLICE, item.namespace, item.name, item if turn % 2 else without)
        samples.append(1000 * _cpu(lambda event=event: _apply(store, builder, event)))  # type: ignore[misc]
    return statistics.median(samples)


def _apply(store: Store, builder: TableBuilder, event: Event) -> None:
    store.apply(event)
    builder.publish(0, store.take_changes())
    set_state(builder, 0, store)


def _cpu(call: Callable[[], None]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start
