"""Metrics every process adds to and the supervisor sums: shared memory, a row for each process, one writer a row.

A row outlives the process that wrote it, so a counter never goes back when a worker dies: its successor goes on in it.
`CounterTable` holds the compiled path's fixed counters; `Registry` holds families with labels, found by name.
"""

from __future__ import annotations

import mmap
import struct
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

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
)
# The slow path's own: a miss that found too many others waiting.
SLOW_PATH = ("drop_overload",)
COUNTERS = OUTCOMES + SLOW_PATH

_COUNTER = struct.Struct("=Q")
_ROW_SIZE = _COUNTER.size * len(COUNTERS)


class CounterTable:
    """Rows of counters in memory that forked processes share."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._memory = mmap.mmap(-1, rows * _ROW_SIZE)

    def row(self, index: int) -> memoryview:
        """The row of a worker, for its one writer."""
        return memoryview(self._memory)[index * _ROW_SIZE : (index + 1) * _ROW_SIZE]

    def totals(self) -> dict[str, int]:
        """Each counter, summed over all rows."""
        totals = [0] * len(COUNTERS)
        for index in range(self._rows):
            for at, (value,) in enumerate(_COUNTER.iter_unpack(self.row(index))):
                totals[at] += value
        return dict(zip(COUNTERS, totals, strict=True))


def increment(row: memoryview, counter: str) -> None:
    """Add one to a counter of a row this process writes."""
    at = COUNTERS.index(counter) * _COUNTER.size
    _COUNTER.pack_into(row, at, _COUNTER.unpack_from(row, at)[0] + 1)


# Families with labels

ROW_SIZE = 1 << 20  # octets of a process's cells; pages nobody wrote cost nothing
_HEADER = 16  # octets before a row's cells: how many are used, and how many found no place
_CELL = struct.Struct("=II")  # octets of the key, values
_SCRATCH = 64  # numbers at a row's end that take what finds no place

Labels = tuple[str, ...]
Merge = Literal["sum", "max"]


@dataclass(slots=True)
class Family:
    """A metric and the names of its labels."""

    registry: Registry
    name: str
    help: str
    kind: Literal["counter", "gauge", "histogram"]
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

    def observe(self, value: float, labels: Labels = ()) -> None:
        """Count a value into its bucket of a histogram."""
        place = self._place(labels)
        row = self.registry.row
        row[place + bisect_left(self.buckets, value)] += 1
        row[place + len(self.buckets) + 1] += value

    def total(self, labels: Labels = ()) -> float:
        """The value of a counter or gauge over all processes."""
        return self.registry.read().get((self.name, labels), [0.0])[0]

    def _place(self, labels: Labels) -> int:
        place = self._places.get(labels)
        if place is None:
            assert len(labels) == len(self.labels), f"{self.name}{self.labels} got {labels}"
            place = self._places[labels] = self.registry.reserve(self, labels)
        return place


class Registry:
    """The metrics of a service. Made before its processes are forked; each then attaches to a row of its own."""

    def __init__(self, rows: int = 1) -> None:
        self.families: dict[str, Family] = {}
        self._rows = rows
        self._memory = mmap.mmap(-1, (rows + 1) * ROW_SIZE)  # the last row is a process's that has none yet
        self.row: memoryview[float]
        self._octets: memoryview[int]
        self._found: dict[tuple[str, Labels], int] = {}
        self.attach(rows)

    def counter(self, name: str, help_text: str, labels: Sequence[str] = ()) -> Family:
        """A number that only grows. Asking for a name again gives the same family."""
        return self._family(Family(self, name, help_text, "counter", tuple(labels)))

    def gauge(self, name: str, help_text: str, labels: Sequence[str] = (), merge: Merge = "sum") -> Family:
        """A number that comes and goes, and with the process that set it."""
        return self._family(Family(self, name, help_text, "gauge", tuple(labels), merge=merge))

    def histogram(self, name: str, help_text: str, buckets: Sequence[float], labels: Sequence[str] = ()) -> Family:
        """How often values fell into each bucket, and their sum."""
        return self._family(Family(self, name, help_text, "histogram", tuple(labels), tuple(buckets)))

    def attach(self, row: int) -> None:
        """Write into a row from now on, and go on with what stands there; its gauges begin at nothing."""
        octets = memoryview(self._memory)[row * ROW_SIZE : (row + 1) * ROW_SIZE]
        self._octets, self.row = octets, octets.cast("d")
        self._found = {}
        for family in self.families.values():
            family._places.clear()
        for name, labels, place, count in _cells(octets):
            self._found[name, labels] = place
            known = self.families.get(name)
            if known is not None and known.kind == "gauge":
                self.row[place] = 0.0
                assert count == 1

    def reserve(self, family: Family, labels: Labels) -> int:
        """The place of a cell in this process's row: a new one at its end, or the one it has."""
        place = self._found.get((family.name, labels))
        if place is not None:
            return place
        key = "\0".join((family.name, *labels)).encode()
        start = int.from_bytes(self._octets[:8], "little") or _HEADER
        place = start + _CELL.size + (len(key) + 7 & ~7)
        end = place + 8 * family.values
        if end > ROW_SIZE - 8 * _SCRATCH:
            # Whoever invents labels must not take the memory of those who do not: the scratch of nobody's values.
            self._octets[8:16] = (int.from_bytes(self._octets[8:16], "little") + 1).to_bytes(8, "little")
            return ROW_SIZE // 8 - _SCRATCH
        self._octets[start + _CELL.size : start + _CELL.size + len(key)] = key
        _CELL.pack_into(self._octets, start, len(key), family.values)
        self._octets[:8] = end.to_bytes(8, "little")
        self._found[family.name, labels] = place // 8
        return place // 8

    def read(self) -> dict[tuple[str, Labels], list[float]]:
        """The values of every cell, those of all rows made one."""
        found: dict[tuple[str, Labels], list[float]] = {}
        for index in range(self._rows):
            octets = memoryview(self._memory)[index * ROW_SIZE : (index + 1) * ROW_SIZE]
            numbers = octets.cast("d")
            for name, labels, place, count in _cells(octets):
                values = list(numbers[place : place + count])
                known = found.get((name, labels))
                if known is None:
                    found[name, labels] = values
                    continue
                family = self.families.get(name)
                merge = max if family is not None and family.merge == "max" else float.__add__
                found[name, labels] = [merge(one, other) for one, other in zip(known, values, strict=True)]
        return found

    def _family(self, wanted: Family) -> Family:
        known = self.families.setdefault(wanted.name, wanted)
        assert (known.kind, known.labels) == (wanted.kind, wanted.labels), wanted.name
        return known


def _cells(octets: memoryview[int]) -> Iterator[tuple[str, Labels, int, int]]:
    """(family, label values, place of the first number, numbers) of each cell of a row."""
    at, end = _HEADER, int.from_bytes(octets[:8], "little")
    while at < end:
        size, count = _CELL.unpack_from(octets, at)
        name, *labels = bytes(octets[at + _CELL.size : at + _CELL.size + size]).decode().split("\0")
        place = at + _CELL.size + (size + 7 & ~7)
        yield name, tuple(labels), place // 8, count
        at = place + 8 * count
