"""A worker: serves its sockets from the table, and by the plugin chain what the table does not decide.

It holds no credentials and nothing anybody would miss: it may be killed at any time. A worker that has no number yet is
the spare, ready to take over the sockets of one that died.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import select
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import replace
from functools import partial
from typing import cast

from kdns import log, metrics
from kdns.corefile import format_duration
from kdns.errors import TableError
from kdns.hotpath.answer import Responder
from kdns.hotpath.forward import Engine
from kdns.hotpath.meter import Meters
from kdns.hotpath.stream import StreamResponder
from kdns.hotpath.table import Table
from kdns.hotpath.udp import UdpSocket, address_of, arrival_of
from kdns.resolver import Listener
from kdns.server.child import set_title
from kdns.server.context import ServerContext
from kdns.server.control import Channel, NewTable, Serve, Serving, Stop
from kdns.server.misses import Misses
from kdns.server.sockets import DnsSocket, ListenerSockets
from kdns.server.tcp import TcpServer
from kdns.server.tcp_slots import TcpLimits, half_of_descriptors
from kdns.server.worker_metrics import Load, WorkerMetrics

LATE_SECONDS = 5.0  # what has waited longer in a socket is dropped: clients ask again after 5 s at the latest
TURN_SECONDS = 1.0  # between looks at the clock
MAX_LATE = 65_536  # datagrams dropped from one socket at a time; more than its queue holds
MAX_BATCHES = 1024  # read of a socket that is left; more than its queue holds
ENGINE_SECONDS = 0.01  # between looks at whether the compiled path waits for upstreams, at the end


class Worker:
    """One worker process. `table_fd` is the current generation, if there is one."""

    def __init__(self, context: ServerContext, channel: Channel, table_fd: int | None) -> None:
        self._context = context
        self._channel = channel
        self._responders: list[Responder] = []
        self._listeners: list[_ServedListener] = []
        self._stopped: asyncio.Future[Stop] = asyncio.get_running_loop().create_future()
        self._background: list[asyncio.Task[None]] = []
        self._turn = 0.0  # when the loop was last seen to turn, once there are sockets
        self._epoch: memoryview | None = None  # a spare reads nothing, and has none
        if table_fd is not None:
            self._use_table(table_fd)
            os.close(table_fd)  # the mapping has its own; this one would keep the generation for ever

    async def run(self) -> None:
        """Serve until told to stop, or until the supervisor is gone."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._channel.fileno(), self._on_message)
        stop = await self._stopped
        loop.remove_reader(self._channel.fileno())
        await asyncio.gather(
            *(listener.aclose(stop.drain_seconds, at in stop.gone) for at, listener in enumerate(self._listeners))
        )
        # Only now: what is under way may need them.
        for task in self._background:
            task.cancel()
        for result in await asyncio.gather(*self._background, return_exceptions=True):
            if isinstance(result, Exception):
                log.logger().error("a directive's work in the background failed: %r", result)
        self._context.resolver.flush()

    def _on_message(self) -> None:
        try:
            while (received := self._channel.receive()) is not None:
                message, fd = received
                match message:
                    case Serve(number, is_late):
                        self._serve(number, is_late)
                        self._channel.send(Serving(number))
                    case NewTable():
                        if fd is None:
                            raise TableError("a table came without its file: no descriptor is free")
                        self._use_table(fd)
                        os.close(fd)
                    case Stop():
                        self._stop(message)
        except EOFError:
            self._stop(Stop(0.0))
        except Exception as error:
            # Half a worker is worse than none: the spare takes over.
            if not self._stopped.done():
                self._stopped.set_exception(error)

    def _stop(self, stop: Stop) -> None:
        if not self._stopped.done():
            self._stopped.set_result(stop)

    def _use_table(self, fd: int) -> None:
        """Answer from another generation, from the next batch on."""
        table = Table(fd)
        if self._epoch is not None:
            table.read_under(self._epoch)
        self._context.resolver.surroundings.current_table.table = table
        for responder in self._responders:
            responder.set_table(table)

    def _serve(self, number: int, is_late: bool) -> None:
        """Become the worker of this number; `is_late`: nobody has read its sockets for a while."""
        set_title(f"kdns: worker {number}")
        self._turn = _clock()
        self._context.resolver.surroundings.worker = number
        registry = self._context.resolver.surroundings.metrics
        own_row = registry.attached or 0
        self._epoch = self._context.epochs.row(own_row)
        table = self._context.resolver.surroundings.current_table.table
        if table is not None:
            table.read_under(self._epoch)
        row = self._context.counters.row(own_row)
        is_metered = bool(self._context.resolver.surroundings.prometheus)
        meters = Meters(registry.meters.row(registry.attached)) if is_metered else None
        cache = self._context.resolver.surroundings.cache.memory
        if cache is not None:
            cache.write_in(number)
        for listener, sockets in zip(self._context.resolver.listeners, self._context.sockets, strict=True):
            responder = Responder(
                listener.routes(),
                passes_other_classes=listener.takes_other_classes,
                counters=row,
                meters=meters,
                dropped=0 if listener.unserved is None else listener.unserved.meter,
                cache=cache,
                numbers=registry.row,
            )
            responder.set_table(table)
            self._responders.append(responder)
            self._listeners.append(
                _ServedListener(self._context, listener, responder, sockets, number, row, self._notice_gap)
            )  # fmt: skip
        if is_late:
            self._drop_late()
        loop = asyncio.get_running_loop()
        self._background.append(loop.create_task(self._note_turns()))
        if is_metered:
            shown = WorkerMetrics(registry).run(lambda: [listener.load() for listener in self._listeners])
            self._background.append(loop.create_task(shown))
        for run in self._context.resolver.background():
            self._background.append(loop.create_task(run()))
        gc.collect()
        gc.freeze()

    async def _note_turns(self) -> None:
        while True:
            # Whether this comes first after a stop, or a socket does, is the loop's choice.
            self._notice_gap()
            self._turn = _clock()
            await asyncio.sleep(TURN_SECONDS)

    def _notice_gap(self) -> bool:
        """Whether the loop has stood still, as the process or the machine was stopped; then what waits is dropped."""
        gap = _clock() - self._turn
        if gap < LATE_SECONDS + TURN_SECONDS:
            return False
        self._turn = _clock()
        dropped = self._drop_late()
        text = format_duration(round(gap))
        log.logger().warning("stood still for %s: dropped %d queries that had waited", text, dropped)
        return True

    def _drop_late(self) -> int:
        """Drop what waits in the sockets: it is as old as the gap, and who asked has given up, or asked again."""
        return sum(listener.drop_waiting() for listener in self._listeners)


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
        notice_gap: Callable[[], bool],
    ) -> None:
        self._resolver = context.resolver
        self._listener = listener
        self._row = row
        self._notice_gap = notice_gap
        self._misses = Misses(partial(metrics.increment, row, "drop_overload"))
        self._engines = cast("list[Engine]", responder.engines)
        self._udp: list[tuple[DnsSocket, UdpSocket]] = []
        loop = asyncio.get_running_loop()
        for udp in sockets.udp[number]:
            server = UdpSocket(udp.socket.fileno(), responder, udp.wildcard)
            bound = udp.socket.getsockname()[:2]
            server.use_engines(partial(self._start_datagram, server, bound))
            loop.add_reader(udp.socket.fileno(), self._on_readable, server, bound)
            self._udp.append((udp, server))
        # All listeners of this process share its descriptors.
        limits = _tcp_limits(listener, half_of_descriptors() // len(context.sockets))
        self._listening = sockets.tcp[number]
        listening = [tcp.socket for tcp in self._listening]
        self._tcp = TcpServer(listening, StreamResponder(responder), self._answer_stream, limits)
        self._tcp.start()

    def load(self) -> Load:
        """What is under way."""
        return Load(len(self._misses), self._tcp.statistics())

    async def aclose(self, drain_seconds: float, is_gone: bool) -> None:
        """Read no more, and finish what is under way; if the place is gone, with what waits in its sockets."""
        loop = asyncio.get_running_loop()
        for udp, server in self._udp:
            loop.remove_reader(udp.socket.fileno())
            if is_gone:
                udp.leave()
                self._read_rest(udp, server)
        if is_gone:
            self._tcp.accept_rest()
            for tcp in self._listening:
                tcp.leave()
        await self._tcp.aclose(drain_seconds)
        await self._wait_for_engines(drain_seconds)
        await self._misses.wait(drain_seconds)

    async def _wait_for_engines(self, seconds: float) -> None:
        """Wait until upstreams have answered what the compiled path asked them."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        # Nobody tells when the last one is answered, and this happens once.
        while any(engine.waiting for engine in self._engines) and loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(ENGINE_SECONDS)

    def _read_rest(self, udp: DnsSocket, server: UdpSocket) -> None:
        """Answer what waits in a socket nothing more comes to."""
        waiting = select.poll()
        waiting.register(udp.socket.fileno(), select.POLLIN)
        for _ in range(MAX_BATCHES):
            if not waiting.poll(0):
                return
            self._on_readable(server, udp.socket.getsockname()[:2])

    def drop_waiting(self) -> int:
        """Drop what waits in the UDP sockets; how many datagrams."""
        dropped = 0
        for udp, _ in self._udp:
            with contextlib.suppress(BlockingIOError):
                # A bound: others may send as fast as this reads.
                for _ in range(MAX_LATE):
                    udp.socket.recv(1)
                    dropped += 1
        metrics.increment(self._row, "drop_late", dropped)
        return dropped

    def _on_readable(self, server: UdpSocket, bound: tuple[str, int]) -> None:
        if self._notice_gap():
            return
        missed = server.receive()
        if missed is None:
            return
        for message, peer, control in missed:
            self._start_datagram(server, bound, message, peer, control)

    def _start_datagram(
        self, server: UdpSocket, bound: tuple[str, int], message: bytes, peer: bytes, control: bytes
    ) -> None:
        self._misses.add(partial(self._answer_datagram, server, bound, message, peer, control))

    async def _answer_datagram(
        self, server: UdpSocket, bound: tuple[str, int], message: bytes, peer: bytes, control: bytes
    ) -> None:
        local = (arrival_of(control), bound[1]) if control else bound
        reply = await self._resolver.answer(self._listener, message, address_of(peer), stream=False, local=local)
        if reply is not None:
            server.send(reply, peer, control)

    async def _answer_stream(
        self, message: bytes, client: tuple[str, int], local: tuple[str, int]
    ) -> bytes | AsyncGenerator[bytes, None] | None:
        return await self._resolver.answer_stream(self._listener, message, client, local=local)


def _clock() -> float:
    """A clock that goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _tcp_limits(listener: Listener, connections: int) -> TcpLimits:
    """What clients may take over TCP; of several blocks that say so the last one counts."""
    limits = TcpLimits(connections=connections)
    for block in listener.zones.values():
        stream = block.settings.stream
        limits = replace(
            limits,
            message_seconds=stream.read_seconds or limits.message_seconds,
            unread_seconds=stream.write_seconds or limits.unread_seconds,
            idle_seconds=stream.idle_seconds or limits.idle_seconds,
            queries_per_connection=stream.max_queries or limits.queries_per_connection,
        )
    return limits


def worker_main(
    context: ServerContext, channel: Channel, table_fd: int | None
) -> Callable[[], Coroutine[None, None, None]]:
    """The coroutine function a worker process runs."""

    async def main() -> None:
        await Worker(context, channel, table_fd).run()

    return main
