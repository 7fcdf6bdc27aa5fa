"""How long does an answer take? At fixed shares of what each server can do at most, every query's own time.

dnsperf sends at a steady rate, whatever comes back, and reports each query (`-v`); percentiles are of all of them. The
rate is a share of the server's own maximum, which is measured first: equal shares compare how servers queue, not how
many queries they could take.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from bench.load import Options
from bench.loads import Load
from bench.steady import SteadyLoad, percentile
from bench.target import Target

SHARES = (30, 50, 70, 90)  # percent of the server's maximum
PERCENTILES = (50.0, 99.0, 99.9)
MAX_RATE_ERROR = 0.03  # of the rate asked for; a sender that misses it set the pace itself
MAX_LOAD_BUSY = 0.90  # share of its core; a sender that uses more adds waits of its own to what it measures


@dataclass(frozen=True, slots=True)
class Latencies:
    """Times of the answers at one rate, in microseconds."""

    share: int  # percent of the server's maximum
    rate: float  # queries sent per second
    answered: int
    lost: int
    p50_us: float
    p99_us: float
    p999_us: float
    max_us: float

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def latencies(load: Load, target: Target, questions: Path, share: int, most: float, options: Options) -> Latencies:
    """Send `share` percent of `most` queries per second; raises BenchError where the sender came to its own limit."""
    rate = most * share / 100
    target.pin(options.server_cores)
    running = SteadyLoad(load, target, questions, rate, options.seconds, options)
    try:
        found = running.wait()
    finally:
        running.stop()
    target.check_running()
    what = f"{load.name} at {share} %"
    if abs(found.rate - rate) > MAX_RATE_ERROR * rate:
        raise BenchError(f"{what}: sent {found.rate:,.0f} queries/s, {rate:,.0f} were asked for: the load's limit")
    if found.load_busy > MAX_LOAD_BUSY:
        raise BenchError(
            f"{what}: the load's core was {found.load_busy:.0%} busy: its waits would count as the server's"
        )
    ordered = found.times()
    if not ordered:
        raise BenchError(f"{what}: no query was answered")
    p50, p99, p999 = (percentile(ordered, wanted) * 1e6 for wanted in PERCENTILES)
    return Latencies(share, found.rate, len(ordered), found.lost, p50, p99, p999, ordered[-1] * 1e6)


def check_ceiling(load: Load, share: int, most: float, ceiling: float) -> None:
    """Raise BenchError where the rate would be more than dnsperf can send without getting in its own way."""
    if ceiling and most * share / 100 > MAX_LOAD_BUSY * ceiling:
        raise BenchError(
            f"{load.name} at {share} %: {most * share / 100:,.0f} queries/s are too near to what dnsperf can send"
            f" ({ceiling:,.0f}): its waits would count as the server's"
        )


def table(found: dict[str, dict[str, list[Latencies]]]) -> str:
    """Percentiles by load, peer and share."""
    head = f"{'load':<12} {'peer':<10} {'share':>5} {'queries/s':>9} {'p50':>8} {'p99':>8} {'p99.9':>8} {'max':>8}"
    lines = [head + " us     lost", "-" * (len(head) + 12)]
    for load, by_peer in found.items():
        for peer, rows in by_peer.items():
            lines += [
                f"{load:<12} {peer:<10} {row.share:4} % {row.rate:9,.0f} {row.p50_us:8,.0f} {row.p99_us:8,.0f}"
                f" {row.p999_us:8,.0f} {row.max_us:8,.0f} {row.lost:8,}"
                for row in rows
            ]
    return "\n".join(lines)
