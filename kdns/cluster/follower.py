"""Follows everything one view needs from one API server, and tells what changes in batches."""

from __future__ import annotations

import asyncio
import random as random_module
import time
from collections.abc import Callable, Mapping, Sequence

from kdns import log
from kdns.cluster.access import ApiAccess
from kdns.cluster.backoff import Backoff
from kdns.cluster.client import ApiClient, Observe
from kdns.cluster.objects import Event
from kdns.cluster.outage import Outage
from kdns.cluster.reflector import LIST_SECONDS, Reflector
from kdns.cluster.replica import Replica
from kdns.cluster.resources import Resource, resources_of
from kdns.cluster.tally import ResourceStatistics
from kdns.cluster.view import View
from kdns.errors import ClusterError

RESTART_SECONDS = 1.0  # until a task that died of an error nobody foresaw has its successor

_LOG = log.plugin_logger("kubernetes")

OnEvents = Callable[[Sequence[Event]], None]


class ClusterFollower:
    """The resources of one view, followed for as long as `run` runs.

    `on_events` gets batches, those of a resource in the order of its changes; a list that differs from what is known
    is one batch, what is gone first. Before `on_synced`, which is called once, not all resources have been listed.
    """

    def __init__(
        self,
        access: ApiAccess,
        view: View,
        on_events: OnEvents,
        on_synced: Callable[[], None],
        environ: Mapping[str, str],
        *,
        clock: Callable[[], float] = time.monotonic,
        random: random_module.Random | None = None,
        observe: Observe = lambda result, seconds: None,
        list_seconds: float = LIST_SECONDS,
    ) -> None:
        self._access = access
        self._environ = environ
        self._clock = clock
        self._random = random or random_module.Random()  # noqa: S311 - spreads load, guards nothing
        self._observe = observe
        self._list_seconds = list_seconds
        self._on_synced = on_synced
        self._is_synced = False
        self._replicas = [
            Replica(resource, clock, on_events, self._note_listed, view.endpoint_pod_names)
            for resource in resources_of(view)
        ]

    @property
    def is_synced(self) -> bool:
        """Whether every resource has been listed."""
        return self._is_synced

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
                return await ApiClient.connect(self._access, self._environ, self._clock, self._observe)
            except ClusterError as error:
                if str(error) != trouble:
                    trouble = str(error)
                    _LOG.error("No way to the API server: %s", error)
            await asyncio.sleep(backoff.next_delay())

    async def _keep_following(self, replica: Replica, client: ApiClient, outage: Outage) -> None:
        """Follow one resource; whatever ends that, it begins again."""
        while True:
            try:
                await Reflector(client, replica, outage, self._clock, self._random, self._list_seconds).run()
            except Exception as error:
                # What was under way is unknown: every object counts as changed when it is listed again.
                replica.distrust()
                replica.tally.restarts += 1
                name, text = replica.resource.full_name, f"{type(error).__name__}: {error}"
                _LOG.error("%s: following it failed, and begins again: %s", name, text)
            await asyncio.sleep(RESTART_SECONDS)

    def _note_listed(self) -> None:
        if not self._is_synced and all(replica.tally.is_synced for replica in self._replicas):
            self._is_synced = True
            self._on_synced()
