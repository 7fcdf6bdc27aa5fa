"""One upstream server: how it is reached, and how it is.

Health is checked in band: nothing is asked of an upstream but clients' queries until one of them fails; from then on
it is checked until a check succeeds. Meanwhile others come first, and once more than `max_fails` checks have failed it
is not asked at all. The workers share what they know (`shared.py`); one of them checks.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kdns import log
from kdns.dns.codes import RRClass, RRType
from kdns.dns.names import ROOT
from kdns.dns.reply import Reply
from kdns.errors import UpstreamError
from kdns.plugins.forward.budget import Budget
from kdns.plugins.forward.deadlines import Deadlines
from kdns.plugins.forward.failures import DialError, address_text
from kdns.plugins.forward.idle import PoolLimits
from kdns.plugins.forward.meters import UpstreamMeters
from kdns.plugins.forward.shared import UpstreamState
from kdns.plugins.forward.tcp import Stale, TcpPool
from kdns.plugins.forward.udp import NearMisses, UdpPool

if TYPE_CHECKING:
    from kdns.plugins.forward.https import HttpsPool

CHECK_TIMEOUT = 1.0  # seconds a health check may take, as CoreDNS's
MIN_CHECK_SECONDS = 0.01  # between two checks, also where the Corefile says 0
ABANDONED_SECONDS = CHECK_TIMEOUT + 1.0  # beyond the interval: whoever checked an upstream has gone

_LOG = log.plugin_logger("forward")


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """The `health_check` and `max_fails` options."""

    interval_seconds: float = 0.5
    recursion_desired: bool = True
    domain: bytes = ROOT
    max_fails: int = 2  # checks that may fail before the upstream counts as down; 0: it is neither checked nor down


@dataclass(frozen=True, slots=True)
class Transport:
    """How an upstream is asked."""

    force_tcp: bool = False
    prefer_udp: bool = False
    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    source: str | None = None
    limits: PoolLimits = field(default_factory=PoolLimits)
    udp_sockets: int = 1024
    doh_method: str = ""  # of queries over HTTPS; empty: they go another way


class Upstream:
    """A server that is asked. `address` is its text, `10.0.0.1:53`, and what metrics call it."""

    def __init__(
        self,
        address: tuple[Any, ...],
        transport: Transport,
        check: HealthCheck,
        state: UpstreamState,
        meters: UpstreamMeters,
        deadlines: Deadlines,
    ) -> None:
        self.address = address_text(address)
        self._transport = transport
        self._check = check
        self._state = state
        self.meters = meters
        self.place = address
        on_near_miss = meters.note_near_miss
        self._udp = UdpPool(
            address, transport.source, transport.limits, transport.udp_sockets, deadlines, on_near_miss
        )  # fmt: skip
        self._tcp = TcpPool(
            address, transport.source, transport.limits, deadlines, transport.tls, transport.server_name, on_near_miss
        )
        self._https: HttpsPool | None = None
        if transport.doh_method:
            from kdns.plugins.forward.https import HttpsPool  # few need it, and loading it takes a tenth of a second

            assert transport.tls is not None
            self._https = HttpsPool(
                self.address,
                transport.doh_method,
                transport.tls,
                transport.server_name or address[0],
                transport.source,
                transport.limits,
            )
        self._checking: asyncio.Task[None] | None = None
        self._is_closed = False

    # Asking

    async def exchange(
        self, message: bytes, question: bytes, stream: bool, budget: Budget, *, over_tcp: bool = False
    ) -> Reply:
        """The upstream's reply to a query; `message` is all of it but its id, `stream` says that it came over TCP.

        `over_tcp`: it was asked over UDP before, and somebody guesses at the answer, or that was cut.

        Raises UpstreamError.
        """
        transport = self._transport
        self.meters.note_request()
        started = time.monotonic()
        over_tcp = over_tcp or transport.force_tcp or (stream and not transport.prefer_udp)
        if self._https is not None:
            reply = await self._https.exchange(message, question, budget.spend_packet())
        elif transport.tls is not None or over_tcp:
            reply = await self._ask_stream(message, question, budget)
        else:
            try:
                reply = await self._ask_datagram(message, question, budget)
                asks_again = reply.truncated and transport.prefer_udp and not budget.is_spent
            except NearMisses:
                if budget.is_spent:
                    raise
                asks_again = True
            if asks_again:
                reply = await self._ask_stream(message, question, budget)
        self.meters.note_reply(reply.rcode, time.monotonic() - started)
        return reply

    async def _ask_datagram(self, message: bytes, question: bytes, budget: Budget) -> Reply:
        try:
            asked, is_reused = self._udp.ask(message, question, budget.spend_packet())
        except DialError:
            budget.refund_packet()
            raise
        self.meters.note_connection("udp", is_reused)
        return await asked.wait()

    async def _ask_stream(self, message: bytes, question: bytes, budget: Budget) -> Reply:
        try:
            try:
                reply, is_reused = await self._tcp.exchange(message, question, budget.spend_packet())
            except Stale:
                if budget.is_spent:
                    raise
                reply, is_reused = await self._tcp.exchange(message, question, budget.spend_packet())
        except DialError:
            budget.refund_packet()
            raise
        self.meters.note_connection("tcp" if self._transport.tls is None else "tcp-tls", is_reused)
        return reply

    # Being well

    @property
    def flags(self) -> tuple[int, int]:
        """Where the workers' memory says whether it has trouble, and whether it was taken out."""
        return self._state.flags

    @property
    def is_well(self) -> bool:
        """Whether nothing has failed since it was last seen to answer, and it was not taken out."""
        return self._state.is_well

    @property
    def is_down(self) -> bool:
        """Whether it failed so many checks that it is not asked."""
        return self._state.trouble - 1 > self._check.max_fails > 0

    @property
    def is_out(self) -> bool:
        """Whether it was taken out."""
        return self._state.is_out

    def take_out(self, reason: str) -> None:
        """Never ask it again, in any worker, until the configuration is read anew."""
        if not self._state.is_out:
            self._state.take_out()
            _LOG.error("upstream %s is not asked any more: %s", self.address, reason)

    def note_failure(self) -> None:
        """An exchange failed: find out whether it is the upstream's fault."""
        if not self._check.max_fails:
            return
        if not self._state.trouble:
            self._state.trouble = 1
            self._start_checks()
        else:
            self.resume_checks()

    def resume_checks(self) -> None:
        """See to it that somebody checks an upstream that is not well: the worker that did may be dead."""
        if self._state.trouble and self._state.seconds_since_probe > self._check.interval_seconds + ABANDONED_SECONDS:
            self._start_checks()

    def close_expired(self) -> None:
        """Close connections that have been idle for too long."""
        self._udp.close_expired()
        self._tcp.close_expired()
        if self._https is not None:
            self._https.close_expired()

    def close(self) -> None:
        """Check no more, and keep no connections; what is under way may fail yet."""
        self._is_closed = True
        if self._checking is not None:
            self._checking.cancel()
        self._udp.close()
        self._tcp.close()
        if self._https is not None:
            self._https.close()

    def _start_checks(self) -> None:
        if not self._is_closed and (self._checking is None or self._checking.done()):
            self._state.note_probe()
            self._checking = asyncio.get_running_loop().create_task(self._check_until_well())

    async def _check_until_well(self) -> None:
        while True:
            self._state.note_probe()
            if await self.probe(self._check.domain, RRType.NS):
                self._state.trouble = 0
                return
            self.meters.note_failed_check()
            self._state.trouble = min(self._state.trouble + 1, 1 << 31)
            await asyncio.sleep(max(self._check.interval_seconds, MIN_CHECK_SECONDS))

    async def probe(self, name: bytes, qtype: int) -> bool:
        """Ask it a question of our own; whether it answers, whatever it says and however little it understands."""
        question = name + bytes((0, qtype, 0, RRClass.IN))
        message = bytes((self._check.recursion_desired, 0, 0, 1, 0, 0, 0, 0, 0, 0)) + question
        deadline = time.monotonic() + CHECK_TIMEOUT
        try:
            if self._https is not None:
                await self._https.exchange(message, b"", deadline, is_check=True)
            elif self._transport.tls is not None or self._transport.force_tcp:
                try:
                    await self._tcp.exchange(message, b"", deadline)
                except Stale:
                    await self._tcp.exchange(message, b"", deadline)
            else:
                asked, _ = self._udp.ask(message, b"", deadline)
                await asked.wait()
        except UpstreamError:
            return False
        return True
