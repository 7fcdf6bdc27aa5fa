"""The TCP server on loopback sockets, under both event loops: framing, pipelining, replies in any order, its end."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from contextlib import suppress

import pytest

from kdns.server.tcp import SEND_BUFFER_OCTETS, TcpServer
from kdns.server.tcp_connection import READ_OCTETS
from kdns.server.tcp_slots import TcpEvent, TcpLimits
from tests.fakes.loops import on_each_loop
from tests.fakes.stream_answerer import frame, query, reply_to
from tests.fakes.tcp import LIMITS, TcpBench, connected, serving, wait_until

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
    loop = asyncio.get_running_loop()
    skipped = query(2, bytes(1000), flags=0x8000)
    async with serving() as bench:
        bench.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        with socket.create_connection(bench.address) as flooder, socket.create_connection(bench.address) as other:
            for client in (flooder, other):
                client.setblocking(False)
                await loop.sock_sendall(client, frame(query(1)))
                assert await loop.sock_recv(client, 1000) == frame(reply_to(query(1)))
            # All of this lies in the kernel before the server gets to look at any of it.
            flood, sent = frame(skipped) * 1000, 0
            with suppress(BlockingIOError):
                while sent < len(flood):
                    sent += flooder.send(flood[sent:])
            assert sent > 5 * READ_OCTETS
            other.send(frame(query(3)))
            assert await loop.sock_recv(other, 1000) == frame(reply_to(query(3)))
            ahead = bench.answerer.messages.index(query(3))
            assert ahead * len(frame(skipped)) < 3 * READ_OCTETS


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
        for left in range(len(slow), 0, -1):
            await wait_until(lambda left=left: len(bench.slow_path.pending) == min(4, left))
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


# Start and end of the server


@on_each_loop
async def test_accepted_sockets_send_at_once_and_have_a_bounded_send_buffer() -> None:
    bench = TcpBench(LIMITS, "127.0.0.1")
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
