"""What all workers of a pod know together about one `forward`: who is down, how much is under way.

A small file in memory, made at setup and inherited over fork, of 64-bit numbers. A number has one writer at a time or
may lose an update: no decision that matters hangs on one of them. Places in it are handed out under file locks, which
the kernel gives back when a process dies: a dead worker's cell goes to its successor, who begins at 0.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import time
from hashlib import blake2b

MAX_PROCESSES = 1024  # that count their queries at a time: workers, for a while those of the former configuration too
MAX_UPSTREAMS = 256  # addresses one `forward` has ever had, as its resolv.conf changes; later ones share the last place

_NUMBER = 8  # octets
FIRST_CELL = 8  # of the processes' counts; hotpath/forward.pyx knows it, and the first two of these
_COUNTER, _PROCESSES, _TOLD = 0, 1, 2
_FIRST_UPSTREAM = FIRST_CELL + MAX_PROCESSES
_TAG, _TROUBLE, _PROBED_AT, _OUT, _PER_UPSTREAM = 0, 1, 2, 3, 4
_SIZE = _NUMBER * (_FIRST_UPSTREAM + MAX_UPSTREAMS * _PER_UPSTREAM)
_ALLOTMENT_LOCK = 0  # the octet whose lock protects handing out places of upstreams


class SharedState:
    """The numbers of one `forward`."""

    def __init__(self) -> None:
        self._fd = os.memfd_create("kdns-forward", os.MFD_CLOEXEC)
        os.ftruncate(self._fd, _SIZE)
        memory = mmap.mmap(self._fd, _SIZE)
        self._numbers = memoryview(memory).cast("q")
        self._cell = -1
        self._cell_owner = 0

    def __del__(self) -> None:
        os.close(self._fd)

    @property
    def numbers(self) -> memoryview[int]:
        """All of them."""
        return self._numbers

    @property
    def cell(self) -> int:
        """The place of what this process has under way, once it was claimed."""
        return self._cell

    def draw(self) -> int:
        """The next number of a row that every process draws from."""
        number = self._numbers[_COUNTER]
        self._numbers[_COUNTER] = (number + 1) & 0xFFFFFFFF
        return number

    def is_news(self, text: str) -> bool:
        """Whether no process has told of this yet; the asker will."""
        digest = _digest(text)
        told = self._numbers[_TOLD] == digest
        self._numbers[_TOLD] = digest
        return not told

    # Queries under way

    def enter(self, limit: int) -> bool:
        """Count a query of this process in, unless all processes together have `limit` of them."""
        if self._cell < 0:
            self.claim_cell()
        numbers = self._numbers
        if sum(numbers[FIRST_CELL : FIRST_CELL + numbers[_PROCESSES]]) >= limit:
            return False
        numbers[self._cell] += 1
        return True

    def leave(self) -> None:
        """Count one out."""
        self._numbers[self._cell] -= 1

    def claim_cell(self) -> None:
        """Take the place of a process that is gone, or a new one; what it had under way is gone too."""
        if self._cell_owner == os.getpid():
            return
        numbers, self._cell_owner = self._numbers, os.getpid()
        for index in range(MAX_PROCESSES):
            cell = FIRST_CELL + index
            try:
                fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, _NUMBER, cell * _NUMBER)
            except OSError:
                continue
            numbers[cell] = 0
            numbers[_PROCESSES] = max(numbers[_PROCESSES], index + 1)
            self._cell = cell
            return
        self._cell = FIRST_CELL + MAX_PROCESSES - 1

    # Upstreams

    def place(self, address: str) -> UpstreamState:
        """What is known of an upstream; the same in every process, whoever asks first."""
        tag = _digest(address)
        fcntl.lockf(self._fd, fcntl.LOCK_EX, 1, _ALLOTMENT_LOCK)
        try:
            for index in range(MAX_UPSTREAMS):
                at = _FIRST_UPSTREAM + index * _PER_UPSTREAM
                if self._numbers[at] in (0, tag):
                    break
            self._numbers[at] = tag
        finally:
            fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, _ALLOTMENT_LOCK)
        return UpstreamState(self._numbers, at)


class UpstreamState:
    """How an upstream is, as all workers see it."""

    __slots__ = ("_at", "_numbers")

    def __init__(self, numbers: memoryview[int], at: int) -> None:
        self._numbers = numbers
        self._at = at

    @property
    def flags(self) -> tuple[int, int]:
        """The places of its trouble, and of whether it is out."""
        return self._at + _TROUBLE, self._at + _OUT

    @property
    def trouble(self) -> int:
        """0: well; 1: an exchange failed; each failed check adds one."""
        return self._numbers[self._at + _TROUBLE]

    @trouble.setter
    def trouble(self, value: int) -> None:
        self._numbers[self._at + _TROUBLE] = value

    @property
    def is_well(self) -> bool:
        """Whether it has no trouble, and is not out."""
        return not (self._numbers[self._at + _TROUBLE] or self._numbers[self._at + _OUT])

    @property
    def is_out(self) -> bool:
        """Whether it is never to be asked again."""
        return bool(self._numbers[self._at + _OUT])

    def take_out(self) -> None:
        """Never ask it again."""
        self._numbers[self._at + _OUT] = 1

    def note_probe(self) -> None:
        """Some process looks after it."""
        self._numbers[self._at + _PROBED_AT] = time.monotonic_ns()

    @property
    def seconds_since_probe(self) -> float:
        """How long nobody has looked after it."""
        return (time.monotonic_ns() - self._numbers[self._at + _PROBED_AT]) / 1e9


def _digest(text: str) -> int:
    """A text as a positive number, never 0."""
    return int.from_bytes(blake2b(text.encode(), digest_size=7).digest(), "big") | 1 << 60
