"""What the informer's sources feed: a store for each view, and the one table that is made of all of them.

A view is published whole, in a generation nobody has seen yet, once its source says that everything has been listed,
or all that can be; from then on its changes go into the current generation. Where workers answer from the table of a
former informer, what that one says of a view is carried on until the view is published again.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Sequence

from kdns.cluster.objects import EndpointSlice, Event, Service, ServiceType
from kdns.cluster.resources import OF_KIND
from kdns.cluster.store import Store
from kdns.cluster.unlisted import Unlisted
from kdns.cluster.view import View
from kdns.dns import names
from kdns.hotpath.table_writer import TableWriter
from kdns.table.builder import TableBuilder, ZoneSettings
from kdns.table.render import external_soa_template

# Keys a table gets: an endpoint has A, SRV, PTR and two names; a Service as much for itself and each way to its ports.
KEYS_PER_OBJECT, KEYS_PER_ENDPOINT, KEYS_PER_SERVICE = 1, 5, 17

Announce = Callable[[TableWriter], None]


class Publisher:
    """Turns events of views into a published table. Of a `former` informer, the table workers answer from."""

    def __init__(
        self,
        views: Sequence[View],
        announce: Announce,
        *,
        former: TableWriter | None = None,
        epochs: memoryview | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._views = views
        self._has_former = former is not None
        self._stores = [Store(view, clock) for view in views]
        self._published: dict[int, Unlisted] = {}  # what each view that is published still lacks
        zones = [_settings_of(view) for view in views]
        self._builder = TableBuilder(zones, os.urandom, announce, epochs=epochs, former=former)
        self._keys = [0] * len(views)  # expected of each view's next generation
        self._told_serials: dict[int, tuple[int, ...]] = {}  # of each view, the serials in the table

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
        """Whether every view is published, and lacks nothing."""
        return len(self._published) == len(self._views) and not any(self._published.values())

    @property
    def is_own(self) -> bool:
        """Whether nothing of a former informer is in the table any more."""
        return not self._has_former or len(self._published) == len(self._views)

    def start(self) -> None:
        """Where there is no table yet, hand over one with what is true of any cluster, its views not synced."""
        if self._has_former:
            return
        for index, view in enumerate(self._views):
            self._builder.load(index, Store(view, self._clock).all_batches())
        self._builder.announce()

    def apply(self, index: int, events: Sequence[Event]) -> None:
        """Take events of a view over; into the table too, as far as they change it, once the view is published."""
        store = self._stores[index]
        for event in events:
            store.apply(event)
        unlisted = self._published.get(index)
        # A list that was lacking comes as one batch, and its names with the generation that follows it.
        if unlisted is not None and not (unlisted and any(OF_KIND[event.kind] & unlisted for event in events)):
            self._builder.publish(index, store.take_changes())
            if self._told_serials.get(index) != store.serials:
                self._set_state(index)
        else:
            self._keys[index] += sum(map(expected_keys, events))

    def sync(self, indexes: Sequence[int], unlisted: Unlisted = Unlisted.NOTHING) -> None:
        """Publish views in a generation of their own: all their objects are there, but for those of some kinds."""
        gc.disable()  # hundreds of thousands of objects are made, and nearly all of them stay
        expected = sum(self._keys[index] * self._forward_zones(index) for index in indexes)
        self._builder.begin_generation(expected, without=indexes)
        for index in indexes:
            self._keys[index] = 0
            self._published[index] = self._stores[index].unlisted = unlisted
            self._builder.load(index, self._stores[index].all_batches())
            self._set_state(index)
        self._builder.announce()
        gc.collect()
        gc.freeze()
        gc.enable()

    def service_type(self, index: int, namespace: str, name: str) -> ServiceType | None:
        """The type of a Service that is published; None where there is none."""
        return self._stores[index].service_type(namespace, name) if index in self._published else None

    def beat(self) -> None:
        """Note in the table that its writer is alive."""
        self._builder.beat()

    def _set_state(self, index: int) -> None:
        store = self._stores[index]
        self._told_serials[index] = store.serials
        self._builder.set_state(
            index,
            serial=store.serial,
            multicluster_serial=store.multicluster_serial,
            external_serial=store.external_serial,
            unlisted=self._published[index],
        )

    def _forward_zones(self, index: int) -> int:
        """How many times most of an object's names are in the table."""
        return sum(not _is_reverse(zone) for zone in self._views[index].zones)


def _settings_of(view: View) -> ZoneSettings:
    external = view.external
    if external is None:
        return ZoneSettings(frozenset(view.zones), view.ttl, soa_minimum=view.soa_minimum)
    soa = external_soa_template(external.ttl, external.apex, external.soa_minimum)
    return ZoneSettings(frozenset(view.zones), view.ttl, frozenset(external.zones), soa, view.soa_minimum)


def expected_keys(event: Event) -> int:
    """How many keys an object adds to a table in each zone, roughly and rather too many."""
    found = event.object
    if isinstance(found, EndpointSlice):
        return KEYS_PER_OBJECT + KEYS_PER_ENDPOINT * len(found.addresses)
    return KEYS_PER_SERVICE if isinstance(found, Service) else KEYS_PER_OBJECT


def _is_reverse(zone: bytes) -> bool:
    return names.is_below(zone, names.ARPA)
