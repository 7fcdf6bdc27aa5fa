"""What the informer's sources feed: a store for each view, and the one table that is made of all of them.

A view is published whole, in a generation nobody has seen yet, once its source says that everything has been listed;
from then on its changes go into the current generation. Where workers answer from the table of a former informer,
nothing is handed over before every view is whole: a table is never replaced by a lesser one.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Sequence

from kdns.cluster.objects import EndpointSlice, Event, Service
from kdns.cluster.store import Store
from kdns.cluster.view import View
from kdns.dns import names
from kdns.hotpath.table import TableWriter
from kdns.table.builder import TableBuilder, ZoneSettings

# Keys a table gets: an endpoint has A, SRV, PTR and two names; a Service as much for itself and each way to its ports.
KEYS_PER_OBJECT, KEYS_PER_ENDPOINT, KEYS_PER_SERVICE = 1, 5, 17

Announce = Callable[[TableWriter], None]


class Publisher:
    """Turns events of views into a published table. `has_table`: workers already answer from an earlier one."""

    def __init__(
        self,
        views: Sequence[View],
        announce: Announce,
        *,
        has_table: bool,
        epochs: memoryview | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._views = views
        self._announce = announce
        self._has_table = has_table
        self._stores = [Store(view, clock) for view in views]
        self._synced: set[int] = set()
        zones = [ZoneSettings(frozenset(view.zones), view.ttl) for view in views]
        self._builder = TableBuilder(zones, os.urandom, self._on_generation, epochs=epochs)
        self._keys = 0

    @property
    def builder(self) -> TableBuilder:
        """The writer of the table."""
        return self._builder

    @property
    def stores(self) -> Sequence[Store]:
        """The store of each view."""
        return self._stores

    @property
    def is_synced(self) -> bool:
        """Whether every view is whole, so that the table is complete and handed over."""
        return len(self._synced) == len(self._views)

    def start(self) -> None:
        """Where there is no table yet, hand over one with what is true of any cluster, its views not synced."""
        if self._has_table:
            return
        for index, view in enumerate(self._views):
            self._builder.load(index, Store(view, self._clock).all_nodes())
        self._builder.announce()

    def apply(self, index: int, events: Sequence[Event]) -> None:
        """Take events of a view over; into the table too, as far as they change it, once the view is whole."""
        store = self._stores[index]
        for event in events:
            store.apply(event)
        if index in self._synced:
            self._builder.publish(index, store.take_changes())
            self._set_state(index)
        else:
            self._keys += sum(map(expected_keys, events))

    def sync(self, indexes: Sequence[int]) -> None:
        """Publish views whose objects are all there, in a generation of their own."""
        gc.disable()  # hundreds of thousands of objects are made, and nearly all of them stay
        self._builder.begin_generation(self._keys * self._forward_zones(indexes))
        self._keys = 0
        for index in indexes:
            self._builder.load(index, self._stores[index].all_nodes())
            self._set_state(index)
        self._synced.update(indexes)
        self._builder.announce()
        gc.collect()
        gc.freeze()
        gc.enable()

    def beat(self) -> None:
        """Note in the table that its writer is alive."""
        self._builder.beat()

    def _on_generation(self, table: TableWriter) -> None:
        if not self._has_table or self.is_synced:
            self._announce(table)

    def _set_state(self, index: int) -> None:
        store = self._stores[index]
        self._builder.set_state(
            index, synced=True, serial=store.serial, multicluster_serial=store.multicluster_serial
        )  # fmt: skip

    def _forward_zones(self, indexes: Sequence[int]) -> int:
        """How many times most of an object's names are in the table."""
        return max([1, *(sum(not _is_reverse(zone) for zone in self._views[index].zones) for index in indexes)])


def expected_keys(event: Event) -> int:
    """How many keys an object adds to a table in each zone, roughly and rather too many."""
    found = event.object
    if isinstance(found, EndpointSlice):
        return KEYS_PER_OBJECT + KEYS_PER_ENDPOINT * len(found.endpoints)
    return KEYS_PER_SERVICE if isinstance(found, Service) else KEYS_PER_OBJECT


def _is_reverse(zone: bytes) -> bool:
    return names.is_below(zone, names.ARPA)
