"""The informer: follows the cluster's objects and is the one writer of the response table.

Its first generation, where the supervisor has none yet, says what is known without objects, and that nothing else is
known. The next is complete before it is handed over; from then on events change it in place.
"""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import Callable, Coroutine, Sequence

from kdns.cluster.manifests import ManifestSource
from kdns.cluster.objects import EndpointSlice, Event, Service
from kdns.cluster.store import Store
from kdns.cluster.view import View, needs_of
from kdns.dns import names
from kdns.errors import ManifestError
from kdns.hotpath.table import TableWriter
from kdns.server.context import ServerContext
from kdns.server.control import MAX_TEXT, Channel, Failed, NewTable, Stop
from kdns.table.builder import TableBuilder, ZoneSettings

HEARTBEAT_SECONDS = 1.0
RETRY_SECONDS = 1.0  # between tries to read what could be read before

# Keys a table gets: an endpoint has A, SRV, PTR and two names; a Service as much for itself and each way to its ports.
KEYS_PER_OBJECT, KEYS_PER_ENDPOINT, KEYS_PER_SERVICE = 1, 5, 12


class Informer:
    """The informer process. `has_table` says that workers already answer from a table of a former informer."""

    def __init__(self, context: ServerContext, channel: Channel, has_table: bool) -> None:
        self._views = context.resolver.surroundings.views
        self._channel = channel
        self._has_table = has_table
        self._manifests = context.manifests
        self._epochs = context.epochs.all_rows()
        self._stores: list[Store] = []
        self._builder: TableBuilder | None = None
        self._stopped: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Follow the cluster until told to stop, or until the supervisor is gone."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._channel.fileno(), self._on_message)
        if not self._has_table:
            announce_unsynced(self._views, self._announce)
        following = loop.create_task(self._follow())
        beating = loop.create_task(self._beat())
        await asyncio.wait([following, beating, self._stopped], return_when=asyncio.FIRST_COMPLETED)
        for task in (following, beating):
            task.cancel()
        for result in await asyncio.gather(following, beating, return_exceptions=True):
            if isinstance(result, Exception):
                raise result

    def _on_message(self) -> None:
        try:
            while (received := self._channel.receive()) is not None:
                if isinstance(received[0], Stop) and not self._stopped.done():
                    self._stopped.set_result(None)
        except EOFError:
            if not self._stopped.done():
                self._stopped.set_result(None)

    async def _follow(self) -> None:
        told = ""
        while True:
            if self._manifests == "-":
                os.lseek(0, 0, os.SEEK_SET)  # a former informer may have read it
            source = ManifestSource(self._manifests, needs=needs_of(self._views))
            try:
                events = source.load()
                break
            except ManifestError as error:
                if str(error) != told:
                    told = str(error)
                    self._channel.send(Failed(told[:MAX_TEXT]))
            if not self._has_table:  # the supervisor ends the start that failed
                await self._stopped
                return
            await asyncio.sleep(RETRY_SECONDS)
        self._load(events)
        await source.watch(self._apply)
        await self._stopped  # nothing can change any more, but the table wants its heartbeat

    def _load(self, events: Sequence[Event]) -> None:
        """Build a complete generation and hand it over."""
        gc.disable()  # hundreds of thousands of objects are made, and nearly all of them stay
        self._stores = [Store(view, time.time) for view in self._views]
        for store in self._stores:
            for event in events:
                store.apply(event)
        self._builder = build_table(
            self._stores, self._views, self._announce, expected_keys(events, self._views), self._epochs
        )
        gc.collect()
        gc.freeze()
        gc.enable()

    def _apply(self, events: Sequence[Event]) -> None:
        """Take events over into the table, as far as they change it."""
        builder = self._builder
        assert builder is not None
        for index, store in enumerate(self._stores):
            for event in events:
                store.apply(event)
            builder.publish(index, store.take_changes())
            set_state(builder, index, store)

    def _announce(self, table: TableWriter) -> None:
        self._channel.send(NewTable(int(table.statistics()["generation"])), table.fd)

    async def _beat(self) -> None:
        while True:
            if self._builder is not None:
                self._builder.beat()
            await asyncio.sleep(HEARTBEAT_SECONDS)


def announce_unsynced(views: Sequence[View], announce: Callable[[TableWriter], None]) -> None:
    """Hand over a generation with what is true of any cluster, its views marked as not yet synced."""
    stores = [Store(view, time.time) for view in views]
    builder = TableBuilder(_zone_settings(views), os.urandom, announce)
    for index, store in enumerate(stores):
        builder.load(index, store.all_nodes())
    builder.announce()


def build_table(
    stores: Sequence[Store],
    views: Sequence[View],
    announce: Callable[[TableWriter], None],
    keys: int = 0,
    epochs: memoryview | None = None,
) -> TableBuilder:
    """Build and announce a complete generation, for about so many keys, from the objects in the stores."""
    builder = TableBuilder(_zone_settings(views), os.urandom, announce, keys, epochs)
    for index, store in enumerate(stores):
        builder.load(index, store.all_nodes())
        set_state(builder, index, store)
    builder.announce()
    return builder


def expected_keys(events: Sequence[Event], views: Sequence[View]) -> int:
    """How many keys the table will have, roughly and rather too many."""
    keys = 0
    for event in events:
        found = event.object
        keys += KEYS_PER_OBJECT
        if isinstance(found, EndpointSlice):
            keys += KEYS_PER_ENDPOINT * len(found.endpoints)
        elif isinstance(found, Service):
            keys += KEYS_PER_SERVICE
    return keys * max(1, sum(len(view.zones) - _reverse_zones(view) for view in views))


def set_state(builder: TableBuilder, index: int, store: Store) -> None:
    """Publish a store's serials, and that its objects are all there."""
    builder.set_state(
        index, synced=True, serial=store.serial, multicluster_serial=store.multicluster_serial
    )  # fmt: skip


def informer_main(
    context: ServerContext, channel: Channel, has_table: bool
) -> Callable[[], Coroutine[None, None, None]]:
    """The coroutine function the informer process runs."""

    async def main() -> None:
        await Informer(context, channel, has_table).run()

    return main


def _zone_settings(views: Sequence[View]) -> list[ZoneSettings]:
    return [ZoneSettings(frozenset(view.zones), view.ttl) for view in views]


def _reverse_zones(view: View) -> int:
    return sum(names.is_below(zone, names.ARPA) for zone in view.zones)
