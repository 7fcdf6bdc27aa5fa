"""Processes as /proc shows them: a server's tree, its CPU time, its memory, and where it may run.

CPU time is `utime` and `stime` of /proc/PID/stat, all threads together, in clock ticks of 10 ms. The kernel measures
their sum exactly and splits it by sampling (250 times a second, say), so the split is rougher than the sum. Work that
an interrupt does on top of a process (the receiving half of a loopback datagram, above all) counts as that process's
`stime` unless the kernel was built to account for it apart (CONFIG_IRQ_TIME_ACCOUNTING).
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from subprocess import DEVNULL
from typing import NamedTuple

from bench.errors import BenchError

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
STOP_SECONDS = 10.0  # between SIGTERM and SIGKILL
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)  # loaded here: between fork and exec only its functions may be called


class CpuTime(NamedTuple):
    """CPU seconds spent in user space and in the kernel."""

    user: float
    kernel: float

    @property
    def total(self) -> float:
        """Both together."""
        return self.user + self.kernel

    def since(self, earlier: CpuTime) -> CpuTime:
        """What was spent after `earlier`."""
        return CpuTime(self.user - earlier.user, self.kernel - earlier.kernel)


class ProcessStat(NamedTuple):
    """The fields of /proc/PID/stat that the bench reads."""

    pid: int
    parent: int
    cpu: CpuTime
    ended: float = 0.0  # CPU seconds of its children that ended, and of theirs

    @property
    def total(self) -> float:
        """CPU seconds of it and of its children that ended."""
        return self.cpu.total + self.ended


def parse_stat(text: str) -> ProcessStat:
    """Read a line of /proc/PID/stat."""
    # The command stands in brackets and may itself hold brackets and blanks.
    head, _, tail = text.rpartition(")")
    fields = tail.split()
    cpu = CpuTime(int(fields[11]) / TICKS_PER_SECOND, int(fields[12]) / TICKS_PER_SECOND)
    ended = (int(fields[13]) + int(fields[14])) / TICKS_PER_SECOND
    return ProcessStat(int(head.split(" ", 1)[0]), int(fields[1]), cpu, ended)


def process_tree(root: int) -> dict[int, ProcessStat]:
    """The process `root` and all its descendants."""
    stats = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            try:
                stats[int(entry.name)] = parse_stat(Path(entry.path, "stat").read_text())
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended while we looked
    children: dict[int, list[int]] = {}
    for stat in stats.values():
        children.setdefault(stat.parent, []).append(stat.pid)
    found: dict[int, ProcessStat] = {}
    waiting = [root] if root in stats else []
    while waiting:
        pid = waiting.pop()
        found[pid] = stats[pid]
        waiting += children.get(pid, [])
    return found


def pin_tree(root: int, cores: Collection[int]) -> None:
    """Bind every thread of the process `root` and of its descendants to `cores`.

    Inheriting them is not enough: Knot DNS, for one, gives each of its workers a core by its number.
    """
    for pid in process_tree(root):
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                os.sched_setaffinity(int(task), cores)
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we looked


def process_title(pid: int) -> str:
    """What `ps` shows of a process, cut to what tells it from its siblings."""
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return f"pid {pid}"
    title = arguments[0].decode(errors="replace").rstrip()
    return title if ": " in title else os.path.basename(title)


def parse_memory(text: str) -> dict[str, int]:
    """Read /proc/PID/smaps_rollup; returns kilobytes by field."""
    fields = (line.split() for line in text.splitlines()[1:])
    return {words[0].rstrip(":"): int(words[1]) for words in fields if len(words) == 3 and words[2] == "kB"}


def read_memory(pid: int) -> dict[str, int]:
    """The memory of one process, in kilobytes; raises BenchError if it may not be read."""
    try:
        return parse_memory(Path(f"/proc/{pid}/smaps_rollup").read_text())
    except (PermissionError, FileNotFoundError, ProcessLookupError) as error:
        raise BenchError(f"cannot read the memory of process {pid}: {error.strerror}") from error


def core_times(cores: Collection[int]) -> dict[str, float]:
    """What the cores have spent their time on since boot, in seconds, by the names of /proc/stat."""
    names = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
    wanted = {f"cpu{core}" for core in cores}
    total = dict.fromkeys(names, 0.0)
    for line in Path("/proc/stat").read_text().splitlines():
        words = line.split()
        if words[0] in wanted:
            wanted.remove(words[0])
            for name, word in zip(names, words[1:], strict=False):
                total[name] += int(word) / TICKS_PER_SECOND
    if wanted:
        raise BenchError(f"{min(wanted)} is not in /proc/stat")
    return total


def check_cores(*cores: int) -> None:
    """Raise BenchError unless this process may run on each of `cores`, and they differ."""
    allowed = os.sched_getaffinity(0)
    for core in cores:
        if core not in allowed:
            usable = ", ".join(str(core) for core in sorted(allowed))
            raise BenchError(f"core {core} may not be used here; usable: {usable} (see --server-cores and --load-core)")
    if len(set(cores)) != len(cores):
        raise BenchError("server and load need a core each: --server-cores and --load-core share one")


def spawn(command: list[str], cores: Collection[int], log: Path, stdin: int = DEVNULL) -> subprocess.Popen[bytes]:
    """Start `command` in a session of its own, on `cores` (none: on any), with all it prints in the file `log`."""
    with log.open("wb") as output:
        return subprocess.Popen(
            command,
            stdin=stdin,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_on_cores(cores),
        )


def _on_cores(cores: Collection[int]) -> Callable[[], None]:
    """What the child does before it becomes the program: everything it starts inherits the cores."""

    def prepare() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)  # a bench that is killed leaves no server behind
        if cores:
            os.sched_setaffinity(0, cores)

    return prepare


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process that `spawn` started, and everything it started."""
    members = process_tree(process.pid)
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            print(f"bench: process {process.pid} did not end within {STOP_SECONDS:.0f} s: killed", file=sys.stderr)
    for pid in members:
        if pid == process.pid and process.returncode is not None:
            continue
        try:
            if os.getsid(pid) == process.pid:  # still a process of ours, not one that got its number
                os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait()


def free_port() -> int:
    """A port of 127.0.0.1 that is free over UDP and TCP."""
    for _ in range(100):
        with (
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as stream,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram,
        ):
            stream.bind(("127.0.0.1", 0))
            port: int = stream.getsockname()[1]
            try:
                datagram.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise BenchError("no port of 127.0.0.1 is free over both UDP and TCP")
