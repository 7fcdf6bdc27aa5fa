"""DNS over TCP in a worker: accepts connections, gives each its place, and closes those that waste it (RFC 7766).

One sweep looks at all deadlines at once instead of a timer for each connection: a timer would have to be moved with
every query, and no deadline here is so exact that half a second matters.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections.abc import Callable, Sequence
from types import MappingProxyType

from kdns.log import logger
from kdns.server.tcp_connection import SlowPath, StreamAnswerer, TcpConnection, TcpService, ip_address
from kdns.server.tcp_slots import ConnectionSlots, MessageSlots, TcpEvent, TcpLimits, TcpStatistics

ACCEPTS_PER_TURN = 32  # connections taken from a listener before the loop looks at anything else
FRESH_SECONDS = 1.0  # at the end, for the first query of a client that has just connected
ACCEPT_PAUSE_SECONDS = 0.1  # without descriptors a listener stays readable: asking again at once would spin
SEND_BUFFER_OCTETS = 131_072  # of the kernel, which counts twice that; left to itself it grows to 4 MiB a connection,
# which is charged to the pod, for a client that does not read

_OUT_OF_DESCRIPTORS = {errno.EMFILE, errno.ENFILE}


class TcpServer:
    """Serves DNS on listening sockets that somebody else has made, and leaves open."""

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        answerer: StreamAnswerer,
        slow_path: SlowPath,
        limits: TcpLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = TcpLimits() if limits is None else limits
        self._listeners = tuple(sockets)
        self._connections: ConnectionSlots[TcpConnection] = ConnectionSlots(self._limits)
        self._messages: MessageSlots[TcpConnection] = MessageSlots(self._limits)
        self._service = TcpService(
            answerer,
            slow_path,
            self._connections,
            self._messages,
            clock,
            self._on_gone,
            self._limits.queries_per_connection,
        )
        self._open: set[TcpConnection] = set()  # with the closed ones of which something is left
        self._adoptions: set[asyncio.Task[None]] = set()
        self._is_emptied = asyncio.Event()
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._accept_timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Accept connections from now on."""
        for listener in self._listeners:
            # An accepted socket inherits both.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_OCTETS)
        self._listen()

    def accept_rest(self) -> None:
        """Take the connections that wait: nobody else will."""
        for listener in self._listeners:
            self._on_pending(listener)

    async def aclose(self, drain_seconds: float) -> None:
        """Accept no more, answer what has arrived, and close all connections, after `drain_seconds` in any case."""
        self._stop_listening()
        for connection in tuple(self._open):
            connection.drain(at_once=drain_seconds <= FRESH_SECONDS)
        if not await self._is_emptied_within(min(drain_seconds, FRESH_SECONDS)):
            for connection in tuple(self._open):
                connection.drain(at_once=True)
            if not await self._is_emptied_within(drain_seconds - FRESH_SECONDS):
                for connection in tuple(self._open):
                    connection.abort()
                # Without a limit: nothing is left to wait for but callbacks of the loop and tasks that are cancelled.
                await self._wait_emptied()
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
            self._sweep_timer = None

    def statistics(self) -> TcpStatistics:
        """What the server holds now, and what has happened since its start."""
        events = MappingProxyType(dict(self._service.events))
        return TcpStatistics(len(self._connections), self._messages.in_flight, events)

    # Accepting

    def _listen(self) -> None:
        self._accept_timer = None
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            loop.add_reader(listener, self._on_pending, listener)

    def _stop_listening(self) -> None:
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            loop.remove_reader(listener)
        if self._accept_timer is not None:
            self._accept_timer.cancel()
            self._accept_timer = None

    def _on_pending(self, listener: socket.socket) -> None:
        for taken in range(ACCEPTS_PER_TURN):
            try:
                accepted, address = listener.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue  # it was gone before it was ours
            except OSError as error:
                # Without descriptors Linux says so before it looks whether there is anything to accept.
                if not taken:
                    self._on_accept_error(error)
                return
            self._on_accepted(accepted, address)

    def _on_accept_error(self, error: OSError) -> None:
        """Make room for the connection that could not be accepted, or leave it in the queue for a while."""
        if error.errno in _OUT_OF_DESCRIPTORS and self._evict():
            return
        if not self._service.events[TcpEvent.PAUSED_ACCEPT]:
            logger().warning("Accepting TCP connections pauses: %s", error.strerror)
        self._service.events[TcpEvent.PAUSED_ACCEPT] += 1
        self._stop_listening()
        self._accept_timer = asyncio.get_running_loop().call_later(ACCEPT_PAUSE_SECONDS, self._listen)

    def _on_accepted(self, accepted: socket.socket, address: tuple[str, int]) -> None:
        peer = ip_address(address)
        refusal = self._refusal(peer[0])
        if refusal is not None:
            self._service.events[refusal] += 1
            accepted.close()
            return
        self._service.events[TcpEvent.ACCEPTED] += 1
        accepted.setblocking(False)
        connection = TcpConnection(self._service, peer)
        self._connections.occupy(connection, self._service.clock())
        self._open.add(connection)
        self._is_emptied.clear()
        loop = asyncio.get_running_loop()
        if self._sweep_timer is None:
            self._sweep_timer = loop.call_later(self._limits.sweep_seconds, self._sweep)
        task = loop.create_task(self._adopt(connection, accepted))
        self._adoptions.add(task)
        task.add_done_callback(self._adoptions.discard)

    def _refusal(self, client: str) -> TcpEvent | None:
        if self._connections.client_is_full(client):
            return TcpEvent.REFUSED_PER_CLIENT
        if self._connections.is_full and not self._evict():
            return TcpEvent.REFUSED_FULL
        return None

    def _evict(self) -> bool:
        evicted = self._connections.evict(self._service.clock())
        if evicted is None:
            return False
        self._service.events[TcpEvent.EVICTED_IDLE] += 1
        evicted.close()
        return True

    async def _adopt(self, connection: TcpConnection, accepted: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: connection, accepted)
        except OSError as error:
            accepted.close()
            connection.connection_lost(error)

    # Closing

    def _sweep(self) -> None:
        for connection, event in self._connections.overdue(self._service.clock()):
            self._service.events[event] += 1
            if event is TcpEvent.TIMED_OUT_IDLE:
                connection.close()
            else:
                connection.abort()
        self._sweep_timer = None
        if self._open:
            self._sweep_timer = asyncio.get_running_loop().call_later(self._sweep_period(), self._sweep)

    def _sweep_period(self) -> float:
        """How soon to look again: sooner while deadlines are short."""
        limits = self._limits
        return (
            min(limits.sweep_seconds, limits.crowded_idle_seconds)
            if self._connections.is_crowded
            else (limits.sweep_seconds)
        )

    def _on_gone(self, connection: TcpConnection) -> None:
        self._open.discard(connection)
        if not self._open:
            self._is_emptied.set()

    async def _is_emptied_within(self, timeout_seconds: float) -> bool:
        try:
            async with asyncio.timeout(max(0.0, timeout_seconds)):
                await self._wait_emptied()
        except TimeoutError:
            return False
        return True

    async def _wait_emptied(self) -> None:
        if self._adoptions:
            await asyncio.wait(self._adoptions)
        if self._open:
            await self._is_emptied.wait()
