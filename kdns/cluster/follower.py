"""Follows everything one view needs from one API server, and tells what changes in batches."""

from __future__ import annotations

import asyncio
import random as random_module
import time
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from operator import or_

from kdns import log
from kdns.cluster.access import ApiAccess
from kdns.cluster.backoff import Backoff
from kdns.cluster.client import ApiClient
from kdns.cluster.objects import Event
from kdns.cluster.outage import Outage
from kdns.cluster.reflector import LIST_SECONDS, Reflector
from kdns.cluster.replica import OnProgrammed, Replica
from kdns.cluster.resources import OF_KIND, Resource, resources_of
from kdns.cluster.resync import Resync
from kdns.cluster.tally import ResourceStatistics
from kdns.cluster.telemetry import Telemetry
from kdns.cluster.unlisted import Unlisted
from kdns.cluster.view import View, needs_of
from kdns.errors import ClusterError
from kdns.metrics import Registry

PATIENCE_SECONDS = 5.0  # until what has not been listed is not waited for (CoreDNS's default startup_timeout)
# The same where a former process has listed everything: its word is worth more than nothing, and less than news.
KNOWN_PATIENCE_SECONDS = 60.0
RESTART_SECONDS = 1.0  # until a task that died of an error nobody foresaw has its successor

_LOG = log.plugin_logger("kubernetes")

OnEvents = Callable[[Sequence[Event]], None]


class ClusterFollower:
    """The resources of one view, followed for as long as `run` runs, and compared each `resync_seconds`, 0 for never.

    `on_events` gets batches, those of a resource in the order of its changes; a list that differs from what is known
    is one batch, what is gone first. `on_listed` is told what is still lacking: first when that is nothing, or when it
    is refused or late, and then each time it gets less. `is_known` says that a former process had all of it.
    """

    def __init__(
        self,
        access: ApiAccess,
        view: View,
        on_events: OnEvents,
        on_listed: Callable[[Unlisted], None],
        environ: Mapping[str, str],
        *,
        clock: Callable[[], float] = time.monotonic,
        random: random_module.Random | None = None,
        telemetry: Telemetry | None = None,
        resync_seconds: float = 0.0,
        list_seconds: float = LIST_SECONDS,
        on_programmed: OnProgrammed = lambda namespace, service, triggered_at: None,
        is_known: bool = False,
    ) -> None:
        self._access = access
        self._environ = environ
        self._clock = clock
        self._random = random or random_module.Random()  # noqa: S311 - spreads load, guards nothing
        self._telemetry = telemetry or Telemetry(Registry())
        self._resync_seconds = resync_seconds
        self._reflectors: dict[Replica, Reflector] = {}
        self._list_seconds = list_seconds
        self._on_listed = on_listed
        self._is_known = is_known
        self._is_late = False
        self._told: Unlisted | None = None  # to on_listed
        self._replicas = [
            Replica(resource, clock, on_events, self._tell_listed, needs_of([view]), on_programmed)
            for resource in resources_of(view)
        ]

    @property
    def is_synced(self) -> bool:
        """Whether every resource has been listed."""
        return self._told == Unlisted.NOTHING

    @property
    def refused(self) -> tuple[Resource, ...]:
        """The resources the server does not hand out, as far as is known now."""
        return tuple(replica.resource for replica in self._replicas if replica.tally.is_refused)

    def statistics(self) -> tuple[ResourceStatistics, ...]:
        """How following each resource goes."""
        return tuple(replica.statistics() for replica in self._replicas)

    async def run(self) -> None:
        """Follow until cancelled."""
        client = await self._connect()
        outage = Outage(self._clock, self._random)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._lose_patience())
                if self._resync_seconds:
                    resync = Resync(client, self._reflectors, self._telemetry, self._random, self._resync_seconds)
                    group.create_task(resync.run())
                for replica in self._replicas:
                    group.create_task(self._keep_following(replica, client, outage))
        finally:
            await client.aclose()

    async def _connect(self) -> ApiClient:
        """A client, as soon as what describes it can be read."""
        backoff = Backoff(self._clock, self._random)
        trouble = ""
        while True:
            try:
                return await ApiClient.connect(self._access, self._environ, self._clock, self._telemetry)
            except ClusterError as error:
                if str(error) != trouble:
                    trouble = str(error)
                    _LOG.error("No way to the API server: %s", error)
            await asyncio.sleep(backoff.next_delay())

    async def _keep_following(self, replica: Replica, client: ApiClient, outage: Outage) -> None:
        """Follow one resource; whatever ends that, it begins again."""
        while True:
            try:
                reflector = Reflector(client, replica, outage, self._clock, self._random, self._list_seconds)
                self._reflectors[replica] = reflector
                await reflector.run()
            except Exception as error:
                # What was under way is unknown: every object counts as changed when it is listed again.
                replica.distrust()
                replica.tally.restarts += 1
                name, text = replica.resource.full_name, f"{type(error).__name__}: {error}"
                _LOG.error("%s: following it failed, and begins again: %s", name, text)
            await asyncio.sleep(RESTART_SECONDS)

    async def _lose_patience(self) -> None:
        patience = KNOWN_PATIENCE_SECONDS if self._is_known else PATIENCE_SECONDS
        await asyncio.sleep(patience)
        self._is_late = True
        self._tell_listed()
        for replica in self._replicas:
            resource = replica.resource
            if self._told and not (replica.tally.is_synced or replica.tally.is_refused):  # a refusal is told by itself
                name, held = resource.full_name, resource.dependents
                _LOG.warning("%s: not listed after %g s; until then %s are held back", name, patience, held)

    def _tell_listed(self) -> None:
        lacking = [replica for replica in self._replicas if not replica.tally.is_synced]
        unlisted = reduce(or_, (OF_KIND[replica.resource.kind] for replica in lacking), Unlisted.NOTHING)
        is_hopeless = self._is_late or (not self._is_known and all(replica.tally.is_refused for replica in lacking))
        if unlisted == self._told or len(lacking) == len(self._replicas):
            return
        if not unlisted or self._told is not None or is_hopeless:
            self._told = unlisted
            self._on_listed(unlisted)
