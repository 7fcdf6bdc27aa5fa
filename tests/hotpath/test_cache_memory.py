"""The memory of the answer cache."""

from __future__ import annotations

import os
import random
import signal
import struct
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdns.dns import names
from kdns.dns.compression import Body
from kdns.hotpath.cache import MIN_ARENA_BYTES, AnswerCache
from tests.harness.examples import examples

STORE = 77
NAME = names.from_text("www.example.org")
RECORD = b"\xc0\x0c\0\1\0\1\0\0\0\x1e\0\4\1\2\3\4"


def make(arenas: int = 1, size: int = MIN_ARENA_BYTES) -> AnswerCache:
    memory = AnswerCache(arenas, arenas * size)
    memory.hold_clock(5_000)
    return memory


def name(number: int) -> bytes:
    return names.from_text(f"host{number}.example.org")


def put(memory: AnswerCache, key: bytes = NAME, octets: bytes = RECORD, *, denial: bool = False) -> bool:
    return memory.put(STORE, key, 1, 0, denial, 0, 30, Body(octets, 1))


def answer(memory: AnswerCache, key: bytes = NAME) -> bytes | None:
    kept = memory.get(STORE, key, 1, 0)[1]
    return None if kept is None else kept[3]


def test_a_reply_is_found_as_it_was_kept():
    memory = make()
    body = Body(RECORD * 3, 2, 1, 0, 16, 16)
    assert memory.put(STORE, NAME, 28, 3, False, 0x32, 60, body)
    assert memory.get(STORE, NAME, 28, 3) == (None, (0x32, 60, 5_000, RECORD * 3, 2, 1, 0, 16, 16))


@pytest.mark.parametrize(("store", "key", "qtype", "flags"), [
    (STORE + 1, NAME, 1, 0), (STORE, names.from_text("ww.example.org"), 1, 0), (STORE, NAME, 28, 0),
    (STORE, NAME, 1, 1), (STORE, NAME, 1, 2), (STORE, b"\0", 1, 0),
])  # fmt: skip
def test_each_part_of_the_key_counts(store: int, key: bytes, qtype: int, flags: int):
    memory = make()
    put(memory)
    assert memory.get(store, key, qtype, flags) == (None, None)


def test_a_later_reply_takes_the_place_of_an_earlier_one():
    memory = make()
    put(memory)
    put(memory, octets=RECORD[:-1] + b"\x09")
    assert answer(memory) == RECORD[:-1] + b"\x09"
    assert memory.statistics()["slots_used"] == 1


def test_a_denial_and_an_answer_stand_side_by_side_until_a_new_answer_ends_the_denial():
    memory = make()
    put(memory)
    put(memory, denial=True)
    assert None not in memory.get(STORE, NAME, 1, 0)
    put(memory)
    assert memory.get(STORE, NAME, 1, 0)[0] is None


@pytest.mark.parametrize("size", [0, 1, 7, 8, 1000, 65_535])
def test_bodies_of_every_length_are_kept(size: int):
    memory = make()
    octets = bytes(random.Random(size).randbytes(size))
    assert put(memory, octets=octets)
    assert answer(memory) == octets


def test_names_of_every_length_are_kept():
    memory = make()
    for length in range(1, 256):
        made = b"\x01" * (length - 1) + b"\0"
        put(memory, made, bytes([length]))
        assert answer(memory, made) == bytes([length])


@pytest.mark.parametrize(("key", "octets"), [(b"", b""), (bytes(256), b""), (NAME, bytes(65_536))])
def test_what_no_message_can_hold_is_refused(key: bytes, octets: bytes):
    with pytest.raises(ValueError, match="octets"):
        put(make(), key, octets)


def test_a_size_too_small_for_its_arenas_is_refused():
    with pytest.raises(ValueError, match="expected at least"):
        AnswerCache(2, 2 * MIN_ARENA_BYTES - 1)
    with pytest.raises(ValueError, match="expected 1 to 256"):
        AnswerCache(257, 1 << 40)


def test_the_oldest_make_room_and_the_memory_does_not_grow():
    memory = make()
    for number in range(30_000):
        assert put(memory, name(number))
    statistics = memory.statistics()
    assert statistics["entry_bytes"] <= statistics["ring_bytes"]
    assert answer(memory, name(0)) is None
    assert sum(answer(memory, name(29_999 - n)) is not None for n in range(5_000)) > 4_900


def test_what_is_used_outlives_what_is_not():
    memory = make()
    put(memory, name(0))
    for number in range(1, 60_000):
        put(memory, name(number))
        if number % 100 == 0:
            memory.mark(STORE, name(0), 1, 0, False)
    assert answer(memory, name(0)) is not None


def test_what_is_used_but_has_expired_makes_room():
    memory = make()
    put(memory, name(0))
    memory.mark(STORE, name(0), 1, 0, False)
    memory.hold_clock(40_000)
    for number in range(1, 20_000):
        put(memory, name(number))
    assert answer(memory, name(0)) is None


def test_a_flood_of_denials_leaves_the_answers():
    memory = make()
    for number in range(3_000):
        put(memory, name(number))
    for number in range(3_000, 100_000):
        put(memory, name(number), denial=True)
    assert sum(answer(memory, name(number)) is not None for number in range(3_000)) > 2_990


def test_counts_follow_what_is_kept_and_what_made_room():
    memory = make()
    for number in range(20_000):
        put(memory, name(number))
    for number in range(10):
        put(memory, name(number), denial=True)
    answers, denials, evicted_answers, evicted_denials = memory.counts(STORE)
    assert 5_000 < answers < 15_000
    assert 19_500 < answers + evicted_answers <= 20_000  # a few lost their slot to others in a full bucket
    assert 0 <= answers - sum(answer(memory, name(number)) is not None for number in range(20_000)) < 200
    assert (denials, evicted_denials) == (10, 0)
    assert memory.counts(STORE + 1) == (0, 0, 0, 0)


def test_uses_are_counted_until_a_pause():
    memory = make()
    put(memory)
    assert [memory.count_use(STORE, NAME, 1, 0, False, 1_000) for _ in range(3)] == [1, 2, 3]
    memory.hold_clock(6_000)
    assert memory.count_use(STORE, NAME, 1, 0, False, 1_000) == 4
    memory.hold_clock(7_001)
    assert memory.count_use(STORE, NAME, 1, 0, False, 1_000) == 1
    assert memory.count_use(STORE, name(1), 1, 0, False, 1_000) == 0


def test_uses_outlive_a_renewal_but_not_another_name_in_the_same_slot():
    memory = make()
    put(memory)
    memory.count_use(STORE, NAME, 1, 0, False, 1_000)
    put(memory)
    assert memory.count_use(STORE, NAME, 1, 0, False, 1_000) == 2
    for number in range(60_000):
        put(memory, name(number))
    put(memory)
    assert memory.count_use(STORE, NAME, 1, 0, False, 1_000) == 1


@given(st.lists(st.tuples(st.integers(0, 30), st.booleans(), st.integers(0, 70_000), st.booleans()), max_size=60))
@settings(max_examples=examples(150), deadline=None)
def test_whatever_is_found_is_what_was_kept_last(steps: list[tuple[int, bool, int, bool]]):
    memory = make()
    last: dict[tuple[int, bool], bytes] = {}
    for number, denial, size, is_marked in steps:
        octets = struct.pack("=II", number, size) * (min(size, 65_528) // 8)
        if put(memory, name(number), octets, denial=denial):
            last[number, denial] = octets
            if not denial:
                last.pop((number, True), None)
        if is_marked:
            memory.mark(STORE, name(number), 1, 0, denial)
        for at in range(31):
            for is_denial, kept in zip((True, False), memory.get(STORE, name(at), 1, 0), strict=True):
                assert kept is None or kept[3] == last[at, is_denial]


# Several processes


def _write_for_ever(memory: AnswerCache, number: int) -> None:
    memory.write_in(number)
    rng = random.Random(os.getpid())
    while True:
        at = rng.randrange(500)
        put(memory, name(at), bytes([at & 255]) * rng.randrange(3_000))


def _fork(work, *arguments) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            work(*arguments)
        finally:
            os._exit(1)
    return pid


def _end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_readers_never_see_half_an_entry():
    memory = make(2)
    writers = [_fork(_write_for_ever, memory, number) for number in (0, 1)]
    try:
        found, end = 0, time.monotonic() + 1.0
        while time.monotonic() < end or not found:
            for at in range(500):
                octets = answer(memory, name(at))
                if octets is not None:
                    found += 1
                    assert octets == bytes([at & 255]) * len(octets)
    finally:
        for pid in writers:
            _end(pid)


def test_a_successor_goes_on_with_the_arena_of_who_was_killed():
    memory = make(1)
    for _ in range(40):
        writer = _fork(_write_for_ever, memory, 0)
        end = time.monotonic() + 0.01
        while time.monotonic() < end:
            answer(memory, name(1))
        _end(writer)
        # Whatever the other was doing: this process can write, and what it writes is there.
        assert put(memory, octets=b"mine")
        assert answer(memory) == b"mine"
        for at in range(500):
            octets = answer(memory, name(at))
            assert octets is None or octets == bytes([at & 255]) * len(octets)


def test_two_writers_of_one_number_do_not_spoil_it():
    """A reload has two for a while."""
    memory = make(1)
    writers = [_fork(_write_for_ever, memory, 0) for _ in range(2)]
    try:
        end = time.monotonic() + 0.7
        while time.monotonic() < end:
            for at in range(500):
                octets = answer(memory, name(at))
                assert octets is None or octets == bytes([at & 255]) * len(octets)
    finally:
        for pid in writers:
            _end(pid)


def test_a_worker_finds_what_its_sibling_kept():
    memory = make(2)

    def keep() -> None:
        memory.write_in(1)
        put(memory)
        os._exit(0)

    os.waitpid(_fork(keep), 0)
    assert answer(memory) == RECORD
    assert memory.counts(STORE) == (0, 0, 0, 0)
    memory.write_in(1)
    assert memory.counts(STORE)[0] == 1
    with pytest.raises(ValueError, match="arena 2 of 2"):
        memory.write_in(2)


def test_the_clock_goes_forward_only():
    memory = AnswerCache(1, MIN_ARENA_BYTES)
    before = memory.now()
    assert abs(before - time.monotonic() * 1000) < 1_000
    assert memory.now() >= before


@pytest.mark.skipif("libasan" in os.environ.get("LD_PRELOAD", ""), reason="a sanitizer keeps what is freed")
def test_many_entries_cost_little_memory_and_no_pause():
    """1.2 times an answer's octets on the wire and 64 more for each, and never 10 ms at a time."""
    keys = [name(number) for number in range(300_000)]
    memory = make(size=96 << 20)
    before, slowest = _resident(), 0
    for key in keys:
        began = time.process_time_ns()
        put(memory, key)
        slowest = max(slowest, time.process_time_ns() - began)
    grown = _resident() - before
    assert sum(answer(memory, key) is not None for key in keys[::100]) >= 0.99 * len(keys) / 100
    wire = 12 + len(keys[0]) + 4 + len(RECORD)
    assert grown <= (1.2 * wire + 64) * len(keys)
    assert slowest < 10_000_000


def _resident() -> int:
    """Octets of memory this process occupies."""
    (line,) = [line for line in Path("/proc/self/smaps_rollup").read_text().splitlines() if line.startswith("Rss:")]
    return 1024 * int(line.split()[1])
