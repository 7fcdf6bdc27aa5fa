"""Anti-entropy: what is known is compared with what the API server has, now and then, and what differs is repaired.

Watches tell all changes, unless a server loses some: after a restore from a backup, or by a fault nobody has met yet.
So the names, UIDs and versions of all objects are listed as the server's watch cache has them, without the objects.
Both that cache and our watches may be a little behind, so a difference counts only where it lasts and where the server,
asked for that one object, confirms it. A few objects are repaired one by one; more than that means that nothing can be
believed, and everything is listed again.
"""

from __future__ import annotations

import asyncio
import random as random_module
from collections.abc import Callable, Mapping
from typing import Protocol

from kdns import log
from kdns.cluster import listing, watching
from kdns.cluster.api_errors import ApiError
from kdns.cluster.metadata_list import ACCEPT, MetadataList
from kdns.cluster.replica import Replica
from kdns.cluster.telemetry import Telemetry
from kdns.cluster.watching import Key

JITTER = 0.25  # of the interval, to either side: many processes do not ask at the same time
SETTLE_SECONDS = 5.0  # for which a difference must last
MAX_SINGLE_REPAIRS = 20  # objects fetched one by one; beyond it everything is listed
LIST_SECONDS = 60.0  # until a list of metadata must be complete
GET_SECONDS = 10.0  # until an object must have come
MAX_NAMED = 5  # objects a line in the log names

Stamps = dict[Key, str | None]  # None: not there

_LOG = log.plugin_logger("kubernetes")


class Client(listing.Getter, Protocol):
    """The part of an API client that is needed here."""

    async def download(
        self,
        path: str,
        parameters: Mapping[str, str],
        accept: str,
        take: Callable[[bytes], None],
        timeout_seconds: float,
    ) -> None:
        """Give a JSON reply to `take` as it comes. Raises ApiError."""


class Follower(Protocol):
    """The reflector of a resource, which may be another each time."""

    @property
    def is_watching(self) -> bool:
        """Whether changes are being told of."""

    @property
    def newest(self) -> str:
        """The highest version seen."""

    def list_again(self, is_regressed: bool) -> None:
        """List everything at once; `is_regressed` says that the server has gone back in time."""


class Resync:
    """Compares the resources of one API server, in the background."""

    def __init__(
        self,
        client: Client,
        followed: Mapping[Replica, Follower],
        telemetry: Telemetry,
        random: random_module.Random,
        interval_seconds: float,
    ) -> None:
        self._client = client
        self._followed = followed
        self._telemetry = telemetry
        self._random = random
        self._interval_seconds = interval_seconds

    async def run(self) -> None:
        """Compare again and again until cancelled."""
        while True:
            await asyncio.sleep(self._interval_seconds * self._random.uniform(1 - JITTER, 1 + JITTER))
            for replica in tuple(self._followed):
                await self._try(replica)

    async def _try(self, replica: Replica) -> None:
        name = replica.resource.full_name
        if not self._followed[replica].is_watching:
            return  # whoever makes it work again looks at everything
        try:
            await self.compare(replica)
        except ApiError as error:
            self._telemetry.resyncs.add(1, (name, "failed"))
            _LOG.debug("%s: not compared with the API server: %s", name, error)
        except Exception as error:
            self._telemetry.resyncs.add(1, (name, "failed"))
            _LOG.error("%s: comparing it with the API server failed: %s: %s", name, type(error).__name__, error)

    async def compare(self, replica: Replica) -> None:
        """Compare one resource, and repair what differs. Raises ApiError."""
        name = replica.resource.full_name
        suspects, version = await self._list_differences(replica)
        is_behind = listing.is_older(version, self._followed[replica].newest)
        if suspects or is_behind:
            await asyncio.sleep(SETTLE_SECONDS)
        if is_behind and await self._has_regressed(replica):
            _LOG.warning("%s: the server is at an older version than before; listing everything again", name)
            self._followed[replica].list_again(is_regressed=True)
        elif len(suspects) > MAX_SINGLE_REPAIRS:
            await self._look_again(replica, suspects)
        else:
            await self._repair(replica, suspects)
        self._telemetry.resyncs.add(1, (name, "compared"))

    async def _list_differences(self, replica: Replica) -> tuple[Stamps, str]:
        """What is known of objects the server's watch cache says otherwise about, and the version of that cache."""
        resource = replica.resource
        suspects: Stamps = {}
        seen: set[int] = set()  # hashes: a cluster's names are megabytes

        def take(text: bytes) -> None:
            found = watching.identify(resource.kind, text)
            if found.key is None:
                return
            seen.add(hash(found.key))
            known = replica.stamp(found.key)
            if known != found.stamp:
                suspects[found.key] = known

        incoming = MetadataList(take)
        parameters = resource.selection | {"resourceVersion": "0"}
        await self._client.download(resource.path, parameters, ACCEPT, incoming.feed, LIST_SECONDS)
        version = incoming.finish()
        for key, stamp in replica.stamps():
            if hash(key) not in seen:
                suspects[key] = stamp
        return suspects, version

    async def _has_regressed(self, replica: Replica) -> bool:
        """Whether not only the watch cache, but the server is behind what has been seen."""
        version = await listing.current_version(self._client, replica.resource, GET_SECONDS)
        return listing.is_older(version, self._followed[replica].newest)

    async def _look_again(self, replica: Replica, before: Stamps) -> None:
        suspects, _ = await self._list_differences(replica)
        lasting = {key: stamp for key, stamp in suspects.items() if key in before and before[key] == stamp}
        if len(lasting) <= MAX_SINGLE_REPAIRS:
            await self._repair(replica, lasting)
            return
        name = replica.resource.full_name
        text = f"{len(lasting)} objects are not as the API server has them ({_named(lasting)})"
        _LOG.warning("%s: %s; listing everything again", name, text)
        self._telemetry.repaired.add(len(lasting), (name,))
        self._followed[replica].list_again(is_regressed=False)

    async def _repair(self, replica: Replica, suspects: Stamps) -> None:
        """Ask for each object that is still known as it was, and take it as the server has it."""
        repaired: Stamps = {}
        for key, known in suspects.items():
            if replica.stamp(key) != known:
                continue
            found = await listing.get_one(self._client, replica.resource, key, GET_SECONDS)
            if replica.repair(key, known, found):
                repaired[key] = known
        if repaired:
            name = replica.resource.full_name
            self._telemetry.repaired.add(len(repaired), (name,))
            text = f"{len(repaired)} objects were not as the API server has them, and are now: {_named(repaired)}"
            _LOG.warning("%s: %s", name, text)


def _named(keys: Stamps) -> str:
    """Some of the objects, by name."""
    told = ["/".join(filter(None, key)) for key in list(keys)[:MAX_NAMED]]
    return ", ".join(told) + (", ..." if len(keys) > MAX_NAMED else "")
