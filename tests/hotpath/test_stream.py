"""Messages of a stream: whole frames in, framed replies out, in whatever pieces they come."""

from __future__ import annotations

import struct

import dns.message
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdns.dns.codes import EdnsOption
from kdns.errors import StreamError
from kdns.hotpath.stream import StreamResponder
from kdns.metrics import OUTCOMES
from tests.fakes.dns_values import edns_query, option, query
from tests.fakes.small_table import HUGE, at, counts_of, make_responder
from tests.fakes.stream_answerer import BATCH_SIZE, frame
from tests.harness.examples import examples
from tests.harness.parsed import sections_of


class StreamBench:
    """A stream responder and its counters."""

    def __init__(self) -> None:
        self.counters = bytearray(8 * len(OUTCOMES))
        self.answer = StreamResponder(make_responder(counters=self.counters)).answer

    def counts(self) -> dict[str, int]:
        return counts_of(self.counters)


def replies_in(framed: bytes) -> list[bytes]:
    """The messages of framed replies, which must be whole."""
    found, at_ = [], 0
    while at_ < len(framed):
        (size,) = struct.unpack_from("!H", framed, at_)
        found.append(framed[at_ + 2 : at_ + 2 + size])
        at_ += 2 + size
    assert at_ == len(framed)
    return found


def test_pipelined_frames_are_answered_in_their_order():
    bench = StreamBench()
    data = b"".join(frame(query(at("one"), message_id=n)) for n in range(500))
    consumed, replies, misses = bench.answer(data)
    assert (consumed, misses) == (len(data), [])
    assert [int.from_bytes(reply[:2], "big") for reply in replies_in(replies)] == list(range(500))
    assert bench.counts() == {"answer": 500}


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_data_may_come_in_any_buffer(kind):
    assert StreamBench().answer(kind(frame(query(at("one")))), True)[0] == len(frame(query(at("one"))))


def test_an_incomplete_frame_is_left_where_it_is():
    bench = StreamBench()
    whole = frame(query(at("one")))
    for size in range(len(whole)):
        assert bench.answer(whole[:size]) == (0, b"", [])
    consumed, replies, _ = bench.answer(whole + whole[:-1])
    assert (consumed, len(replies_in(replies))) == (len(whole), 1)
    assert bench.counts() == {"answer": 1}


@pytest.mark.parametrize("size", range(12))
def test_a_frame_that_holds_no_header_ends_the_stream(size):
    with pytest.raises(StreamError, match=f"frame of {size} octets"):
        StreamBench().answer(struct.pack("!H", size) + bytes(size))


def test_what_comes_before_a_bad_frame_is_answered():
    bench = StreamBench()
    good = frame(query(at("one")))
    data = good + frame(query("www.example.org")) + b"\0\0" + good
    consumed, replies, misses = bench.answer(data)
    assert (len(replies_in(replies)), misses) == (1, [query("www.example.org")])
    with pytest.raises(StreamError):
        bench.answer(data[consumed:])
    assert bench.counts() == {"answer": 1, "miss": 1}


def test_misses_are_handed_out_in_their_order():
    messages = [query("www.example.org", message_id=n) for n in range(5)]
    hits = [query(at("one"), message_id=n) for n in range(5)]
    consumed, replies, misses = StreamBench().answer(
        b"".join(frame(hit) + frame(miss) for hit, miss in zip(hits, messages, strict=True))
    )
    assert misses == messages
    assert len(replies_in(replies)) == 5
    assert consumed == sum(len(frame(message)) for message in [*messages, *hits])


def test_bad_messages_are_answered_or_ignored_and_the_next_one_answered():
    bench = StreamBench()
    data = (
        frame(query(at("one"))[:-1])
        + frame(query(at("one"), flags=0x8000))
        + frame(query(at("one"), flags=0x2000))
        + frame(query(at("one")))
    )
    consumed, replies, _ = bench.answer(data)
    assert consumed == len(data)
    assert [reply[3] & 15 for reply in replies_in(replies)] == [1, 4, 0]
    assert bench.counts() == {"formerr": 1, "drop_response": 1, "notimp": 1, "answer": 1}


def test_the_largest_frame_is_read():
    message = query(at("one")).ljust(65_535, b"\0")
    consumed, replies, _ = StreamBench().answer(frame(message))
    assert consumed == 65_537
    assert sections_of(replies_in(replies)[0]).answer


def test_replies_of_64_kib_are_whole_and_end_a_batch():
    bench = StreamBench()
    question = frame(query(at("huge")))
    consumed, replies, _ = bench.answer(5 * question)
    assert consumed == 2 * len(question), "it stops as soon as a batch is full"
    found = replies_in(replies)
    assert BATCH_SIZE < len(replies) <= BATCH_SIZE + 65_537
    for reply in found:
        assert len(reply) > 64_000
        assert not reply[2] & 0x02
        assert len(sections_of(reply).answer) == HUGE
    assert bench.answer(3 * question)[0] == 2 * len(question)
    assert bench.answer(question)[0] == len(question)


def test_small_replies_stop_at_a_batch_too():
    question = frame(query(at("many")))
    consumed, replies, _ = StreamBench().answer(100 * question)
    count = consumed // len(question)
    size = len(replies) // count
    assert (count - 1) * size < BATCH_SIZE <= count * size


def test_keepalive_is_answered_with_the_idle_time():
    data = frame(edns_query(at("one"), options=option(EdnsOption.TCP_KEEPALIVE))) + frame(edns_query(at("one")))
    asked, plain = (dns.message.from_wire(reply) for reply in replies_in(StreamBench().answer(data)[1]))
    assert [(o.otype, o.to_wire()) for o in asked.options] == [(11, b"\0\x64")]
    assert plain.options == ()


MESSAGES = (
    query(at("one")), query(at("many")), query(at("nowhere")), query("www.example.org"), query(at("one"))[:-2],
    query(at("one"), flags=0x8000), edns_query(at("one"), version=1), query("refused.test"), bytes(12),
)  # fmt: skip


@given(st.lists(st.sampled_from(MESSAGES), max_size=30), st.lists(st.integers(1, 400), max_size=30))
@settings(max_examples=examples(200), deadline=None)
def test_it_does_not_matter_in_which_pieces_frames_arrive(messages, sizes):
    data = b"".join(map(frame, messages))
    whole, in_pieces = StreamBench(), StreamBench()
    expected = whole.answer(data)
    assert expected[0] == len(data)
    unread, replies, misses, at_ = b"", b"", [], 0
    for size in [*sizes, len(data)]:
        unread += data[at_ : at_ + size]
        at_ += size
        consumed, more, missed = in_pieces.answer(unread)
        unread, replies = unread[consumed:], replies + more
        misses += missed
    assert unread == b""
    assert (replies, misses) == expected[1:]
    assert whole.counters == in_pieces.counters


@given(st.binary(max_size=200))
@settings(max_examples=examples(300), deadline=None)
def test_any_octets_are_frames_or_a_stream_error(data):
    try:
        consumed, replies, _ = StreamBench().answer(data)
    except StreamError:
        assert int.from_bytes(data[:2], "big") < 12
        return
    assert 0 <= consumed <= len(data)
    replies_in(replies)
