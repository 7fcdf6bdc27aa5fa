"""Families of metrics with labels, each process's values in a row of shared memory.

    row   used | lost | cell | cell | ... | scratch
    cell  octets of the key, values | key: family NUL label NUL ... | values, as doubles

A row only grows: a cell keeps its place, and the octets `used` are stored after the cell they take in. So its reader
needs no lock, and knows a cell it has seen once for good.
"""

from __future__ import annotations

import math
import mmap
import struct
import sys
import threading
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from kdns.metrics.meters import MeterTable

ROW_SIZE = 1 << 20  # octets of a process's cells; pages nobody wrote cost nothing
MAX_SERIES = 4096  # label sets of one family in one process: no family takes the room of the others
MAX_LABEL = 256  # characters of a label's value that are kept; a name in text form may have four times as many
_HEADER = 16  # octets before a row's cells: how many are used, and how many values found no place
_CELL = struct.Struct("=II")  # octets of the key, values
_SCRATCH = 64  # numbers at a row's end that take what finds no place

# A gauge of nobody: whoever set it has ended. It is not shown, and counts as 0.
GONE = math.nan

Labels = tuple[str, ...]
Values = list[float]
Merge = Literal["sum", "max"]
Kind = Literal["counter", "gauge", "histogram"]


@dataclass(slots=True)
class Family:
    """A metric and the names of its labels."""

    registry: Registry
    name: str
    help: str
    kind: Kind
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()  # upper bounds, without +Inf
    merge: Merge = "sum"  # how the processes' values become one
    _places: dict[Labels, int] = field(default_factory=dict)

    @property
    def values(self) -> int:
        """How many numbers a cell holds: one; of a histogram each bucket, +Inf and the sum."""
        return len(self.buckets) + 2 if self.kind == "histogram" else 1

    def add(self, amount: float = 1.0, labels: Labels = ()) -> None:
        """Add to a counter or a gauge."""
        self.registry.row[self._place(labels)] += amount

    def set(self, value: float, labels: Labels = ()) -> None:
        """Set a gauge."""
        self.registry.row[self._place(labels)] = value

    def remove(self, labels: Labels = ()) -> None:
        """Show a gauge no more, until it is set again."""
        self.registry.row[self._place(labels)] = GONE
        self._places.pop(labels, None)

    def observe(self, value: float, labels: Labels = ()) -> None:
        """Count a value into its bucket of a histogram."""
        place = self._place(labels)
        row = self.registry.row
        row[place + bisect_left(self.buckets, value)] += 1
        row[place + len(self.buckets) + 1] += value

    def total(self, labels: Labels = ()) -> float:
        """The value of a counter or gauge over all processes; it takes a few microseconds."""
        found = [value for value in self.registry.values_of(self.name, labels) if value == value]  # not GONE
        return (max if self.merge == "max" else sum)(found) if found else 0.0

    def place(self, labels: Labels = ()) -> int:
        """Where in this process's row a number stands: for who counts in there by itself."""
        return self._place(labels)

    def _place(self, labels: Labels) -> int:
        place = self._places.get(labels)
        if place is not None:
            return place
        assert len(labels) == len(self.labels), f"{self.name}{self.labels} got {labels}"
        place = self.registry.reserve(self, labels)
        if place is None:
            # Whoever invents labels must not take the memory of those who do not: the scratch of nobody's values.
            return ROW_SIZE // 8 - _SCRATCH
        if self.kind == "gauge" and math.isnan(self.registry.row[place]):
            self.registry.row[place] = 0.0
        self._places[labels] = place
        return place


class Registry:
    """The metrics of a service. Made before its processes are forked; each then attaches to a row of its own.

    Row 0 is its maker's.
    """

    def __init__(self, rows: int = 1) -> None:
        self.rows = rows
        self.families: dict[str, Family] = {}
        self.meters = MeterTable(rows)
        self._memory = mmap.mmap(-1, rows * ROW_SIZE)
        self._readers = [_RowReader(self._octets_of(row)) for row in range(rows)]
        self._free = list(range(rows - 1, 0, -1))
        self._lock = threading.Lock()  # a reload sets plugins up in a thread, whose metrics begin in the same row
        self.attached: int | None
        self.row: memoryview[float]
        self._octets: memoryview[int]
        self._found: dict[tuple[str, Labels], int]
        self.attach(0)

    # Families

    def counter(self, name: str, help_text: str, labels: Sequence[str] = ()) -> Family:
        """A number that only grows. Asking for a name again gives the same family."""
        return self._family(Family(self, name, help_text, "counter", tuple(labels)))

    def gauge(self, name: str, help_text: str, labels: Sequence[str] = (), merge: Merge = "sum") -> Family:
        """A number that comes and goes, and with the process that set it."""
        return self._family(Family(self, name, help_text, "gauge", tuple(labels), merge=merge))

    def histogram(self, name: str, help_text: str, buckets: Sequence[float], labels: Sequence[str] = ()) -> Family:
        """How often values fell into each bucket, and their sum."""
        return self._family(Family(self, name, help_text, "histogram", tuple(labels), tuple(buckets)))

    # Rows

    def take_row(self) -> int | None:
        """A row no living process writes, for one about to be forked; None where there is none."""
        return self._free.pop() if self._free else None

    def release_row(self, row: int | None) -> None:
        """Take a row back from a process that has ended: its gauges go with it, its counters stay."""
        if row is None:
            return
        numbers = self._octets_of(row).cast("d")
        for (name, _), (place, _) in self._readers[row].cells().items():
            if self._is_gauge(name):
                numbers[place] = GONE
        self._free.append(row)

    def attach(self, row: int | None) -> None:
        """Write into a row from now on, and go on with what stands there; None: into one that nobody reads."""
        self.attached = row
        self._lock = threading.Lock()  # whoever held it stayed behind: this may be the child of a fork
        self._octets = memoryview(mmap.mmap(-1, ROW_SIZE)) if row is None else self._octets_of(row)
        self.row = self._octets.cast("d")
        cells = {} if row is None else self._readers[row].cells()
        self._found = {key: place for key, (place, _) in cells.items()}
        for (name, _), place in self._found.items():
            if self._is_gauge(name):
                self.row[place] = GONE
        for family in list(self.families.values()):
            family._places.clear()

    def reserve(self, family: Family, labels: Labels) -> int | None:
        """The place of a cell in this process's row, which may be a new one at its end; None: there is no room."""
        labels = tuple(label.replace("\0", "\N{REPLACEMENT CHARACTER}")[:MAX_LABEL] for label in labels)
        with self._lock:
            return self._reserve(family, labels)

    def _reserve(self, family: Family, labels: Labels) -> int | None:
        place = self._found.get((family.name, labels))
        if place is not None:
            return place
        key = "\0".join((family.name, *labels)).encode("utf-8", "backslashreplace")
        start = int.from_bytes(self._octets[:8], sys.byteorder) or _HEADER
        place = start + _CELL.size + (len(key) + 7 & ~7)
        end = place + 8 * family.values
        if end > ROW_SIZE - 8 * _SCRATCH or len(family._places) >= MAX_SERIES:
            lost = int.from_bytes(self._octets[8:16], sys.byteorder) + 1
            self._octets[8:16] = lost.to_bytes(8, sys.byteorder)
            return None
        self._octets[start + _CELL.size : start + _CELL.size + len(key)] = key
        _CELL.pack_into(self._octets, start, len(key), family.values)
        self._octets[:8] = end.to_bytes(8, sys.byteorder)
        self._found[family.name, labels] = place // 8
        return place // 8

    # Reading

    def read(self) -> dict[str, dict[Labels, Values]]:
        """The values of every cell by family and labels, those of all rows made one."""
        found: dict[str, dict[Labels, Values]] = {name: {} for name in list(self.families)}
        for reader in self._readers:
            numbers = reader.numbers
            for (name, labels), (place, count) in reader.cells().items():
                family = self.families.get(name) if name in found else None
                values = list(numbers[place : place + count])
                if family is None or len(values) != family.values or math.isnan(values[0]):
                    continue
                known = found[name].get(labels)
                if known is not None:
                    merge = max if family.merge == "max" else float.__add__
                    values = [merge(one, other) for one, other in zip(known, values, strict=True)]
                found[name][labels] = values
        return found

    def values_of(self, name: str, labels: Labels) -> list[float]:
        """The first number of a cell in each row that has it."""
        key, found = (name, labels), []
        for reader in self._readers:
            cell = reader.cells().get(key)
            if cell is not None:
                found.append(reader.numbers[cell[0]])
        return found

    @property
    def lost(self) -> int:
        """How often a value had no place: a row is full, or a family has too many label sets."""
        return sum(int.from_bytes(self._octets_of(row)[8:16], sys.byteorder) for row in range(self.rows))

    def _octets_of(self, row: int) -> memoryview[int]:
        return memoryview(self._memory)[row * ROW_SIZE : (row + 1) * ROW_SIZE]

    def _is_gauge(self, name: str) -> bool:
        family = self.families.get(name)
        return family is not None and family.kind == "gauge"

    def _family(self, wanted: Family) -> Family:
        known = self.families.setdefault(wanted.name, wanted)
        assert (known.kind, known.labels, known.buckets) == (wanted.kind, wanted.labels, wanted.buckets), wanted.name
        return known


class _RowReader:
    """The cells of a row, as far as they have been written."""

    def __init__(self, octets: memoryview[int]) -> None:
        self.numbers = octets.cast("d")
        self._octets = octets
        self._used = octets[:8].cast("Q")
        self._cells: dict[tuple[str, Labels], tuple[int, int]] = {}
        self._at = _HEADER

    def cells(self) -> dict[tuple[str, Labels], tuple[int, int]]:
        """(place of the first number, numbers) by family and labels."""
        end = self._used[0]
        while self._at < end:
            size, count = _CELL.unpack_from(self._octets, self._at)
            start = self._at + _CELL.size
            place = start + (size + 7 & ~7)
            if not size or place + 8 * count > end:  # another processor has not shown us all of it yet
                break
            name, *labels = bytes(self._octets[start : start + size]).decode("utf-8", "replace").split("\0")
            self._cells[name, tuple(labels)] = (place // 8, count)
            self._at = place + 8 * count
        return self._cells
