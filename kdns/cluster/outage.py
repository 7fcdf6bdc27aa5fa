"""Who may try an API server that does not answer.

The reflectors of a follower find out together that a server is away, and would then all try it, each by its own clock.
Instead one of them tries at a time, and the first answer lets all the others go at once: the server meets a few
requests a minute however long it is away, and the follower is whole again within one try of its return.
"""

from __future__ import annotations

import asyncio
import random as random_module
from collections.abc import Callable

from kdns.cluster.backoff import Backoff

TRY_SECONDS = 15.0  # after which a try without a result does not keep the others waiting any more


class Outage:
    """Whether one API server fails, and whose turn it is to try it."""

    def __init__(self, clock: Callable[[], float], random: random_module.Random) -> None:
        self._clock = clock
        self._backoff = Backoff(clock, random)
        self._is_on = False
        self._is_tried = False
        self._next_try = 0.0
        self._over = asyncio.Event()

    @property
    def is_on(self) -> bool:
        """Whether the last that was seen of the server is a failure."""
        return self._is_on

    async def wait_turn(self) -> None:
        """Return at once while the server works, else when it is this caller's turn or the outage is over."""
        while self._is_on:
            delay = self._next_try - self._clock()
            if delay <= 0:
                self._is_tried = True
                self._next_try = self._clock() + TRY_SECONDS
                return
            try:
                async with asyncio.timeout(delay):
                    await self._over.wait()
            except TimeoutError:
                continue

    def note_failure(self, retry_after_seconds: float | None = None) -> bool:
        """Note that the server failed; whether that is news. What the server asks for is the least delay."""
        is_news = not self._is_on
        # Those who fail together with the first do not each add a delay.
        if is_news or self._is_tried:
            delay = max(self._backoff.next_delay(), retry_after_seconds or 0.0)
            self._next_try = self._clock() + delay
        self._is_on, self._is_tried = True, False
        self._over.clear()
        return is_news

    def note_answer(self) -> bool:
        """Note that the server works; whether that ends an outage."""
        was_on, self._is_on, self._is_tried = self._is_on, False, False
        self._over.set()
        return was_on
