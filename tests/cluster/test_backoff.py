"""Delays between tries, and who tries."""

from __future__ import annotations

import asyncio
import random

from kdns.cluster.backoff import Backoff, Pace
from kdns.cluster.outage import TRY_SECONDS, Outage
from kdns.cluster.throttle import Throttle
from tests.fakes.clock import HeldLoop, run_held


def test_delays_stay_at_a_second_for_a_minute_then_double_to_half_a_minute() -> None:
    now = 0.0
    backoff = Backoff(lambda: now, random.Random(1))
    delays = []
    while now < 600:
        delays.append((now, backoff.next_delay()))
        now += delays[-1][1]
    assert all(1.0 <= delay <= 1.5 for at, delay in delays if at < 60)
    later = [delay for at, delay in delays if at >= 60]
    assert [delay // 1 >= bound for delay, bound in zip(later, (2, 4, 8, 16, 30, 30), strict=False)] == [True] * 6
    assert all(30 <= delay <= 45 for delay in later[4:])


def test_delays_begin_anew_after_two_good_minutes() -> None:
    now = 0.0
    backoff = Backoff(lambda: now, random.Random(1))
    backoff.next_delay()
    now = 100.0
    assert backoff.next_delay() >= 2
    now = 221.0
    assert backoff.next_delay() <= 1.5


def test_jitter_is_half_of_the_delay() -> None:
    delays = [Backoff(lambda: 0.0, random.Random(seed)).next_delay() for seed in range(200)]
    assert min(delays) < 1.05
    assert max(delays) > 1.45


def test_first_list_starts_at_once_and_others_one_to_two_seconds_apart() -> None:
    now = 0.0
    pace = Pace(lambda: now, random.Random(1))
    assert pace.next_delay() == 0
    started = [now + pace.next_delay() for _ in range(5)]
    assert all(1.0 <= later - earlier <= 2.0 for earlier, later in zip([0.0, *started], started, strict=False))
    now = 100.0
    assert pace.next_delay() == 0


def test_while_a_server_fails_one_tries_at_a_time_and_the_first_answer_lets_all_go() -> None:
    async def test(loop: HeldLoop) -> None:
        outage = Outage(loop.time, random.Random(1))
        await outage.wait_turn()
        assert outage.note_failure()
        assert not outage.note_failure()
        waiting = [asyncio.create_task(outage.wait_turn()) for _ in range(4)]
        await loop.advance(0.5)
        assert [task.done() for task in waiting].count(True) == 0
        await loop.advance(1.1)
        assert [task.done() for task in waiting].count(True) == 1
        await loop.advance(5)
        assert [task.done() for task in waiting].count(True) == 1
        assert outage.note_answer()
        await loop.advance(0)
        assert all(task.done() for task in waiting)

    run_held(test)


def test_try_without_a_result_does_not_keep_others_waiting_for_ever() -> None:
    async def test(loop: HeldLoop) -> None:
        outage = Outage(loop.time, random.Random(1))
        outage.note_failure()
        waiting = [asyncio.create_task(outage.wait_turn()) for _ in range(2)]
        await loop.advance(1.6)
        await loop.advance(TRY_SECONDS + 0.1)
        assert all(task.done() for task in waiting)

    run_held(test)


def test_what_the_server_asks_for_is_the_least_delay() -> None:
    async def test(loop: HeldLoop) -> None:
        outage = Outage(loop.time, random.Random(1))
        outage.note_failure(30.0)
        waiting = asyncio.create_task(outage.wait_turn())
        await loop.advance(29)
        assert not waiting.done()
        await loop.advance(2)
        assert waiting.done()

    run_held(test)


def test_requests_beyond_the_burst_come_at_the_rate() -> None:
    async def test(loop: HeldLoop) -> None:
        throttle = Throttle(2.0, 3, 0, loop.time)
        admitted: list[float] = []

        async def ask() -> None:
            async with throttle.admitted():
                admitted.append(loop.time() - 1000)

        tasks = [asyncio.create_task(ask()) for _ in range(7)]
        for _ in range(25):
            await loop.advance(0.1)
        assert all(task.done() for task in tasks)
        assert [round(at, 1) for at in admitted] == [0.1, 0.1, 0.1, 0.6, 1.1, 1.6, 2.1]

    run_held(test)


def test_no_more_requests_are_under_way_than_allowed() -> None:
    async def test(loop: HeldLoop) -> None:
        throttle = Throttle(0.0, 0, 2, loop.time)
        running = most = 0

        async def ask() -> None:
            nonlocal running, most
            async with throttle.admitted():
                running += 1
                most = max(most, running)
                await asyncio.sleep(1)
                running -= 1

        tasks = [asyncio.create_task(ask()) for _ in range(5)]
        for _ in range(4):
            await loop.advance(1)
        assert all(task.done() for task in tasks)
        assert most == 2

    run_held(test)
