"""Threads of the supervisor: forks wait for them, but not for one that hangs."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from kdns.errors import CorefileError, StartError
from kdns.server import threads as module
from kdns.server.threads import Threads
from tests.fakes.context import until


async def test_the_result_and_the_error_come_back():
    threads = Threads()
    assert await threads.run(lambda: 3, "counting", 5.0) == 3

    def fail() -> None:
        raise CorefileError("Corefile:1 - no")

    with pytest.raises(CorefileError, match="Corefile:1"):
        await threads.run(fail, "counting", 5.0)


async def test_the_loop_turns_and_forks_wait_meanwhile():
    threads, go = Threads(), threading.Event()
    assert threads.fork_delay() == 0.0
    task = asyncio.get_running_loop().create_task(threads.run(go.wait, "waiting", 5.0))
    await until(lambda: threads.fork_delay() > 0, "it works")
    assert not task.done()
    go.set()
    assert await task
    assert threads.fork_delay() == 0.0


async def test_who_takes_too_long_is_left_to_itself_and_holds_no_fork_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.05)
    threads, go = Threads(), threading.Event()
    with pytest.raises(StartError, match=r"^waiting takes longer than 100ms$"):
        await threads.run(go.wait, "waiting", 0.1)
    assert threads.fork_delay() <= 0.0
    go.set()
    await until(lambda: not threads._since, "it has ended")


def test_a_loop_that_is_gone_is_no_trouble():
    threads, go = Threads(), threading.Event()

    async def begin() -> None:
        with pytest.raises(StartError):
            await threads.run(go.wait, "waiting", 0.01)

    asyncio.run(begin())
    go.set()
    deadline = time.monotonic() + 5
    while threads._since:
        assert time.monotonic() < deadline
        time.sleep(0.005)
