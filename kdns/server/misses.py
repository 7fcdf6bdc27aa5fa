"""Queries for the slow path, of one listener: a few are begun in each turn of the event loop.

A batch of the compiled path may leave a thousand of them, each of which costs a hundred times what an answer from the
table does. Were they begun at once, whoever asks for the cluster's names would wait for all of them, and meanwhile the
socket's queue would overflow. So the sockets are read between a few and the next few; what comes faster than it can be
begun waits in a queue, and when that is full the oldest is dropped: who sent it asks again soonest.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine

from kdns import log

MAX_UNDER_WAY = 4096  # queries begun and not answered; more are dropped, as a full socket would
MAX_WAITING = 1024  # queries not begun: half a second's work
BEGUN_PER_TURN = 4  # queries; half a millisecond of work

Answer = Callable[[], Coroutine[None, None, None]]


class Misses:
    """What is begun and what waits. `on_dropped` counts what is not served."""

    def __init__(self, on_dropped: Callable[[], None]) -> None:
        self._on_dropped = on_dropped
        self._waiting: deque[Answer] = deque()
        self._under_way: set[asyncio.Task[None]] = set()
        self._is_begun = False  # a turn is due

    def __len__(self) -> int:
        return len(self._under_way) + len(self._waiting)

    def add(self, answer: Answer) -> None:
        """Serve a query when its turn comes."""
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.popleft()
            self._on_dropped()
        self._waiting.append(answer)
        if not self._is_begun:
            self._is_begun = True
            asyncio.get_running_loop().call_soon(self._on_turn)

    async def wait(self, timeout_seconds: float) -> None:
        """Finish what there is; what takes longer is given up."""
        while self._waiting:
            self._begin()
        if not self._under_way:
            return
        _, late = await asyncio.wait(self._under_way, timeout=timeout_seconds)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    def _on_turn(self) -> None:
        for _ in range(min(BEGUN_PER_TURN, len(self._waiting))):
            self._begin()
        self._is_begun = bool(self._waiting)
        if self._is_begun:
            asyncio.get_running_loop().call_soon(self._on_turn)

    def _begin(self) -> None:
        answer = self._waiting.popleft()
        if len(self._under_way) >= MAX_UNDER_WAY:
            self._on_dropped()
            return
        task = asyncio.get_running_loop().create_task(answer())
        self._under_way.add(task)
        task.add_done_callback(self._on_answered)

    def _on_answered(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.logger().error("a query was not answered: %r", error)
