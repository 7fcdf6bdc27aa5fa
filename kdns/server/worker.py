"""A worker: serves its sockets from the table, and by the plugin chain what the table does not decide.

It holds no credentials and nothing anybody would miss: it may be killed at any time. A worker that has no number yet is
the spare, ready to take over the sockets of one that died.
"""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Callable, Coroutine

from kdns import log, metrics
from kdns.errors import TableError
from kdns.hotpath.answer import Responder
from kdns.hotpath.stream import StreamResponder
from kdns.hotpath.table import Table
from kdns.hotpath.udp import UdpSocket, address_of
from kdns.resolver import Listener
from kdns.server.child import set_title
from kdns.server.context import ServerContext
from kdns.server.control import Channel, NewTable, Serve, Stop
from kdns.server.sockets import DnsSocket, ListenerSockets
from kdns.server.tcp import TcpServer
from kdns.server.tcp_slots import TcpLimits, half_of_descriptors

MAX_MISSES = 4096  # queries on the slow path of one worker at a time; more are dropped, as a full socket would


class Worker:
    """One worker process. `table_fd` is the current generation, if there is one."""

    def __init__(self, context: ServerContext, channel: Channel, table_fd: int | None) -> None:
        self._context = context
        self._channel = channel
        self._responders: list[Responder] = []
        self._listeners: list[_ServedListener] = []
        self._stopped: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._background: list[asyncio.Task[None]] = []
        self._epoch: memoryview | None = None  # a spare reads nothing, and has none
        if table_fd is not None:
            self._use_table(table_fd)
            os.close(table_fd)  # the mapping has its own; this one would keep the generation for ever

    async def run(self) -> None:
        """Serve until told to stop, or until the supervisor is gone."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._channel.fileno(), self._on_message)
        drain_seconds = await self._stopped
        loop.remove_reader(self._channel.fileno())
        for task in self._background:
            task.cancel()
        await asyncio.gather(*(listener.aclose(drain_seconds) for listener in self._listeners))
        self._context.resolver.flush()

    def _on_message(self) -> None:
        try:
            while (received := self._channel.receive()) is not None:
                message, fd = received
                match message:
                    case Serve(number):
                        self._serve(number)
                    case NewTable():
                        if fd is None:
                            raise TableError("a table came without its file: no descriptor is free")
                        self._use_table(fd)
                        os.close(fd)
                    case Stop(drain_seconds):
                        self._stop(drain_seconds)
        except EOFError:
            self._stop(0.0)
        except Exception as error:
            # Half a worker is worse than none: the spare takes over.
            if not self._stopped.done():
                self._stopped.set_exception(error)

    def _stop(self, drain_seconds: float) -> None:
        if not self._stopped.done():
            self._stopped.set_result(drain_seconds)

    def _use_table(self, fd: int) -> None:
        """Answer from another generation, from the next batch on."""
        table = Table(fd)
        if self._epoch is not None:
            table.read_under(self._epoch)
        self._context.resolver.surroundings.current_table.table = table
        for responder in self._responders:
            responder.set_table(table)

    def _serve(self, number: int) -> None:
        """Become the worker of this number."""
        set_title(f"kdns: worker {number}")
        self._epoch = self._context.epochs.row(number)
        table = self._context.resolver.surroundings.current_table.table
        if table is not None:
            table.read_under(self._epoch)
        row = self._context.counters.row(number)
        for listener, sockets in zip(self._context.resolver.listeners, self._context.sockets, strict=True):
            responder = Responder(listener.routes(), counters=row)
            responder.set_table(table)
            self._responders.append(responder)
            self._listeners.append(
                _ServedListener(self._context, listener, responder, sockets, number, row)
            )  # fmt: skip
        loop = asyncio.get_running_loop()
        for run in self._context.resolver.background():
            self._background.append(loop.create_task(run()))
        gc.collect()
        gc.freeze()


class _ServedListener:
    """The sockets of one listener that a worker serves."""

    def __init__(
        self,
        context: ServerContext,
        listener: Listener,
        responder: Responder,
        sockets: ListenerSockets,
        number: int,
        row: memoryview,
    ) -> None:
        self._resolver = context.resolver
        self._listener = listener
        self._row = row
        self._misses: set[asyncio.Task[None]] = set()
        self._udp: list[DnsSocket] = []
        loop = asyncio.get_running_loop()
        for udp in sockets.udp[number]:
            server = UdpSocket(udp.socket.fileno(), responder, udp.wildcard)
            loop.add_reader(udp.socket.fileno(), self._on_readable, server)
            self._udp.append(udp)
        # All listeners of this process share its descriptors.
        limits = TcpLimits(connections=half_of_descriptors() // len(context.sockets))
        listening = [tcp.socket for tcp in sockets.tcp[number]]
        self._tcp = TcpServer(listening, StreamResponder(responder), self._answer_stream, limits)
        self._tcp.start()

    async def aclose(self, drain_seconds: float) -> None:
        """Read no more, and finish what is under way."""
        loop = asyncio.get_running_loop()
        for udp in self._udp:
            loop.remove_reader(udp.socket.fileno())
        await self._tcp.aclose(drain_seconds)
        if self._misses:
            _, late = await asyncio.wait(self._misses, timeout=drain_seconds)
            for task in late:
                task.cancel()

    def _on_readable(self, server: UdpSocket) -> None:
        missed = server.receive()
        if missed is None:
            return
        for message, peer, control in missed:
            if len(self._misses) >= MAX_MISSES:
                metrics.increment(self._row, "drop_overload")
                continue
            self._start(self._answer_datagram(server, message, peer, control))

    def _start(self, coroutine: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._misses.add(task)
        task.add_done_callback(self._on_answered)

    def _on_answered(self, task: asyncio.Task[None]) -> None:
        self._misses.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.logger().error("a query was not answered: %r", error)

    async def _answer_datagram(self, server: UdpSocket, message: bytes, peer: bytes, control: bytes) -> None:
        reply = await self._resolver.answer(self._listener, message, address_of(peer), stream=False)
        if reply is not None:
            server.send(reply, peer, control)

    async def _answer_stream(self, message: bytes, client: tuple[str, int], local: tuple[str, int]) -> bytes | None:
        return await self._resolver.answer(self._listener, message, client, stream=True)


def worker_main(
    context: ServerContext, channel: Channel, table_fd: int | None
) -> Callable[[], Coroutine[None, None, None]]:
    """The coroutine function a worker process runs."""

    async def main() -> None:
        await Worker(context, channel, table_fd).run()

    return main
