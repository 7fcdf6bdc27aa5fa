"""What became of each message: counters in fixed places, which the compiled path adds to for every one."""

from __future__ import annotations

import mmap
import struct

# What became of a message; the order is that of Outcome in hotpath/answer.pxd.
OUTCOMES = (
    "answer",
    "nodata",
    "nxdomain",
    "truncated",
    "refused",
    "formerr",
    "notimp",
    "badvers",
    "miss",
    "drop_short",
    "drop_response",
    "drop_service_port",
    "drop_unsent",
    "cached",
    "forwarded",
)
# The worker's own: a miss that found too many others waiting; what had waited too long when it came to be read.
SLOW_PATH = ("drop_overload", "drop_late")
COUNTERS = OUTCOMES + SLOW_PATH

_COUNTER = struct.Struct("=Q")
_ROW_SIZE = _COUNTER.size * len(COUNTERS)


class CounterTable:
    """Rows of counters in memory that forked processes share."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._memory = mmap.mmap(-1, rows * _ROW_SIZE)

    def row(self, index: int | None) -> memoryview:
        """The row of a process, for its one writer; None: one nobody reads."""
        if index is None:
            return memoryview(bytearray(_ROW_SIZE))
        return memoryview(self._memory)[index * _ROW_SIZE : (index + 1) * _ROW_SIZE]

    def totals(self) -> dict[str, int]:
        """Each counter, summed over all rows."""
        totals = [0] * len(COUNTERS)
        for index in range(self._rows):
            for at, (value,) in enumerate(_COUNTER.iter_unpack(self.row(index))):
                totals[at] += value
        return dict(zip(COUNTERS, totals, strict=True))


def increment(row: memoryview, counter: str, amount: int = 1) -> None:
    """Add to a counter of a row this process writes."""
    at = COUNTERS.index(counter) * _COUNTER.size
    _COUNTER.pack_into(row, at, _COUNTER.unpack_from(row, at)[0] + amount)
