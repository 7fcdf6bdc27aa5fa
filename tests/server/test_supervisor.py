"""The supervisor: what it makes of failures of its children, and which signals end it.

What it hears is told to a supervisor whose children exist on paper only; signals are sent to a real one.
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

from kdns.server import forking
from kdns.server.control import Checked, Failed, NewTable, Serving
from kdns.server.endpoints import HttpEndpoints
from kdns.server.instance import LOST_SECONDS, LOST_TRIES, Check, Feed, Role
from kdns.server.processes import DRAIN_SECONDS
from kdns.server.supervisor import Supervisor
from tests.fakes.context import channel_pair, served_context
from tests.fakes.logs import collected
from tests.fakes.processes import CLUSTER, Tables, add, processes_of
from tests.harness.places import Loopback
from tests.harness.server import Server
from tests.harness.waiting import wait_until


@contextmanager
def supervising(corefile: str = CLUSTER) -> Iterator[Supervisor]:
    with processes_of(corefile) as processes:
        yield Supervisor(processes, HttpEndpoints(processes.current.context.resolver.surroundings))


# What children say


def in_loop(check: Callable[[Supervisor, asyncio.AbstractEventLoop], None]) -> Supervisor:
    """Run a check of a supervisor in a loop, without letting it wait for children."""
    with supervising() as supervisor:

        async def main() -> None:
            check(supervisor, asyncio.get_running_loop())
            if supervisor._ending is not None:
                await supervisor._ending

        asyncio.run(main())
        return supervisor


def fail(supervisor: Supervisor, loop: asyncio.AbstractEventLoop, feed: Feed | None = None) -> None:
    """Have an informer say that it cannot start."""
    informer = add(supervisor.processes, Role.INFORMER, feed or supervisor.processes.current.feed)
    del supervisor.processes.children[informer.pid]
    supervisor._take_message(informer, Failed("m: no such file or folder"), None, loop)


def test_an_informer_that_cannot_start_ends_the_service():
    supervisor = in_loop(fail)
    assert supervisor._failure == "m: no such file or folder"
    assert supervisor._ending is not None


def test_an_unsynced_generation_does_not_change_that():
    def check(supervisor: Supervisor, loop: asyncio.AbstractEventLoop) -> None:
        Tables(supervisor.processes).hand_over(False)
        fail(supervisor, loop)

    assert in_loop(check)._failure == "m: no such file or folder"


def test_once_there_is_a_table_a_failure_is_a_line_in_the_log():
    def check(supervisor: Supervisor, loop: asyncio.AbstractEventLoop) -> None:
        Tables(supervisor.processes).hand_over(True)
        fail(supervisor, loop)

    with collected() as lines:
        supervisor = in_loop(check)
    assert lines == ["[ERROR] m: no such file or folder; what was read before goes on being served"]
    assert (supervisor._failure, supervisor._ending) == (None, None)


def test_an_informer_of_a_candidate_that_cannot_start_fails_the_reload_only():
    with served_context(CLUSTER) as context:
        feed = Feed(context)
        supervisor = in_loop(lambda found, loop: fail(found, loop, feed))
    assert (supervisor._failure, supervisor._ending) == (None, None)
    assert feed.failure == "m: no such file or folder"


def test_children_tell_that_they_serve_and_what_they_think_of_a_corefile():
    with supervising() as supervisor:
        loop = asyncio.new_event_loop()
        worker = add(supervisor.processes, Role.WORKER, supervisor.processes.current)
        supervisor._take_message(worker, Serving(0), None, loop)
        assert worker.is_serving
        for message, verdict in ((Checked(), ""), (Failed("Corefile:1 - no"), "Corefile:1 - no")):
            check = Check(lambda: None)
            supervisor._take_message(add(supervisor.processes, Role.CHECKER, check), message, None, loop)
            assert check.verdict == verdict
        loop.close()


def test_an_informer_whose_table_came_without_its_file_is_replaced(monkeypatch: pytest.MonkeyPatch):
    killed: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append(pid))
    with supervising() as supervisor, collected():
        informer = add(supervisor.processes, Role.INFORMER, supervisor.processes.current.feed)
        loop = asyncio.new_event_loop()
        supervisor._take_message(informer, NewTable(1), None, loop)
        loop.close()
    assert killed == [informer.pid]


async def test_the_last_words_of_a_child_are_heard():
    with supervising() as supervisor, channel_pair() as (ours, theirs), collected():
        loop = asyncio.get_running_loop()
        check = Check(lambda: None)
        pid = os.fork()
        if pid == 0:
            theirs.send(Failed("Corefile:1 - no"))
            os._exit(1)
        child = add(supervisor.processes, Role.CHECKER, check, pid)
        child.channel = ours
        wait_until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z", "it has ended")
        supervisor._on_child_end(loop)
        assert check.verdict == "Corefile:1 - no"
        assert not supervisor.processes.children


def test_a_lost_informer_is_told_once_and_makes_not_ready():
    with supervising() as supervisor, collected() as lines:
        feed = supervisor.processes.current.feed
        for _ in range(LOST_TRIES):
            feed.note_death(0.1, time.monotonic() - LOST_SECONDS)
        supervisor._judge_informer()
        supervisor._judge_informer()
        assert supervisor.http.informer_is_lost
        assert len(lines) == 1
        Tables(supervisor.processes).hand_over(True)
        supervisor._judge_informer()
        assert not supervisor.http.informer_is_lost


# Forks


@pytest.mark.parametrize("what", ["fork", "pair", "row"])
def test_a_child_that_cannot_be_started_is_tried_again_later(what: str, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    with supervising() as supervisor, collected() as lines:
        registry = supervisor.processes.current.context.resolver.surroundings.metrics
        if what == "fork":
            monkeypatch.setattr(os, "fork", refuse)
        elif what == "pair":
            monkeypatch.setattr(forking.Channel, "pair", refuse)
        else:
            while registry.take_row() is not None:
                pass
        before = len(os.listdir("/proc/self/fd"))
        loop = asyncio.new_event_loop()
        supervisor._fork(Role.WORKER, supervisor.processes.current, loop)
        loop.close()
        assert len(os.listdir("/proc/self/fd")) == before
        assert not supervisor.processes.children
        assert supervisor.processes.current.backoff.not_before > time.monotonic()
        assert any("cannot be started: " in line and line.endswith("; trying again") for line in lines)
        if what == "fork":
            assert registry.take_row() is not None  # the one it had taken


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


def test_a_signal_without_a_meaning_does_not_end_it(tmp_path: Path):
    with real(tmp_path) as server:
        server.send_signal(signal.SIGUSR2)
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
        assert time.monotonic() - before < DRAIN_SECONDS
        server.wait_gone()
        assert server.stderr == ""


def test_children_show_what_they_are(tmp_path: Path):
    with real(tmp_path) as server:
        wanted = ["kdns: spare", "kdns: supervisor", "kdns: worker 0"]
        wait_until(
            lambda: sorted(found.title for found in server.processes()) == wanted,
            lambda: f"{wanted}: {server.processes()}",
        )
