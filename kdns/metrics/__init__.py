"""Metrics every process adds to and the supervisor sums: shared memory, a row for each process, one writer a row.

A row outlives the process that wrote it, so a counter never goes back when a worker dies: its successor goes on in it.
`Registry` holds families with labels, found by name; `MeterTable` what is counted about queries, and `CounterTable`
what became of messages, both in fixed places, because the compiled path counts there as well.
"""

from kdns.metrics.counters import COUNTERS, OUTCOMES, SLOW_PATH, CounterTable, increment
from kdns.metrics.meters import MeterTable
from kdns.metrics.registry import Family, Labels, Merge, Registry, Values

__all__ = [
    "COUNTERS",
    "OUTCOMES",
    "SLOW_PATH",
    "CounterTable",
    "Family",
    "Labels",
    "Merge",
    "MeterTable",
    "Registry",
    "Values",
    "increment",
]
