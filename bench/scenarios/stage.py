"""The stage of a scenario: a generated cluster behind an API server, a server that follows it, and a steady load.

The API server, the load and who watches share the load's core; the server under measurement has its own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.api import ApiProcess
from bench.cluster import Cluster, Sizes, generate
from bench.errors import PeerError
from bench.load import Options, measure
from bench.loads import LOADS, Load, write_questions
from bench.manifests import write_manifests
from bench.peers import ADDRESS, PEERS, ClusterFiles, Peer
from bench.records import Question, Truth, service_name
from bench.results import summary
from bench.scenarios.outcome import Outcome, Watched, summarize
from bench.scenarios.watcher import Watcher, stable_questions
from bench.steady import SteadyLoad
from bench.verify import ask_and_check

MAX_RATE = 40_000.0  # queries/s of a steady load: leaves the load's core to whom else it serves
MOST_SECONDS = 1  # to find a server's maximum, after as long a warm-up
KNOWN_SECONDS = 30.0  # for the canary to be answered at first
STABLE_SERVICES = 200  # whose answers are judged
READ_SECONDS = 0.5  # in which dnsperf reads its file of questions
LONGEST_SECONDS = 600.0  # of a load that nobody ended


@dataclass(frozen=True, slots=True)
class Settings:
    """How scenarios are played."""

    sizes: Sizes
    folder: Path
    share: int = 50  # percent of the server's maximum, of the steady load
    seconds: float = 10.0  # of the event
    calm_seconds: float = 5.0  # before it, and after it
    changes: float = 100.0  # a second, of a churn
    options: Options = field(default_factory=Options)


@dataclass(frozen=True, slots=True)
class Stage:
    """All that is on it."""

    settings: Settings
    cluster: Cluster
    truth: Truth
    peer: Peer
    watcher: Watcher
    api: ApiProcess | None

    @property
    def followed_api(self) -> ApiProcess:
        """The API server that the server follows."""
        assert self.api is not None, "this stage has an API server"
        return self.api

    def cpu_seconds(self) -> float:
        """What the server has used so far, those of its processes that ended included."""
        return sum(stat.total for stat in self.peer.tree().values())

    def play(
        self,
        load: Load,
        event: Callable[[], dict[str, float]],
        clients: int = 0,
        with_changes: bool = True,
    ) -> Outcome:
        """A calm, the event, and what comes after it, all under one steady load."""
        path = self.settings.folder / f"{load.name}.questions"
        write_questions(load.questions(self.cluster), path)
        options = self.settings.options
        measure(load, self.peer, path, MOST_SECONDS, options)
        most = summary([measure(load, self.peer, path, MOST_SECONDS, options)])["queries_per_second"]
        rate = min(most * self.settings.share / 100, MAX_RATE)
        self.watcher.seen = Watched()
        running = SteadyLoad(load, self.peer, path, rate, LONGEST_SECONDS, options, clients)
        try:
            time.sleep(READ_SECONDS)  # dnsperf reads its file first
            bounds, used = [time.time()], [self.cpu_seconds()]

            def end_phase() -> None:
                bounds.append(time.time())
                used.append(self.cpu_seconds())

            self.watcher.watch(self.settings.calm_seconds, with_changes)
            end_phase()
            facts = event()
            end_phase()
            self.watcher.watch(self.settings.calm_seconds, with_changes)
            end_phase()
            running.end()
            steady = running.wait()
        finally:
            running.stop()
        self.peer.check_running()
        return summarize(steady, bounds, used, most, self.watcher.seen, facts)


@contextmanager
def followed(name: str, settings: Settings, workers: int = 0) -> Iterator[Stage]:
    """A stage on which the server `name` follows an API server; `workers` other than one a core."""
    with ExitStack() as stack:
        stack.enter_context(on_core(settings.options.load_core))
        cluster = generate(settings.sizes)
        truth = Truth(cluster)
        folder = settings.folder / name
        manifests = settings.folder / "manifests"
        if not manifests.exists():
            write_manifests(cluster, manifests)
        api = ApiProcess(manifests, folder, (settings.options.load_core,))
        stack.callback(api.stop)
        peer = PEERS[name](folder, ClusterFiles(manifests, {}, api_port=api.port))
        peer.workers = workers or len(settings.options.server_cores)
        stack.callback(peer.stop)
        ends = [Question(service_name(service), "A") for service in (cluster.services[0], cluster.services[-1])]
        peer.start(settings.options.server_cores, ask_all(ends, truth))
        watcher = Watcher(peer, stable_questions(cluster, STABLE_SERVICES), truth, api)
        if not watcher.wait_known(KNOWN_SECONDS):
            raise PeerError(f"{name}: a new Service was not answered within {KNOWN_SECONDS:.0f} s")
        yield Stage(settings, cluster, truth, peer, watcher, api)


def ask_all(questions: Sequence[Question], truth: Truth) -> Callable[[int], None]:
    """A check of a port: each of the questions is answered rightly there."""

    def check(port: int) -> None:
        for question in questions:
            ask_and_check(ADDRESS, port, question, truth)

    return check


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Keep this process, and what it starts without a core of its own, on `core`."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


HITS = LOADS["hits"]
