"""A TCP server on a loopback socket, with a table and a slow path that tests control, and clients for it."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from kdns.server.tcp import TcpServer
from kdns.server.tcp_connection import Address
from kdns.server.tcp_slots import TcpEvent, TcpLimits
from tests.fakes.stream_answerer import FakeStreamAnswerer, frame, reply_to

LIMITS = TcpLimits(connections=1000, sweep_seconds=0.01)


class SlowPathFake:
    """Replies to each message once the test says so."""

    def __init__(self) -> None:
        self.pending: dict[bytes, asyncio.Future[bytes | None]] = {}
        self.seen: list[tuple[Address, Address]] = []
        self.cancelled = 0
        self.peak = 0

    async def __call__(self, message: bytes, client: Address, local: Address) -> bytes | None:
        self.seen.append((client, local))
        self.pending[message] = asyncio.get_running_loop().create_future()
        self.peak = max(self.peak, len(self.pending))
        try:
            return await self.pending[message]
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.pending.pop(message, None)

    def reply(self, message: bytes) -> None:
        future = self.pending.pop(message)
        if not future.cancelled():
            future.set_result(reply_to(message))


class TcpBench:
    """A server, what stands behind it, and a clock that moves when told."""

    def __init__(self, limits: TcpLimits, host: str) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.listener = socket.socket(family, socket.SOCK_STREAM)
        self.listener.setblocking(False)
        self.listener.bind((host, 0))
        self.listener.listen(1024)
        self.address: Address = self.listener.getsockname()[:2]
        self.now = 0.0
        self.answerer = FakeStreamAnswerer()
        self.slow_path = SlowPathFake()
        self.clock_reads = 0
        self.server = TcpServer([self.listener], self.answerer, self.slow_path, limits, self._clock)

    def _clock(self) -> float:
        self.clock_reads += 1
        return self.now

    def count(self, event: TcpEvent) -> int:
        return self.server.statistics().events[event]

    async def connect(self) -> TcpClient:
        reader, writer = await asyncio.open_connection(*self.address)
        return TcpClient(reader, writer)


class TcpClient:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, *messages: bytes) -> None:
        self.writer.write(b"".join(map(frame, messages)))

    async def receive(self) -> bytes:
        async with asyncio.timeout(5):
            size = int.from_bytes(await self.reader.readexactly(2), "big")
            return await self.reader.readexactly(size)

    async def exchange(self, message: bytes) -> bytes:
        self.send(message)
        return await self.receive()

    def reset(self) -> None:
        """Leave at once and for good, where a plain close is only a half-close to the server."""
        client = self.writer.get_extra_info("socket")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def wait_closed(self) -> bytes:
        """What still comes before the end of the stream, which must come."""
        async with asyncio.timeout(5):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""


@asynccontextmanager
async def serving(limits: TcpLimits = LIMITS, host: str = "127.0.0.1") -> AsyncIterator[TcpBench]:
    """A server that must leave nothing behind, whatever its clients did."""
    tasks_before = asyncio.all_tasks()
    bench = TcpBench(limits, host)
    bench.server.start()
    try:
        yield bench
    finally:
        await bench.server.aclose(0)
        bench.listener.close()
    statistics = bench.server.statistics()
    assert (statistics.connections, statistics.messages_in_flight) == (0, 0)
    assert asyncio.all_tasks() == tasks_before


async def wait_until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition does not come true"
        await asyncio.sleep(0.002)


@asynccontextmanager
async def connected(bench: TcpBench, count: int = 1) -> AsyncIterator[list[TcpClient]]:
    clients = [await bench.connect() for _ in range(count)]
    try:
        yield clients
    finally:
        for client in clients:
            client.writer.transport.abort()
            with suppress(OSError):
                await client.writer.wait_closed()


async def sweeps(bench: TcpBench) -> None:
    """Wait until all deadlines have been looked at, which is all a server without traffic asks the time for."""
    reads = bench.clock_reads
    await wait_until(lambda: bench.clock_reads >= reads + 2)
