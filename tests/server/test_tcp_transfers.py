"""Many replies to one message: sent as the client reads them, and given up when it goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from kdns.server.tcp_connection import UNSENT_OCTETS, Address
from kdns.server.tcp_slots import TcpEvent, TcpLimits
from tests.fakes.loops import on_each_loop
from tests.fakes.stream_answerer import query, reply_to
from tests.fakes.tcp import TcpBench, connected, serving, sweeps, wait_until

PART = 16_000  # octets
SLACK = 8 << 20  # octets: what the buffers of two sockets and an event loop may take


class Transfers:
    """A slow path whose every reply has many parts."""

    def __init__(self, bench: TcpBench, parts: int) -> None:
        self.made = 0
        self.ended = 0
        self._parts = parts
        bench.slow_path.pending.clear()
        bench.server._service.slow_path = self

    async def __call__(self, message: bytes, client: Address, local: Address) -> AsyncGenerator[bytes, None]:
        return self._replies(message)

    async def _replies(self, message: bytes) -> AsyncGenerator[bytes, None]:
        try:
            for number in range(self._parts):
                self.made += 1
                yield message[:2] + number.to_bytes(2, "big") + bytes(PART - 4)
                await asyncio.sleep(0)
        finally:
            self.ended += 1


@on_each_loop
async def test_all_parts_come_in_order_and_other_queries_are_answered_meanwhile() -> None:
    async with serving() as bench, connected(bench) as [client]:
        transfers = Transfers(bench, 300)
        client.send(query(1, b"slow"), query(2))
        parts, others = [], 0
        while len(parts) < 300:
            message = await client.receive()
            if message == reply_to(query(2)):
                others += 1
            else:
                assert message[:2] == query(1)[:2]
                parts.append(int.from_bytes(message[2:4], "big"))
        assert (parts, others, transfers.ended) == (list(range(300)), 1, 1)


@on_each_loop
async def test_no_more_is_made_than_the_client_reads() -> None:
    async with serving() as bench, connected(bench) as [client]:
        transfers = Transfers(bench, 10_000)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.send(query(1, b"slow"))
        await wait_until(lambda: transfers.made > 1)
        made = -1
        while made != transfers.made:
            made = transfers.made
            for _ in range(20):
                await asyncio.sleep(0.001)
        assert made * PART < SLACK + UNSENT_OCTETS
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        await wait_until(lambda: transfers.made > made)


@on_each_loop
async def test_a_client_that_stops_reading_is_closed_and_its_transfer_ends() -> None:
    async with serving(TcpLimits(connections=10, sweep_seconds=0.01)) as bench, connected(bench) as [client]:
        transfers = Transfers(bench, 10_000)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.send(query(1, b"slow"))
        await wait_until(lambda: transfers.made > 20)
        await sweeps(bench)
        bench.now = 11.0
        await wait_until(lambda: bench.count(TcpEvent.CLOSED_UNREAD) + bench.count(TcpEvent.TIMED_OUT_MESSAGE) > 0)
        await wait_until(lambda: transfers.ended == 1)


@on_each_loop
async def test_a_client_that_goes_ends_its_transfer() -> None:
    async with serving() as bench, connected(bench) as [client]:
        transfers = Transfers(bench, 1_000_000)
        client.send(query(1, b"slow"))
        await client.receive()
        client.reset()
        await wait_until(lambda: transfers.ended == 1)


@on_each_loop
async def test_a_server_that_closes_ends_transfers_too() -> None:
    async with serving() as bench, connected(bench) as [client]:
        transfers = Transfers(bench, 1_000_000)
        client.send(query(1, b"slow"))
        await client.receive()
    assert transfers.ended == 1
