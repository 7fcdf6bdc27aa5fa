"""What does a query cost kdns, and what does it cost its peers? All of them, alternating, in the same minutes."""

from __future__ import annotations

import sys
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import asdict, replace
from itertools import count
from pathlib import Path

from bench.cluster import Cluster, Sizes, generate
from bench.errors import BenchError, PeerError, StalledError
from bench.latency import check_ceiling, latencies
from bench.load import Options, Sample, check_dnsperf, check_flow, dnsperf_version, measure
from bench.loads import Load, Sender, write_questions
from bench.manifests import write_manifests
from bench.outside import OUTSIDE_ZONE, write_outside_zone
from bench.peers import ADDRESS, ClusterFiles, Knot, Peer
from bench.processes import check_cores, read_memory
from bench.records import Question, Truth, service_name
from bench.results import Results, summary
from bench.verify import ask_and_check, verify, verify_malformed
from bench.zones import write_hosts, write_zones

_OUTSIDE_PROBE = Question(f"probe.{OUTSIDE_ZONE}", "A")
CEILING_SECONDS = 1  # against each server, to find out what dnsperf can send
WARM_UP_SECONDS = 1  # for each load and peer, not counted
STALL_TRIES = 4  # of a sample whose sender stalls
OVERHEAD_SECONDS = 0.5  # of a sample beyond its load; for the estimate of the time left


class Run:
    """One run: a generated cluster, written to `folder`, and what was found about the servers of it."""

    def __init__(
        self,
        sizes: Sizes,
        rounds: int,
        options: Options,
        folder: Path,
        shares: tuple[int, ...] = (),
        with_latencies: Collection[str] = (),
    ) -> None:
        check_dnsperf()
        check_cores(*options.server_cores, options.load_core)
        say(f"cluster of {sizes.services:,} Services and {sizes.endpoints:,} endpoints, seed {sizes.seed}")
        self._cluster = generate(sizes)
        self._truth = Truth(self._cluster)
        self._rounds = rounds
        self._shares = shares  # percent of each server's maximum at which latencies are measured
        self._with_latencies = with_latencies  # loads by name; empty: all that can be
        self._options = options
        self._folder = folder
        self.found = Results({"sizes": asdict(sizes), "rounds": rounds, **asdict(options)}, {"load": dnsperf_version()})

    def measure(self, loads: list[Load], peers: list[type[Peer]], results: Path) -> None:
        """Measure `loads` on `peers`; what was found is written to the folder `results` after every load."""
        usable = self._usable(peers)
        inside = [load for load in loads if not load.is_outside]
        outside = [load for load in loads if load.is_outside]
        try:
            if inside:
                files = write_files(self._cluster, self._folder, usable)
                self._measure_group(inside, usable, files, results, later_loads=len(outside))
            if outside:
                self._measure_outside(outside, usable, results)
        finally:
            if self.found.samples:
                self.found.write(results)

    def _measure_outside(self, loads: list[Load], usable: list[type[Peer]], results: Path) -> None:
        """The loads of outside names: servers that forward ask Knot DNS on the load's core, others know the zone."""
        zones = write_outside_zone(self._folder / "outside")
        world = Knot(self._folder / "outside" / "knot", ClusterFiles(Path(), zones))
        try:
            world.version()
            world.start(
                (self._options.load_core,), lambda port: ask_and_check(ADDRESS, port, _OUTSIDE_PROBE, self._truth)
            )
            self._measure_group(loads, usable, ClusterFiles(Path(), zones, None, world.port), results, later_loads=0)
        except PeerError as error:
            self._exclude("outside names", error)
        finally:
            world.stop()

    def _measure_group(
        self, loads: list[Load], usable: list[type[Peer]], files: ClusterFiles, results: Path, later_loads: int
    ) -> None:
        """Measure loads that servers with the same configuration answer."""
        with ExitStack() as stack:
            running = []
            for kind in usable:
                own = replace(files, zones={}) if kind.forwards and files.upstream_port is not None else files
                peer = kind(self._folder / kind.name, own)
                peer.workers = len(self._options.server_cores) if kind.uses_workers else 1
                stack.callback(peer.stop)
                if self._start(peer, [_OUTSIDE_PROBE] if loads[0].is_outside else self._cluster_probes()):
                    running.append(peer)
            if not running:
                raise BenchError("none of the peers came up: " + "; ".join(self.found.excluded.values()))
            self._measure_ceiling(loads, running)
            for place, load in enumerate(loads):
                self._measure_load(load, running, later_loads=len(loads) - place - 1 + later_loads)
                if self.found.samples:
                    say(f"results so far: {self.found.write(results)}")
            for peer in running:
                self._read_memory(peer)

    def _measure_ceiling(self, loads: list[Load], running: list[Peer]) -> None:
        """How much dnsperf can send here at most: the server that lets it send most per CPU second tells."""
        load = next((load for load in loads if load.sender in (Sender.UDP, Sender.EDNS)), None)
        if load is None:
            return
        path = self._folder / "ceiling.questions"
        try:
            write_questions(load.questions(self._cluster), path)
        except BenchError:
            return  # the cluster has no such names; the load itself will say so
        for peer in running:
            try:
                sample = measure(load, peer, path, CEILING_SECONDS, self._options)
            except BenchError:
                continue  # whatever it is, the load itself will meet it
            used = max(0.01, sample.load_busy * sample.traffic.seconds)
            self.found.ceiling = max(self.found.ceiling, sample.traffic.completed / used)
        say(f"dnsperf can send about {self.found.ceiling:,.0f} queries/s from one core")

    def _read_memory(self, peer: Peer) -> None:
        """Note what a server occupies now that it has answered every load."""
        try:
            pss = sum(read_memory(pid)["Pss"] for pid in peer.processes())
        except (BenchError, KeyError) as error:
            say(f"memory of {peer.name}: {error}")
        else:
            row = self.found.starts.setdefault(peer.name, {})
            row["pss_kib"] = max(pss, row.get("pss_kib", 0))

    def _usable(self, peers: list[type[Peer]]) -> list[type[Peer]]:
        """Those of `peers` that can be run here."""
        usable = []
        for kind in peers:
            try:
                self.found.versions[kind.name] = kind.version()
            except PeerError as error:
                self._exclude(kind.name, error)
            else:
                usable.append(kind)
        if not usable:
            raise BenchError("none of the peers can be run: " + "; ".join(self.found.excluded.values()))
        return usable

    def _cluster_probes(self) -> list[Question]:
        """Questions that only a server which knows the whole cluster answers rightly."""
        return [
            Question(service_name(service), "A") for service in (self._cluster.services[0], self._cluster.services[-1])
        ]

    def _start(self, peer: Peer, probes: list[Question]) -> bool:
        """Start a server and wait until it answers the probes; returns whether it came up."""

        def check(port: int) -> None:
            for question in probes:
                ask_and_check(ADDRESS, port, question, self._truth)

        try:
            peer.start(self._options.server_cores, check)
        except PeerError as error:
            self._exclude(peer.name, error)
            peer.stop()
            return False
        assert peer.started is not None
        self.found.starts.setdefault(peer.name, asdict(peer.started))
        say(f"{peer.name} answers after {peer.started.wall_seconds:.1f} s: {self.found.versions[peer.name]}")
        self.found.commands[peer.name] = " ".join(peer.command())
        return True

    def _measure_load(self, load: Load, running: list[Peer], later_loads: int) -> None:
        """All rounds of one load. A server that answers wrongly is left out of it, one that died of all later ones."""
        try:
            questions = load.questions(self._cluster)
        except BenchError as error:
            self._exclude(load.name, error)
            return
        path = self._folder / f"{load.name}.questions"
        write_questions(questions, path)
        runs = count(1)
        peers = [peer for peer in running if self._is_right(load, peer, questions)]
        for number in range(self._rounds + 1):
            turn = number % max(1, len(peers))  # each round begins with another peer
            order = peers[turn:] + peers[:turn]
            for place, peer in enumerate(order):
                samples_left = (self._rounds - number) * len(peers) + len(order) - place
                self._say_progress(load, peer, number, samples_left, later_loads * len(running))
                try:
                    seconds = self._options.seconds if number else WARM_UP_SECONDS
                    if load.per_second:
                        unasked = load.questions(self._cluster, load.per_second * seconds, next(runs))
                        write_questions(unasked, path)
                    sample = self._measure_flowing(load, peer, path, seconds)
                except BenchError as error:
                    self._exclude(f"{peer.name} in {load.name}", error)
                    peers.remove(peer)
                    if not peer.is_running():
                        running.remove(peer)
                    continue
                if number:
                    self.found.add(load.name, peer.name, sample)
        is_wanted = not self._with_latencies or load.name in self._with_latencies
        if is_wanted and load.sender in (Sender.UDP, Sender.EDNS) and not load.per_second:
            self._measure_latencies(load, peers, path)

    def _measure_flowing(self, load: Load, peer: Peer, questions: Path, seconds: int) -> Sample:
        """One sample; measured again where the sender stalled, which says nothing of the server."""
        for left in reversed(range(STALL_TRIES)):
            sample = measure(load, peer, questions, seconds, self._options)
            try:
                check_flow(sample)
            except StalledError as error:
                if not left:
                    raise
                say(f"{load.name} on {peer.name} again: {error}")
            else:
                break
        return sample

    def _measure_latencies(self, load: Load, peers: list[Peer], questions: Path) -> None:
        """How long answers take, at shares of what each server was just seen to do at most."""
        for share in self._shares:
            for peer in peers:
                say(f"{load.name} on {peer.name}, latencies at {share} %")
                most = summary(self.found.samples[load.name][peer.name])["most_per_second"]
                try:
                    check_ceiling(load, share, most, self.found.ceiling)
                    found = latencies(load, peer, questions, share, most, self._options)
                except BenchError as error:
                    self._exclude(f"{peer.name} in latencies of {load.name} at {share} %", error)
                else:
                    self.found.latencies.setdefault(load.name, {}).setdefault(peer.name, []).append(found)

    def _is_right(self, load: Load, peer: Peer, questions: list[Question]) -> bool:
        """Whether a server answers a sample of the load's questions as it should."""
        try:
            peer.check_running()
            if not load.is_judged:
                return True
            if load.sender is Sender.MALFORMED:
                verify_malformed(ADDRESS, peer.port)
            else:
                verify(ADDRESS, peer.port, questions, self._truth, over_tcp=load.sender.is_tcp)
        except PeerError as error:
            self._exclude(f"{peer.name} in {load.name}", error)
            return False
        return True

    def _exclude(self, what: str, error: BenchError) -> None:
        self.found.excluded[what] = str(error)
        say(f"{what} is left out: {error}")

    def _say_progress(self, load: Load, peer: Peer, number: int, samples_left: int, later: int) -> None:
        """Say what runs now, and the time left: `samples_left` of this load, and `later` more loads on one server."""
        sample_seconds = self._options.seconds + OVERHEAD_SECONDS
        later_seconds = later * (self._rounds * sample_seconds + WARM_UP_SECONDS + OVERHEAD_SECONDS)
        what = f"{load.name} on {peer.name}, " + (f"round {number} of {self._rounds}" if number else "warm-up")
        say(f"{what:<44} {(samples_left * sample_seconds + later_seconds) / 60:5.1f} min left")


def say(text: str) -> None:
    """Tell whoever waits."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def write_files(cluster: Cluster, folder: Path, peers: list[type[Peer]]) -> ClusterFiles:
    """Write what `peers` read of the cluster."""
    folder.mkdir(parents=True, exist_ok=True)
    manifests = folder / "manifests"
    reads = {peer.reads for peer in peers}
    if "manifests" in reads:
        write_manifests(cluster, manifests)
    return ClusterFiles(
        manifests,
        write_zones(cluster, folder / "zones") if reads & {"zones", "hosts"} else {},
        write_hosts(cluster, folder / "hosts") if "hosts" in reads else None,
    )
