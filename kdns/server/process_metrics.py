"""The `process_` metrics: what all processes of a service use together, out of /proc.

Memory is the proportional set size, in which a page counts once however many processes share it: that is what the
service takes from its pod's limit. Processor time goes on counting when a child has ended.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from prometheus_client.metrics_core import Metric

from kdns.server.exposition import metric_of

MEMORY_SECONDS = 5.0  # for which a reading of memory is good: the kernel walks page tables for it
UNLIMITED = 2.0**64 - 1  # as Go's library shows RLIM_INFINITY

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class ProcessMetrics:
    """Reads /proc for this process and those `children` names."""

    def __init__(
        self,
        children: Callable[[], Iterable[int]],
        proc: Path = Path("/proc"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._children = children
        self._proc = proc
        self._clock = clock
        self._memory: tuple[float, float] | None = None  # when it was read, octets
        self._started = _start_time(proc)

    def collect(self) -> Iterator[Metric]:
        """The families."""
        pids = [os.getpid(), *self._children()]
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = ended.ru_utime + ended.ru_stime + sum(self._processor_seconds(pid) for pid in pids)
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        _, space = resource.getrlimit(resource.RLIMIT_AS)
        values = [
            ("counter", "process_cpu_seconds_total", "Processor time of all processes, ended ones too.", seconds),
            ("gauge", "process_open_fds", "Open descriptors of all processes.", sum(map(self._open_files, pids))),
            ("gauge", "process_max_fds", "Descriptors all processes together may have.", len(pids) * _shown(files)),
            (
                "gauge",
                "process_resident_memory_bytes",
                "Memory of all processes, a page they share counted once.",
                self._resident(pids),
            ),
            (
                "gauge",
                "process_virtual_memory_bytes",
                "Address space of all processes.",
                sum(self._pages(pid, 0) for pid in pids) * _PAGE,
            ),
            ("gauge", "process_virtual_memory_max_bytes", "Address space a process may have.", _shown(space)),
            ("gauge", "process_start_time_seconds", "When the service started, in Unix time.", self._started),
            ("gauge", "kdns_processes", "Processes of the service.", len(pids)),
        ]
        for kind, name, help_text, value in values:
            yield metric_of(kind, name, help_text, (), [((), float(value))])

    def _processor_seconds(self, pid: int) -> float:
        fields = self._read(pid, "stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS if fields else 0.0  # utime, stime (proc_pid_stat(5))

    def _open_files(self, pid: int) -> int:
        try:
            return len(os.listdir(self._proc / str(pid) / "fd"))
        except OSError:
            return 0

    def _resident(self, pids: Iterable[int]) -> float:
        if self._memory is not None and self._clock() - self._memory[0] < MEMORY_SECONDS:
            return self._memory[1]
        octets = float(sum(map(self._proportional, pids)))
        self._memory = self._clock(), octets
        return octets

    def _proportional(self, pid: int) -> int:
        for line in self._read(pid, "smaps_rollup").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
        return self._pages(pid, 1) * _PAGE  # a kernel without it, or a process that may not be looked into

    def _pages(self, pid: int, field: int) -> int:
        fields = self._read(pid, "statm").split()
        return int(fields[field]) if fields else 0

    def _read(self, pid: int, name: str) -> str:
        try:
            return (self._proc / str(pid) / name).read_text()
        except OSError:  # it has ended meanwhile
            return ""


def _shown(limit: int) -> float:
    return UNLIMITED if limit == resource.RLIM_INFINITY else float(limit)


def _start_time(proc: Path) -> float:
    """When this process started, in Unix time: the machine's start and the process's own after it."""
    ticks = int((proc / "self" / "stat").read_text().rpartition(")")[2].split()[19])
    booted = next(line for line in (proc / "stat").read_text().splitlines() if line.startswith("btime "))
    return float(booted.split()[1]) + ticks / _TICKS
