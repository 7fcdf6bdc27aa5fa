"""Queries over TCP and TLS: one at a time on a connection, connections are taken again in the order they came back.

Sockets are handled here down to the system calls: what a transport would add is a copy and a task for each exchange.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
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
from kdns.plugins.forward.udp import MAX_NEAR_MISSES, NearMisses

_READ_SIZE = 65535 + 2  # octets: the longest message with its length fits one read


class Stale(UpstreamError):
    """A connection kept from before had been closed by the upstream: nothing was wrong with the query."""


class TcpConnection:
    """A connection, and the one query that is on its way over it."""

    __slots__ = ("_buffer", "_frame", "_id", "_near_misses", "_pool", "_question", "_step",
                 "deadline", "is_kept", "opened", "socket", "used", "waiter")  # fmt: skip

    def __init__(self, pool: TcpPool, opened: socket.socket) -> None:
        self._pool = pool
        self.socket = opened
        self.opened = self.used = time.monotonic()
        self.deadline = 0.0
        self.is_kept = False  # it served another query before
        self.waiter: asyncio.Future[Reply] | None = None
        self._step: asyncio.Future[None] | None = None  # while the connection is made
        self._id = self._near_misses = 0
        self._question = b""
        self._frame = b""  # what is not sent yet
        self._buffer = bytearray()

    async def connect(self, deadline: float) -> None:
        """Reach the upstream. Raises UpstreamError."""
        self.deadline = deadline
        self._pool.deadlines.add(self)
        try:
            await self._connect()
            if self._pool.tls is not None:
                await self._shake_hands(self._pool.tls)
        except OSError as error:
            failure = dial_error("tcp", self._pool.remote_text, reason(error, "connect"), self._pool.source)
            if isinstance(error, ssl.SSLError):
                failure = DialError(reason(error, "connect"))
            self.close()
            raise failure from error
        except asyncio.CancelledError:
            self.close()
            raise
        self._pool.deadlines.remove(self)
        asyncio.get_running_loop().add_reader(self.socket.fileno(), self._on_readable)

    def ask(self, message: bytes, question: bytes, deadline: float) -> asyncio.Future[Reply]:
        """Send a query, `message` being all of it but its id; what comes of it.

        The question it asks must come back with the reply; where none is given, any reply will do.
        """
        self._id = message_id = fresh_id()
        self._question = question
        self._near_misses = 0
        self._buffer.clear()
        self.deadline = deadline
        self.waiter = waiter = asyncio.get_running_loop().create_future()
        self._pool.deadlines.add(self)
        self._frame = (len(message) + 2).to_bytes(2, "big") + message_id.to_bytes(2, "big") + message
        self._send()
        return waiter

    def on_deadline(self) -> None:
        """It took too long: connecting, or answering."""
        if self._step is not None:
            if not self._step.done():
                self._step.set_exception(TimeoutError())
        else:
            self._fail(io_error("read", "tcp", self.socket, self._pool.remote_text, TIMEOUT))

    def close(self) -> None:
        """Be gone; idempotent."""
        if self.socket.fileno() < 0:
            return
        self._pool.deadlines.remove(self)
        loop = asyncio.get_running_loop()
        loop.remove_reader(self.socket.fileno())
        loop.remove_writer(self.socket.fileno())
        self.socket.close()
        self.waiter = None

    # Connecting

    async def _connect(self) -> None:
        status = self.socket.connect_ex(self._pool.address)
        if status == errno.EINPROGRESS:
            await self._wait(is_write=True)
            status = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if status:
            raise OSError(status, "")

    async def _shake_hands(self, tls: ssl.SSLContext) -> None:
        # An SSL socket takes the descriptor over, so the plain one is gone from here on, also where wrapping fails.
        self.socket = wrapped = tls.wrap_socket(
            self.socket, server_hostname=self._pool.server_name, do_handshake_on_connect=False
        )
        while True:
            try:
                wrapped.do_handshake()
                return
            except ssl.SSLWantReadError:
                await self._wait(is_write=False)
            except ssl.SSLWantWriteError:
                await self._wait(is_write=True)

    async def _wait(self, *, is_write: bool) -> None:
        """Until the socket is ready. Raises TimeoutError."""
        if time.monotonic() >= self.deadline:
            raise TimeoutError  # it passed between two steps, and nobody tells of it again
        loop = asyncio.get_running_loop()
        self._step = step = loop.create_future()
        add, remove = (loop.add_writer, loop.remove_writer) if is_write else (loop.add_reader, loop.remove_reader)
        add(self.socket.fileno(), _finish, step)
        try:
            await step
        finally:
            remove(self.socket.fileno())
            self._step = None

    # Asking

    def _send(self) -> None:
        """Write what the connection takes; the rest when it takes more."""
        try:
            while self._frame:
                self._frame = self._frame[self.socket.send(self._frame) :]
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            asyncio.get_running_loop().add_writer(self.socket.fileno(), self._on_writable)
        except OSError as error:
            self._on_broken("write", reason(error, "write"))

    def _on_writable(self) -> None:
        asyncio.get_running_loop().remove_writer(self.socket.fileno())
        self._send()

    def _on_readable(self) -> None:
        # Until nothing is left: what TLS has decrypted already, the kernel does not tell of.
        while self.socket.fileno() >= 0:
            try:
                received = self.socket.recv(_READ_SIZE)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            except OSError as error:
                self._on_broken("read", reason(error, "read"))
                return
            if not received:
                self._on_broken("", "unexpected EOF" if self._buffer else "EOF")
                return
            if self.waiter is None:
                self._pool.forget(self)  # nobody asked
                self.close()
                return
            self._buffer += received
            self._read_frames()
            if self._pool.tls is None:
                return

    def _read_frames(self) -> None:
        buffer = self._buffer
        while self.waiter is not None and len(buffer) >= 2:
            end = 2 + int.from_bytes(buffer[:2], "big")
            if len(buffer) < end:
                return
            message = bytes(buffer[2:end])
            del buffer[:end]
            self._on_message(message)

    def _on_message(self, message: bytes) -> None:
        waiter = self.waiter
        assert waiter is not None
        try:
            if self._question:
                reply = read_reply(message, self._id, self._question, "forward")
            else:
                reply = read_header(message, self._id)
        except FormatError as error:
            self._near_misses += 1
            self._pool.on_near_miss()
            if self._near_misses >= MAX_NEAR_MISSES:
                text = f"{self._near_misses} messages that are no answer, the last: {error}"
                self._fail(NearMisses(str(io_error("read", "tcp", self.socket, self._pool.remote_text, text))))
            return
        self.waiter = None
        self._pool.deadlines.remove(self)
        if self._buffer or self._frame:
            self.close()  # more than was asked for, or an answer to half a question
        else:
            self._pool.give_back(self)
        if not waiter.done():
            waiter.set_result(reply)

    def _on_broken(self, action: str, text: str) -> None:
        if self.is_kept and not self._buffer:
            self._fail(Stale(text))
        elif action:
            self._fail(io_error(action, "tcp", self.socket, self._pool.remote_text, text))
        else:
            self._fail(UpstreamError(text))

    def _fail(self, error: UpstreamError) -> None:
        waiter = self.waiter
        self._pool.forget(self)
        self.close()
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)


@dataclass(slots=True)
class TcpPool:
    """The connections to one upstream."""

    address: tuple[Any, ...]  # as socket.connect takes it
    source: str | None
    limits: PoolLimits
    deadlines: Deadlines
    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    on_near_miss: Callable[[], None] = lambda: None
    _idle: IdleSockets[TcpConnection] = field(init=False)

    def __post_init__(self) -> None:
        self._idle = IdleSockets(self.limits)

    @property
    def remote_text(self) -> str:
        """The upstream as error texts name it."""
        return address_text(self.address)

    async def exchange(self, message: bytes, question: bytes, deadline: float) -> tuple[Reply, bool]:
        """The reply to a query, and whether the connection had been used before. Raises UpstreamError.

        Stale is worth another try: it is made on a new connection.
        """
        taken = self._idle.take()
        if taken is not None:
            try:
                return await self._ask(taken, message, question, deadline), True
            except Stale:
                # The upstream was started anew, or closes what is idle: the others are gone as well.
                self._idle.close_all()
                raise
        taken = self._open()
        await taken.connect(deadline)
        return await self._ask(taken, message, question, deadline), False

    def give_back(self, taken: TcpConnection) -> None:
        """Its query is answered; keep it for another."""
        taken.is_kept = True
        self._idle.put(taken, 0 < self.limits.max_idle <= len(self._idle))

    def forget(self, broken: TcpConnection) -> None:
        """It is of no use any more, idle or not."""
        self._idle.forget(broken)

    def close_expired(self) -> None:
        """Close what has been idle for too long."""
        self._idle.close_expired()

    def close(self) -> None:
        """Close what is idle now, and everything else once its query is over."""
        self._idle.close()

    async def _ask(self, taken: TcpConnection, message: bytes, question: bytes, deadline: float) -> Reply:
        waiter = taken.ask(message, question, deadline)
        try:
            return await waiter
        except asyncio.CancelledError:
            if taken.waiter is waiter:
                taken.close()
            raise

    def _open(self) -> TcpConnection:
        family = socket.AF_INET6 if ":" in self.address[0] else socket.AF_INET
        try:
            opened = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        except OSError as error:
            raise dial_error("tcp", self.remote_text, reason(error, "socket"), self.source) from error
        try:
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.source:
                opened.bind((self.source, 0))
        except OSError as error:
            opened.close()
            raise dial_error("tcp", self.remote_text, reason(error, "bind"), self.source) from error
        return TcpConnection(self, opened)


def _finish(step: asyncio.Future[None]) -> None:
    if not step.done():
        step.set_result(None)
