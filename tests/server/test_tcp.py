"""The TCP server on loopback sockets, under both event loops, with a table and a slow path that tests control."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from kdns.server.tcp import SEND_BUFFER_OCTETS, TcpServer
from kdns.server.tcp_connection import MAX_UNSENT_OCTETS, Address
from kdns.server.tcp_slots import TcpEvent, TcpLimits
from tests.fakes.loops import on_each_loop
from tests.fakes.stream_answerer import FakeStreamAnswerer, frame, query, reply_to

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


class Bench:
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

    async def connect(self) -> Client:
        reader, writer = await asyncio.open_connection(*self.address)
        return Client(reader, writer)


class Client:
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
async def serving(limits: TcpLimits = LIMITS, host: str = "127.0.0.1") -> AsyncIterator[Bench]:
    """A server that must leave nothing behind, whatever its clients did."""
    tasks_before = asyncio.all_tasks()
    bench = Bench(limits, host)
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
async def connected(bench: Bench, count: int = 1) -> AsyncIterator[list[Client]]:
    clients = [await bench.connect() for _ in range(count)]
    try:
        yield clients
    finally:
        for client in clients:
            client.writer.transport.abort()
            with suppress(OSError):
                await client.writer.wait_closed()


# Framing


@on_each_loop
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_query_is_answered(host: str) -> None:
    async with serving(host=host) as bench, connected(bench) as [client]:
        assert await client.exchange(query(7)) == reply_to(query(7))
        assert bench.answerer.families == {":" in host}


@on_each_loop
async def test_a_message_in_single_octets_is_assembled() -> None:
    async with serving() as bench, connected(bench) as [client]:
        for octet in frame(query(7)):
            client.writer.write(bytes([octet]))
            await client.writer.drain()
            await asyncio.sleep(0)
        assert await client.receive() == reply_to(query(7))


@on_each_loop
@pytest.mark.parametrize("length", [0, 1, 11])
async def test_a_frame_too_short_for_a_header_ends_the_connection_after_the_replies_owed(length: int) -> None:
    async with serving() as bench, connected(bench) as [client]:
        client.send(query(1), query(2, b"slow"))
        client.writer.write(length.to_bytes(2, "big") + bytes(length))
        assert await client.receive() == reply_to(query(1))
        await wait_until(lambda: bench.count(TcpEvent.STREAM_ERROR) == 1)
        bench.slow_path.reply(query(2, b"slow"))
        assert await client.wait_closed() == frame(reply_to(query(2, b"slow")))


@on_each_loop
async def test_a_response_is_skipped_and_the_query_behind_it_answered() -> None:
    async with serving() as bench, connected(bench) as [client]:
        client.send(query(1, flags=0x8000), query(2))
        assert await client.receive() == reply_to(query(2))


@on_each_loop
async def test_a_malformed_message_gets_formerr_and_the_query_behind_it_its_answer() -> None:
    async with serving() as bench, connected(bench) as [client]:
        client.send(query(1, b"bad"), query(2))
        assert await client.receive() == reply_to(query(1, b"bad"))
        assert await client.receive() == reply_to(query(2))


@on_each_loop
async def test_a_message_of_the_largest_size_is_answered_and_the_connection_goes_on() -> None:
    message = query(1, bytes(65_535 - 12))
    async with serving() as bench, connected(bench) as [client]:
        assert await client.exchange(message) == reply_to(message)
        assert await client.exchange(query(2)) == reply_to(query(2))


# Pipelining


@on_each_loop
async def test_a_thousand_pipelined_queries_get_a_thousand_replies() -> None:
    queries = [query(number) for number in range(1000)]
    async with serving() as bench, connected(bench) as [client]:
        client.send(*queries)
        assert [await client.receive() for _ in queries] == [reply_to(message) for message in queries]


@on_each_loop
async def test_a_hundred_thousand_queries_on_one_connection_do_not_exhaust_the_stack() -> None:
    async with serving() as bench, connected(bench) as [client]:
        count = 100_000
        client.send(*(query(number & 0xFFFF) for number in range(count)))
        async with asyncio.timeout(20):
            replies = await client.reader.readexactly(count * len(frame(query(0))))
        assert replies[-17:] == frame(reply_to(query((count - 1) & 0xFFFF)))


@on_each_loop
async def test_a_flood_leaves_turns_to_other_connections() -> None:
    async with serving() as bench, connected(bench, 2) as [flooder, other]:
        count = 50_000
        await other.exchange(query(1))
        flooder.send(*(query(2) for _ in range(count)))
        await wait_until(lambda: len(bench.answerer.messages) > 1)
        await other.exchange(query(3))
        assert len(bench.answerer.messages) < count
        async with asyncio.timeout(20):
            await flooder.reader.readexactly(count * len(frame(query(0))))


@on_each_loop
async def test_a_hit_overtakes_a_miss() -> None:
    async with serving() as bench, connected(bench) as [client]:
        slow = query(1, b"slow")
        client.send(slow, query(2))
        assert await client.receive() == reply_to(query(2))
        bench.slow_path.reply(slow)
        assert await client.receive() == reply_to(slow)


@on_each_loop
async def test_misses_are_answered_in_the_order_in_which_they_are_ready() -> None:
    first, second = query(1, b"slow"), query(2, b"slow")
    async with serving() as bench, connected(bench) as [client]:
        client.send(first, second)
        await wait_until(lambda: len(bench.slow_path.pending) == 2)
        bench.slow_path.reply(second)
        assert await client.receive() == reply_to(second)
        bench.slow_path.reply(first)
        assert await client.receive() == reply_to(first)


@on_each_loop
async def test_the_slow_path_learns_both_addresses() -> None:
    async with serving() as bench, connected(bench) as [client]:
        client.send(query(1, b"slow"))
        await wait_until(lambda: bool(bench.slow_path.pending))
        assert bench.slow_path.seen == [(client.writer.get_extra_info("sockname"), bench.address)]


@on_each_loop
async def test_a_miss_without_a_reply_leaves_the_connection_usable() -> None:
    async with serving() as bench, connected(bench) as [client]:
        client.send(query(1, b"slow"))
        await wait_until(lambda: bool(bench.slow_path.pending))
        bench.slow_path.pending[query(1, b"slow")].set_result(None)
        assert await client.exchange(query(2)) == reply_to(query(2))


@on_each_loop
async def test_a_slow_path_that_raises_costs_one_reply() -> None:
    async with serving() as bench, connected(bench) as [client]:
        client.send(query(1, b"slow"))
        await wait_until(lambda: bool(bench.slow_path.pending))
        bench.slow_path.pending[query(1, b"slow")].set_exception(ValueError("a bug"))
        await wait_until(lambda: bench.count(TcpEvent.SLOW_PATH_ERROR) == 1)
        assert await client.exchange(query(2)) == reply_to(query(2))


@on_each_loop
async def test_a_connection_with_enough_misses_in_flight_is_read_again_when_one_is_done() -> None:
    limits = TcpLimits(connections=1000, sweep_seconds=0.01, messages_per_connection=4)
    slow = [query(number, b"slow") for number in range(10)]
    async with serving(limits) as bench, connected(bench) as [client]:
        client.send(*slow)
        await wait_until(lambda: len(bench.slow_path.pending) == 4)
        client.send(query(99))
        received = []
        for done in range(len(slow)):
            await wait_until(lambda left=len(slow) - done: len(bench.slow_path.pending) == min(4, left))
            bench.slow_path.reply(next(iter(bench.slow_path.pending)))
            received.append(await client.receive())
        received.append(await client.receive())
        assert Counter(received) == Counter(reply_to(message) for message in [*slow, query(99)])
        assert bench.slow_path.peak == 4


@on_each_loop
async def test_misses_of_all_connections_are_bounded_and_hits_pass() -> None:
    limits = TcpLimits(connections=1000, sweep_seconds=0.01, messages_in_flight=4, crowded_messages_per_connection=4)
    async with serving(limits) as bench, connected(bench, 3) as [greedy, waiting, other]:
        greedy.send(*(query(number, b"slow") for number in range(6)))
        await wait_until(lambda: len(bench.slow_path.pending) == 4)
        waiting.send(query(77, b"slow"))
        assert await other.exchange(query(1)) == reply_to(query(1))
        assert query(77, b"slow") not in bench.slow_path.pending
        bench.slow_path.reply(query(0, b"slow"))
        # The one without any comes before the one that has three already.
        await wait_until(lambda: query(77, b"slow") in bench.slow_path.pending)
        bench.slow_path.reply(query(77, b"slow"))
        assert await waiting.receive() == reply_to(query(77, b"slow"))
        bench.slow_path.reply(query(1, b"slow"))
        await wait_until(lambda: query(4, b"slow") in bench.slow_path.pending)


# Ends


@on_each_loop
@pytest.mark.parametrize("words", [b"hit", b"slow"])
async def test_a_half_closed_connection_still_gets_its_replies(words: bytes) -> None:
    async with serving() as bench, connected(bench) as [client]:
        client.send(query(1, words))
        client.writer.write_eof()
        if words == b"slow":
            await wait_until(lambda: bool(bench.slow_path.pending))
            bench.slow_path.reply(query(1, words))
        assert await client.wait_closed() == frame(reply_to(query(1, words)))
        await wait_until(lambda: bench.server.statistics().connections == 0)


@on_each_loop
async def test_a_half_close_in_the_middle_of_a_message_closes() -> None:
    async with serving() as bench, connected(bench) as [client]:
        client.writer.write(frame(query(1))[:-1])
        client.writer.write_eof()
        assert await client.wait_closed() == b""
        assert bench.count(TcpEvent.CLOSED_BY_CLIENT) == 1


@on_each_loop
async def test_a_client_that_leaves_takes_its_tasks_along() -> None:
    async with serving() as bench:
        async with connected(bench) as [client]:
            client.send(*(query(number, b"slow") for number in range(5)))
            await wait_until(lambda: len(bench.slow_path.pending) == 5)
            client.reset()
            await wait_until(lambda: bench.slow_path.cancelled == 5)
        await wait_until(lambda: bench.server.statistics().messages_in_flight == 0)
        assert bench.server.statistics().connections == 0


@on_each_loop
async def test_a_connection_in_line_for_the_slow_path_may_leave() -> None:
    limits = TcpLimits(connections=1000, sweep_seconds=0.01, messages_in_flight=1)
    first, second, third = (query(number, b"slow") for number in range(3))
    async with serving(limits) as bench, connected(bench, 3) as [busy, leaver, patient]:
        for client, message in ((busy, first), (leaver, second), (patient, third)):
            client.send(message)
            await wait_until(lambda message=message: message in bench.answerer.messages)
        leaver.reset()
        bench.slow_path.reply(first)
        assert await busy.receive() == reply_to(first)
        await wait_until(lambda: bool(bench.slow_path.pending))
        # Whether the server knows yet that the second has gone depends on the loop; its turn passes either way.
        if second in bench.slow_path.pending:
            bench.slow_path.reply(second)
            await wait_until(lambda: third in bench.slow_path.pending)
        bench.slow_path.reply(third)
        assert await patient.receive() == reply_to(third)


# Deadlines


@on_each_loop
async def test_an_idle_connection_is_closed_before_its_first_query_too() -> None:
    async with serving() as bench, connected(bench, 2) as [silent, polite]:
        await wait_until(lambda: bench.server.statistics().connections == 2)
        bench.now = 9.0
        await polite.exchange(query(1))
        bench.now = 10.0
        assert await silent.wait_closed() == b""
        assert await polite.exchange(query(2)) == reply_to(query(2))
        bench.now = 20.0
        assert await polite.wait_closed() == b""
        assert bench.count(TcpEvent.TIMED_OUT_IDLE) == 2


@on_each_loop
async def test_idle_connections_must_hurry_while_more_than_half_of_the_places_are_taken() -> None:
    limits = TcpLimits(connections=6, sweep_seconds=0.01, crowded_idle_seconds=0.2)
    async with serving(limits) as bench, connected(bench, 4) as clients:
        await wait_until(lambda: bench.server.statistics().connections == 4)
        bench.now = 0.2
        for client in clients:
            assert await client.wait_closed() == b""


@on_each_loop
async def test_messages_that_trickle_are_cut_off_at_their_deadline_and_others_are_served() -> None:
    async with serving() as bench, connected(bench, 50) as clients, connected(bench) as [good]:
        octets = frame(query(1))
        for step in range(5):
            bench.now = float(step)
            for client in clients:
                client.writer.write(octets[step : step + 1])
            assert await good.exchange(query(2)) == reply_to(query(2))
        assert bench.count(TcpEvent.TIMED_OUT_MESSAGE) == 0
        bench.now = 5.0
        for client in clients:
            assert await client.wait_closed() == b""
        assert bench.count(TcpEvent.TIMED_OUT_MESSAGE) == len(clients)
        assert await good.exchange(query(3)) == reply_to(query(3))


@on_each_loop
async def test_a_connection_whose_miss_is_under_way_is_not_idle() -> None:
    async with serving() as bench, connected(bench) as [client]:
        client.send(query(1, b"slow"))
        await wait_until(lambda: bool(bench.slow_path.pending))
        bench.now = 60.0
        await sweeps(bench)
        bench.slow_path.reply(query(1, b"slow"))
        assert await client.receive() == reply_to(query(1, b"slow"))


async def sweeps(bench: Bench) -> None:
    """Wait until all deadlines have been looked at, which is all a server without traffic asks the time for."""
    reads = bench.clock_reads
    await wait_until(lambda: bench.clock_reads >= reads + 2)


# Clients that do not read


@on_each_loop
async def test_a_client_that_does_not_read_is_not_read_from_and_then_closed() -> None:
    loop = asyncio.get_running_loop()
    async with serving() as bench:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            await loop.sock_connect(client, bench.address)
            queries = b"".join(frame(query(number, b"big")) for number in range(1000))
            await loop.sock_sendall(client, queries)
            await wait_until(lambda: bool(bench.answerer.messages))
            answered = -1
            while answered != len(bench.answerer.messages):
                answered = len(bench.answerer.messages)
                await sweeps(bench)
            assert answered < 50
            bench.now += 9.0
            await sweeps(bench)
            assert bench.server.statistics().connections == 1
            bench.now += 1.0
            await wait_until(lambda: bench.count(TcpEvent.CLOSED_UNREAD) == 1)
            await wait_until(lambda: bench.server.statistics().connections == 0)


@on_each_loop
async def test_a_client_that_reads_late_gets_every_reply() -> None:
    loop = asyncio.get_running_loop()
    count = 60
    async with serving() as bench:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            await loop.sock_connect(client, bench.address)
            await loop.sock_sendall(client, b"".join(frame(query(number, b"big")) for number in range(count)))
            await wait_until(lambda: bool(bench.answerer.messages))
            received = bytearray()
            async with asyncio.timeout(20):
                while len(received) < count * 65_537:
                    received += await loop.sock_recv(client, 65_536)
            assert received == b"".join(frame(reply_to(query(number, b"big"))) for number in range(count))


@on_each_loop
async def test_replies_of_the_slow_path_to_a_client_that_does_not_read_end_at_the_limit() -> None:
    loop = asyncio.get_running_loop()
    async with serving() as bench:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            await loop.sock_connect(client, bench.address)
            slow = [query(number, b"slow") for number in range(100)]
            await loop.sock_sendall(client, b"".join(map(frame, slow)))
            await wait_until(lambda: len(bench.slow_path.pending) == len(slow))
            for message in slow:
                bench.slow_path.pending[message].set_result(bytes(65_535))
            await wait_until(lambda: bench.count(TcpEvent.CLOSED_UNREAD) == 1)
            await wait_until(lambda: bench.server.statistics().connections == 0)
            assert len(slow) * 65_537 > 2 * MAX_UNSENT_OCTETS


# Places


@on_each_loop
async def test_a_client_gets_no_more_than_its_share_of_connections() -> None:
    limits = TcpLimits(connections=1000, connections_per_client=3, sweep_seconds=0.01)
    async with serving(limits) as bench, connected(bench, 3) as clients:
        for client in clients:
            await client.exchange(query(1))
        async with connected(bench) as [refused]:
            assert await refused.wait_closed() == b""
        assert bench.count(TcpEvent.REFUSED_PER_CLIENT) == 1
        clients[0].writer.transport.abort()
        await wait_until(lambda: bench.server.statistics().connections == 2)
        async with connected(bench) as [admitted]:
            assert await admitted.exchange(query(2)) == reply_to(query(2))


@on_each_loop
async def test_when_full_the_one_idle_longest_makes_room() -> None:
    limits = TcpLimits(connections=3, crowded_idle_seconds=10.0, sweep_seconds=0.01)
    async with serving(limits) as bench, connected(bench, 3) as [first, second, third]:
        for client in (first, third, second):
            bench.now += 1.0
            await client.exchange(query(1))
        bench.now += 1.0
        await first.exchange(query(1))
        async with connected(bench) as [newcomer]:
            assert await newcomer.exchange(query(2)) == reply_to(query(2))
            assert await third.wait_closed() == b""
            assert bench.count(TcpEvent.EVICTED_IDLE) == 1
            assert await first.exchange(query(3)) == reply_to(query(3))
            assert await second.exchange(query(3)) == reply_to(query(3))


@on_each_loop
async def test_when_full_of_connections_at_work_a_new_one_is_refused() -> None:
    limits = TcpLimits(connections=2, crowded_idle_seconds=10.0, sweep_seconds=0.01)
    async with serving(limits) as bench, connected(bench, 2) as clients:
        for number, client in enumerate(clients):
            client.send(query(number, b"slow"))
        await wait_until(lambda: len(bench.slow_path.pending) == 2)
        async with connected(bench) as [refused]:
            assert await refused.wait_closed() == b""
        assert bench.count(TcpEvent.REFUSED_FULL) == 1
        for number, client in enumerate(clients):
            bench.slow_path.reply(query(number, b"slow"))
            assert await client.receive() == reply_to(query(number, b"slow"))


@asynccontextmanager
async def _no_descriptors_left() -> AsyncIterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The lowest free number is the next to be given out.
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@on_each_loop
async def test_out_of_descriptors_an_idle_connection_makes_room() -> None:
    loop = asyncio.get_running_loop()
    async with serving() as bench, connected(bench) as [idle]:
        await idle.exchange(query(1))
        with socket.socket() as client:
            client.setblocking(False)
            async with _no_descriptors_left():
                await loop.sock_connect(client, bench.address)
                await loop.sock_sendall(client, frame(query(2)))
                async with asyncio.timeout(5):
                    assert await loop.sock_recv(client, 1000) == frame(reply_to(query(2)))
            assert bench.count(TcpEvent.EVICTED_IDLE) == 1
            assert await idle.wait_closed() == b""


@on_each_loop
async def test_out_of_descriptors_with_nobody_idle_accepting_pauses_instead_of_spinning() -> None:
    loop = asyncio.get_running_loop()
    async with serving() as bench, connected(bench) as [busy]:
        busy.send(query(1, b"slow"))
        await wait_until(lambda: bool(bench.slow_path.pending))
        with socket.socket() as client:
            client.setblocking(False)
            async with _no_descriptors_left():
                await loop.sock_connect(client, bench.address)
                await loop.sock_sendall(client, frame(query(2)))
                begin, used = time.monotonic(), time.process_time()
                await wait_until(lambda: bench.count(TcpEvent.PAUSED_ACCEPT) >= 3)
                assert time.monotonic() - begin >= 0.15
                assert time.process_time() - used < 0.5 * (time.monotonic() - begin)
                bench.slow_path.reply(query(1, b"slow"))
                assert await busy.receive() == reply_to(query(1, b"slow"))
            async with asyncio.timeout(5):
                assert await loop.sock_recv(client, 1000) == frame(reply_to(query(2)))


# Start and end of the server


@on_each_loop
async def test_accepted_sockets_send_at_once_and_have_a_bounded_send_buffer() -> None:
    bench = Bench(LIMITS, "127.0.0.1")
    bench.server.start()
    await bench.server.aclose(0)
    with bench.listener, socket.create_connection(bench.address):
        accepted, _ = bench.listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 2 * SEND_BUFFER_OCTETS


@on_each_loop
async def test_aclose_answers_what_has_arrived() -> None:
    async with serving() as bench, connected(bench, 2) as [waiting, idle]:
        waiting.send(query(1, b"slow"))
        await wait_until(lambda: bool(bench.slow_path.pending))
        closing = asyncio.ensure_future(bench.server.aclose(5))
        assert await idle.wait_closed() == b""
        assert not closing.done()
        bench.slow_path.reply(query(1, b"slow"))
        assert await waiting.wait_closed() == frame(reply_to(query(1, b"slow")))
        await closing
        assert bench.count(TcpEvent.CLOSED_BY_DRAIN) == 2


@on_each_loop
async def test_aclose_ends_after_the_time_it_is_given() -> None:
    async with serving() as bench, connected(bench) as [client]:
        client.send(query(1, b"slow"))
        await wait_until(lambda: bool(bench.slow_path.pending))
        await bench.server.aclose(0.01)
        assert await client.wait_closed() == b""
        assert bench.slow_path.cancelled == 1


@on_each_loop
async def test_after_aclose_connections_stay_in_the_queue_of_the_socket() -> None:
    async with serving() as bench:
        await bench.server.aclose(0)
        async with connected(bench) as [client]:
            client.send(query(1))
            successor = TcpServer([bench.listener], bench.answerer, bench.slow_path, LIMITS)
            successor.start()
            assert await client.receive() == reply_to(query(1))
            await successor.aclose(0)


@on_each_loop
async def test_a_connection_accepted_at_the_very_end_is_closed() -> None:
    async with serving() as bench, connected(bench) as [client]:
        bench.server._on_pending(bench.listener)
        await bench.server.aclose(1)
        assert await client.wait_closed() == b""
