"""An upstream server on loopback that does with each query what a test tells it to, in the test's own event loop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import dns.flags
import dns.message
import dns.name
import dns.rrset

from tests.harness.exchange import TCP, UDP, frame
from tests.harness.places import Loopback, Place

HEADER_SIZE = 12  # octets


@dataclass(frozen=True, slots=True)
class Seen:
    """A query as it arrived."""

    transport: str
    wire: bytes
    client: tuple[str, int]

    @property
    def message(self) -> dns.message.Message:
        """The query, read."""
        return dns.message.from_wire(self.wire)

    @property
    def name(self) -> str:
        """The name it asks for."""
        return dns.name.from_wire(self.wire, HEADER_SIZE)[0].to_text()

    @property
    def question(self) -> bytes:
        """The question as it arrived."""
        end = HEADER_SIZE
        while self.wire[end]:
            end += 1 + self.wire[end]
        return self.wire[HEADER_SIZE : end + 5]

    def reply(self, *lines: str, **flags: Any) -> dns.message.Message:
        """A reply with these answers, given as zone-file lines; `rcode` and header flags (`tc=True`) as named."""
        made = dns.message.make_response(self.message, recursion_available=True, our_payload=1232)
        made.set_rcode(flags.pop("rcode", 0))
        for flag, is_set in flags.items():
            if is_set:
                made.flags |= dns.flags.from_text(flag.upper())
        for line in lines:
            owner, ttl, rclass, rtype, rdata = line.split(None, 4)
            made.answer.append(dns.rrset.from_text(owner, int(ttl), rclass, rtype, rdata))
        return made

    def address(self, address: str = "192.0.2.1") -> bytes:
        """The ordinary reply: one A record of the name asked for."""
        return self.reply(f"{self.name} 60 IN A {address}").to_wire()


Answer = Callable[[Seen], Sequence[bytes] | Awaitable[Sequence[bytes]]]
OnStream = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def addressed(seen: Seen) -> Sequence[bytes]:
    """Answers each query with one address."""
    return [seen.address()]


@dataclass(slots=True)
class Upstream(asyncio.DatagramProtocol):
    """Serves `answer` over UDP and TCP on one port; `on_stream` takes TCP connections over altogether."""

    answer: Answer = addressed
    on_stream: OnStream | None = None
    tls: ssl.SSLContext | None = None
    host: str = "127.0.0.1"
    port: int = 0
    place: Place = field(default_factory=Loopback)
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0
    _udp: asyncio.DatagramTransport | None = None
    _datagrams: socket.socket | None = None
    _tcp: asyncio.Server | None = None
    _streams: set[asyncio.StreamWriter] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _gone: asyncio.Event = field(default_factory=asyncio.Event)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Begin to listen, on the former port where there was one."""
        self._gone.clear()
        listening, self._datagrams = self.place.run(self._bind)
        self.port = listening.getsockname()[1]
        self._tcp = await asyncio.start_server(self._on_connection, sock=listening, ssl=self.tls)
        loop = asyncio.get_running_loop()
        self._udp, _ = await loop.create_datagram_endpoint(lambda: self, sock=self._datagrams)

    def _bind(self) -> tuple[socket.socket, socket.socket]:
        """A TCP and a UDP socket at one port; one that is free for TCP may be another's for UDP."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        while True:
            listening = socket.create_server((self.host, self.port), family=family)
            datagrams = socket.socket(family, socket.SOCK_DGRAM)
            try:
                datagrams.bind(listening.getsockname()[:2])
                return listening, datagrams
            except OSError as error:
                listening.close()
                datagrams.close()
                if self.port or error.errno != errno.EADDRINUSE:
                    raise

    async def stop(self) -> None:
        """Be gone: ports refuse, connections are closed."""
        assert self._udp is not None
        assert self._tcp is not None
        self._udp.close()
        self._tcp.close()
        self.close_streams()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._tcp.wait_closed()
        await self._gone.wait()

    def close_streams(self) -> None:
        """Close the TCP connections there are."""
        for writer in list(self._streams):
            writer.close()

    def count(self, transport: str | None = None, name: str | None = None) -> int:
        """How many queries came, of all or of these; health checks do not count unless their name is given."""
        return sum(
            transport in (None, seen.transport) and (seen.name != "." if name is None else seen.name == name)
            for seen in self.seen
        )

    def send(self, message: bytes, client: tuple[str, int]) -> None:
        """Send a datagram from the upstream's port, asked or not."""
        assert self._datagrams is not None
        self._datagrams.sendto(message, client)  # not by the transport, which sends nothing that is empty

    # UDP

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Part of asyncio's protocol."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The UDP socket is closed."""
        self._gone.set()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Note a query, and answer it."""
        seen = Seen(UDP, data, addr[:2])
        self.seen.append(seen)
        self._start(self._answer_datagram(seen, addr))

    async def _answer_datagram(self, seen: Seen, client: tuple[str, int]) -> None:
        for message in await self._answers(seen):
            if self._udp is not None and not self._udp.is_closing():
                self.send(message, client)

    # TCP

    async def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self._streams.add(writer)
        try:
            await (self.on_stream or self._serve_stream)(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            self._streams.discard(writer)
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _serve_stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            for message in await self._answers(await self.read_query(reader, writer)):
                writer.write(frame(message))
            await writer.drain()

    async def read_query(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Seen:
        """The next query of a connection, noted."""
        size = int.from_bytes(await reader.readexactly(2), "big")
        seen = Seen(TCP, await reader.readexactly(size), writer.get_extra_info("peername")[:2])
        self.seen.append(seen)
        return seen

    async def _answers(self, seen: Seen) -> Sequence[bytes]:
        answers = self.answer(seen)
        return await answers if isinstance(answers, Awaitable) else answers

    def _start(self, job: Awaitable[None]) -> None:
        task = asyncio.ensure_future(job)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


@contextlib.contextmanager
def in_thread(upstream: Upstream) -> Iterator[Upstream]:
    """The upstream, served by an event loop in a thread of its own: for tests that wait without one."""
    started: Future[None] = Future()
    loop = asyncio.new_event_loop()
    ending = asyncio.Event()

    async def serve() -> None:
        try:
            await upstream.start()
        except BaseException as error:
            started.set_exception(error)
            raise
        started.set_result(None)
        await ending.wait()
        await upstream.stop()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run, name="upstream", daemon=True)
    thread.start()
    try:
        started.result()
        yield upstream
    finally:
        loop.call_soon_threadsafe(ending.set)
        thread.join()


def silent(_: Seen) -> Sequence[bytes]:
    """Answers nothing."""
    return []
