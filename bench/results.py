"""What a bench found: samples by load and peer, as JSON to keep and as a table to read."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from bench.latency import Latencies
from bench.load import MAX_LOST, Sample

BASE = "knot"  # the peer that ratios are taken to
NOISY_SPREAD = 0.10  # of the median; beyond it a figure is marked as noisy
NOISY_STEAL = 0.02  # share of the server's core that other machines on the host took
NOISY_OTHERS = 0.05  # share of the server's core that other processes took
LOAD_BOUND = 0.97  # share of its core; a load that uses more sets the pace


@dataclass
class Results:
    """A whole run. `excluded` says why a peer was left out, of everything or of one load."""

    parameters: dict[str, Any]
    versions: dict[str, str] = field(default_factory=dict)
    commands: dict[str, str] = field(default_factory=dict)
    excluded: dict[str, str] = field(default_factory=dict)
    samples: dict[str, dict[str, list[Sample]]] = field(default_factory=dict)
    latencies: dict[str, dict[str, list[Latencies]]] = field(default_factory=dict)
    starts: dict[str, Any] = field(default_factory=dict)  # by peer: what it took to come up
    ceiling: float = 0.0  # queries dnsperf can send per second of its core, to the fastest of the peers
    scenarios: dict[str, dict[str, Any]] = field(default_factory=dict)  # by scenario and peer
    against: dict[str, Any] = field(default_factory=dict)  # of a server that ran already
    by_cores: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)  # by load, peer and number of cores
    memory: dict[str, Any] = field(default_factory=dict)
    table_costs: dict[str, Any] = field(default_factory=dict)
    started: datetime = field(default_factory=lambda: datetime.now(UTC))

    def add(self, load: str, peer: str, sample: Sample) -> None:
        """Keep a sample."""
        self.samples.setdefault(load, {}).setdefault(peer, []).append(sample)

    def write(self, folder: Path) -> Path:
        """Write everything to a file of its own in `folder`; a later call replaces what an earlier one wrote."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.started:%Y%m%dT%H%M%SZ}.json"
        document = {
            "started": self.started.isoformat(timespec="seconds"),
            "machine": machine(),
            "versions": self.versions,
            "parameters": self.parameters,
            "commands": self.commands,
            "excluded": self.excluded,
            "latencies": {
                load: {peer: [row.as_json() for row in rows] for peer, rows in by_peer.items()}
                for load, by_peer in self.latencies.items()
            },
            "starts": self.starts,
            "ceiling": self.ceiling,
            "scenarios": self.scenarios,
            "against": self.against,
            "by_cores": self.by_cores,
            "memory": self.memory,
            "table": self.table_costs,
            "loads": {
                load: {
                    peer: {**summary(samples), "samples": [sample.as_json() for sample in samples]}
                    for peer, samples in by_peer.items()
                }
                for load, by_peer in self.samples.items()
            },
        }
        partial = path.with_suffix(".part")
        partial.write_text(json.dumps(document, indent=1) + "\n")
        partial.replace(path)
        return path

    def table(self) -> str:
        """The medians by load and peer, with their ratios to the base peer."""
        head = f"{'load':<14} {'peer':<10} {'us/query':>8} {'user':>6} {'kernel':>6} {'spread':>6}"
        head += f" {'queries/s':>9} {'lost':>6} {'reply':>6} {'instr':>7} {'x ' + BASE:>6}  notes"
        return "\n".join([head, "-" * len(head), *self._rows()])

    def to_repeat(self) -> dict[str, list[str]]:
        """The loads with figures that are too noisy to quote, each with the peers."""
        found: dict[str, list[str]] = {}
        for load, by_peer in self.samples.items():
            for peer, samples in by_peer.items():
                if any(note.endswith(": repeat") for note in summary(samples)["notes"]):
                    found.setdefault(load, []).append(peer)
        return found

    def _rows(self) -> Iterator[str]:
        for load, by_peer in self.samples.items():
            base = summary(by_peer[BASE])["cost_us"] if BASE in by_peer else None
            for peer, samples in sorted(by_peer.items(), key=lambda item: item[0] != BASE):
                row = summary(samples)
                ratio = f"{row['cost_us'] / base:6.2f}" if base else "     -"
                instructions = "      -" if row["instructions"] is None else f"{row['instructions']:7,.0f}"
                yield (
                    f"{load:<14} {peer:<10} {row['cost_us']:8.2f} {row['user_us']:6.2f} {row['kernel_us']:6.2f}"
                    f" {row['spread']:6.1%} {row['queries_per_second']:9,.0f} {row['lost']:6.2%}"
                    f" {row['reply_bytes']:6.0f} {instructions} {ratio}  {', '.join(row['notes'])}"
                ).rstrip()
                if any(": " in title for title in row["processes_us"]):  # a server that names its processes
                    shares = (f"{title} {cost:.2f}" for title, cost in row["processes_us"].items())
                    yield f"{'':<22}of it {', '.join(shares)}"
        for what, reason in self.excluded.items():
            reason = reason.splitlines()[0]
            yield f"left out: {what}: {reason}"
        for peer, row in self.starts.items():
            yield (
                f"{peer:<10} answers after {row['wall_seconds']:.1f} s and {row['cpu_seconds']:.1f} s of CPU"
                f"{_memory_text(row)}"
            )
        if self.ceiling:
            yield f"dnsperf could send {self.ceiling:,.0f} queries/s with a core to itself"


def _memory_text(row: dict[str, Any]) -> str:
    return f"; {row['pss_kib'] / 1024:,.0f} MiB after its loads" if row.get("pss_kib") else ""


def summary(samples: list[Sample]) -> dict[str, Any]:
    """Medians over the rounds, the spread of the cost ((largest - smallest) / median), and what to distrust."""
    costs = [sample.cost_us for sample in samples]
    cost = median(costs)
    counted = [sample.instructions for sample in samples if sample.instructions is not None]
    titles = sorted({title for sample in samples for title in sample.processes_us})
    row: dict[str, Any] = {
        "cost_us": cost,
        "user_us": median(sample.user_us for sample in samples),
        "kernel_us": median(sample.kernel_us for sample in samples),
        "spread": (max(costs) - min(costs)) / cost if cost else 0.0,
        "queries_per_second": median(sample.traffic.completed / sample.traffic.seconds for sample in samples),
        "latency_us": median(sample.traffic.latency_us for sample in samples),
        "reply_bytes": median(sample.traffic.reply_bytes for sample in samples),
        "lost": sum(sample.traffic.lost for sample in samples) / max(1, sum(sample.traffic.sent for sample in samples)),
        "server_busy": median(sample.server_busy for sample in samples),
        "load_busy": median(sample.load_busy for sample in samples),
        "instructions": median(counted) if counted else None,
        "processes_us": {title: median(sample.processes_us.get(title, 0.0) for sample in samples) for title in titles},
    }
    row["steal"] = max(sample.steal for sample in samples)
    row["others"] = max(sample.others for sample in samples)
    # A server that waits for the load could answer more; what it would come to is told by how busy it was.
    is_bound = row["load_busy"] > LOAD_BOUND and 0 < row["server_busy"] < 1
    row["most_per_second"] = row["queries_per_second"] / (row["server_busy"] if is_bound else 1)
    row["notes"] = list(_notes(row))
    return row


def _notes(row: dict[str, Any]) -> Iterator[str]:
    if row["spread"] > NOISY_SPREAD or row["steal"] > NOISY_STEAL:
        yield "noisy: repeat"
    if row["others"] > NOISY_OTHERS:
        yield "core was shared: repeat"
    if row["lost"] > MAX_LOST:
        yield "lost queries"
    if row["load_busy"] > LOAD_BOUND:
        yield "load-bound"


def machine() -> dict[str, Any]:
    """What this machine is."""
    return {
        "processor": _field("/proc/cpuinfo", "model name"),
        "cores": os.cpu_count(),
        "memory": _field("/proc/meminfo", "MemTotal"),
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", platform.system()),
        "python": platform.python_version(),
        "load_average": os.getloadavg(),
    }


def _field(path: str, name: str) -> str:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "unknown")
