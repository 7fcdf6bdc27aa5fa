"""Scenarios of the cluster: changes, reloads, relists, a worker killed, the API server gone."""

from __future__ import annotations

import os
import signal
import time
from contextlib import AbstractContextManager

import dns.exception
import dns.message
import dns.query

from bench.errors import BenchError
from bench.peers import CoreDns, Kdns
from bench.scenarios.outcome import Outcome
from bench.scenarios.stage import HITS, Settings, Stage, followed

BACK_SECONDS = 60.0  # for a server to follow again; CoreDNS may wait half of it between two tries
RELOAD_SECONDS = 30.0  # for a new Corefile to show in answers
REPLACED_SECONDS = 20.0  # for a new worker
KILL_CLIENTS = 20  # sockets of the load: so many that each worker has some
POLL_SECONDS = 0.005
TTLS = (7, 5)  # of cluster records, before and after each other


def churn(name: str, settings: Settings) -> Outcome:
    """Endpoints come and go all over the cluster."""
    with _stage(name, settings) as stage:
        api = stage.followed_api

        def event() -> dict[str, float]:
            api.order("churn", rate=settings.changes)
            began = time.monotonic()
            stage.watcher.watch(settings.seconds)
            lasted = time.monotonic() - began
            return {"changes/s": api.order("churn", rate=0)["changes"] / lasted}

        return stage.play(HITS, event)


def relist(name: str, settings: Settings) -> Outcome:
    """Everything is compacted and every connection reset."""
    with _stage(name, settings) as stage:
        api = stage.followed_api

        def event() -> dict[str, float]:
            api.order("fault", name="relist")
            back = stage.watcher.change(BACK_SECONDS)
            stage.watcher.watch(settings.seconds)
            return _back("follows again after s", back)

        return stage.play(HITS, event)


def api_gone(name: str, settings: Settings) -> Outcome:
    """The API server refuses connections for a while."""
    with _stage(name, settings) as stage:
        api = stage.followed_api

        def event() -> dict[str, float]:
            api.order("stop")
            stage.watcher.watch(settings.seconds, with_changes=False)
            api.order("start")
            return _back("follows again after s", stage.watcher.change(BACK_SECONDS))

        return stage.play(HITS, event)


def reload(name: str, settings: Settings) -> Outcome:
    """The TTL of the Corefile changes, and back, each time followed by SIGUSR1."""
    with _stage(name, settings) as stage:
        peer = stage.peer
        assert isinstance(peer, Kdns | CoreDns)

        def event() -> dict[str, float]:
            seconds = []
            for ttl in TTLS:
                peer.ttl = ttl
                peer.command()
                began = time.monotonic()
                os.kill(peer.pid, signal.SIGUSR1)
                _wait_ttl(stage, ttl)
                seconds.append(time.monotonic() - began)
                stage.watcher.watch(settings.seconds / len(TTLS))
            return {"reload ms": max(seconds) * 1000}

        return stage.play(HITS, event)


def kill(name: str, settings: Settings) -> Outcome:
    """One of two workers is killed."""
    if name != Kdns.name:
        raise BenchError(f"{name} has one process, and no worker to lose: who runs it starts it again")
    with _stage(name, settings, workers=2) as stage:

        def event() -> dict[str, float]:
            before = _workers(stage)
            began = time.monotonic()
            os.kill(min(before), signal.SIGKILL)
            while len(_workers(stage) - {min(before)}) < len(before):
                if time.monotonic() - began > REPLACED_SECONDS:
                    raise BenchError(f"no new worker within {REPLACED_SECONDS:.0f} s")
                time.sleep(POLL_SECONDS)
            replaced = time.monotonic() - began
            stage.watcher.watch(settings.seconds)
            return {"replaced after ms": replaced * 1000}

        return stage.play(HITS, event, clients=KILL_CLIENTS)


def _stage(name: str, settings: Settings, workers: int = 0) -> AbstractContextManager[Stage]:
    if name not in (Kdns.name, CoreDns.name):
        raise BenchError(f"{name} follows no API server; expected {Kdns.name} or {CoreDns.name}")
    return followed(name, settings, workers)


def _back(name: str, seconds: float | None) -> dict[str, float]:
    if seconds is None:
        raise BenchError(f"the server did not follow again within {BACK_SECONDS:.0f} s")
    return {name: seconds}


def _workers(stage: Stage) -> set[int]:
    return {pid for pid, title in stage.peer.processes().items() if title.startswith("kdns: worker")}


def _wait_ttl(stage: Stage, ttl: int) -> None:
    """Wait until answers have the new TTL."""
    question = HITS.questions(stage.cluster, 1)[0]
    end = time.monotonic() + RELOAD_SECONDS
    while time.monotonic() < end:
        query = dns.message.make_query(question.name, question.type)
        try:
            reply = dns.query.udp(query, stage.peer.address, 1.0, stage.peer.port)
        except (OSError, dns.exception.DNSException):
            continue
        if reply.answer and reply.answer[0].ttl == ttl:
            return
        time.sleep(POLL_SECONDS)
    raise BenchError(f"the new Corefile did not show within {RELOAD_SECONDS:.0f} s")
