"""How long does an answer take? At fixed shares of what each server can do at most, every query's own time.

dnsperf sends at a steady rate, whatever comes back, and reports each query (`-v`); percentiles are of all of them. The
rate is a share of the server's own maximum, which is measured first: equal shares compare how servers queue, not how
many queries they could take.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from array import array
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from bench.errors import BenchError
from bench.load import Options
from bench.loads import Load, Sender
from bench.peers import ADDRESS, Peer
from bench.processes import pin_tree

SHARES = (30, 50, 70, 90)  # percent of the server's maximum
PERCENTILES = (50.0, 99.0, 99.9)
OUTSTANDING = 4_096  # queries under way at most: more than a server at 90 % ever lets wait
BUFFER_KILOBYTES = "2048"  # of the socket of the sender, so that it loses nothing while it is busy sending
RUN_LIMIT_SECONDS = 30.0  # beyond the asked time
MAX_RATE_ERROR = 0.03  # of the rate asked for; a sender that misses it set the pace itself

_REPORT = re.compile(rb"^> \S+ \S+ \S+ ([0-9.]+)$")


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


def latencies(load: Load, peer: Peer, questions: Path, share: int, most: float, options: Options) -> Latencies:
    """Send `share` percent of `most` queries per second; raises BenchError where the sender could not."""
    if load.sender not in (Sender.UDP, Sender.EDNS):
        raise BenchError(f"{load.name}: latencies are measured over UDP")
    rate = most * share / 100
    command = [
        *("dnsperf", "-v", "-s", ADDRESS, "-p", str(peer.port), "-d", str(questions), "-l", str(options.seconds)),
        *(
            "-Q",
            str(round(rate)),
            "-q",
            str(OUTSTANDING),
            "-b",
            BUFFER_KILOBYTES,
            "-c",
            str(options.clients),
            "-T",
            "1",
            "-t",
            "2",
        ),
        *(["-e"] if load.sender is Sender.EDNS else []),
    ]
    pin_tree(peer.pid, options.server_core)
    with tempfile.TemporaryFile() as output:
        try:
            subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=options.seconds + RUN_LIMIT_SECONDS,
                check=False,
                preexec_fn=lambda: os.sched_setaffinity(0, {options.load_core}),
            )
        except subprocess.TimeoutExpired as error:
            raise BenchError(f"{' '.join(command)}: still running") from error
        peer.check_running()
        output.seek(0)
        times, rest = _read(output)
    sent, seconds = _number(rest, "Queries sent"), _number(rest, r"Run time \(s\)")
    if abs(sent / seconds - rate) > MAX_RATE_ERROR * rate:
        raise BenchError(f"{load.name} at {share} %: sent {sent / seconds:,.0f} queries/s, {rate:,.0f} were asked for")
    if not times:
        raise BenchError(f"{load.name} at {share} %: no query was answered")
    ordered = sorted(times)
    p50, p99, p999 = (percentile(ordered, wanted) * 1e6 for wanted in PERCENTILES)
    return Latencies(
        share, sent / seconds, len(times), int(_number(rest, "Queries lost")), p50, p99, p999, ordered[-1] * 1e6
    )


def percentile(ordered: list[float], wanted: float) -> float:
    """The smallest of the ordered values that at least `wanted` percent of them do not exceed."""
    place = -(-len(ordered) * wanted // 100)
    return ordered[max(0, min(len(ordered) - 1, int(place) - 1))]


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


def _read(output: IO[bytes]) -> tuple[array[float], str]:
    """The seconds each answered query took, and dnsperf's other lines."""
    times: array[float] = array("d")
    rest = []
    for line in output:
        match = _REPORT.match(line.rstrip())
        if match is None:
            rest.append(line.decode(errors="replace"))
        else:
            times.append(float(match[1]))
    return times, "".join(rest)


def _number(text: str, label: str) -> float:
    match = re.search(rf"^\s*{label}:?\s+([0-9.]+)", text, re.MULTILINE)
    if match is None:
        raise BenchError(f"dnsperf printed no {label!r}: {text.strip().splitlines()[-1:] or 'nothing'}")
    return float(match[1])
