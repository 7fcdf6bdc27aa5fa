"""What following a real control plane costs kdns, beside CoreDNS where there is one: `make figures`.

    python -m tests.live_controlplane.figures [--coredns PATH] [--services N --endpoints N ...] [FIGURE ...]

One control plane with a generated cluster; servers one after the other. Everything shares the machine's cores, the
control plane and what changes it among them: CPU times and what two servers have in common are what can be compared,
and a machine that does something else as well shows in every delay. The load average stands with the figures.

Figures: sync (cold, its memory, a full relist), changes (delays and CPU at --rate), large (CPU of one endpoint of the
largest Service), warm (a start from --state-dir), small (a cluster of 100 Services). What a steady load of queries
meets meanwhile, and 1,000 replayed changes a second, is asked by `python -m bench scenario churn,relist`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.cluster import Cluster, Service, Sizes, generate
from bench.errors import BenchError
from bench.latency import percentile
from bench.manifests import slice_objects
from bench.records import Question, service_name
from tests.controlplane.blocking import BlockingApi
from tests.controlplane.build import build_controlplane
from tests.controlplane.cluster import ADMIN, ControlPlane
from tests.controlplane.kinds import COLLECTIONS
from tests.live_controlplane.canary import Canary
from tests.live_controlplane.filling import CANARY, canary_objects, fill
from tests.live_controlplane.measured import WARM_LOOK_SECONDS, Measured

CHANGED_SLICES = 400
LARGE_RATE = 25.0  # changes a second of the largest Service
SETTLE_SECONDS = 3.0
LOOK_SECONDS = 0.05  # between two looks at the memory
RELIST_SECONDS = 60.0
COLD_STARTS = 3  # from nothing; the median counts, for other work goes on on the machine
WARM_STARTS = 5
SMALL = Sizes(services=100, endpoints=500, headless=10, largest=50)
WORKERS = 2


@dataclass
class Report:
    """Figures by server and name, in the order they were found."""

    found: dict[str, dict[str, str]] = field(default_factory=dict)

    def add(self, server: str, name: str, value: str) -> None:
        """Keep a figure, and show it."""
        self.found.setdefault(name, {})[server] = value
        print(f"{server:<8} {name:<58} {value}", flush=True)  # noqa: T201

    def table(self) -> str:
        """Everything, a line a figure."""
        servers = sorted({server for values in self.found.values() for server in values}, reverse=True)
        lines = [f"| figure | {' | '.join(servers)} |", f"|---|{'---|' * len(servers)}"]
        lines += [
            f"| {name} | {' | '.join(values.get(server, '') for server in servers)} |"
            for name, values in self.found.items()
        ]
        return "\n".join(lines)


@dataclass
class Stage:
    """A control plane with a cluster in it, and where servers may keep their files."""

    plane: ControlPlane
    cluster: Cluster
    folder: Path
    options: argparse.Namespace
    report: Report
    servers: int = 0

    @property
    def questions(self) -> list[Question]:
        """Names all over the cluster, of all kinds of objects; the canary was made last."""
        chosen = self.cluster.services[:: max(1, len(self.cluster.services) // 20)]
        return [*(Question(service_name(service), "A") for service in chosen), Question(service_name(_canary()), "A")]

    @contextmanager
    def serving(self, coredns: str = "", **details: Any) -> Iterator[Measured]:
        """A server of its own folder."""
        self.servers += 1
        with Measured(self.plane, self.folder / f"server-{self.servers}", coredns, **details) as measured:
            yield measured

    def changing(self, slices: list[dict[str, Any]], rate: float, seconds: float) -> subprocess.Popen[str]:
        """Begin to change slices in a process of its own."""
        path = self.folder / "slices.json"
        path.write_text(json.dumps(slices))
        command = [sys.executable, "-m", "tests.live_controlplane.changer", self.plane.url, str(self.plane.ca_file)]
        command += [self.plane.tokens[ADMIN], str(path), str(rate), str(seconds)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def measure_sync(stage: Stage, coredns: str) -> None:
    """Start with nothing, and then list everything a second time."""
    report = stage.report
    starts = []
    for _ in range(COLD_STARTS - 1):
        with stage.serving(coredns, workers=WORKERS) as server:
            starts.append(server.wait_known(stage.questions))
    with stage.serving(coredns, workers=WORKERS) as server:
        starts.append(server.wait_known(stage.questions))
        cpu = statistics.median(start.cpu_seconds for start in starts)
        report.add(server.name, "cold sync, CPU s (goal 2)", f"{cpu:.2f}")
        seconds = statistics.median(start.seconds for start in starts)
        report.add(server.name, "cold sync, clock s (goal 3)", f"{seconds:.2f}")
        time.sleep(SETTLE_SECONDS)
        before = server.memory()
        report.add(server.name, "resident after cold sync, PSS MB (goal 150)", f"{before.pss / 1024:.0f}")
        for title, values in before.processes.items():
            report.add(server.name, f"... {title.split(' (')[0]}, PSS MB", f"{values['pss'] / 1024:.0f}")
        with _watched_memory(server) as peak:
            seconds = _relist(stage, server)
        report.add(server.name, "full relist, clock s from the API server's return", f"{seconds:.1f}")
        growth = 100 * (max(peak) / before.pss - 1)
        report.add(server.name, "full relist, memory added at its peak % (goal 15)", f"{growth:.0f}")


def _relist(stage: Stage, server: Measured) -> float:
    """Have every version that the server knows forgotten; returns how long it takes to list all again."""
    plane, port = stage.plane, stage.plane.port
    plane.port = port + 1  # where the server does not look for it
    plane.restart()
    with BlockingApi(plane.api()) as api:
        changed = {"metadata": {"labels": {"at": str(time.monotonic())}}}
        for kind in ("Namespace", "Service", "EndpointSlice"):
            for _ in range(3):
                api.patch(kind, "" if kind == "Namespace" else CANARY, CANARY, changed)
        address = f"10.251.{stage.servers & 255}.{int(time.monotonic()) & 255}"
        api.apply(*canary_objects(address))
    plane.compact()
    plane.stop()
    plane.port = port
    plane.start()
    began = time.monotonic()
    with Canary(plane) as canary:
        canary.wait_address(server.port, address, RELIST_SECONDS)
    return time.monotonic() - began


@contextmanager
def _watched_memory(server: Measured) -> Iterator[list[int]]:
    """The most memory there was meanwhile, again and again."""
    found = [server.memory().pss]
    ending = threading.Event()

    def look() -> None:
        while not ending.wait(LOOK_SECONDS):
            with suppress(BenchError):  # a process ended while it was looked at
                found.append(server.memory().pss)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    yield found
    ending.set()
    thread.join()


def measure_changes(stage: Stage, coredns: str) -> None:
    """Endpoints come and go all over the cluster: how soon each is answered, and at what cost."""
    report, options = stage.report, stage.options
    slices = _slices(stage.cluster)
    with stage.serving(coredns, workers=1) as server:
        server.wait_known(stage.questions)
        time.sleep(SETTLE_SECONDS)
        with Canary(stage.plane) as canary:
            quiet = canary.measure(server.port, options.seconds)
            _add_delays(report, server.name, "quiet", quiet.seconds)
            changing = stage.changing(slices, options.rate, options.seconds + 2)
            time.sleep(2.0)
            _add_delays(report, server.name, "under changes", canary.measure(server.port, options.seconds).seconds)
            changing.communicate()
        _measure_cost(stage, server, slices, options.rate, "CPU a change, ms (goal 0.3)")


def _add_delays(report: Report, server: str, when: str, seconds: list[float]) -> None:
    ordered = sorted(value * 1000 for value in seconds)
    for wanted, goal in ((50.0, "1"), (99.0, "5")):
        name = f"event to answer, {when}, p{wanted:g} ms (goal {goal})"
        report.add(server, name, f"{percentile(ordered, wanted):.2f}")


def measure_large(stage: Stage, coredns: str) -> None:
    """One endpoint of the largest headless Service goes and comes back."""
    largest = max((s for s in stage.cluster.services if s.address is None), key=lambda s: s.endpoint_count)
    with stage.serving(coredns, workers=1) as server:
        server.wait_known(stage.questions)
        time.sleep(SETTLE_SECONDS)
        name = f"CPU a change of {largest.endpoint_count:,} endpoints, ms (goal 1)"
        _measure_cost(stage, server, _slices_of(largest), LARGE_RATE, name)


def _measure_cost(stage: Stage, server: Measured, slices: list[dict[str, Any]], rate: float, name: str) -> None:
    """The CPU of all processes for each change, what they use at rest taken off."""
    seconds = stage.options.seconds
    before = server.cpu_seconds
    time.sleep(seconds / 2)
    idle = (server.cpu_seconds - before) / (seconds / 2)
    before, began = server.cpu_seconds, time.monotonic()
    told, _ = stage.changing(slices, rate, seconds).communicate()
    time.sleep(1.0)
    used = server.cpu_seconds - before - idle * (time.monotonic() - began)
    made = json.loads(told)
    stage.report.add(server.name, name, f"{used * 1000 / made['changes']:.2f}")
    stage.report.add(server.name, f"... changes/s made, of {rate:g}", f"{made['changes'] / made['seconds']:.0f}")


def measure_warm(stage: Stage, coredns: str) -> None:
    """Start from what a former process kept, with the API server there and away."""
    if coredns:
        return
    state = stage.folder / "state"
    state.mkdir(exist_ok=True)
    arguments = ("--state-dir", str(state))
    with stage.serving(arguments=arguments) as server:
        server.wait_known(stage.questions)
    assert list(state.iterdir()), "nothing was kept"
    for when in ("is there", "is away"):
        if when == "is away":
            stage.plane.stop()
        starts = []
        for _ in range(WARM_STARTS):
            with stage.serving(arguments=arguments) as server:
                starts.append(server.wait_known(stage.questions[:1], WARM_LOOK_SECONDS))
        first = statistics.median(start.first_seconds for start in starts)
        cpu = statistics.median(start.cpu_seconds for start in starts)
        name = f"warm start to first answer, API server {when}, ms (goal 100)"
        stage.report.add("kdns", name, f"{first * 1000:.0f} ({cpu * 1000:.0f} of CPU)")
    stage.plane.start()


def measure_small(stage: Stage, coredns: str) -> None:
    """Memory with a small cluster."""
    with stage.serving(coredns, workers=WORKERS) as server:
        start = server.wait_known(stage.questions)
        time.sleep(SETTLE_SECONDS)
        report, memory = stage.report, server.memory()
        report.add(server.name, "small cluster: resident, PSS MB (goal 120)", f"{memory.pss / 1024:.0f}")
        report.add(server.name, "small cluster: start to its names, clock s", f"{start.seconds:.2f}")
        report.add(server.name, "small cluster: start to its names, CPU s", f"{start.cpu_seconds:.2f}")


MEASURES: dict[str, Callable[[Stage, str], None]] = {
    "sync": measure_sync,
    "changes": measure_changes,
    "large": measure_large,
    "warm": measure_warm,
    "small": measure_small,
}


def _slices(cluster: Cluster) -> list[dict[str, Any]]:
    """Slices with an endpoint to spare, of many Services."""
    chosen = [service for service in cluster.services if 2 <= service.endpoint_count <= 100]
    return [part for service in chosen[:CHANGED_SLICES] for part in _slices_of(service)[:1]]


def _slices_of(service: Service) -> list[dict[str, Any]]:
    return [
        {
            "path": COLLECTIONS["EndpointSlice"].path(service.namespace, raw["metadata"]["name"]),
            "endpoints": raw["endpoints"],
        }
        for raw in slice_objects(service)
    ]


def _canary() -> Service:
    return Service(CANARY, CANARY, None, (), 0, 1, False)


def run(sizes: Sizes, names: list[str], folder: Path, options: argparse.Namespace, report: Report) -> None:
    """Fill one control plane, and measure each server in it."""
    cluster = generate(sizes)
    with ControlPlane(build_controlplane(), folder / "controlplane") as plane:
        fill(plane, cluster)
        time.sleep(SETTLE_SECONDS)
        stage = Stage(plane, cluster, folder, options, report)
        for name in names:
            for coredns in dict.fromkeys(("", options.coredns)):
                MEASURES[name](stage, coredns)


def main() -> None:
    """Measure, and print a table."""
    sizes = Sizes()
    parser = argparse.ArgumentParser(
        prog="python -m tests.live_controlplane.figures",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("figures", nargs="*", default=list(MEASURES), metavar="FIGURE", help=", ".join(MEASURES))
    parser.add_argument("--coredns", default="", metavar="PATH", help="measure this CoreDNS as well")
    parser.add_argument("--services", type=int, default=sizes.services)
    parser.add_argument("--endpoints", type=int, default=sizes.endpoints)
    parser.add_argument("--headless", type=int, default=sizes.headless)
    parser.add_argument("--largest", type=int, default=sizes.largest)
    parser.add_argument("--rate", type=float, default=300.0, help="changes a second")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each phase")
    options = parser.parse_args()
    unknown = set(options.figures) - set(MEASURES)
    if unknown:
        parser.error(f"unknown figures {', '.join(sorted(unknown))}: expected some of {', '.join(MEASURES)}")
    report = Report()
    report.add("machine", "load average before", f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory(prefix="kdns-figures-") as name:
        large = [figure for figure in options.figures if figure != "small"]
        if large:
            wanted = Sizes(options.services, options.endpoints, options.headless, options.largest)
            run(wanted, large, Path(name) / "large", options, report)
        if "small" in options.figures:
            run(SMALL, ["small"], Path(name) / "small", options, report)
    report.add("machine", "load average after", f"{os.getloadavg()[0]:.1f}")
    print(report.table())  # noqa: T201


if __name__ == "__main__":
    main()
