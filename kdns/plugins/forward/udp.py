"""Queries over UDP: connected sockets, one query at a time on each, so that no two share a port and an id.

A socket answers for its upstream's address: the kernel hands up datagrams from there only. Sockets are kept and taken
again in the order they came back. Until there are `FULL_POOL` of them every query opens one, so whoever wants to forge
a reply has that many ports to guess from at least, beside the id. Opening and closing one costs as much as the rest of
an exchange, hence no fresh one for each.
"""

from __future__ import annotations

import asyncio
import resource
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kdns.dns.reply import Reply
from kdns.dns.walker import read_header, read_reply
from kdns.errors import FormatError, UpstreamError
from kdns.plugins.forward.deadlines import Deadlines
from kdns.plugins.forward.failures import TIMEOUT, DialError, address_text, dial_error, io_error, reason
from kdns.plugins.forward.idle import IdleSockets, PoolLimits
from kdns.plugins.forward.ids import fresh_id

FULL_POOL = 1024  # sockets of an upstream from which on the oldest is taken again (hazards of guessed ports)
MAX_NEAR_MISSES = 5  # datagrams a query may get that are no answer to it; then somebody is guessing
MAX_DATAGRAM = 65535  # octets

_received = bytearray(MAX_DATAGRAM)
_view = memoryview(_received)


class NearMisses(UpstreamError):
    """Too much came that was no answer: whoever guesses may guess right, so this way is not used for this query."""


def full_pool(upstreams: int) -> int:
    """Sockets to hold for each of so many upstreams: together a quarter of the descriptors this process may have."""
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return max(1, min(FULL_POOL, descriptors // 4 // max(1, upstreams)))


class UdpSocket:
    """A connected socket, and the one query that is on its way over it."""

    __slots__ = ("_id", "_near_misses", "_pool", "_question", "deadline", "opened", "socket", "used", "waiter")

    def __init__(self, pool: UdpPool, opened: socket.socket) -> None:
        self._pool = pool
        self.socket = opened
        self.opened = self.used = time.monotonic()
        self.deadline = 0.0
        self.waiter: asyncio.Future[Reply] | None = None
        self._id = self._near_misses = 0
        self._question = b""

    def ask(self, message: bytes, question: bytes, deadline: float) -> None:
        """Send a query, `message` being all of it but its id. Raises OSError.

        The question it asks must come back with the reply; where none is given, any reply will do.
        """
        self._id = message_id = fresh_id()
        self.socket.send(message_id.to_bytes(2, "big") + message)
        self._question = question
        self._near_misses = 0
        self.deadline = deadline
        self.waiter = asyncio.get_running_loop().create_future()
        self._pool.deadlines.add(self)

    async def wait(self) -> Reply:
        """The reply to the query that was sent. Raises UpstreamError."""
        waiter = self.waiter
        assert waiter is not None
        try:
            return await waiter
        except asyncio.CancelledError:
            if self.waiter is waiter:
                self.close()
            raise

    def on_readable(self) -> None:
        """Take one datagram in: the answer, or something to be discarded."""
        try:
            size = self.socket.recv_into(_received)
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(io_error("read", "udp", self.socket, self._pool.remote_text, reason(error, "read")))
            return
        waiter = self.waiter
        if waiter is None:
            # Nobody asked; who sends to this port knows it too well. An upstream that says everything twice does so
            # with every query, so nothing of the socket may stay.
            self._pool.forget(self)
            self.close()
            return
        try:
            message = bytes(_view[:size])
            if self._question:
                reply = read_reply(message, self._id, self._question, "forward")
            else:
                reply = read_header(message, self._id)
        except FormatError as error:
            self._on_near_miss(error)
            return
        self.waiter = None
        self._pool.deadlines.remove(self)
        self._pool.give_back(self)
        if not waiter.done():
            waiter.set_result(reply)

    def on_deadline(self) -> None:
        """No answer came in time. One may still come: this socket is used no more."""
        self._fail(io_error("read", "udp", self.socket, self._pool.remote_text, TIMEOUT))

    def close(self) -> None:
        """Be gone; idempotent."""
        if self.socket.fileno() < 0:
            return
        self._pool.alive -= 1
        self._pool.deadlines.remove(self)
        asyncio.get_running_loop().remove_reader(self.socket.fileno())
        self.socket.close()
        self.waiter = None

    def _on_near_miss(self, error: FormatError) -> None:
        self._near_misses += 1
        self._pool.on_near_miss()
        if self._near_misses >= MAX_NEAR_MISSES:
            text = f"{self._near_misses} messages that are no answer, the last: {error}"
            self._fail(NearMisses(str(io_error("read", "udp", self.socket, self._pool.remote_text, text))))

    def _fail(self, error: UpstreamError) -> None:
        waiter = self.waiter
        if waiter is None:
            self._pool.forget(self)
        self.close()
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)


@dataclass(slots=True)
class UdpPool:
    """The sockets to one upstream."""

    address: tuple[Any, ...]  # as socket.connect takes it
    source: str | None
    limits: PoolLimits
    full: int
    deadlines: Deadlines
    on_near_miss: Callable[[], None] = lambda: None
    alive: int = 0  # sockets that are open, idle or not
    _idle: IdleSockets[UdpSocket] = field(init=False)
    _enough: int = field(init=False)  # of them: from there on an idle one is taken

    def __post_init__(self) -> None:
        self._idle = IdleSockets(self.limits)
        self._enough = min(self.full, self.limits.max_idle or self.full)

    @property
    def remote_text(self) -> str:
        """The upstream as error texts name it."""
        return address_text(self.address)

    def ask(self, message: bytes, question: bytes, deadline: float) -> tuple[UdpSocket, bool]:
        """Send a query; the socket to wait at for the reply, and whether it had been used before.

        Raises UpstreamError.
        """
        taken = self._take()
        if taken is not None:
            try:
                taken.ask(message, question, deadline)
                return taken, True
            except OSError:
                taken.close()  # something has come of an earlier query since: that is not this one's trouble
        try:
            taken = self._open()
        except DialError:
            taken = self._idle.take_any()  # where descriptors are short, a port again is better than no answer
            if taken is None:
                raise
        try:
            taken.ask(message, question, deadline)
        except OSError as error:
            failure = io_error("write", "udp", taken.socket, self.remote_text, reason(error, "write"))
            taken.close()
            raise failure from error
        return taken, False

    def give_back(self, taken: UdpSocket) -> None:
        """Its query is answered; keep it for another."""
        self._idle.put(taken, self.alive > self._enough)

    def forget(self, broken: UdpSocket) -> None:
        """It is of no use any more, idle or not."""
        self._idle.forget(broken)

    def close_expired(self) -> None:
        """Close what has been idle for too long."""
        self._idle.close_expired()

    def close(self) -> None:
        """Close what is idle now, and everything else once its query is over."""
        self._idle.close()

    def _take(self) -> UdpSocket | None:
        """The socket that came back longest ago, if there are enough of them."""
        return None if self.alive < self._enough else self._idle.take()

    def _open(self) -> UdpSocket:
        family = socket.AF_INET6 if ":" in self.address[0] else socket.AF_INET
        try:
            opened = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        except OSError as error:
            raise dial_error("udp", self.remote_text, reason(error, "socket"), self.source) from error
        try:
            call = "bind"
            if self.source:
                opened.bind((self.source, 0))
            call = "connect"
            opened.connect(self.address)
        except OSError as error:
            opened.close()
            raise dial_error("udp", self.remote_text, reason(error, call), self.source) from error
        self.alive += 1
        made = UdpSocket(self, opened)
        asyncio.get_running_loop().add_reader(opened.fileno(), made.on_readable)
        return made
