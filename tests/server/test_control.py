"""Messages between the supervisor and its children, with and without a file descriptor."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from kdns.server.control import (
    MAX_MESSAGE,
    MAX_TEXT,
    Channel,
    Checked,
    Failed,
    NewTable,
    Serve,
    Serving,
    Stop,
    fit_text,
)


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    one, other = Channel.pair()
    yield one, other
    one.close()
    other.close()


@pytest.mark.parametrize(
    "message", [Serve(3), Serve(3, True), Serving(3), NewTable(7), Stop(2.5), Failed("no such file"), Checked()]
)
def test_messages_arrive_as_they_were_sent(ends, message):
    one, other = ends
    assert one.send(message)
    assert other.receive() == (message, None)


def test_both_ends_speak_and_messages_keep_their_order(ends):
    for sender, receiver in (ends, ends[::-1]):
        for number in range(20):
            assert sender.send(Serve(number))
        assert [receiver.receive() for _ in range(20)] == [(Serve(number), None) for number in range(20)]


def test_nothing_waits(ends):
    assert ends[0].receive() is None


def test_a_descriptor_comes_with_its_message(ends):
    reading, writing = os.pipe()
    try:
        ends[0].send(Serve(1))
        ends[0].send(NewTable(1), writing)
        assert ends[1].receive() == (Serve(1), None)
        message, fd = ends[1].receive()
        assert message == NewTable(1)
        assert fd not in (None, writing)
        assert not os.get_inheritable(fd)
        os.write(fd, b"through")
        os.close(fd)
        assert os.read(reading, 10) == b"through"
    finally:
        os.close(reading)
        os.close(writing)


def test_an_end_that_is_gone_is_the_end(ends):
    one, other = ends
    one.send(Stop(1.0))
    one.close()
    assert other.receive() == (Stop(1.0), None)
    for _ in range(2):
        with pytest.raises(EOFError):
            other.receive()
    assert not other.send(Serve(1))


def test_a_receiver_that_takes_nothing_in_does_not_block_the_sender(ends):
    sent = 0
    while ends[0].send(Serve(sent)):
        sent += 1
        assert sent < 1_000_000
    assert ends[1].receive() == (Serve(0), None)


def test_the_longest_error_text_fits(ends):
    for text in ("x" * MAX_TEXT, "\n" * (MAX_TEXT // 2)):
        assert ends[0].send(Failed(text))
        assert ends[1].receive() == (Failed(text), None)
    assert MAX_TEXT < MAX_MESSAGE


def test_a_channel_can_be_waited_on(ends):
    assert ends[0].fileno() != ends[1].fileno()
    assert not os.get_blocking(ends[0].fileno())


@pytest.mark.parametrize("text", ["plain", "/nope\udcff", "é" * 5000, "\ud800" * 3000])
def test_any_text_fits_a_message(text):
    ours, theirs = Channel.pair()
    assert ours.send(Failed(fit_text(text)))
    (message, fd) = theirs.receive()
    assert isinstance(message, Failed)
    assert fd is None
    assert message.text.startswith(text[0].encode("utf-8", "backslashreplace").decode()[:1])
    ours.close()
    theirs.close()
