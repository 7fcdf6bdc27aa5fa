"""One TCP connection: octets in, whole messages answered, replies out in whatever order they are ready.

```
              buffer_updated                                       transport.write
   client  ------------------>  answerer (the table)  -- hits ------------------------>  client
              the rest of a            |                                                   ^
              message is kept          +-- misses -> _waiting -> tasks (slow path) --------+
```
A connection is *held*, which means that it is not read from, while the client leaves more than UNSENT_OCTETS unread or
while misses wait for a place on the slow path. What it can keep in memory is bounded by that: one read and one message
that are not answered yet, as much again of misses, and what is unsent. Every handler ends in `_settle`, which is the
only place that decides what the connection waits for, whether to read on, and whether it is over.

The protocol is a buffered one, with a single buffer for all connections: it is used up before the handler returns, so
a connection that is idle keeps no buffer, and one that floods gets READ_OCTETS worth of work a turn.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Protocol, cast

from kdns.errors import StreamError
from kdns.log import logger
from kdns.server.tcp_slots import Awaits, ConnectionSlots, MessageSlots, TcpEvent

READ_OCTETS = 32_768  # at a time, of one connection: about 1,000 queries, 1 ms, before it is another's turn
UNSENT_OCTETS = 65_536  # beyond this a connection is not read from; one reply of the largest size
MAX_UNSENT_OCTETS = 1_048_576  # beyond this it is closed: replies of the slow path come even when it is not read from

Address = tuple[str, int]  # IP address and port


class StreamAnswerer(Protocol):
    """The compiled path for streams."""

    def answer(self, data: bytes | bytearray | memoryview, family_is_v6: bool) -> tuple[int, bytes, list[bytes]]:
        """Take whole messages from the front of `data`: octets consumed, framed replies, messages for the slow path.

        May stop early when the replies are many. Raises StreamError for a frame that cannot hold a header.
        """


class SlowPath(Protocol):
    """The resolver."""

    def __call__(
        self, message: bytes, client: Address, local: Address
    ) -> Awaitable[bytes | AsyncGenerator[bytes, None] | None]:
        """The reply to `message`, all the replies of a zone transfer, or None; raises nothing but on cancellation."""


@dataclass(slots=True)
class TcpService:
    """What all connections of a server share."""

    answerer: StreamAnswerer
    slow_path: SlowPath
    connections: ConnectionSlots[TcpConnection]
    messages: MessageSlots[TcpConnection]
    clock: Callable[[], float]
    on_gone: Callable[[TcpConnection], None]
    queries_per_connection: int | None = None  # None: any number
    events: dict[TcpEvent, int] = field(default_factory=lambda: dict.fromkeys(TcpEvent, 0))
    read_buffer: bytearray = field(default_factory=lambda: bytearray(READ_OCTETS))


class TcpConnection(asyncio.BufferedProtocol):
    """A client's connection, from its acceptance until nothing of it is left, its tasks included."""

    __slots__ = (
        "_ends_soon",
        "_is_closing",
        "_is_ended",
        "_is_lost",
        "_is_reading",
        "_is_write_paused",
        "_local",
        "_queries_left",
        "_service",
        "_tasks",
        "_transport",
        "_unread",
        "_waiting",
        "_writers",
        "_written",
        "awaits",
        "client",
        "is_v6",
        "peer",
        "since",
        "taken",
    )

    def __init__(self, service: TcpService, peer: Address) -> None:
        self.peer = peer
        self.client = peer[0]
        self.is_v6 = ":" in peer[0]
        self.awaits = Awaits.QUERY
        self.since = 0.0
        self.taken = 0
        self._service = service
        self._transport: asyncio.Transport | None = None
        self._local: Address | None = None
        self._unread = bytearray()  # what no answer covers yet: the beginning of a message; when held, more
        self._waiting: deque[bytes] = deque()  # misses that have no place on the slow path yet
        self._tasks: set[asyncio.Task[bytes | None]] = set()  # misses that have
        self._writers: list[asyncio.Future[None]] = []  # transfers that wait for the client to read on
        self._queries_left = service.queries_per_connection
        self._written = 0
        self._is_reading = True
        self._is_write_paused = False
        self._is_ended = False  # no further message counts: the client, a bad frame or a drain has put an end to them
        self._ends_soon = False  # with the next messages that arrive
        self._is_closing = False  # nothing more is written
        self._is_lost = False

    def unsent_octets(self) -> int:
        """How much the kernel has not yet accepted."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def sent_octets(self) -> int:
        """How much it has accepted, ever."""
        return self._written - self.unsent_octets()

    def close(self) -> None:
        """Close once what has been written is sent."""
        self._is_closing = True
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._is_closing = True
        if self._transport is not None:
            self._transport.abort()

    def drain(self, *, at_once: bool) -> None:
        """Close once every message that has arrived whole is answered.

        Not `at_once` a client that has only just connected may still send its first one: it is on its way.
        """
        if not at_once and not (self._written or self._unread or self._waiting or self._tasks):
            self._ends_soon = True
            return
        self._end(TcpEvent.CLOSED_BY_DRAIN)
        if self._transport is None:
            self._is_closing = True
        else:
            self._settle(False)

    def go_on(self) -> None:
        """Take up what was held back, as far as it is no longer held."""
        if self._is_closing:
            return
        self._start_waiting()
        self._settle(bool(self._unread) and self._answer_unread() > 0)

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:  # noqa: D102 - asyncio's
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=UNSENT_OCTETS)
        if self._is_closing:
            self._transport.abort()

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: D102 - asyncio's
        return self._service.read_buffer

    def buffer_updated(self, nbytes: int) -> None:  # noqa: D102 - asyncio's
        if self._is_closing or self._is_ended:
            return
        arrived = memoryview(self._service.read_buffer)[:nbytes]
        if self._unread:
            self._unread += arrived
            consumed = self._answer_unread()
        else:
            consumed = self._answer(arrived)
            if consumed < nbytes:
                self._unread += arrived[consumed:]
        if self._ends_soon and consumed:
            self._end(TcpEvent.CLOSED_BY_DRAIN)
        self._settle(consumed > 0)
        if nbytes == READ_OCTETS and self._is_reading and not self._is_closing:
            # There is more where that came from, and uvloop would go on reading it: let the others have their turn.
            self._read(False)
            asyncio.get_running_loop().call_soon(self.go_on)

    def eof_received(self) -> bool:  # noqa: D102 - asyncio's
        self._end(TcpEvent.CLOSED_BY_CLIENT)
        self._settle(False)
        return True  # the other half stays open for the replies

    def pause_writing(self) -> None:  # noqa: D102 - asyncio's
        self._is_write_paused = True
        self._settle(False)

    def resume_writing(self) -> None:  # noqa: D102 - asyncio's
        self._is_write_paused = False
        for waiter in self._writers:
            if not waiter.done():
                waiter.set_result(None)
        self._writers.clear()
        # Not at once: a transport may say so from inside a write, in the middle of a batch.
        asyncio.get_running_loop().call_soon(self.go_on)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: D102 - asyncio's
        self._end(TcpEvent.CLOSED_BY_CLIENT)
        self._is_closing = self._is_lost = True
        self._service.connections.release(self)
        self._service.messages.leave(self)
        self._waiting.clear()
        self._unread = bytearray()
        for task in self._tasks:
            task.cancel()
        if not self._tasks:
            self._service.on_gone(self)

    # Messages

    def _is_held(self) -> bool:
        return self._is_write_paused or bool(self._waiting)

    def _answer_unread(self) -> int:
        with memoryview(self._unread) as view:
            consumed = self._answer(view)
        del self._unread[:consumed]
        return consumed

    def _answer(self, data: memoryview) -> int:
        """Answer the whole messages at the front of `data` until held; the octets they take."""
        answer, at, size = self._service.answerer.answer, 0, len(data)
        while at < size and not self._is_held() and not self._is_closing:
            rest = data[at:] if at else data
            try:
                consumed, replies, misses = answer(self._allowed(rest), self.is_v6)
            except StreamError:
                # Where the next message begins is anybody's guess. What came before still gets its replies.
                self._end(TcpEvent.STREAM_ERROR)
                return size
            if not consumed:
                break
            at += consumed
            if replies:
                self._write(replies)
            if misses:
                self._waiting.extend(misses)
                self._start_waiting()
            if self._queries_left is not None:
                self._queries_left -= len(_frame_ends(rest[:consumed]))
                if self._queries_left <= 0:
                    self._end(TcpEvent.QUERIES_USED_UP)
                    return size
        return at

    def _allowed(self, data: memoryview) -> memoryview:
        """The front of `data`, as far as the connection may ask so much."""
        if self._queries_left is None:
            return data
        ends = _frame_ends(data)
        return data if len(ends) < self._queries_left else data[: ends[self._queries_left - 1]]

    def _start_waiting(self) -> None:
        messages = self._service.messages
        while self._waiting and not self._is_write_paused and messages.take(self, len(self._tasks)):
            task = asyncio.get_running_loop().create_task(self._resolve(self._waiting.popleft()))
            self._tasks.add(task)
            task.add_done_callback(self._on_resolved)

    async def _resolve(self, message: bytes) -> bytes | None:
        if self._local is None:
            assert self._transport is not None
            self._local = ip_address(self._transport.get_extra_info("sockname"))
        reply = await self._service.slow_path(message, self.peer, self._local)
        if reply is None or isinstance(reply, bytes):
            return None if reply is None else _frame(reply)
        async with aclosing(reply):
            async for part in reply:
                await self._wait_writable()
                if self._is_closing:
                    break
                self._write(_frame(part))
        return None

    async def _wait_writable(self) -> None:
        """Wait until the client has read on; one that does not is closed for it, and whoever waits is cancelled."""
        while self._is_write_paused:
            waiter = asyncio.get_running_loop().create_future()
            self._writers.append(waiter)
            await waiter

    def _on_resolved(self, task: asyncio.Task[bytes | None]) -> None:
        self._tasks.remove(task)
        next_in_line = self._service.messages.give_back()
        if next_in_line is not None:
            next_in_line.go_on()
        reply = self._result(task)
        if self._is_lost:
            if not self._tasks:
                self._service.on_gone(self)
            return
        if reply is not None and not self._is_closing:
            self._write(reply)
        self.go_on()

    def _result(self, task: asyncio.Task[bytes | None]) -> bytes | None:
        if task.cancelled():
            return None
        error = task.exception()
        if error is None:
            return task.result()
        self._service.events[TcpEvent.SLOW_PATH_ERROR] += 1
        logger().error("TCP query of %s is left without a reply: %r", self.client, error)
        return None

    def _write(self, replies: bytes) -> None:
        assert self._transport is not None
        self._written += len(replies)
        self._transport.write(replies)
        if self._is_write_paused and self.unsent_octets() > MAX_UNSENT_OCTETS:
            self._service.events[TcpEvent.CLOSED_UNREAD] += 1
            self.abort()

    # State

    def _settle(self, has_advanced: bool) -> None:
        """Note what the connection waits for; `has_advanced`: messages have been taken since this was last noted."""
        if self._is_closing:
            return
        is_held = self._is_held()
        self._read(not is_held and not self._is_ended)
        if self._is_ended and not is_held and not self._tasks:
            self._finish()
            return
        if self._is_write_paused:
            awaits = Awaits.READER
        elif self._unread and self._is_reading:
            awaits = Awaits.REST
        elif self._waiting or self._tasks:
            awaits = Awaits.REPLIES
        else:
            awaits = Awaits.QUERY
        # A message under way keeps the time of its first octet, and an unread reply the time of the last progress.
        if awaits is not self.awaits or (has_advanced and awaits is not Awaits.READER):
            self._service.connections.move(self, awaits, self._service.clock())

    def _end(self, event: TcpEvent) -> None:
        """Take no further message, because of `event`."""
        if not self._is_ended and not self._is_closing:
            self._service.events[event] += 1
        self._is_ended = True

    def _finish(self) -> None:
        """Everything is answered and nothing more will come: what is left is for the client to read it."""
        self._service.connections.move(self, Awaits.READER, self._service.clock())
        self.close()

    def _read(self, wanted: bool) -> None:
        if wanted is self._is_reading:
            return
        self._is_reading = wanted
        assert self._transport is not None
        if wanted:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()


def _frame(message: bytes) -> bytes:
    return len(message).to_bytes(2, "big") + message


def ip_address(address: tuple[str, int] | tuple[str, int, int, int]) -> Address:
    """The address and port of a socket address; that of an IPv4 peer on an IPv6 socket as IPv4."""
    return address[0].removeprefix("::ffff:") if "." in address[0] else address[0], address[1]


def _frame_ends(data: memoryview) -> list[int]:
    """Where each whole message at the front of `data` ends, its length in two octets before it (RFC 1035, 4.2.2)."""
    ends: list[int] = []
    at = 0
    while at + 2 <= len(data) and (end := at + 2 + (data[at] << 8 | data[at + 1])) <= len(data):
        ends.append(end)
        at = end
    return ends
