"""What workers know together: limits that count over all of them, and upstreams that are down or out for all."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from kdns.plugins.forward.ids import fresh_id
from kdns.plugins.forward.shared import MAX_UPSTREAMS, SharedState


@contextmanager
def worker(job: Callable[[], None]) -> Iterator[int]:
    """A forked process that has done `job` and then waits to be killed; fails where the job does."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        with suppress(BaseException):
            job()
            os.write(writing, b"done")
            signal.pause()
        os._exit(1)
    os.close(writing)
    try:
        assert os.read(reading, 4) == b"done"
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(reading)


def entering(shared: SharedState, limit: int, times: int) -> Callable[[], None]:
    def enter() -> None:
        for _ in range(times):
            assert shared.enter(limit)

    return enter


def test_the_limit_counts_over_all_processes() -> None:
    shared = SharedState()
    with worker(entering(shared, 5, 2)), worker(entering(shared, 5, 2)):
        assert shared.enter(5)
        assert not shared.enter(5)
        shared.leave()
        assert shared.enter(5)


def test_what_a_dead_worker_had_under_way_goes_with_its_successor() -> None:
    shared = SharedState()
    with worker(entering(shared, 5, 5)):
        assert not shared.enter(5)
    # It is dead, and nobody has its place yet: the supervisor never serves, so here it is who takes over.
    successor = SharedState.__new__(SharedState)
    successor.__dict__.update(shared.__dict__, _cell=-1, _cell_owner=0, _fd=os.dup(shared._fd))
    with worker(entering(successor, 5, 4)):
        assert shared.enter(5)
        assert not shared.enter(5)


def test_claiming_twice_loses_nothing() -> None:
    shared = SharedState()
    assert shared.enter(2)
    shared.claim_cell()
    assert shared.enter(2)
    assert not shared.enter(2)


def test_trouble_and_being_out_are_seen_everywhere() -> None:
    shared = SharedState()
    one, other = shared.place("dns://192.0.2.1:53"), shared.place("dns://192.0.2.2:53")

    def tell() -> None:
        shared.place("dns://192.0.2.1:53").take_out()
        shared.place("dns://192.0.2.2:53").trouble = 3
        other.note_probe()

    with worker(tell):
        assert (one.is_out, one.trouble, one.is_well) == (True, 0, False)
        assert (other.is_out, other.trouble, other.is_well) == (False, 3, False)
        assert one.seconds_since_probe > other.seconds_since_probe < 60


def test_every_process_finds_the_same_place_in_whatever_order_it_asks() -> None:
    shared = SharedState()
    addresses = [f"dns://192.0.2.{n}:53" for n in range(20)]
    for address in addresses[::2]:
        shared.place(address).trouble = int(address.split(".")[-1].split(":")[0]) + 1

    def check() -> None:
        for address in reversed(addresses):
            number = int(address.split(".")[-1].split(":")[0])
            assert shared.place(address).trouble == (0 if number % 2 else number + 1)

    with worker(check):
        pass


def test_more_addresses_than_there_are_places_share_the_last() -> None:
    shared = SharedState()
    places = [shared.place(f"dns://10.0.{n >> 8}.{n & 255}:53") for n in range(MAX_UPSTREAMS + 3)]
    places[0].take_out()
    assert [place.is_out for place in places] == [True] + [False] * (MAX_UPSTREAMS + 2)
    places[-1].take_out()
    assert places[MAX_UPSTREAMS - 1].is_out


def test_numbers_are_drawn_from_one_row() -> None:
    shared = SharedState()
    assert [shared.draw() for _ in range(3)] == [0, 1, 2]

    def draw() -> None:
        assert shared.draw() == 3

    with worker(draw):
        assert shared.draw() == 4


def test_news_is_told_once_by_whoever_is_first() -> None:
    shared = SharedState()
    assert shared.is_news("one")

    def listen() -> None:
        assert not shared.is_news("one")
        assert shared.is_news("other")

    with worker(listen):
        assert not shared.is_news("other")


def test_ids_are_not_repeated_after_a_fork() -> None:
    fresh_id()  # so that there is a stock to inherit
    reading, writing = os.pipe()
    for _ in range(2):
        pid = os.fork()
        if pid == 0:
            os.write(writing, b"".join(fresh_id().to_bytes(2, "big") for _ in range(64)))
            os._exit(0)
        os.waitpid(pid, 0)
    os.close(writing)
    drawn = b""
    while received := os.read(reading, 4096):
        drawn += received
    os.close(reading)
    ours = b"".join(fresh_id().to_bytes(2, "big") for _ in range(64))
    assert len({drawn[:128], drawn[128:], ours}) == 3


@pytest.mark.parametrize("bit", range(16))
def test_ids_are_even_in_every_bit(bit: int) -> None:
    ones = sum(fresh_id() >> bit & 1 for _ in range(20_000))
    assert 9_400 < ones < 10_600  # 8 standard deviations
