"""What does a server that runs already answer, how fast, and at what cost? Questions from anywhere, no judge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import dns.exception
import dns.message
import dns.query
import dns.rcode

from bench.errors import BenchError
from bench.latency import Latencies, latencies
from bench.load import Options, Sample, measure
from bench.loads import Load
from bench.records import Question
from bench.results import NOISY_SPREAD, summary
from bench.target import Stranger

PROBE_SECONDS = 2.0  # for the one answer that shows there is a server
PROBES = 3  # questions that are tried for it
WARM_UP_SECONDS = 1


@dataclass
class Found:
    """What was measured; costs only of a server whose process is known."""

    server: str
    has_costs: bool
    samples: list[Sample] = field(default_factory=list)
    latencies: list[Latencies] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)  # latencies that could not be measured, and why

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        return {**asdict(self), "samples": [sample.as_json() for sample in self.samples]}

    def render(self) -> str:
        """As lines to read."""
        row = summary(self.samples)
        rcodes: Counter[str] = Counter()
        for sample in self.samples:
            rcodes.update(sample.traffic.rcodes)
        total = max(1, rcodes.total())
        lines = [
            f"{self.server}: {row['queries_per_second']:,.0f} queries/s, {row['latency_us']:,.0f} us on average,"
            f" {row['reply_bytes']:.0f} octets a reply, {row['lost']:.2%} lost",
            "rcodes: " + ", ".join(f"{rcode} {count / total:.1%}" for rcode, count in rcodes.most_common()),
        ]
        if self.has_costs:
            lines.append(
                f"CPU: {row['cost_us']:.2f} us a query ({row['user_us']:.2f} user, {row['kernel_us']:.2f} kernel),"
                f" spread {row['spread']:.1%}"
            )
        lines += [
            f"at {entry.share:2} % ({entry.rate:,.0f} queries/s): p50 {entry.p50_us:,.0f} us, p99 {entry.p99_us:,.0f},"
            f" p99.9 {entry.p999_us:,.0f}, max {entry.max_us:,.0f}; {entry.lost:,} lost"
            for entry in self.latencies
        ]
        lines += [f"not measured: {reason}" for reason in self.refused]
        # Which cores a stranger runs on is not known, so how busy others kept them is not either.
        notes = [note for note in row["notes"] if note in ("load-bound", "lost queries")]
        if self.has_costs and row["spread"] > NOISY_SPREAD:
            notes.append("noisy: repeat")
        return "\n".join([*lines, *([f"mind: {', '.join(notes)}"] if notes else [])])


def measure_stranger(
    server: Stranger,
    load: Load,
    questions: Path,
    rounds: int,
    shares: Sequence[int],
    options: Options,
    say: Callable[[str], None],
) -> Found:
    """A warm-up, the rounds, then latencies at shares of what the server was seen to do."""
    found = Found(server.name, bool(server.tree()))
    measure(load, server, questions, WARM_UP_SECONDS, options)
    for number in range(rounds):
        say(f"{server.name}: round {number + 1} of {rounds}")
        found.samples.append(measure(load, server, questions, options.seconds, options))
    most = summary(found.samples)["queries_per_second"]
    for share in shares:
        say(f"{server.name}: latencies at {share} %")
        try:
            found.latencies.append(latencies(load, server, questions, share, most, options))
        except BenchError as error:
            found.refused.append(str(error))
    return found


def check_answers(server: Stranger, questions: Sequence[Question]) -> str:
    """The rcode of the first answer; raises BenchError if nothing comes back."""
    failure = "no answer"
    for question in questions[:PROBES]:
        query = dns.message.make_query(question.name, question.type)
        try:
            reply = dns.query.udp(query, server.address, PROBE_SECONDS, server.port, ignore_trailing=True)
        except (OSError, dns.exception.DNSException) as error:
            failure = str(error) or type(error).__name__
            continue
        return dns.rcode.to_text(reply.rcode())
    raise BenchError(f"{server.name} answers nothing ({failure}); is a name server running there?")
