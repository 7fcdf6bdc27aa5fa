"""A follower that runs, and what it has told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from kdns.cluster.access import ApiAccess
from kdns.cluster.follower import ClusterFollower
from kdns.cluster.objects import Event, Kind
from kdns.cluster.unlisted import Unlisted
from kdns.cluster.view import View

TIMEOUT_SECONDS = 10.0


class Watched:
    """The objects a follower has told of, and how."""

    def __init__(self, access: ApiAccess, view: View, environ: dict[str, str] | None = None, **options: Any) -> None:
        self.batches: list[list[Event]] = []
        self.objects: dict[tuple[Kind, str, str], object] = {}
        self.times_synced = 0
        self.listed: list[Unlisted] = []  # what was lacking, each time it was told
        self.before_synced: set[tuple[Kind, str, str]] = set()
        self.fails_at = ""  # name of an object that cannot be taken in
        self.follower = ClusterFollower(access, view, self._on_events, self._on_listed, environ or {}, **options)

    def held(self, kind: Kind) -> list[str]:
        return sorted(name for found, _, name in self.objects if found is kind)

    async def wait_for(self, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not condition():
            assert time.monotonic() < deadline, f"still not: {what}: {self.objects.keys()}"
            await asyncio.sleep(0.005)

    async def wait_held(self, kind: Kind, *expected: str) -> None:
        await self.wait_for(lambda: self.held(kind) == sorted(expected), f"{kind} {expected}")

    async def wait_synced(self) -> None:
        await self.wait_for(lambda: self.times_synced, "synced")

    def _on_events(self, events: Sequence[Event]) -> None:
        self.batches.append(list(events))
        for event in events:
            if event.name == self.fails_at:
                self.fails_at = ""
                raise RuntimeError("cannot take this")
            key = (event.kind, event.namespace, event.name)
            if event.object is None:
                self.objects.pop(key, None)
            else:
                self.objects[key] = event.object

    def _on_listed(self, unlisted: Unlisted) -> None:
        self.listed.append(unlisted)
        if unlisted:
            return
        self.times_synced += 1
        self.before_synced = set(self.objects)


@asynccontextmanager
async def watching(watched: Watched) -> AsyncIterator[Watched]:
    """Let its follower run."""
    task = asyncio.create_task(watched.follower.run())
    try:
        yield watched
    finally:
        assert not task.done()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
