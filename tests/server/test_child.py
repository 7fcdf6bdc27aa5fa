"""A child process: its own signals, its own end, and never without its supervisor."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import setproctitle

from kdns import log
from kdns.server.child import run_child, signals_held
from kdns.server.heartbeat import Heartbeat
from tests.harness.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]


def run_forked(main: Callable[[], Awaitable[None]], supervisor_pid: int | None = None) -> tuple[int, list[str]]:
    """(wait status, lines printed) of a child that runs `main`."""
    reader, writer = os.pipe()
    us = os.getpid()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        sys.stdout = io.TextIOWrapper(os.fdopen(writer, "wb"))
        log.configure()
        run_child("kdns: tested", us if supervisor_pid is None else supervisor_pid, main)
    os.close(writer)
    with os.fdopen(reader) as out:
        lines = out.read().splitlines()
    return os.waitpid(pid, 0)[1], lines


def say(text: str) -> None:
    """Print a line."""
    sys.stdout.write(text + "\n")


def test_a_child_runs_in_a_loop_of_its_own_under_its_title_and_ends_well():
    async def main() -> None:
        say(type(asyncio.get_running_loop()).__module__)
        say(setproctitle.getproctitle())

    status, lines = run_forked(main)
    assert os.waitstatus_to_exitcode(status) == 0
    assert lines == ["uvloop", "kdns: tested"]


def test_a_child_that_fails_says_why_in_one_line():
    async def main() -> None:
        raise LookupError("two\nlines")

    status, lines = run_forked(main)
    assert os.waitstatus_to_exitcode(status) == 1
    assert lines == ["[ERROR] kdns: tested ended by LookupError: two\\nlines"]


def test_a_child_whose_supervisor_is_gone_already_does_nothing():
    async def main() -> None:
        say("ran")

    status, lines = run_forked(main, supervisor_pid=1)
    assert (os.waitstatus_to_exitcode(status), lines) == (1, [])


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGQUIT"])
def test_signals_for_the_supervisor_do_not_end_a_child(name: str):
    async def main() -> None:
        os.kill(os.getpid(), signal.Signals[name])
        await asyncio.sleep(0)
        say("alive")

    status, lines = run_forked(main)
    assert (os.waitstatus_to_exitcode(status), lines) == (0, ["alive"])


def test_a_child_dies_with_its_supervisor():
    # The child waits for ever; its supervisor is killed without a chance to tell it.
    code = (
        "import asyncio, os, signal, sys\n"
        "from kdns.server.child import run_child\n"
        "us = os.getpid()\n"
        "async def main():\n"
        "    print(os.getpid(), flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "if os.fork() == 0:\n"
        "    run_child('kdns: tested', us, main)\n"
        "signal.pause()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        child = int(supervisor.stdout.readline())
        assert Path(f"/proc/{child}").exists()
        supervisor.kill()
        supervisor.wait()
        wait_until(lambda: is_gone(child), "the child has ended")


def is_gone(pid: int) -> bool:
    """Whether a process has ended; a zombie that nobody has asked for yet has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_signal_between_the_fork_and_the_childs_own_handlers_is_not_the_supervisors():
    """It would be written into the wake-up pipe, which both have, and end the supervisor's wait."""
    reader, writer = os.pipe2(os.O_NONBLOCK)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    handler = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        with signals_held():
            pid = os.fork()
            if pid == 0:
                os.kill(os.getpid(), signal.SIGTERM)

                async def main() -> None:
                    await asyncio.sleep(0)

                run_child("kdns: tested", os.getppid(), main)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        with pytest.raises(BlockingIOError):
            os.read(reader, 1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert os.read(reader, 1) == bytes([signal.SIGTERM])  # ours come as ever
    finally:
        signal.set_wakeup_fd(before)
        signal.signal(signal.SIGTERM, handler)
        os.close(reader)
        os.close(writer)


def test_a_child_beats_as_long_as_its_loop_turns():
    heartbeat = Heartbeat()

    async def main() -> None:
        await asyncio.sleep(0.01)

    us, pid = os.getpid(), os.fork()
    if pid == 0:
        run_child("kdns: tested", us, main, heartbeat=heartbeat)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert heartbeat.look(0.0) == 0.0
