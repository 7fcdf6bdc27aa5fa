"""What the senders of loads print, read."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from bench.errors import BenchError


@dataclass(frozen=True, slots=True)
class Traffic:
    """What the sender of a load counted."""

    sent: int
    completed: int
    lost: int
    seconds: float
    rcodes: dict[str, int]
    request_bytes: float
    reply_bytes: float
    latency_us: float  # mean


def parse_dnsperf(output: str) -> Traffic:
    """Read what dnsperf prints at its end; raises BenchError if it did not get so far."""
    rcodes = re.search(r"^\s*Response codes:(.*)$", output, re.MULTILINE)
    sizes = re.search(r"Average packet size:\s+request (\d+), response (\d+)", output)
    return Traffic(
        sent=int(dnsperf_number(output, "Queries sent")),
        completed=int(dnsperf_number(output, "Queries completed")),
        lost=int(dnsperf_number(output, "Queries lost")),
        seconds=dnsperf_number(output, r"Run time \(s\)"),
        rcodes={name: int(count) for name, count in re.findall(r"([A-Z]+\d*) (\d+)", rcodes[1])} if rcodes else {},
        request_bytes=float(sizes[1]) if sizes else 0.0,
        reply_bytes=float(sizes[2]) if sizes else 0.0,
        latency_us=dnsperf_number(output, r"Average Latency \(s\)") * 1e6,
    )


def dnsperf_number(output: str, label: str) -> float:
    """The number dnsperf prints after `label`, a regular expression."""
    match = re.search(rf"^\s*{label}:?\s+([0-9.]+)", output, re.MULTILINE)
    if match is None:
        lines = [line for line in output.splitlines() if line.strip()]
        raise BenchError(f"dnsperf printed no {label!r}: {lines[-1] if lines else 'nothing at all'}")
    return float(match[1])


def parse_flood(output: str) -> Traffic:
    """Read what `bench.flood` and `bench.bulk` print."""
    try:
        result = json.loads(output)
    except ValueError as error:
        raise BenchError(f"the sender failed: {output.strip()[-200:] or 'nothing printed'}") from error
    return Traffic(
        sent=result["sent"],
        completed=result["answered"],
        lost=result["lost"],
        seconds=result["seconds"],
        rcodes=result["rcodes"],
        request_bytes=result["request_bytes"],
        reply_bytes=result["reply_bytes"],
        latency_us=0.0,
    )
