"""One timer for everything a worker waits for from upstreams: cheaper than a timer each, and late by a tick at most."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

TICK_SECONDS = 0.02  # between two looks at who is late, while anybody waits
# Those who are told in one turn of the event loop; each begins another attempt, or ends in an error. After a flood
# thousands are late at once, and other clients must not wait for all of that.
TOLD_PER_TURN = 8


class Waiting(Protocol):
    """Something with a deadline."""

    deadline: float  # on time.monotonic()'s clock

    def on_deadline(self) -> None:
        """It has passed; the wait is over."""
        ...


class Deadlines:
    """Those who wait. Nobody in it: no timer runs."""

    def __init__(self) -> None:
        self._waiting: dict[Waiting, None] = {}
        self._late: dict[Waiting, None] = {}  # not told yet
        self._timer: asyncio.TimerHandle | None = None

    def add(self, waiting: Waiting) -> None:
        """Call `on_deadline` once its deadline has passed."""
        self._waiting[waiting] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TICK_SECONDS, self._on_tick)

    def remove(self, waiting: Waiting) -> None:
        """It waits no longer."""
        self._waiting.pop(waiting, None)
        self._late.pop(waiting, None)

    def _on_tick(self) -> None:
        now = time.monotonic()
        late = [waiting for waiting in self._waiting if waiting.deadline <= now]
        for waiting in late:
            del self._waiting[waiting]
        if late and not self._late:
            asyncio.get_running_loop().call_soon(self._tell)
        self._late.update(dict.fromkeys(late))
        self._timer = None
        if self._waiting:
            self._timer = asyncio.get_running_loop().call_later(TICK_SECONDS, self._on_tick)

    def _tell(self) -> None:
        """Tell some of those who are late, and the others in the turns that follow."""
        for _ in range(min(TOLD_PER_TURN, len(self._late))):
            waiting = next(iter(self._late))
            del self._late[waiting]
            waiting.on_deadline()
        if self._late:
            asyncio.get_running_loop().call_soon(self._tell)
