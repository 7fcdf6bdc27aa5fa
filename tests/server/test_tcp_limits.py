"""Clients that take too long, do not read, or are too many; on loopback sockets, under both event loops."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from kdns.server.tcp_connection import MAX_UNSENT_OCTETS
from kdns.server.tcp_slots import TcpEvent, TcpLimits
from tests.fakes.loops import on_each_loop
from tests.fakes.stream_answerer import frame, query, reply_to
from tests.fakes.tcp import connected, serving, sweeps, wait_until

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


@contextmanager
def _no_descriptors_left() -> Iterator[None]:
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
            with _no_descriptors_left():
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
            with _no_descriptors_left():
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
