"""Everything at once, for as long as one likes: changes, faults and restarts, and every reply judged.

A cluster changes at random while its API server ends, delays and repeats what it says; workers and informers are killed
and the whole server is restarted. One stream of queries counts what is lost; others are judged by what the API server
said and when. Three things are nobody's fault: a worker that is killed takes along the messages it had read; what the
server told an informer that was killed is news again to its successor, until that one has listed everything, and so
publishes its first generation; and what was on its way when a connection broke is told again a few seconds later.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

import dns.flags
import dns.message

from kdns.cluster.view import PodMode, View
from kdns.dns import names
from tests.fakes.apiserver.oracle import Oracle, Verdict
from tests.fakes_selftest.objects import service
from tests.harness.exchange import TCP, UDP
from tests.harness.places import free_port
from tests.harness.query_stream import QueryStream
from tests.live.live_site import Site
from tests.live.metrics import values_of
from tests.live.random_cluster import RandomCluster

CHANGES_PER_SECOND = 200
OBJECTS = 96  # of each sort
FAULT_SECONDS = 5.0  # between faults
RECOVERY_SECONDS = 4.0  # after a fault: two tries a second and a half apart, and a check of the server's history
HARMLESS = frozenset({"mistyped", "bookmark", "replay"})  # faults that delay nothing
RESTART_SECONDS = 4.0  # between restarts
RESTARTS = ("informer", "worker", "server", "worker")
SUCCESSOR_SECONDS = 20.0  # until a successor must have caught up, though nearly each of its requests meets a fault
LOOK_SECONDS = 0.1  # between looks whether it has
CHANGES_WHILE_AWAY = 50  # while the whole server is
REMEMBERED_SECONDS = 30.0
PROGRESS_SECONDS = 10.0
STREAM_QUERIES_PER_SECOND = 200
MAX_TOLD, STORY = 20, 12  # wrong replies that are told, and how much of what was done before each
BATCH = 25  # changes made in a row, where they are late
SETTLED_SECONDS = 5.0
FREE = 10.0
GENERATION, IMAGE_AGE = "kdns_table_generation", "kdns_image_age_seconds"
WORKERS = 2
STEADY = "steady.shop.svc.cluster.local."
ZONES = "cluster.local in-addr.arpa"
VIEW = View(tuple(names.from_text(f"{zone}.") for zone in ZONES.split()), pods=PodMode.VERIFIED)


@dataclass(slots=True)
class Report:
    """What became of it all."""

    changes: int = 0
    rcodes: Counter[str] = field(default_factory=Counter)
    restarts: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    undecided: int = 0  # questions with too many right answers to try them all
    wrong: list[str] = field(default_factory=list)
    streamed: int = 0
    lost: int = 0  # of the stream
    stream_wrong: int = 0

    @property
    def questions(self) -> int:
        """How many replies were judged, or too hard to judge."""
        return self.rcodes.total()

    def __str__(self) -> str:
        return (
            f"{self.changes} changes, {sum(self.restarts.values())} restarts, {sum(self.faults.values())} faults; "
            f"{self.questions} questions, {len(self.wrong)} wrong, {self.undecided} undecided; "
            f"{self.streamed} streamed, {self.lost} lost, {self.stream_wrong} wrong"
        )


class Soak:
    """A kdns under load. `tell` is given a line now and then."""

    def __init__(self, site: Site, seed: int, tell: Callable[[str], None]) -> None:
        self.report = Report()
        self._site = site
        self._tell = tell
        self._random = random.Random(seed)
        self._api = site.open_api()
        self._api.put(service("steady", "10.96.250.1"))
        self._cluster = RandomCluster(self._api, seed, OBJECTS)
        self._directive = site.directive(self._api, ZONES, "pods verified")
        self._state = site.directory / "state"
        self._state.mkdir()
        self._oracle = Oracle(self._api.journal, VIEW)
        self._stream = ExitStack()
        self._streaming: QueryStream | None = None
        self._metrics_port = site.place.run(free_port)
        self._known_since: float | None = None  # what was right then is right: a successor has yet to catch up
        self._former_generation = 0.0
        self._look_at = self._caught_up_by = 0.0
        self._broken_since = self._broken_until = 0.0  # the last fault that delays what the server tells
        self._started = time.monotonic()
        self._story: list[str] = []  # what was done, and when
        self._start()

    @property
    def _elapsed(self) -> float:
        return time.monotonic() - self._started

    def run(self, seconds: float) -> None:
        """Go on for so long, and end in peace: then every answer must be of the newest state."""
        started = time.monotonic()
        fault_at, restart_at, progress_at = started, started + RESTART_SECONDS, started + PROGRESS_SECONDS
        with self._stream:
            while (now := time.monotonic()) < started + seconds:
                self._change(int((now - started) * CHANGES_PER_SECOND) - self.report.changes)
                self._cluster.end_faults()
                if now >= fault_at:
                    fault_at = now + FAULT_SECONDS
                    self._begin_fault()
                if now >= restart_at:
                    self._restart(RESTARTS[sum(self.report.restarts.values()) % len(RESTARTS)])
                    restart_at = time.monotonic() + RESTART_SECONDS
                if now >= progress_at:
                    progress_at = now + PROGRESS_SECONDS
                    self._api.journal.forget(now - REMEMBERED_SECONDS)
                    self._count_faults()
                    self._tell(f"{now - started:.0f} of {seconds:.0f} s: {self.report}")
                self._question(*self._cluster.question())
            self._cluster.end_faults(everything=True)
            self._wait_settled()
            self._end_stream()
        self._count_faults()
        self._tell(f"done: {self.report}")

    def _begin_fault(self) -> None:
        self._cluster.end_faults(everything=True)  # one that nothing has met yet would strike when the next one does
        began = time.monotonic()
        fault = self._cluster.begin_fault()
        assert fault is not None
        self._story.append(f"{self._elapsed:.2f} s {fault.name} {dict(fault.parameters)}")
        if fault.name not in HARMLESS:
            self._broken_since = began
            self._broken_until = began + RECOVERY_SECONDS

    def _count_faults(self) -> None:
        begun = self._cluster.begun
        self.report.faults = Counter(fault.name for fault in begun if fault.met or fault.name == "refused")

    def _start(self) -> None:
        site = self._site
        site.start_corefile(
            f".:53 {{\n errors\n ready :{site.ready_port}\n prometheus 127.0.0.1:{self._metrics_port}\n"
            f"{self._directive}}}\n",
            WORKERS,
            ("--state-dir", str(self._state), "--resync", "30s"),
        )
        if not self.report.restarts:
            site.wait(lambda: site.ready == 200, "ready", FREE)
        else:
            site.server.wait_answering()
        self._streaming = QueryStream(site.place, site.server.peer(), STEADY, STREAM_QUERIES_PER_SECOND)
        self._stream.enter_context(self._streaming)

    def _end_stream(self) -> None:
        assert self._streaming is not None
        self._stream.close()
        found = self._streaming.statistics()
        self.report.streamed += found.sent
        self.report.lost += found.lost
        self.report.stream_wrong += found.wrong

    def _change(self, count: int) -> None:
        for _ in range(min(count, BATCH)):
            self._cluster.change()
            self.report.changes += 1

    def _restart(self, what: str) -> None:
        self.report.restarts[what] += 1
        self._story.append(f"{self._elapsed:.2f} s restart of the {what}")
        if what != "worker":
            if self._known_since is None:
                self._known_since = time.monotonic()
            self._former_generation = values_of(self._site, self._metrics_port).get(GENERATION, 0.0)
            self._caught_up_by = time.monotonic() + SUCCESSOR_SECONDS
        if what == "server":
            self._end_stream()
            self._site.server.stop()
            log = self._site.directory / f"server-{self.report.restarts[what]}.log"
            log.write_text(self._site.server.stdout)
            self._change_while_away()
            self._start()
        else:
            self._kill(what)

    def _change_while_away(self) -> None:
        for _ in range(CHANGES_WHILE_AWAY):
            self._cluster.change()
            self.report.changes += 1

    def _kill(self, what: str) -> None:
        title = f"kdns: {what}"

        def living() -> list[int]:
            return [process.pid for process in self._site.server.processes() if process.title.startswith(title)]

        self._site.wait(living, f"a process named {title!r} lives", FREE)
        os.kill(self._random.choice(living()), signal.SIGKILL)

    def _question(self, qname: str, qtype: str) -> None:
        try:
            verdict = self._judge(self._oracle, qname, qtype)
        except ValueError:
            self.report.undecided += 1
            return
        if not verdict.is_right:
            if len(self.report.wrong) < MAX_TOLD:
                before = "; ".join(self._story[-STORY:])
                self._tell(f"wrong at {self._elapsed:.2f} s: {verdict.reason}; before that: {before}")
            self.report.wrong.append(verdict.reason)

    def _judge(self, oracle: Oracle, qname: str, qtype: str) -> Verdict:
        asked = time.monotonic()
        reply = whole_reply(self._site, qname, qtype)
        replied = time.monotonic()
        if reply is not None:
            message = dns.message.from_wire(reply)
            self.report.rcodes["EMPTY" if message.rcode() == 0 and not message.answer else message.rcode().name] += 1
        return oracle.judge(qname, qtype, reply, self._since(asked), replied)

    def _since(self, asked: float) -> float:
        """Since when what was right may have been answered to a question of that time."""
        if asked < self._broken_until:
            asked = min(asked, self._broken_since)
        if self._known_since is None:
            return asked
        since, now = min(asked, self._known_since), time.monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            found = values_of(self._site, self._metrics_port)
            is_new = found.get(GENERATION, 0.0) > self._former_generation and IMAGE_AGE not in found
            if is_new or now >= self._caught_up_by:
                self._story.append(f"{self._elapsed:.2f} s caught up with generation {found.get(GENERATION)}")
                self._known_since = None
        return since

    def _wait_settled(self) -> None:
        strict = Oracle(self._api.journal, VIEW, by_commit=True)
        self._known_since, self._broken_until = None, 0.0
        questions = self._cluster.every_question()

        def wrong() -> list[Verdict]:
            found = (self._judge(strict, *question) for question in questions)
            return [verdict for verdict in found if not verdict.is_right]

        self._site.wait(lambda: not wrong(), lambda: str(wrong()[:5]), SETTLED_SECONDS)


def whole_reply(site: Site, qname: str, qtype: str) -> bytes | None:
    """The reply over UDP, or over TCP where it was cut."""
    reply = site.ask_wire(qname, qtype, UDP)
    if reply is not None and dns.message.from_wire(reply).flags & dns.flags.TC:
        return site.ask_wire(qname, qtype, TCP)
    return reply
