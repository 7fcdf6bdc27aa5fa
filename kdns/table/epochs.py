"""Where readers of the table say that they may be holding a blob: a number each, in memory that all processes share.

A number is odd while its reader is in a batch. hotpath/table.pyx tells what the writer makes of it.
"""

from __future__ import annotations

import mmap
import struct

ROW_SIZE = 64  # octets: a cache line each, for readers on different processors

_NUMBER = struct.Struct("=Q")


class ReaderEpochs:
    """A row for each process that may read; the memory outlives both the workers and the informer."""

    def __init__(self, rows: int) -> None:
        self._memory = mmap.mmap(-1, rows * ROW_SIZE)

    def row(self, index: int) -> memoryview:
        """The row of one reader, for it to write."""
        return memoryview(self._memory)[index * ROW_SIZE : (index + 1) * ROW_SIZE]

    def end_batch(self, index: int) -> None:
        """The reader has ended, perhaps in a batch: it holds no blob any more."""
        (number,) = _NUMBER.unpack_from(self._memory, index * ROW_SIZE)
        _NUMBER.pack_into(self._memory, index * ROW_SIZE, number + (number & 1))

    def all_rows(self) -> memoryview:
        """All rows, for the writer of the table to read."""
        return memoryview(self._memory)
