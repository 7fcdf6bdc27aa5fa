"""What came of a scenario: in figures to keep, and in lines to read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

from bench.steady import Steady, percentile

PHASES = ("calm", "event", "after")
EXAMPLES = 5  # of wrong answers that are kept


@dataclass
class Watched:
    """What the watcher saw."""

    delays_ms: list[float] = field(default_factory=list)  # of changes, from being sent to being answered
    unseen: int = 0  # changes that were not answered in time
    asked: int = 0  # questions that were judged
    unanswered: int = 0
    wrong: int = 0
    examples: list[str] = field(default_factory=list)

    def add_wrong(self, what: str) -> None:
        """Note a wrong answer."""
        self.wrong += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(what)


@dataclass
class Outcome:
    """A whole scenario on one server."""

    rate: float  # of the steady load
    most: float  # queries per second the server was seen to answer before
    sent: int
    lost: int
    rcodes: dict[str, int]
    phases: dict[str, dict[str, float]]  # by phase: seconds, percentiles, lost, CPU
    timeline: list[tuple[float, float, float, int]]  # seconds since the event, answers/s, p99 in us, lost
    marks: list[float]  # when the event began and ended, in seconds since it began
    watched: Watched
    load_busy: float
    facts: dict[str, float] = field(default_factory=dict)  # what else this scenario tells, by name with its unit

    @property
    def foreign(self) -> int:
        """Answers of the load with another rcode than NOERROR, which all of them should have."""
        return sum(count for rcode, count in self.rcodes.items() if rcode != "NOERROR")

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    def render(self) -> Iterator[str]:
        """As lines to read."""
        watched = self.watched
        yield (
            f"    load {self.rate:,.0f} queries/s ({self.rate / self.most:.0%} of its maximum); of {self.sent:,} sent"
            f" {self.lost:,} lost, {self.foreign:,} answered with another rcode than NOERROR"
        )
        yield (
            f"    {watched.asked:,} answers judged: {watched.wrong:,} wrong, {watched.unanswered:,} missing"
            + (f" ({watched.examples[0]})" if watched.examples else "")
        )
        if watched.delays_ms or watched.unseen:
            yield f"    change to answer: {delays_text(watched.delays_ms)}; {watched.unseen} not within the limit"
        for name, row in self.phases.items():
            yield (
                f"    {name:<6} {row['seconds']:5.1f} s  p50 {row['p50_us']:7,.0f} us  p99 {row['p99_us']:8,.0f}"
                f"  p99.9 {row['p999_us']:8,.0f}  max {row['max_us']:9,.0f}  lost {row['lost']:6,.0f}"
                f"  CPU {row['cpu_share']:.0%}"
            )
        if self.facts:
            yield "    " + ", ".join(f"{name} {value:,.1f}" for name, value in self.facts.items())
        if self.load_busy > 0.9:
            yield f"    mind: the load's core was {self.load_busy:.0%} busy with the load alone; lower --share"


def delays_text(delays_ms: list[float]) -> str:
    """The percentiles of delays, in milliseconds."""
    if not delays_ms:
        return "never seen"
    ordered = sorted(delays_ms)
    parts = (f"p{wanted:g} {percentile(ordered, wanted):.1f}" for wanted in (50, 90, 99))
    return f"{', '.join(parts)}, max {ordered[-1]:.1f} ms of {len(ordered)}"


def summarize(
    steady: Steady,
    bounds: list[float],
    cpu_seconds: list[float],
    most: float,
    watched: Watched,
    facts: dict[str, float],
) -> Outcome:
    """The outcome of a load whose phases began and ended at `bounds` (times of day), with the CPU used until each."""
    phases = {}
    for name, (start, end), (used, used_then) in zip(PHASES, pairwise(bounds), pairwise(cpu_seconds), strict=True):
        times = steady.times(start, end)
        p50, p99, p999 = (percentile(times, wanted) * 1e6 if times else 0.0 for wanted in (50.0, 99.0, 99.9))
        phases[name] = {
            "seconds": end - start,
            "answered": float(len(times)),
            "p50_us": p50,
            "p99_us": p99,
            "p999_us": p999,
            "max_us": times[-1] * 1e6 if times else 0.0,
            "lost": float(sum(part.lost for part in steady.intervals if start <= part.end < end)),
            "cpu_share": (used_then - used) / (end - start),
        }
    timeline: list[tuple[float, float, float, int]] = []
    for before, part in pairwise(steady.intervals):
        seconds = max(1e-3, part.end - before.end)
        ordered = sorted(part.seconds)
        p99 = percentile(ordered, 99.0) * 1e6 if ordered else 0.0
        timeline.append((round(part.end - bounds[1], 3), round(len(ordered) / seconds), round(p99), part.lost))
    return Outcome(
        rate=steady.rate,
        most=most,
        sent=steady.sent,
        lost=steady.lost,
        rcodes=dict(Counter(steady.rcodes)),
        phases=phases,
        timeline=timeline,
        marks=[0.0, round(bounds[2] - bounds[1], 3)],
        watched=watched,
        load_busy=steady.load_busy,
        facts=facts,
    )
