"""What /proc says of the processes of one server."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.harness.waiting import wait_until


@dataclass(frozen=True, slots=True)
class Process:
    """One process as it was when looked at."""

    pid: int
    parent: int
    session: int
    state: str
    title: str  # what ps shows


def processes_of(session: int, namespace: int | None = None) -> list[Process]:
    """The living processes of a session, and of a network namespace if one is given, without this one."""
    return [
        process
        for process in _all_processes()
        if process.pid != os.getpid()
        and process.state != "Z"
        and (process.session == session or (namespace is not None and _network_of(process.pid) == namespace))
    ]


def wait_gone(session: int, namespace: int | None = None, timeout_seconds: float = 5.0) -> None:
    """Wait until no process of the session is left."""
    wait_until(
        lambda: not processes_of(session, namespace),
        lambda: f"every process gone; left: {processes_of(session, namespace)}",
        timeout_seconds,
    )


def kill_all(session: int, namespace: int | None = None) -> list[Process]:
    """Kill what is left of a session; returns what had to be killed."""
    left = processes_of(session, namespace)
    for process in left:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    return left


def _all_processes() -> Iterator[Process]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
                yield _read(entry)


def _read(entry: Path) -> Process:
    # The second field is the command in brackets and may hold anything, brackets too.
    head, _, rest = (entry / "stat").read_text(errors="replace").rpartition(")")
    fields = rest.split()
    title = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return Process(int(entry.name), int(fields[1]), int(fields[3]), fields[0], title or head.partition("(")[2])


def _network_of(pid: int) -> int | None:
    with suppress(OSError):
        return os.stat(f"/proc/{pid}/ns/net").st_ino
    return None
