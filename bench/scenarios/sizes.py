"""What a cluster's size costs: how long a server takes to follow it, with how much CPU, and what it then occupies."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import Any

from bench.api import ApiProcess
from bench.cluster import Sizes, generate
from bench.errors import BenchError
from bench.manifests import write_manifests
from bench.peers import PEERS, ClusterFiles
from bench.processes import read_memory
from bench.records import Question, Truth, service_name
from bench.scenarios.stage import Settings, ask_all, on_core

SERVICES = (100, 1_000, 10_000)  # and 100,000, which takes a quarter of an hour
ENDPOINTS_PER_SERVICE = 15
SYNC_SECONDS = 300.0  # for a server to follow the largest
SETTLE_SECONDS = 3.0  # between the first right answers and the reading of memory


@dataclass(frozen=True, slots=True)
class SizeCost:
    """What a cluster of one size came to."""

    services: int
    endpoints: int
    wall_seconds: float  # from the start of the process to right answers of the first and the last Service
    cpu_seconds: float
    pss_kib: int


def sizes_of(services: int, seed: int) -> Sizes:
    """A cluster of so many Services, a tenth of them headless, one of those large."""
    endpoints = services * ENDPOINTS_PER_SERVICE
    return Sizes(services, endpoints, max(1, services // 10), min(5_000, endpoints // 10), seed)


def measure_sizes(
    names: Sequence[str], counts: Sequence[int], settings: Settings, say: Callable[[str], None]
) -> dict[str, list[dict[str, Any]]]:
    """By server, what each size costs it. A server that fails at one size is told of and goes on with the next."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for count in counts:
        sized = replace(settings, sizes=sizes_of(count, settings.sizes.seed))
        cluster = generate(sized.sizes)
        manifests = settings.folder / f"manifests-{count}"
        write_manifests(cluster, manifests)
        truth = Truth(cluster)
        ends = [Question(service_name(service), "A") for service in (cluster.services[0], cluster.services[-1])]
        for name in names:
            say(f"{name} with {count:,} Services")
            try:
                cost = _measure(name, sized, ClusterFiles(manifests, {}), ask_all(ends, truth))
            except BenchError as error:
                say(f"{name} with {count:,} Services is left out: {error}")
            else:
                found[name].append(asdict(cost))
    return found


def _measure(name: str, settings: Settings, files: ClusterFiles, check: Callable[[int], None]) -> SizeCost:
    with ExitStack() as stack:
        stack.enter_context(on_core(settings.options.load_core))
        folder = settings.folder / f"{name}-{settings.sizes.services}"
        api = ApiProcess(files.manifests, folder, (settings.options.load_core,))
        stack.callback(api.stop)
        peer = PEERS[name](folder, replace(files, api_port=api.port))
        peer.workers = len(settings.options.server_cores)
        peer.start_seconds = SYNC_SECONDS
        stack.callback(peer.stop)
        peer.start(settings.options.server_cores, check)
        assert peer.started is not None
        time.sleep(SETTLE_SECONDS)
        pss = sum(read_memory(pid)["Pss"] for pid in peer.processes())
        sizes = settings.sizes
        return SizeCost(sizes.services, sizes.endpoints, peer.started.wall_seconds, peer.started.cpu_seconds, pss)


def render(found: dict[str, list[dict[str, Any]]]) -> str:
    """As lines to read."""
    lines = [f"{'Services':>10} {'endpoints':>10} {'server':<10} {'sync s':>8} {'CPU s':>8} {'PSS MiB':>9}"]
    lines += [
        f"{row['services']:>10,} {row['endpoints']:>10,} {name:<10} {row['wall_seconds']:8.2f}"
        f" {row['cpu_seconds']:8.2f} {row['pss_kib'] / 1024:9.1f}"
        for name, rows in found.items()
        for row in rows
    ]
    return "\n".join(lines)
