"""What does a query cost kdns, and what does it cost its peers? All of them, alternating, in the same minutes."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from bench.cluster import Cluster, Sizes, generate
from bench.errors import BenchError, PeerError
from bench.load import Options, check_dnsperf, dnsperf_version, measure
from bench.loads import Load, Sender, write_questions
from bench.manifests import write_manifests
from bench.peers import ADDRESS, ClusterFiles, Kdns, Peer
from bench.processes import check_cores
from bench.records import Question, Truth, service_name
from bench.results import Results
from bench.verify import is_answering, verify, verify_malformed
from bench.zones import write_zones

WARM_UP_SECONDS = 1  # for each load and peer, not counted
OVERHEAD_SECONDS = 0.5  # of a sample beyond its load; for the estimate of the time left


def run(
    loads: list[Load], peers: list[type[Peer]], sizes: Sizes, rounds: int, options: Options, folder: Path, results: Path
) -> Results:
    """Measure `loads` on `peers` with files in `folder`; what was found stands in `results` after every load."""
    check_dnsperf()
    check_cores(options.server_core, options.load_core)
    found = Results({"sizes": asdict(sizes), "rounds": rounds, **asdict(options)}, {"load": dnsperf_version()})
    usable = _usable(peers, found)
    say(f"cluster of {sizes.services:,} Services and {sizes.endpoints:,} endpoints, seed {sizes.seed}")
    cluster = generate(sizes)
    truth = Truth(cluster)
    files = write_files(cluster, folder, usable)
    with ExitStack() as stack:
        running = _start(usable, files, folder, _probe(cluster, truth), options, found, stack)
        progress = Progress(len(loads), rounds, options)
        try:
            for load in loads:
                _measure_load(load, running, cluster, truth, rounds, options, folder, found, progress)
                say(f"results so far: {found.write(results)}")
        finally:
            if found.samples:
                found.write(results)
    return found


class Progress:
    """Says on stderr what runs now, and how much time is left."""

    def __init__(self, loads: int, rounds: int, options: Options) -> None:
        self._loads_left = loads
        self._sample_seconds = options.seconds + OVERHEAD_SECONDS
        self._load_seconds = rounds * self._sample_seconds + WARM_UP_SECONDS + OVERHEAD_SECONDS

    def next_load(self) -> None:
        """Another load begins."""
        self._loads_left -= 1

    def step(self, what: str, samples_left: int, peers: int) -> None:
        """Another sample begins, with `samples_left` more of this load, and later loads for `peers` servers."""
        left = samples_left * self._sample_seconds + self._loads_left * peers * self._load_seconds
        say(f"{what:<44} {left / 60:5.1f} min left")


def say(text: str) -> None:
    """Tell whoever waits."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def write_files(cluster: Cluster, folder: Path, peers: list[type[Peer]]) -> ClusterFiles:
    """Write what `peers` read of the cluster."""
    folder.mkdir(parents=True, exist_ok=True)
    manifests = folder / "manifests"
    if any(issubclass(peer, Kdns) for peer in peers):
        write_manifests(cluster, manifests)
    reads_zones = any(not issubclass(peer, Kdns) for peer in peers)
    return ClusterFiles(manifests, write_zones(cluster, folder / "zones") if reads_zones else {})


def _probe(cluster: Cluster, truth: Truth) -> tuple[list[Question], Truth]:
    """The questions a server answers rightly once it has read everything: its first and its last name."""
    services = (cluster.services[0], cluster.services[-1])
    return [Question(service_name(service), "SRV" if service.address else "A") for service in services], truth


def _usable(peers: list[type[Peer]], found: Results) -> list[type[Peer]]:
    usable = []
    for peer in peers:
        try:
            found.versions[peer.name] = peer.version()
        except PeerError as error:
            found.excluded[peer.name] = str(error)
            say(str(error))
        else:
            usable.append(peer)
    if not usable:
        raise BenchError("none of the peers can be run: " + "; ".join(found.excluded.values()))
    return usable


def _start(
    peers: list[type[Peer]],
    files: ClusterFiles,
    folder: Path,
    probe: tuple[list[Question], Truth],
    options: Options,
    found: Results,
    stack: ExitStack,
) -> list[Peer]:
    questions, truth = probe
    running = []
    for kind in peers:
        peer = kind(folder / kind.name, files)
        stack.callback(peer.stop)
        start = time.monotonic()
        try:
            peer.start(
                options.server_core,
                lambda port: all(is_answering(ADDRESS, port, question, truth) for question in questions),
            )
        except PeerError as error:
            found.excluded[kind.name] = str(error)
            say(str(error))
            continue
        say(f"{kind.name} answers after {time.monotonic() - start:.1f} s: {found.versions[kind.name]}")
        found.commands[kind.name] = " ".join(peer.command())
        running.append(peer)
    if not running:
        raise BenchError("none of the peers came up: " + "; ".join(found.excluded.values()))
    return running


def _measure_load(
    load: Load,
    running: list[Peer],
    cluster: Cluster,
    truth: Truth,
    rounds: int,
    options: Options,
    folder: Path,
    found: Results,
    progress: Progress,
) -> None:
    """All rounds of one load. A peer that answers wrongly or dies is left out of the rest of them."""
    progress.next_load()
    try:
        questions = load.questions(cluster)
    except BenchError as error:
        found.excluded[load.name] = str(error)
        say(f"{load.name} is left out: {error}")
        return
    path = folder / f"{load.name}.questions"
    write_questions(questions, path)
    peers = list(running)
    for number in range(rounds + 1):
        turn = number % max(1, len(peers))  # each round begins with another peer
        order = peers[turn:] + peers[:turn]
        for place, peer in enumerate(order):
            seconds = options.seconds if number else WARM_UP_SECONDS
            what = f"round {number} of {rounds}" if number else "warm-up"
            samples_left = (rounds - number) * len(peers) + len(order) - place
            try:
                if not number:
                    _verify(load, peer, questions, truth)
                progress.step(f"{load.name} on {peer.name}, {what}", samples_left, len(running))
                sample = measure(load, peer, path, seconds, options)
            except BenchError as error:
                found.excluded[f"{peer.name} in {load.name}"] = str(error)
                say(f"{peer.name} is out of {load.name}: {error}")
                peers.remove(peer)
                if not peer.is_running():
                    running.remove(peer)
                continue
            if number:
                found.add(load.name, peer.name, sample)


def _verify(load: Load, peer: Peer, questions: list[Question], truth: Truth) -> None:
    peer.check_running()
    if load.sender is Sender.MALFORMED:
        verify_malformed(ADDRESS, peer.port)
    else:
        verify(ADDRESS, peer.port, questions, truth, over_tcp=load.sender is Sender.TCP)
