"""What is counted about the queries of a zone, by the compiled path and by the slow one: a meter in a fixed place.

A meter belongs to a zone of a listener, in a server block with `prometheus`. It is a struct of unsigned 64-bit numbers
(struct Meter in hotpath/meter.pxd; the order here is that of the struct), one for each process that serves.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

MAX_METERS = 4096  # zones of listeners; of what is beyond, only the responses are counted

PROTOCOLS = ("udp", "tcp")
FAMILIES = ("1", "2")  # IPv4, IPv6
# The types that are told apart, as CoreDNS tells them.
TYPES = (
    "A", "AAAA", "CNAME", "DNSKEY", "DS", "MX", "NSEC3", "NSEC", "NS", "PTR", "RRSIG", "SOA", "SRV", "TXT", "HTTPS",
    "SVCB", "IXFR", "AXFR", "ANY", "other",
)  # fmt: skip
# What answers on the compiled path, as the label `plugin` names it.
WRITERS = ("", "kubernetes", "cache", "k8s_external", "forward")
RCODES = 16  # those a header can hold

DURATION_BUCKETS = tuple(0.00025 * 2**power for power in range(16))  # seconds; up to 8.192
SIZE_BUCKETS = (0, 100, 200, 300, 400, 511, 1023, 2047, 4095, 8291, 16_000, 32_000, 48_000, 64_000)  # octets

DROPPED = "dropped"  # the zone of queries no server block takes; without a dot it is no zone


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a meter: where its numbers begin, and how many there are."""

    at: int
    count: int


_COUNTS = {
    "requests": len(PROTOCOLS) * len(FAMILIES) * len(TYPES),
    "dnssec_ok": 1,
    "responses": len(WRITERS) * RCODES,
    "durations": len(DURATION_BUCKETS) + 1,
    "nanoseconds": 1,
    "request_sizes": len(PROTOCOLS) * (len(SIZE_BUCKETS) + 1),
    "request_octets": len(PROTOCOLS),
    "response_sizes": len(PROTOCOLS) * (len(SIZE_BUCKETS) + 1),
    "response_octets": len(PROTOCOLS),
    "pending": 1,  # queries of the batch under way, whose duration is not known yet
}


def _fields() -> dict[str, Field]:
    fields, at = {}, 0
    for name, count in _COUNTS.items():
        fields[name] = Field(at, count)
        at += count
    return fields


FIELDS = _fields()
NUMBERS = sum(_COUNTS.values())
METER_SIZE = 8 * NUMBERS  # octets


class MeterTable:
    """A row of meters for each process that serves; the supervisor numbers them before it forks."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._memory = mmap.mmap(-1, rows * MAX_METERS * METER_SIZE)  # pages nobody wrote cost nothing
        self._numbers: dict[tuple[str, str], int] = {}

    def number(self, server: str, zone: str) -> int | None:
        """The number of a zone's meter, the same at each call; None where there are too many."""
        known = self._numbers.get((server, zone))
        if known is None and len(self._numbers) < MAX_METERS:
            known = self._numbers[server, zone] = len(self._numbers)
        return known

    def row(self, index: int | None) -> memoryview:
        """The meters of a process that have a number by now, for it to write; None: of one nobody reads."""
        size = max(1, len(self._numbers)) * METER_SIZE
        if index is None:
            return memoryview(bytearray(size))
        start = index * MAX_METERS * METER_SIZE
        return memoryview(self._memory)[start : start + size]

    def read(self) -> Iterator[tuple[str, str, Sequence[int]]]:
        """(server, zone, numbers) of each meter, those of all rows summed."""
        numbers = memoryview(self._memory).cast("Q")
        for (server, zone), number in list(self._numbers.items()):  # a reload adds some in a thread
            starts = ((row * MAX_METERS + number) * NUMBERS for row in range(self._rows))
            rows = [numbers[start : start + NUMBERS].tolist() for start in starts]
            yield server, zone, [sum(values) for values in zip(*rows, strict=True)]


def labelled_requests() -> list[tuple[str, str, str]]:
    """(proto, family, type) of each number of the field `requests`."""
    return list(product(PROTOCOLS, FAMILIES, TYPES))
