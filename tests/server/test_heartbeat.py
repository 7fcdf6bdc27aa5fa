"""Heartbeats: silence is measured in looks and in processor time, not by a clock."""

from __future__ import annotations

import asyncio
import os
import signal
import time

from kdns.server.heartbeat import BEAT_SECONDS, Heartbeat, processor_seconds


def test_who_beats_is_never_silent():
    heartbeat = Heartbeat()
    for _ in range(100):
        heartbeat.beat()
        assert heartbeat.look(0.0) == 0.0


def test_who_waits_for_something_is_silent_for_every_look():
    heartbeat = Heartbeat()
    assert [heartbeat.look(7.0) for _ in range(3)][1:] == [2.0, 3.0]


def test_who_computes_is_silent_for_as_long_as_it_had_a_processor():
    heartbeat = Heartbeat()
    heartbeat.look(0.0)
    before = heartbeat.look(0.0)
    assert heartbeat.look(0.1) == before + 0.1
    assert heartbeat.look(5.0) == before + 0.1 + BEAT_SECONDS


def test_a_beat_ends_the_silence():
    heartbeat = Heartbeat()
    heartbeat.look(0.0)
    heartbeat.beat()
    assert heartbeat.look(0.0) == 0.0


def test_beats_come_over_a_fork():
    heartbeat = Heartbeat()
    pid = os.fork()
    if pid == 0:
        heartbeat.beat()
        os._exit(0)
    os.waitpid(pid, 0)
    heartbeat._silent_seconds = 5.0
    assert heartbeat.look(0.0) == 0.0


async def test_a_loop_that_turns_beats():
    heartbeat = Heartbeat()
    task = asyncio.get_running_loop().create_task(heartbeat.run())
    await asyncio.sleep(0.01)
    assert heartbeat.look(0.0) == 0.0
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_the_processor_time_of_a_child_is_its_own():
    pid = os.fork()
    if pid == 0:
        while True:
            pass
    deadline = time.monotonic() + 10
    while (used := processor_seconds(pid)) < 0.05:
        assert time.monotonic() < deadline
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.01)
    assert processor_seconds(pid) >= used  # until it is waited for
    os.waitpid(pid, 0)
