"""One HTTP/1.1 connection from the client's end: replies in any pieces, and what is none."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.cluster.exchange import MAX_BUFFERED_BYTES, MAX_HEAD_BYTES, MAX_READ_BYTES, PARSER_ERRORS, Exchange, ReplyHead
from tests.fakes.clock import run_held

REQUEST = b"GET / HTTP/1.1\r\n\r\n"
WITH_LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Kind: a\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"
UNTIL_THE_END = b"HTTP/1.1 200 OK\r\n\r\nhello"


class Wire:
    """A transport that goes nowhere."""

    def __init__(self) -> None:
        self.written = b""
        self.is_reading = True
        self.is_aborted = False

    def write(self, data: bytes) -> None:
        self.written += data

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True

    def abort(self) -> None:
        self.is_aborted = True


def connected() -> tuple[Exchange, Wire]:
    exchange, wire = Exchange(), Wire()
    exchange.connection_made(cast("asyncio.Transport", wire))
    return exchange, wire


def replying() -> tuple[Exchange, Wire]:
    """With a reply under way that nothing but the connection's end will end."""
    exchange, wire = connected()
    exchange.send(REQUEST)
    exchange.data_received(b"HTTP/1.1 200 OK\r\n\r\n")
    return exchange, wire


async def read_all(exchange: Exchange) -> bytes:
    body = b""
    while piece := await exchange.read():
        body += piece
    return body


async def read_reply(exchange: Exchange) -> bytes:
    await exchange.read_head()
    return await read_all(exchange)


@given(st.sampled_from([WITH_LENGTH, CHUNKED]), st.lists(st.integers(1, 80), max_size=8))
def test_a_reply_may_come_in_any_pieces_and_the_next_one_after_it(reply: bytes, cuts: list[int]) -> None:
    async def run(loop: object) -> None:
        exchange, wire = connected()
        for asked in (1, 2):
            exchange.send(REQUEST)
            assert wire.written == REQUEST * asked
            edges = sorted({0, len(reply), *[cut for cut in cuts if cut < len(reply)]})
            for begin, end in pairwise(edges):
                assert not exchange.is_idle
                exchange.data_received(reply[begin:end])
            assert (await exchange.read_head()).status == 200
            assert await read_all(exchange) == b"hello"
            assert exchange.is_idle

    run_held(run)


async def test_names_of_headers_are_in_lower_case() -> None:
    exchange, _ = connected()
    exchange.send(REQUEST)
    exchange.data_received(WITH_LENGTH)
    assert await exchange.read_head() == ReplyHead(200, {"content-length": "5", "x-kind": "a"})


async def test_the_end_of_the_connection_ends_a_reply_that_nothing_else_ends() -> None:
    exchange, _ = connected()
    exchange.send(REQUEST)
    exchange.data_received(UNTIL_THE_END)
    reading = asyncio.ensure_future(read_all(exchange))
    await asyncio.sleep(0)
    exchange.connection_lost(None)
    assert await reading == b"hello"
    assert not exchange.is_idle


@pytest.mark.parametrize("reply", [WITH_LENGTH[:-1], CHUNKED[:-5], CHUNKED[:20]])
async def test_a_reply_that_is_cut_off_is_an_error_behind_what_came(reply: bytes) -> None:
    exchange, _ = connected()
    exchange.send(REQUEST)
    exchange.data_received(reply)
    exchange.connection_lost(None)
    with pytest.raises(ConnectionError, match="ended early"):
        await read_reply(exchange)
    with pytest.raises(ConnectionError):
        exchange.send(REQUEST)


@pytest.mark.parametrize(
    "reply",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nanything",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * MAX_HEAD_BYTES,
        b"HTTP/1.1 100 Continue\r\n\r\n" * (MAX_HEAD_BYTES // 20),
        CHUNKED[:-2] + b"X: " + b"x" * (MAX_HEAD_BYTES + 1000),
    ],
    ids=["no-http", "two-lengths", "chunk", "upgrade", "endless-head", "endless-continue", "endless-trailer"],
)
async def test_what_is_no_reply_ends_the_connection(reply: bytes) -> None:
    exchange, wire = connected()
    exchange.send(REQUEST)
    for begin in range(0, len(reply), 1000):
        exchange.data_received(reply[begin : begin + 1000])
        if wire.is_aborted:
            break
    assert wire.is_aborted
    with pytest.raises(PARSER_ERRORS):
        await read_reply(exchange)


async def test_a_head_that_another_one_follows_is_passed_over() -> None:
    exchange, _ = connected()
    exchange.send(REQUEST)
    exchange.data_received(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + WITH_LENGTH)
    assert (await exchange.read_head()).headers.keys() == {"content-length", "x-kind"}
    assert await read_all(exchange) == b"hello"


async def test_a_reply_nobody_asked_for_is_not_taken_for_the_next_one() -> None:
    exchange, wire = connected()
    exchange.send(REQUEST)
    exchange.data_received(WITH_LENGTH + WITH_LENGTH)
    assert await read_all(exchange) == b"hello"
    assert not exchange.is_idle
    exchange, wire = connected()
    exchange.data_received(WITH_LENGTH)
    assert wire.is_aborted
    assert not exchange.is_idle


async def test_a_connection_that_is_to_be_closed_takes_no_other_request() -> None:
    exchange, _ = connected()
    exchange.send(REQUEST)
    exchange.data_received(WITH_LENGTH.replace(b"X-Kind: a", b"Connection: close"))
    assert await read_all(exchange) == b"hello"
    assert not exchange.is_idle


async def test_what_nobody_reads_is_not_taken_in() -> None:
    exchange, wire = replying()
    for _ in range(MAX_BUFFERED_BYTES // 2**16 + 1):
        assert wire.is_reading
        exchange.data_received(b"x" * 2**16)
    assert not wire.is_reading
    body = exchange.read_ready()
    assert MAX_READ_BYTES <= len(body) < 2 * MAX_READ_BYTES
    assert wire.is_reading
    while piece := exchange.read_ready():
        body += piece
    assert len(body) > MAX_BUFFERED_BYTES


async def test_whoever_reads_an_aborted_connection_gets_an_error() -> None:
    exchange, wire = connected()
    exchange.send(REQUEST)
    exchange.data_received(CHUNKED[:-5])
    assert await exchange.read() == b"hello"
    reading = asyncio.ensure_future(exchange.read())
    await asyncio.sleep(0)
    exchange.abort()
    with pytest.raises(ConnectionError, match="from here"):
        await reading
    assert wire.is_aborted


async def test_who_waits_for_a_line_is_not_woken_by_a_part_of_one() -> None:
    exchange, _ = replying()
    reading = asyncio.ensure_future(exchange.read(b"\n"))
    for piece in (b"a li", b"ne, and"):
        await asyncio.sleep(0)
        exchange.data_received(piece)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not reading.done()
    exchange.data_received(b" its end\nand mo")
    assert await reading == b"a line, and its end\nand mo"


@pytest.mark.parametrize("how", ["full", "end", "abort"])
async def test_who_waits_for_a_line_is_woken_where_none_can_come(how: str) -> None:
    exchange, wire = replying()
    reading = asyncio.ensure_future(exchange.read(b"\n"))
    await asyncio.sleep(0)
    exchange.data_received(b"a part")
    if how == "full":
        exchange.data_received(b"x" * MAX_BUFFERED_BYTES)
        assert not wire.is_reading
    elif how == "end":
        exchange.connection_lost(None)
    else:
        exchange.abort()
    assert (await reading).startswith(b"a part")


async def test_a_reader_that_was_cancelled_leaves_what_came_to_the_next() -> None:
    exchange, _ = replying()
    reading = asyncio.ensure_future(exchange.read(b"\n"))
    await asyncio.sleep(0)
    exchange.data_received(b"a part")
    reading.cancel()
    await asyncio.wait([reading])
    assert await exchange.read() == b"a part"


@pytest.mark.parametrize("how", ["reset", "abort"])
async def test_a_connection_that_fails_ends_no_reply(how: str) -> None:
    exchange, _ = connected()
    exchange.send(REQUEST)
    exchange.data_received(UNTIL_THE_END)
    assert await exchange.read() == b"hello"
    if how == "reset":
        exchange.connection_lost(ConnectionResetError("reset by peer"))
    else:
        exchange.abort()
        exchange.connection_lost(None)
    with pytest.raises(ConnectionError):
        await exchange.read()
