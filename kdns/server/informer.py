"""The informer: follows the cluster's objects and is the one writer of the response table.

Objects come from manifests, one source for all views, or from API servers, a follower for each view: its selectors and
its server are its own.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING

from kdns import log
from kdns.cluster.manifests import ManifestSource
from kdns.cluster.objects import Event, ServiceType
from kdns.cluster.telemetry import CLUSTER_IP, HEADLESS, TallyMetrics, Telemetry
from kdns.cluster.unlisted import Unlisted
from kdns.cluster.view import needs_of
from kdns.errors import ManifestError
from kdns.hotpath.table_writer import TableWriter
from kdns.server.context import ServerContext
from kdns.server.control import Channel, Failed, NewTable, Stop, fit_text
from kdns.server.publisher import Publisher
from kdns.server.state import ImageKeeper

if TYPE_CHECKING:
    from kdns.cluster.follower import ClusterFollower

HEARTBEAT_SECONDS = 1.0
RETRY_SECONDS = 1.0  # between tries to read what could be read before

# Which Services' changes count into which label of the programming duration.
SERVICE_KINDS = {ServiceType.CLUSTER_IP: CLUSTER_IP, ServiceType.HEADLESS: HEADLESS}

_LOG = log.plugin_logger("kubernetes")


class Informer:
    """The informer process. `table_fd` is the table workers answer from already, of a former informer."""

    def __init__(self, context: ServerContext, channel: Channel, table_fd: int | None) -> None:
        surroundings = context.resolver.surroundings
        self._views = surroundings.views
        self._accesses = surroundings.accesses
        self._environ = surroundings.environ
        self._manifests = context.manifests
        self._resync_seconds = context.resync_seconds
        self._telemetry = Telemetry(surroundings.metrics)
        self._tally_metrics = TallyMetrics(self._telemetry)
        self._channel = channel
        former = None
        if table_fd is not None:
            former = TableWriter(table_fd, True)
            os.close(table_fd)  # the mapping has its own; this one would keep the generation for ever
        # What the former informer knew all of: it is answered until this one knows as much.
        self._known = [former is not None and former.is_synced(index) for index in range(len(self._views))]
        self._publisher = Publisher(self._views, self._announce, former=former, epochs=context.epochs.all_rows())
        self._followers: list[ClusterFollower] = []
        self._keeper: ImageKeeper | None = None
        if context.state is not None:
            epoch = context.epochs.row(surroundings.metrics.attached or 0)
            self._keeper = ImageKeeper(context.state, self._complete_table, self._unheard_seconds, epoch)
        self._stopped: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Follow the cluster until told to stop, or until the supervisor is gone."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._channel.fileno(), self._on_message)
        self._publisher.start()
        if self._manifests is not None:
            tasks = [loop.create_task(self._follow_manifests(self._manifests))]
        else:
            tasks = [loop.create_task(self._follow_api(index)) for index in range(len(self._views))]
        tasks.append(loop.create_task(self._beat()))
        if self._keeper is not None:
            tasks.append(loop.create_task(self._keeper.run()))
        await asyncio.wait([*tasks, self._stopped], return_when=asyncio.FIRST_COMPLETED)
        loop.remove_reader(self._channel.fileno())
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result
        if self._keeper is not None:
            await self._keeper.finish()

    def _on_message(self) -> None:
        try:
            while (received := self._channel.receive()) is not None:
                if isinstance(received[0], Stop) and not self._stopped.done():
                    self._stopped.set_result(None)
        except EOFError:
            if not self._stopped.done():
                self._stopped.set_result(None)

    # Manifests

    async def _follow_manifests(self, path: str) -> None:
        told = ""
        while True:
            if path == "-":
                os.lseek(0, 0, os.SEEK_SET)  # a former informer may have read it
            source = ManifestSource(path, needs=needs_of(self._views))
            try:
                events = source.load()
                break
            except ManifestError as error:
                if str(error) != told:
                    told = str(error)
                    self._channel.send(Failed(fit_text(told)))
            if not all(self._known):  # the supervisor ends the start that failed
                await self._stopped
                return
            await asyncio.sleep(RETRY_SECONDS)
        self._apply_to_all(events)
        self._publisher.sync(range(len(self._views)))
        await source.watch(self._apply_to_all)
        await self._stopped  # nothing can change any more, but the table wants its heartbeat

    def _apply_to_all(self, events: list[Event]) -> None:
        for index in range(len(self._views)):
            self._publisher.apply(index, events)

    # API servers

    async def _follow_api(self, index: int) -> None:
        # HTTP and all that belongs to it: a megabyte here and there, for those who follow an API server.
        from kdns.cluster.follower import ClusterFollower

        access = self._accesses[index]
        synced = asyncio.Event()

        def on_listed(unlisted: Unlisted) -> None:
            self._publisher.sync([index], unlisted)
            if not unlisted:
                synced.set()

        follower = ClusterFollower(
            access,
            self._views[index],
            partial(self._publisher.apply, index),
            on_listed,
            self._environ,
            telemetry=self._telemetry,
            resync_seconds=self._resync_seconds,
            on_programmed=partial(self._note_programmed, index),
            is_known=self._known[index],
        )
        self._followers.append(follower)
        async with asyncio.TaskGroup() as group:
            group.create_task(follower.run())
            group.create_task(_tell_when_late(synced, access.startup_timeout_seconds))

    def _note_programmed(self, index: int, namespace: str, service: str, triggered_at: float) -> None:
        kind = self._publisher.service_type(index, namespace, service)
        if kind in SERVICE_KINDS:
            seconds = max(0.0, time.time() - triggered_at)
            self._telemetry.programming_duration.observe(seconds, (SERVICE_KINDS[kind],))

    # The table's image

    def _complete_table(self) -> TableWriter | None:
        return self._publisher.builder.table if self._publisher.is_synced else None

    def _unheard_seconds(self) -> float | None:
        """How long ago a source was last heard of, the one that is silent longest; None: one never was."""
        if self._manifests is not None:
            return 0.0
        longest = 0.0
        for follower in self._followers:
            for resource in follower.statistics():
                if resource.seconds_since_contact is None:
                    return None
                longest = max(longest, resource.seconds_since_contact)
        return longest

    def _announce(self, table: TableWriter) -> None:
        message = NewTable(int(table.statistics()["generation"]), is_current=self._publisher.is_own)
        self._channel.send(message, table.fd)

    async def _beat(self) -> None:
        while True:
            self._publisher.beat()
            for index, follower in enumerate(self._followers):
                self._tally_metrics.show(str(index), follower.statistics())
            await asyncio.sleep(HEARTBEAT_SECONDS)


async def _tell_when_late(synced: asyncio.Event, timeout_seconds: float) -> None:
    """Log what CoreDNS logs when it stops waiting; kdns serves from the start, and says SERVFAIL for now."""
    try:
        async with asyncio.timeout(timeout_seconds):
            await synced.wait()
    except TimeoutError:
        _LOG.warning("starting server with unsynced Kubernetes API")


def informer_main(
    context: ServerContext, channel: Channel, table_fd: int | None
) -> Callable[[], Coroutine[None, None, None]]:
    """The coroutine function the informer process runs; it owns `table_fd`, which was made for the same views."""

    async def main() -> None:
        await Informer(context, channel, table_fd).run()

    return main
