"""The supervisor: whom it starts and when, what it makes of failures, and which signals end it.

Decisions are asked of a supervisor whose children exist on paper only; signals are sent to a real one.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kdns.hotpath.table import TableWriter
from kdns.server import supervisor as module
from kdns.server.control import Message, NewTable, Serve
from kdns.server.endpoints import HttpEndpoints
from kdns.server.publisher import Publisher
from kdns.server.supervisor import (
    MAX_BACKOFF_SECONDS,
    QUICK_DEATH_SECONDS,
    Child,
    Role,
    Supervisor,
    _Backoff,
    _describe_status,
)
from tests.fakes.context import served_context
from tests.fakes.logs import collected
from tests.harness.places import Loopback
from tests.harness.server import Server
from tests.harness.waiting import wait_until


class FakeChannel:
    """A channel nobody listens at."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.is_broken = False

    def send(self, message: Message, fd: int | None = None) -> bool:
        if self.is_broken:
            return False
        self.sent.append(message)
        return True


@contextmanager
def supervising(corefile: str = ". {\nkubernetes cluster.local\n}\n", workers: int = 2) -> Iterator[Supervisor]:
    with served_context(corefile, workers=workers) as context:
        yield Supervisor(context, HttpEndpoints(context.resolver.surroundings), lambda: None)


def add(supervisor: Supervisor, role: Role, pid: int, number: int | None = None) -> Child:
    child = Child(pid, role, FakeChannel(), time.monotonic(), number)  # type: ignore[arg-type]
    supervisor._children[pid] = child
    return child


def start_all(supervisor: Supervisor) -> list[Role]:
    """Start on paper whoever is missing; in which order."""
    started = []
    while True:
        role, delay = supervisor._next_role()
        if role is None:
            return started
        assert delay <= 0
        started.append(role)
        add(supervisor, role, pid=max(supervisor._children, default=0) + 1)
        supervisor._assign_numbers()


# Whom it starts


def test_a_worker_for_each_number_a_spare_and_an_informer_are_wanted():
    with supervising() as supervisor:
        assert sorted(start_all(supervisor), key=lambda role: role.name) == [Role.INFORMER] + [Role.WORKER] * 3
        numbers = [child.number for child in supervisor._children.values() if child.role is Role.WORKER]
        assert numbers == [0, 1, None]


def test_without_a_cluster_there_is_no_informer():
    with supervising(". {\nwhoami\n}\n", workers=1) as supervisor:
        assert start_all(supervisor) == [Role.WORKER] * 2


def test_the_spare_takes_the_number_of_a_worker_that_ended():
    with supervising() as supervisor:
        start_all(supervisor)
        workers = [child for child in supervisor._children.values() if child.role is Role.WORKER]
        del supervisor._children[workers[0].pid]
        supervisor._assign_numbers()
        assert [child.number for child in workers[1:]] == [1, 0]
        assert workers[2].channel.sent == [Serve(0)]
        assert start_all(supervisor) == [Role.WORKER]  # the next spare


def test_a_spare_that_cannot_be_told_gets_no_number():
    with supervising(workers=1) as supervisor:
        child = add(supervisor, Role.WORKER, 1)
        child.channel.is_broken = True
        supervisor._assign_numbers()
        assert child.number is None


# Backing off


def test_a_child_that_lived_is_replaced_at_once_however_often():
    backoff = _Backoff()
    for now in range(100, 110):
        backoff.note_death(QUICK_DEATH_SECONDS, now)
        assert backoff.not_before <= now


def test_the_first_quick_death_is_forgiven_the_next_are_waited_for_ever_longer():
    backoff, waits = _Backoff(), []
    for _ in range(9):
        backoff.note_death(0.0, 1000.0)
        waits.append(round(backoff.not_before - 1000.0, 3))
    assert waits == [0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert max(waits) == MAX_BACKOFF_SECONDS
    backoff.note_death(60.0, 2000.0)
    backoff.note_death(0.0, 2000.0)
    assert backoff.not_before == 2000.0


def test_a_role_that_must_wait_does_not_hold_up_the_other():
    with supervising(workers=1) as supervisor:
        supervisor._backoff[Role.WORKER].not_before = time.monotonic() + 60
        role, delay = supervisor._next_role()
        assert (role, delay <= 0) == (Role.INFORMER, True)
        add(supervisor, Role.INFORMER, 1)
        role, delay = supervisor._next_role()
        assert role is Role.WORKER
        assert 59 < delay <= 60


@pytest.mark.parametrize(
    ("role", "number", "who"),
    [(Role.INFORMER, None, "informer"), (Role.WORKER, None, "spare"), (Role.WORKER, 1, "worker 1")],
)
def test_who_ended_and_how_is_logged(role: Role, number: int | None, who: str):
    with supervising() as supervisor, collected() as lines:
        supervisor._note_end(add(supervisor, role, 77, number), signal.SIGKILL)
    assert lines == [f"[ERROR] {who} (pid 77) ended, killed by SIGKILL; it is replaced"]
    assert supervisor._backoff[role].pause > 0


def test_ends_are_described():
    assert _describe_status(signal.SIGSEGV) == "killed by SIGSEGV"
    assert _describe_status(3 << 8) == "exit status 3"


# Tables and failures


class Tables:
    """Generations for a supervisor, as an informer would send them."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._writers: list[TableWriter] = []

    def hand_over(self, synced: bool) -> None:
        Publisher(self._supervisor.context.resolver.surroundings.views, self._writers.append, has_table=False).start()
        self._writers[-1].set_synced(0, synced)
        self._supervisor._hand_out_table(os.dup(self._writers[-1].fd))


def test_a_generation_is_handed_to_every_worker_and_kept_for_later_ones():
    with supervising() as supervisor:
        start_all(supervisor)
        tables = Tables(supervisor)
        tables.hand_over(True)
        kept = supervisor._table_fd
        tables.hand_over(True)
        for child in supervisor._children.values():
            received = [message for message in child.channel.sent if isinstance(message, NewTable)]
            assert len(received) == (2 if child.role is Role.WORKER else 0)
        assert supervisor._table_fd is not None
        assert kept is not None
        os.close(supervisor._table_fd)


def in_loop(check: Callable[[Supervisor, asyncio.AbstractEventLoop], None]) -> Supervisor:
    """Run a check of a supervisor in a loop, without letting it wait for children."""
    with supervising() as supervisor:

        async def main() -> None:
            check(supervisor, asyncio.get_running_loop())
            if supervisor._ending is not None:
                await supervisor._ending

        asyncio.run(main())
        return supervisor


def test_an_informer_that_cannot_start_ends_the_service():
    supervisor = in_loop(lambda found, loop: found._fail("m: no such file or folder", loop))
    assert supervisor._failure == "m: no such file or folder"
    assert supervisor._ending is not None


def test_an_unsynced_generation_does_not_change_that():
    def check(supervisor: Supervisor, loop: asyncio.AbstractEventLoop) -> None:
        Tables(supervisor).hand_over(False)
        supervisor._fail("x", loop)

    assert in_loop(check)._failure == "x"


def test_once_there_is_a_table_a_failure_is_a_line_in_the_log():
    def check(supervisor: Supervisor, loop: asyncio.AbstractEventLoop) -> None:
        Tables(supervisor).hand_over(True)
        supervisor._fail("m: no such file or folder", loop)

    with collected() as lines:
        supervisor = in_loop(check)
    assert lines == ["[ERROR] m: no such file or folder; what was read before goes on being served"]
    assert (supervisor._failure, supervisor._ending) == (None, None)


# Signals

WHOAMI = ".:53 {\n    whoami\n}\n"
LAMEDUCK = ".:53 {\n    health 127.0.0.1:0 {\n        lameduck 30s\n    }\n    whoami\n}\n"


@contextmanager
def real(tmp_path: Path, *arguments: str, corefile: str = WHOAMI) -> Iterator[Server]:
    place = Loopback()
    with Server(place, tmp_path, corefile, workers=1, arguments=arguments) as server:
        server.wait_answering()
        yield server


def wait_said(server: Server, line: str) -> None:
    wait_until(lambda: f"{line}\n" in server.stdout, lambda: f"said {line!r}\n{server.said()}")


def test_signals_without_a_meaning_do_not_end_it(tmp_path: Path):
    with real(tmp_path) as server:
        for number in (signal.SIGHUP, signal.SIGUSR2, signal.SIGUSR1):
            server.send_signal(number)
        wait_said(server, "[WARNING] SIGUSR1: the Corefile is read at start only; restart to change it")
        server.wait_answering()
        assert server.returncode is None


def test_a_second_interrupt_ends_it_at_once(tmp_path: Path):
    with real(tmp_path, corefile=LAMEDUCK) as server:
        server.send_signal(signal.SIGINT)
        wait_said(server, "[INFO] plugin/health: Going into lameduck mode for 30s")
        server.send_signal(signal.SIGTERM)  # it is ending already
        server.wait_answering()
        server.send_signal(signal.SIGINT)
        assert server.wait_ended() == 2
        server.wait_gone()
        assert server.stdout.endswith("[INFO] SIGINT: Force quit\n")


def test_quit_ends_it_at_once_and_takes_the_pidfile_along(tmp_path: Path):
    with real(tmp_path, "-pidfile", "pid") as server:
        assert int((tmp_path / "pid").read_text()) == server.pid
        server.send_signal(signal.SIGQUIT)
        assert server.wait_ended() == 0
        server.wait_gone()
        assert server.stdout.endswith("[INFO] SIGQUIT: Quitting process immediately\n")
        assert not (tmp_path / "pid").exists()


def test_without_lameduck_it_ends_within_a_moment(tmp_path: Path):
    with real(tmp_path) as server:
        before = time.monotonic()
        server.send_signal(signal.SIGTERM)
        assert server.wait_ended() == 0
        assert time.monotonic() - before < module.DRAIN_SECONDS
        server.wait_gone()
        assert server.stderr == ""


def test_children_show_what_they_are(tmp_path: Path):
    with real(tmp_path) as server:
        wanted = ["kdns: spare", "kdns: supervisor", "kdns: worker 0"]
        wait_until(
            lambda: sorted(found.title for found in server.processes()) == wanted,
            lambda: f"{wanted}: {server.processes()}",
        )


@pytest.mark.parametrize("what", ["fork", "pair"])
def test_a_child_that_cannot_be_started_is_tried_again_later(what: str, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    with supervising() as supervisor, collected() as lines:
        if what == "fork":
            monkeypatch.setattr(os, "fork", refuse)
        else:
            monkeypatch.setattr(module.Channel, "pair", refuse)
        loop = asyncio.new_event_loop()
        supervisor._fork(Role.WORKER, loop)
        loop.close()
        assert not supervisor._children
        assert supervisor._backoff[Role.WORKER].not_before > time.monotonic()
        assert any("cannot be started: Resource temporarily unavailable; trying again" in line for line in lines)
