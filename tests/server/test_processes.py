"""The supervisor's children: who is wanted, what they are given, and what is made of their ends. They are on paper."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

from kdns.server import processes as module
from kdns.server.control import NewTable, Serve, Stop
from kdns.server.heartbeat import INFORMER_SILENCE_SECONDS, WORKER_SILENCE_SECONDS
from kdns.server.instance import (
    LOST_SECONDS,
    LOST_TRIES,
    MAX_BACKOFF_SECONDS,
    QUICK_DEATH_SECONDS,
    Backoff,
    Check,
    Child,
    Feed,
    Instance,
    Role,
)
from kdns.server.processes import Processes, describe_status
from tests.fakes.context import served_context, until
from tests.fakes.logs import collected
from tests.fakes.processes import CLUSTER, FakeChannel, Tables, add, processes_of, sent, start_all

KILLED = int(signal.SIGKILL)


@pytest.fixture(autouse=True)
def killed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The processes that would have been killed."""
    found: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: found.append(pid))
    return found


# Whom they are


def test_a_worker_for_each_number_a_spare_and_an_informer_are_wanted():
    with processes_of() as processes:
        assert sorted(start_all(processes), key=lambda role: role.name) == [Role.INFORMER] + [Role.WORKER] * 3
        assert [child.number for child in processes.of(processes.current)] == [0, 1, None]


def test_without_a_cluster_there_is_no_informer():
    with processes_of(". {\nwhoami\n}\n", workers=1) as processes:
        assert start_all(processes) == [Role.WORKER] * 2


def test_the_spare_takes_the_number_of_a_worker_that_ended():
    with processes_of() as processes:
        start_all(processes)
        first, second, spare = processes.of(processes.current)
        with collected():
            processes.remove(first, KILLED)
        assert (second.number, spare.number) == (1, 0)
        assert sent(spare) == [Serve(0)]
        assert start_all(processes) == [Role.WORKER]  # the next spare


def test_a_spare_that_cannot_be_told_gets_its_number_later():
    with processes_of(workers=1) as processes:
        child = Child(1, Role.WORKER, FakeChannel(), time.monotonic(), processes.current)  # type: ignore[arg-type]
        child.channel.is_broken = True  # type: ignore[attr-defined]
        processes.add(child)
        assert child.number is None
        child.channel.is_broken = False  # type: ignore[attr-defined]
        processes.assign_numbers()
        assert child.number == 0


def test_a_candidate_has_workers_beside_the_current_ones_when_it_is_time():
    with processes_of() as processes, served_context(CLUSTER, workers=2) as context:
        start_all(processes)
        processes.candidate = Instance(context, Feed(context), wants_workers=False)
        assert start_all(processes) == [Role.INFORMER]
        processes.candidate.wants_workers = True
        assert start_all(processes) == [Role.WORKER] * 3
        assert [child.number for child in processes.of(processes.candidate)] == [0, 1, None]


# Backing off


def test_a_child_that_lived_is_replaced_at_once_however_often():
    backoff = Backoff()
    for now in range(100, 110):
        backoff.note_death(QUICK_DEATH_SECONDS, now)
        assert backoff.not_before <= now


def test_the_first_quick_death_is_forgiven_the_next_are_waited_for_ever_longer():
    backoff, waits = Backoff(), []
    for _ in range(9):
        backoff.note_death(0.0, 1000.0)
        waits.append(round(backoff.not_before - 1000.0, 3))
    assert waits == [0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert max(waits) == MAX_BACKOFF_SECONDS
    backoff.note_death(60.0, 2000.0)
    backoff.note_death(0.0, 2000.0)
    assert backoff.not_before == 2000.0


def test_a_role_that_must_wait_does_not_hold_up_the_other():
    with processes_of(workers=1) as processes:
        processes.current.backoff.not_before = time.monotonic() + 60
        delay, role, feed = processes.missing()
        assert (role, delay <= 0, feed) == (Role.INFORMER, True, processes.current.feed)
        add(processes, Role.INFORMER, processes.current.feed)
        delay, role, _ = processes.missing()
        assert role is Role.WORKER
        assert 59 < delay <= 60


def test_workers_of_a_candidate_that_die_do_not_hold_up_the_current_ones():
    with processes_of() as processes, served_context(CLUSTER, workers=2) as context, collected():
        start_all(processes)
        processes.candidate = Instance(context, processes.current.feed)
        for _ in range(4):
            processes.remove(add(processes, Role.WORKER, processes.candidate), KILLED)
        assert processes.candidate.deaths == 4
        processes.remove(processes.of(processes.current)[0], KILLED)
        delay, role, owner = processes.missing()
        assert (delay <= 0, role, owner) == (True, Role.WORKER, processes.current)


@pytest.mark.parametrize("role", [Role.WORKER, Role.CHECKER])
def test_who_cannot_be_forked_is_tried_again_later_but_a_check_fails(role: Role):
    with processes_of() as processes, collected() as lines:
        owner = processes.current if role is Role.WORKER else Check(lambda: None)
        processes.note_no_fork(role, owner, OSError(11, "Resource temporarily unavailable"))
        assert lines == [f"[ERROR] {role.value} cannot be started: Resource temporarily unavailable; trying again"]
        if isinstance(owner, Check):
            assert owner.verdict == "no process for it: Resource temporarily unavailable"
        else:
            assert owner.backoff.not_before > time.monotonic()


# Ends


@pytest.mark.parametrize(
    ("role", "number", "who"),
    [(Role.INFORMER, None, "informer"), (Role.WORKER, None, "spare"), (Role.WORKER, 1, "worker 1")],
)
def test_who_ended_and_how_is_logged(role: Role, number: int | None, who: str):
    with processes_of(workers=1) as processes, collected() as lines:
        owner = processes.current.feed if role is Role.INFORMER else processes.current
        child = add(processes, role, owner)
        child.number = number
        processes.remove(child, KILLED)
    assert lines == [f"[ERROR] {who} (pid {child.pid}) ended, killed by SIGKILL; it is replaced"]
    assert owner.backoff.pause > 0


def test_ends_are_described():
    assert describe_status(signal.SIGSEGV) == "killed by SIGSEGV"
    assert describe_status(3 << 8) == "exit status 3"


def test_a_row_belongs_to_the_next_child_once_its_child_has_ended():
    with processes_of() as processes, collected():
        registry = processes.current.context.resolver.surroundings.metrics
        epochs = processes.current.context.epochs
        child = add(processes, Role.WORKER, processes.current)
        child.row = registry.take_row()
        assert child.row is not None
        epochs.row(child.row)[:8] = (255).to_bytes(8, "little")  # in a batch when it was killed
        processes.remove(child, KILLED)
        assert bytes(epochs.row(child.row)[:8]) == (256).to_bytes(8, "little")
        assert registry.take_row() == child.row


def test_an_informer_that_cannot_be_kept_alive_is_lost_and_found_again_with_a_table():
    with processes_of() as processes, collected():
        feed, start = processes.current.feed, 1000.0
        for number in range(LOST_TRIES):
            feed.note_death(0.5, start + number)
        assert not feed.is_lost(start + LOST_TRIES)
        assert feed.is_lost(start + LOST_SECONDS)
        Tables(processes).hand_over(False)
        assert not feed.is_lost(start + 2 * LOST_SECONDS)


def test_an_informer_that_dies_now_and_then_is_not_lost():
    with processes_of() as processes:
        feed = processes.current.feed
        for number in range(10):
            feed.note_death(LOST_SECONDS + 1, 1000.0 + 100 * number)
            assert not feed.is_lost(1000.0 + 100 * number + 99)


# Tables


def test_a_generation_is_handed_to_every_worker_and_kept_for_later_ones():
    with processes_of() as processes:
        start_all(processes)
        tables = Tables(processes)
        tables.hand_over(True)
        tables.hand_over(True)
        for child in processes.children.values():
            received = [message for message in sent(child) if isinstance(message, NewTable)]
            assert len(received) == (2 if child.role is Role.WORKER else 0)
        assert processes.has_synced_table()


def test_a_worker_that_took_no_table_gets_it_later():
    with processes_of(workers=1) as processes:
        child = add(processes, Role.WORKER, processes.current)
        child.heartbeat.look = lambda used_seconds: 0.0  # type: ignore[method-assign]
        child.channel.is_broken = True  # type: ignore[attr-defined]
        Tables(processes).hand_over(True)
        assert child.lacks_table
        child.channel.is_broken = False  # type: ignore[attr-defined]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "processor_seconds", lambda pid: 0.0)
            processes.look_after()
        assert not child.lacks_table
        assert [message for message in sent(child) if isinstance(message, NewTable)]


def test_each_instance_gets_the_tables_of_its_own_feed():
    with processes_of(workers=1) as processes, served_context(CLUSTER) as context:
        processes.candidate = Instance(context, Feed(context))
        start_all(processes)
        Tables(processes).hand_over(True)
        assert context.resolver.surroundings.current_table.table is None
        for child in processes.of(processes.candidate):
            assert not [message for message in sent(child) if isinstance(message, NewTable)]
        Tables(processes, processes.candidate.feed).hand_over(False)
        assert context.resolver.surroundings.current_table.table is not None
        assert processes.has_synced_table()


def test_the_last_table_of_a_feed_that_was_given_up_is_nobodys():
    with processes_of(workers=1) as processes, served_context(CLUSTER) as context:
        given_up = Feed(context)
        before = len(os.listdir("/proc/self/fd"))
        Tables(processes, given_up).hand_over(True)
        assert given_up.table_fd is None
        assert len(os.listdir("/proc/self/fd")) <= before + 1  # the writer's own


# Children that live and do not work


@pytest.mark.parametrize(
    ("role", "seconds"), [(Role.WORKER, WORKER_SILENCE_SECONDS), (Role.INFORMER, INFORMER_SILENCE_SECONDS)]
)
def test_a_silent_child_is_killed(role: Role, seconds: float, killed: list[int], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "processor_seconds", lambda pid: 0.0)
    with processes_of(workers=1) as processes, collected() as lines:
        child = add(processes, role, processes.current if role is Role.WORKER else processes.current.feed)
        for _ in range(round(seconds) - 1):
            processes.look_after()
        assert killed == []
        child.heartbeat.beat()
        for _ in range(round(seconds)):
            processes.look_after()
        assert killed == []
        processes.look_after()
        assert killed == [child.pid]
        assert lines == [f"[ERROR] {child.name} (pid {child.pid}) has not moved for {_text(seconds)}; it is killed"]


def _text(seconds: float) -> str:
    return {10.0: "10s", 60.0: "1m0s"}[seconds]


def test_who_takes_over_from_a_stuck_worker_is_told_that_its_queries_are_old(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "processor_seconds", lambda pid: 0.0)
    with processes_of(workers=1) as processes, collected():
        start_all(processes)
        stuck, spare = processes.of(processes.current)
        for _ in range(round(WORKER_SILENCE_SECONDS)):
            spare.heartbeat.beat()
            processes.look_after()
        processes.remove(stuck, KILLED)
        assert sent(spare) == [Serve(0, True)]
        with collected():
            processes.remove(spare, KILLED)
        assert sent(add(processes, Role.WORKER, processes.current)) == [Serve(0, False)]


# Changing over


def test_a_change_over_lets_the_former_workers_finish_and_keeps_an_informer_it_shares(killed: list[int]):
    with processes_of() as processes, served_context(CLUSTER, workers=2) as context:
        start_all(processes)
        former = processes.current
        processes.candidate = Instance(context, former.feed)
        start_all(processes)
        processes.change_over(processes.candidate)
        assert processes.current.context is context
        # The places of the former one are others, and gone.
        assert [sent(child)[-1] for child in processes.of(former)] == [Stop(module.DRAIN_SECONDS, (0,))] * 3
        assert killed == []
        assert former.feed.context is context  # for the next informer
        assert start_all(processes) == []


def test_a_change_over_to_other_views_ends_the_former_informer(killed: list[int]):
    with processes_of() as processes, served_context(CLUSTER, workers=2) as context:
        start_all(processes)
        (informer,) = processes.of(processes.current.feed)
        processes.candidate = Instance(context, Feed(context))
        start_all(processes)
        processes.change_over(processes.candidate)
        assert killed == [informer.pid]
        with collected() as lines:
            processes.remove(informer, KILLED)
        assert lines == []


def test_nothing_is_left_of_a_candidate_that_is_given_up(killed: list[int]):
    with processes_of() as processes, served_context(CLUSTER, workers=2) as context:
        start_all(processes)
        candidate = processes.candidate = Instance(context, Feed(context))
        start_all(processes)
        gone = {child.pid for child in processes.children.values() if child.owner in (candidate, candidate.feed)}
        processes.give_up(candidate)
        assert set(killed) == gone
        assert len(gone) == 4


async def test_former_workers_that_do_not_end_are_killed(killed: list[int], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "DRAIN_SECONDS", 0.01)
    monkeypatch.setattr(module, "KILL_GRACE_SECONDS", 0.01)
    with processes_of(workers=1) as processes, served_context(CLUSTER) as context, collected():
        start_all(processes)
        former = processes.of(processes.current)
        processes.candidate = Instance(context, processes.current.feed)
        processes.change_over(processes.candidate)
        waiting = asyncio.get_running_loop().create_task(processes.wait_former_ended())
        await until(lambda: len(killed) == 2, "both are killed")
        assert not waiting.done()
        for child in former:
            processes.remove(child, KILLED)
        await waiting
        assert processes.former is None


# Trying a Corefile out


async def try_out(processes: Processes, end: int, verdict: str | None, timeout_seconds: float = 5.0) -> str:
    """What comes of a check whose process says that, and ends so."""
    task = asyncio.get_running_loop().create_task(processes.try_out(lambda: None, timeout_seconds))
    await asyncio.sleep(0)
    _, role, check = processes.missing()
    assert role is Role.CHECKER
    assert isinstance(check, Check)
    child = add(processes, role, check)
    check.verdict = verdict
    if end >= 0:
        processes.remove(child, end)
    return await task


@pytest.mark.parametrize(
    ("end", "verdict", "found"),
    [
        (0, "", ""),
        (0, "Corefile:1 - no", "Corefile:1 - no"),
        (KILLED, None, "who tried it ended, killed by SIGKILL"),
    ],
)
async def test_a_corefile_is_tried_out_by_somebody_who_may_die_of_it(end: int, verdict: str | None, found: str):
    with processes_of(". {\nwhoami\n}\n", workers=1) as processes:
        start_all(processes)
        assert await try_out(processes, end, verdict) == found
        assert processes.missing()[1] is None


async def test_a_corefile_that_takes_too_long_is_no_good(killed: list[int]):
    with processes_of(". {\nwhoami\n}\n", workers=1) as processes:
        start_all(processes)
        assert await try_out(processes, -1, None, 0.05) == "the configuration was not set up within 50ms"
        assert len(killed) == 1
