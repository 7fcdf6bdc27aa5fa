"""Queries for the slow path: a few in a turn, in their order, and bounded."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine

import pytest

from kdns.server import misses as module
from kdns.server.misses import BEGUN_PER_TURN, Misses
from tests.fakes.logs import collected


class Slow:
    """Queries that are begun, and end when they are let go."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.dropped = 0
        self.gate = asyncio.Event()

    def query(self, number: int) -> Callable[[], Coroutine[None, None, None]]:
        async def answer() -> None:
            self.begun.append(number)
            await self.gate.wait()

        return answer

    def drop(self) -> None:
        self.dropped += 1


async def turns(count: int = 1) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_other_work_has_its_turn_between_a_few_and_the_next_few():
    slow = Slow()
    misses = Misses(slow.drop)
    for number in range(3 * BEGUN_PER_TURN):
        misses.add(slow.query(number))
    seen = []
    while len(slow.begun) < 3 * BEGUN_PER_TURN:
        await turns()
        seen.append(len(slow.begun))
    assert max(after - before for before, after in itertools.pairwise([0, *seen])) == BEGUN_PER_TURN
    assert slow.begun == list(range(3 * BEGUN_PER_TURN))
    slow.gate.set()
    await misses.wait(1)
    assert len(misses) == 0


async def test_where_the_queue_is_full_the_oldest_is_dropped_and_counted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MAX_WAITING", 5)
    slow = Slow()
    misses = Misses(slow.drop)
    for number in range(8):
        misses.add(slow.query(number))
    slow.gate.set()
    await misses.wait(1)
    assert (slow.begun, slow.dropped) == ([3, 4, 5, 6, 7], 3)


async def test_what_is_under_way_has_a_bound(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MAX_UNDER_WAY", 2)
    slow = Slow()
    misses = Misses(slow.drop)
    for number in range(5):
        misses.add(slow.query(number))
    await turns(3)
    assert (slow.begun, slow.dropped) == ([0, 1], 3)
    slow.gate.set()
    await turns(3)
    misses.add(slow.query(5))
    await turns(3)
    assert slow.begun == [0, 1, 5]
    await misses.wait(1)


async def test_the_end_waits_for_what_was_not_begun_too_and_gives_up_what_is_late():
    slow = Slow()
    misses = Misses(slow.drop)
    for number in range(2 * BEGUN_PER_TURN):
        misses.add(slow.query(number))
    await misses.wait(0.05)
    assert len(slow.begun) == 2 * BEGUN_PER_TURN
    assert len(misses) == 0
    await misses.wait(0.05)  # nothing to wait for


async def test_an_error_is_logged_and_the_others_go_on():
    async def fail() -> None:
        raise ZeroDivisionError("by design")

    slow = Slow()
    misses = Misses(slow.drop)
    with collected() as lines:
        misses.add(fail)
        misses.add(slow.query(1))
        await turns(4)
    assert slow.begun == [1]
    assert lines == ["[ERROR] a query was not answered: ZeroDivisionError('by design')"]
    slow.gate.set()
    await misses.wait(1)
