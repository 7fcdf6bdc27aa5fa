"""Deadlines: everybody is told once, and a crowd of late ones leaves turns to others."""

from __future__ import annotations

import asyncio
import itertools
import time

from kdns.plugins.forward.deadlines import TICK_SECONDS, TOLD_PER_TURN, Deadlines
from tests.fakes.context import until


class Waiter:
    """Notes that it was told."""

    def __init__(self, told: list[Waiter], seconds: float = 0.0) -> None:
        self.deadline = time.monotonic() + seconds
        self._told = told

    def on_deadline(self) -> None:
        self._told.append(self)


async def test_those_who_are_late_are_told_once_and_the_others_not() -> None:
    told: list[Waiter] = []
    deadlines = Deadlines()
    late, early, gone = Waiter(told), Waiter(told, 60), Waiter(told)
    for waiter in (late, early, gone):
        deadlines.add(waiter)
    deadlines.remove(gone)
    await until(lambda: told, "told")
    await asyncio.sleep(3 * TICK_SECONDS)
    assert told == [late]
    deadlines.remove(early)


async def test_a_crowd_is_told_in_turns_and_whoever_leaves_meanwhile_is_not() -> None:
    told: list[Waiter] = []
    deadlines = Deadlines()
    crowd = [Waiter(told) for _ in range(5 * TOLD_PER_TURN)]
    for waiter in crowd:
        deadlines.add(waiter)
    seen = [0]
    while len(told) < len(crowd) - 1:
        await asyncio.sleep(0)
        if len(told) > seen[-1]:
            seen.append(len(told))
            deadlines.remove(crowd[-1])
    assert max(after - before for before, after in itertools.pairwise(seen)) == TOLD_PER_TURN
    assert told == crowd[:-1]


async def test_nobody_waiting_leaves_no_timer() -> None:
    told: list[Waiter] = []
    deadlines = Deadlines()
    deadlines.add(Waiter(told))
    await until(lambda: told, "told")
    await asyncio.sleep(0)
    assert deadlines._timer is None
    deadlines.add(Waiter(told))
    await until(lambda: len(told) == 2, "told again")
