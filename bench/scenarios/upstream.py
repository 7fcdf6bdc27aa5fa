"""The scenario of a silent upstream: what is in the cache must go on, what is not must fail soon, and come back."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import ExitStack
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import dns.rcode

from bench.cluster import generate
from bench.errors import BenchError
from bench.load import run_on_core
from bench.loads import LOADS, write_questions
from bench.outside import OUTSIDE_ZONE, known_names, write_outside_zone
from bench.peers import PEERS, ClusterFiles, Knot, Peer
from bench.records import Question, Truth
from bench.scenarios.outcome import Outcome
from bench.scenarios.stage import Settings, Stage, ask_all, on_core
from bench.scenarios.watcher import Watcher

MISS_SECONDS = 15.0  # for the answer to a question whose upstream is silent
BACK_SECONDS = 60.0  # for such questions to be answered again
FILL_SECONDS = 60.0  # to ask for every known name once
MISSES = 3  # that are asked while the upstream is silent
_PROBE = Question(f"probe.{OUTSIDE_ZONE}", "A")


def gone(name: str, settings: Settings) -> Outcome:
    """Knot DNS, which knows all outside names, is stopped for a while."""
    kind = PEERS[name]
    if not kind.forwards:
        raise BenchError(f"{name} forwards nothing")
    Knot.find()
    with ExitStack() as stack:
        stack.enter_context(on_core(settings.options.load_core))
        cluster = generate(settings.sizes)
        truth = Truth(cluster)
        zones = write_outside_zone(settings.folder / "outside")
        world = Knot(settings.folder / "outside" / "knot", ClusterFiles(Path(), zones))
        stack.callback(world.stop)
        world.start((settings.options.load_core,), ask_all([_PROBE], truth))
        peer = kind(settings.folder / f"{name}-forward", ClusterFiles(Path(), {}, None, world.port))
        peer.workers = len(settings.options.server_cores)
        stack.callback(peer.stop)
        peer.start(settings.options.server_cores, ask_all([_PROBE], truth))
        known = [Question(known_name, "A") for known_name in known_names()]
        _fill_cache(peer, known, settings)
        watcher = Watcher(peer, known, truth, None)
        stage = Stage(settings, cluster, truth, peer, watcher, None)
        stack.callback(os.kill, world.pid, signal.SIGCONT)  # a stopped process does not end when it is told to
        return stage.play(LOADS["cached"], lambda: _silence(stage, world))


def _fill_cache(peer: Peer, known: list[Question], settings: Settings) -> None:
    """Ask for every known name once."""
    path = settings.folder / "known.questions"
    write_questions(known, path)
    command = ["dnsperf", "-s", peer.address, "-p", str(peer.port), "-d", str(path), "-n", "1", "-q", "20", "-W"]
    run_on_core(command, settings.options.load_core, FILL_SECONDS)


def _silence(stage: Stage, world: Knot) -> dict[str, float]:
    os.kill(world.pid, signal.SIGSTOP)
    misses = []
    for _ in range(MISSES):
        began = time.monotonic()
        rcode = _ask_unknown(stage, MISS_SECONDS)
        misses.append(time.monotonic() - began)
        if rcode == "NOERROR":
            stage.watcher.seen.add_wrong("a name nobody asked for before was answered without its upstream")
        stage.watcher.watch(stage.settings.seconds / MISSES, with_changes=False)
    os.kill(world.pid, signal.SIGCONT)
    back = time.monotonic()
    while _ask_unknown(stage, MISS_SECONDS) != "NOERROR":
        if time.monotonic() - back > BACK_SECONDS:
            raise BenchError(f"names are not forwarded again within {BACK_SECONDS:.0f} s")
    return {"a miss fails after s": max(misses), "misses are answered again after s": time.monotonic() - back}


def _ask_unknown(stage: Stage, limit_seconds: float) -> str:
    """The rcode for a name nobody asked for before; empty if there is no answer."""
    query = dns.message.make_query(f"{random.getrandbits(64):016x}.{OUTSIDE_ZONE}", "A")
    try:
        reply = dns.query.udp(query, stage.peer.address, limit_seconds, stage.peer.port)
    except (OSError, dns.exception.DNSException):
        return ""
    return dns.rcode.to_text(reply.rcode())
