"""Whether a child that lives also works: it counts in shared memory, and the supervisor looks whether it goes on.

What is measured is the silence of the child, in the supervisor's own turns and in the child's own processor time, not
on a clock: after a stop of the whole tree, or of the machine, everybody is silent for one turn at most; and a child
that computes on the small share of a processor its pod is allowed has as much more time as it is slower.
"""

from __future__ import annotations

import asyncio
import mmap
import struct
import time

BEAT_SECONDS = 1.0  # between beats of a child, and between looks at them
# A worker's loop never computes for so long. An informer does when it builds the table of a large cluster.
WORKER_SILENCE_SECONDS, INFORMER_SILENCE_SECONDS = 10.0, 60.0
BUSY_SECONDS = 0.005  # of processor time between two looks: a child that used less waits for something
CPUCLOCK_SCHED = 2  # linux/posix-timers.h: a process's own clock, whose number is made of its id

_COUNT = struct.Struct("=Q")


class Heartbeat:
    """A child's count of beats. Made before the fork; each side has it from then on."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _COUNT.size)
        self._seen = 0
        self._used_seconds = 0.0
        self._silent_seconds = 0.0

    async def run(self) -> None:
        """Beat until cancelled; the child's side."""
        while True:
            self.beat()
            await asyncio.sleep(BEAT_SECONDS)

    def beat(self) -> None:
        """Give one sign of life."""
        _COUNT.pack_into(self._memory, 0, _COUNT.unpack_from(self._memory)[0] + 1)

    def look(self, used_seconds: float) -> float:
        """How long the child has been silent; the supervisor's side, once in BEAT_SECONDS.

        `used_seconds` is the processor time the child has had so far.
        """
        (count,) = _COUNT.unpack_from(self._memory)
        used, self._used_seconds = used_seconds - self._used_seconds, used_seconds
        if count != self._seen:
            self._seen, self._silent_seconds = count, 0.0
        else:
            self._silent_seconds += min(used, BEAT_SECONDS) if used > BUSY_SECONDS else BEAT_SECONDS
        return self._silent_seconds


def processor_seconds(pid: int) -> float:
    """The processor time of a child that has not been waited for."""
    return time.clock_gettime(~pid << 3 | CPUCLOCK_SCHED)
