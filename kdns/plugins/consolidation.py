"""Errors that are counted together by all workers, and told of once a period by one of them.

The counts stand in a small file in memory, made at setup and inherited over fork; a lock on it, which the kernel
gives back when a process dies, goes with every change. Nothing looks at them while no error happens. Who opens a period
tells of it at its end. Everybody who counted in it looks again a little later, and so does a worker that begins
meanwhile, for the one who opened it may be dead by then.
"""

from __future__ import annotations

import asyncio
import fcntl
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

LATE_SECONDS = 0.5  # after a period's end somebody else tells of it

_NUMBER = 8  # octets
_PERIOD, _COUNT, _END, _PER_PATTERN = 0, 1, 2, 3
_MILLISECONDS = 1000.0


class Period(NamedTuple):
    """A period in which errors are counted, as it is after a change."""

    number: int  # periods before it, and it
    errors: int
    end: float  # by the clock of the event loops, which is the machine's


class SharedCounts:
    """One count for each pattern of a server block."""

    def __init__(self, patterns: int) -> None:
        size = patterns * _PER_PATTERN * _NUMBER
        self._fd = os.memfd_create("kdns-errors", os.MFD_CLOEXEC)
        os.ftruncate(self._fd, size)
        self._numbers = memoryview(mmap.mmap(self._fd, size)).cast("q")

    def __del__(self) -> None:
        os.close(self._fd)

    def add(self, pattern: int, period_seconds: float) -> Period:
        """Count an error, in a period that begins now if none is open."""
        with self._locked(pattern) as at:
            numbers = self._numbers
            if not numbers[at + _COUNT]:
                numbers[at + _PERIOD] += 1
                numbers[at + _END] = round((_now() + period_seconds) * _MILLISECONDS)
            numbers[at + _COUNT] += 1
            return self._read(at)

    def open_period(self, pattern: int) -> Period | None:
        """The period that is open, if one is."""
        with self._locked(pattern) as at:
            return self._read(at) if self._numbers[at + _COUNT] else None

    def close(self, pattern: int, number: int) -> int:
        """End a period; the errors counted in it, 0 where it had ended before."""
        with self._locked(pattern) as at:
            if self._numbers[at + _PERIOD] != number:
                return 0
            count, self._numbers[at + _COUNT] = self._numbers[at + _COUNT], 0
            return count

    def _read(self, at: int) -> Period:
        numbers = self._numbers
        return Period(numbers[at + _PERIOD], numbers[at + _COUNT], numbers[at + _END] / _MILLISECONDS)

    @contextmanager
    def _locked(self, pattern: int) -> Iterator[int]:
        """Nobody else changes the numbers of a pattern meanwhile; where they begin."""
        at = pattern * _PER_PATTERN
        fcntl.lockf(self._fd, fcntl.LOCK_EX, _NUMBER, at * _NUMBER)
        try:
            yield at
        finally:
            fcntl.lockf(self._fd, fcntl.LOCK_UN, _NUMBER, at * _NUMBER)


def _now() -> float:
    return asyncio.get_running_loop().time()
