"""The compiled path's hand in one `forward`: it asks what is plain (hotpath/forward.pyx) and hands back the rest.

An engine is made when the compiled path's routes are, and starts with the worker. What it hands back goes the way of
every miss; what it has spent on a question is remembered until that is asked again, so that nobody gets more than a
query's budget.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from kdns import log
from kdns.dns.codes import RRClass
from kdns.hotpath.forward import Engine, HandedBack
from kdns.plugins.forward.budget import MAX_PACKETS, TOTAL_SECONDS
from kdns.plugins.forward.failures import TIMEOUT
from kdns.plugins.forward.meters import Meters
from kdns.plugins.forward.options import Options
from kdns.plugins.forward.policy import POLICIES
from kdns.plugins.forward.shared import FIRST_CELL, SharedState
from kdns.plugins.forward.udp import full_pool
from kdns.plugins.forward.upstream import Upstream

# Reasons why a question is handed back, in the order of hotpath/forward.pyx.
TIMED_OUT, FAILED, SUSPECT, REPLIED, UNSENT, TRUNCATED = range(6)
MAX_SPENT = 4096  # questions remembered, as many as an engine has under way
SPENT_SECONDS = 5.0  # for which: the slow path asks at once, unless somebody else's answer does
MAX_RCODE = 15  # of a header
POLICY_NUMBERS = {name: number for number, name in enumerate(POLICIES)}

_LOG = log.plugin_logger("forward")

Rules = tuple[int, int, int, int, int]


class Settings(NamedTuple):
    """What an engine needs to know of a `forward`, and of the `cache` before it."""

    timeout: float  # seconds
    expire: float
    max_age: float
    pool_size: int  # sockets to an upstream
    policy: int
    limit: int  # queries under way in all workers; 0: no limit
    budget: float  # seconds a question may take
    max_fails: int  # checks that may fail before an upstream is down; 0: it never is
    fails_fast: bool  # where all upstreams are down nobody is asked
    hands_back_empty: bool
    hands_back_truncated: bool
    rules: Rules | None  # TTLs in seconds: least and greatest of answers, of denials, and that of SERVFAIL
    source: bytes  # as a socket address; empty: whatever the kernel chooses


class Forwarding(Protocol):
    """A Forwarder as it is seen from here."""

    upstreams: Sequence[Upstream]

    @property
    def max_attempts(self) -> int:
        """How often a question may be asked, whatever that costs."""
        ...

    def passes(self, rcode: int) -> bool:
        """Whether replies with a code go to the client whoever sent them."""
        ...


class Spent(NamedTuple):
    """What a question has cost when it comes to the slow path."""

    upstreams: tuple[Upstream, ...]  # who was asked, but for those that are gone
    packets: int
    started: float  # on time.monotonic()'s clock
    over_tcp: bool  # it is to be asked once more, but over TCP: somebody guesses at it, or the answer was cut
    failure: str  # why there was no answer; empty: there was one
    clients: int  # that ask it


@dataclass(slots=True)
class Compiled:
    """An engine, and the Forwarder it works for."""

    forwarder: Forwarding
    options: Options
    meters: Meters
    shared: SharedState
    rules: Rules | None
    hands_back_empty: bool
    engine: Engine = field(init=False)
    _spent: dict[bytes, Spent] = field(default_factory=dict)
    _told: tuple[int, ...] = (0, 0, 0)

    def __post_init__(self) -> None:
        options = self.options
        self.engine = Engine(
            Settings(
                options.read_timeout_seconds,
                options.expire_seconds,
                options.max_age_seconds,
                full_pool(max(1, len(self.forwarder.upstreams))),
                POLICY_NUMBERS[options.policy],
                options.max_concurrent,
                max(TOTAL_SECONDS, options.read_timeout_seconds),
                options.max_fails,
                options.fails_fast,
                self.hands_back_empty,
                options.prefer_udp,
                self.rules,
                socket_address((options.source, 0)) if options.source else b"",
            ),
            self._places,
        )

    def start(self) -> None:
        """Begin to ask, in the process that does; it has claimed its cell."""
        try:
            places = (self.meters.max_concurrent_rejects.place(), self.meters.healthcheck_broken.place())
            self.engine.start(self.shared.numbers, FIRST_CELL, self.shared.cell, *places)
        except (OSError, MemoryError) as error:
            _LOG.warning("everything goes the slow path: %s", error)
            return
        self.engine.on_handed_back = self._on_handed_back
        self.engine.on_failing = self._on_failing
        self.follow()
        asyncio.get_running_loop().add_reader(self.engine.fileno(), self.engine.receive)

    def follow(self) -> None:
        """Ask whom the Forwarder asks by now."""
        if not self.engine.is_open:
            return
        unwanted = sum(1 << rcode for rcode in range(MAX_RCODE + 1) if not self.forwarder.passes(rcode))
        upstreams = [(socket_address(upstream.place), *upstream.flags) for upstream in self.forwarder.upstreams]
        # The slow path needs a packet for what it must ask again, if not everything is to be asked here.
        most = MAX_PACKETS - 1 if self.options.max_fails else MAX_PACKETS
        attempts = min(most, self.forwarder.max_attempts)
        self.engine.set_upstreams(upstreams, unwanted, attempts)

    def look_after(self) -> None:
        """Close what is idle, have somebody check who is not well, and forget what nobody asked for again."""
        if not self.engine.is_open:
            return
        self.engine.close_idle()
        self._tell()
        for upstream in self.forwarder.upstreams:
            if not upstream.is_well:
                upstream.resume_checks()
        horizon = time.monotonic() - self.options.read_timeout_seconds - SPENT_SECONDS
        for key in [key for key, spent in self._spent.items() if spent.started < horizon]:
            del self._spent[key]

    def take_spent(self, question: bytes) -> Spent | None:
        """What a question (name, type, class) has cost already; told once to each client that waited for it."""
        if not self._spent:
            return None
        key = _spent_key(question)
        spent = self._spent.pop(key, None)
        if spent is None or time.monotonic() >= spent.started + max(TOTAL_SECONDS, self.options.read_timeout_seconds):
            return None
        if spent.clients > 1:
            self._spent[key] = spent._replace(clients=spent.clients - 1)
        return spent

    def forget_spent(self, question: bytes) -> None:
        """The question is answered: whoever asks it from now on has a budget of his own."""
        if self._spent:
            self._spent.pop(_spent_key(question), None)

    def close(self) -> None:
        """Ask no more; who waits yet gets nothing."""
        if self.engine.is_open:
            asyncio.get_running_loop().remove_reader(self.engine.fileno())
            self.engine.close()

    def _on_handed_back(self, handed: list[HandedBack]) -> None:
        for question in handed:
            self._note(question)
            for receiver, message, peer, control in question.datagrams:
                receiver(message, peer, control)

    def _on_failing(self, upstream: int) -> None:
        self.forwarder.upstreams[upstream].note_failure()

    def _note(self, question: HandedBack) -> None:
        if not question.upstreams:
            return
        known = self.forwarder.upstreams
        upstreams = tuple([known[index] for index in question.upstreams if index >= 0])
        failure = ""
        if question.reason in (TIMED_OUT, FAILED, UNSENT) and upstreams:
            text = TIMEOUT if question.reason == TIMED_OUT else "read: connection refused"
            failure = f"read udp ->{upstreams[-1].address}: {text}"
        while len(self._spent) >= MAX_SPENT:
            del self._spent[next(iter(self._spent))]
        key = question.name + struct.pack("!HH", question.qtype, RRClass.IN)
        over_tcp = question.reason in (SUSPECT, TRUNCATED)
        packets, clients = len(question.upstreams), len(question.datagrams)
        self._spent[key] = Spent(upstreams, packets, question.began, over_tcp, failure, clients)

    def _tell(self) -> None:
        """Say what the compiled path has turned down since: too much to tell of each query."""
        engine = self.engine
        told = (engine.refused, engine.overloaded, engine.unanswered)
        refused, overloaded, unanswered = (now - before for now, before in zip(told, self._told, strict=True))
        self._told = told
        if refused:
            _LOG.error("%d more: concurrent queries exceeded maximum %s", refused, self.options.max_concurrent_text)
        if overloaded:
            _LOG.error("%d more failed: nobody to ask, or too many under way", overloaded)
        if unanswered:
            _LOG.error("%d more failed: no upstream answered", unanswered)

    def _places(self, upstream: int, rcode: int) -> Sequence[int]:
        """Where an upstream's queries are counted (rcode -1), or its replies with an rcode."""
        meters = self.forwarder.upstreams[upstream].meters
        return meters.query_places() if rcode < 0 else meters.reply_places(rcode)


def _spent_key(question: bytes) -> bytes:
    return question[:-4].lower() + question[-4:]


def socket_address(address: Sequence[object]) -> bytes:
    """An address as the kernel has it, from one as socket.connect takes it."""
    host, port, *rest = address
    if ":" in str(host):
        flow, scope = rest or (0, 0)
        return struct.pack(
            "=H2s4s16sI",
            socket.AF_INET6,
            struct.pack("!H", port),
            struct.pack("!I", flow),
            socket.inet_pton(socket.AF_INET6, str(host)),
            scope,
        )
    return struct.pack(
        "=H2s4s8x", socket.AF_INET, struct.pack("!H", port), socket.inet_pton(socket.AF_INET, str(host))
    )  # fmt: skip
