"""A connection over a transport that only takes notes: how a stream is cut, whatever the pieces it comes in."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.server.tcp_connection import (
    READ_OCTETS,
    Address,
    TcpConnection,
    TcpService,
    ip_address,
)
from kdns.server.tcp_slots import Awaits, ConnectionSlots, MessageSlots, TcpEvent, TcpLimits
from tests.fakes.stream_answerer import FakeStreamAnswerer, frame, query, reply_to


class NotingTransport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.sent = bytearray()
        self.unsent = 0
        self.is_closed = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.is_closed
        self.sent += data

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_closed = True


class Stream:
    """A connection and all around it."""

    def __init__(self, messages_in_flight: int = 10, queries: int | None = None) -> None:
        limits = TcpLimits(connections=10, messages_in_flight=messages_in_flight)
        self.now = 0.0
        self.answerer = FakeStreamAnswerer()
        self.transport = NotingTransport()
        self.service = TcpService(
            self.answerer,
            self._no_slow_path,
            ConnectionSlots(limits),
            MessageSlots(limits),
            lambda: self.now,
            lambda connection: None,
            queries,
        )
        self.connection = TcpConnection(self.service, ("192.0.2.1", 40_000))
        self.service.connections.occupy(self.connection, self.now)
        self.connection.connection_made(self.transport)

    async def _no_slow_path(self, message: bytes, client: Address, local: Address) -> bytes | None:
        raise AssertionError("no message of these tests goes there")

    def feed(self, octets: bytes) -> None:
        # One short of a full read, which asks the loop for a turn.
        for at in range(0, len(octets), READ_OCTETS - 1):
            piece = octets[at : at + READ_OCTETS - 1]
            self.connection.get_buffer(-1)[: len(piece)] = piece
            self.connection.buffer_updated(len(piece))


messages = st.builds(
    query,
    st.integers(0, 0xFFFF),
    st.one_of(st.just(b"hit"), st.just(b"bad"), st.binary(max_size=40).filter(lambda words: words[:4] != b"slow")),
    st.sampled_from([0, 0x0100, 0x8000]),
)


@given(st.lists(messages, max_size=20), st.lists(st.integers(0, 1000), max_size=20))
def test_replies_do_not_depend_on_where_the_stream_is_cut(sent: list[bytes], cuts: list[int]) -> None:
    octets = b"".join(map(frame, sent))
    borders = [0, *sorted(cut for cut in cuts if cut < len(octets)), len(octets)]
    stream = Stream()
    for begin, end in pairwise(borders):
        if begin < end:
            stream.feed(octets[begin:end])
    expected = b"".join(frame(reply_to(message)) for message in sent if not message[2] & 0x80)
    assert bytes(stream.transport.sent) == expected
    assert stream.connection.awaits is Awaits.QUERY


@given(st.lists(st.binary(min_size=1, max_size=200), max_size=10))
def test_any_octets_end_in_a_stream_error_or_in_a_message_to_be_continued(pieces: list[bytes]) -> None:
    stream = Stream()
    stream.answerer.answer = _without_misses(stream.answerer)  # type: ignore[method-assign]
    for piece in pieces:
        stream.feed(piece)
    has_ended = stream.service.events[TcpEvent.STREAM_ERROR] == 1
    assert stream.transport.is_closed is has_ended
    if not has_ended:
        assert stream.connection.awaits in (Awaits.QUERY, Awaits.REST)


def _without_misses(answerer: FakeStreamAnswerer):  # type: ignore[no-untyped-def]
    answer = answerer.answer

    def answer_hits(data: memoryview, family_is_v6: bool) -> tuple[int, bytes, list[bytes]]:
        consumed, replies, _ = answer(data, family_is_v6)
        return consumed, replies, []

    return answer_hits


def test_a_message_under_way_keeps_the_time_of_its_first_octet() -> None:
    stream = Stream()
    octets = frame(query(1)) + frame(query(2))
    stream.now = 1.0
    stream.feed(octets[:1])
    stream.now = 2.0
    stream.feed(octets[1:5])
    assert (stream.connection.awaits, stream.connection.since) == (Awaits.REST, 1.0)
    stream.now = 3.0
    stream.feed(octets[5:20])  # the rest of the first and the beginning of the second
    assert (stream.connection.awaits, stream.connection.since) == (Awaits.REST, 3.0)
    stream.now = 4.0
    stream.feed(octets[20:])
    assert (stream.connection.awaits, stream.connection.since) == (Awaits.QUERY, 4.0)


def test_a_message_of_the_largest_size_in_single_octets_is_answered() -> None:
    stream = Stream()
    message = query(1, bytes(65_535 - 12))
    for octet in frame(message):
        stream.feed(bytes([octet]))
    assert bytes(stream.transport.sent) == frame(reply_to(message))


def test_replies_before_a_bad_frame_are_sent() -> None:
    stream = Stream()
    stream.feed(frame(query(1)) + b"\0\0" + frame(query(2)))
    assert bytes(stream.transport.sent) == frame(reply_to(query(1)))
    assert stream.transport.is_closed


def test_a_connection_that_is_lost_does_not_stay_in_line_for_the_slow_path() -> None:
    stream = Stream(messages_in_flight=1)
    busy = TcpConnection(stream.service, ("192.0.2.2", 40_000))
    assert stream.service.messages.take(busy, held=0)
    stream.feed(frame(query(1, b"slow")))
    assert stream.connection.awaits is Awaits.REPLIES
    stream.connection.connection_lost(None)
    assert stream.service.messages.give_back() is None


def test_an_ipv4_peer_of_an_ipv6_socket_is_an_ipv4_address() -> None:
    assert ip_address(("::ffff:192.0.2.1", 53, 0, 0)) == ("192.0.2.1", 53)
    assert ip_address(("2001:db8::1", 53, 0, 0)) == ("2001:db8::1", 53)
    assert ip_address(("192.0.2.1", 53)) == ("192.0.2.1", 53)


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_connection_may_ask_so_much_and_is_closed_then(size: int) -> None:
    stream = Stream(queries=3)
    octets = b"".join(frame(query(number, b"hit", 0)) for number in range(5))
    for at in range(0, len(octets), size):
        if not stream.transport.is_closed:
            stream.feed(octets[at : at + size])
    assert bytes(stream.transport.sent) == b"".join(frame(reply_to(query(number, b"hit", 0))) for number in range(3))
    assert stream.transport.is_closed
    assert stream.service.events[TcpEvent.QUERIES_USED_UP] == 1
