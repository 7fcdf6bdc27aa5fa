"""Replies forged by somebody who sees nothing: what there is to guess, and that guessing does not help.

Forged replies leave the upstream's own socket, as if their source had been forged as well. Equal questions at once
would make guessing easier, so they cost one packet.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import dns.message
import pytest

from tests.e2e.forwarding import Client, forward_block, serving
from tests.fakes.lies import FALSE, TRUE, Script
from tests.fakes.upstream import Seen, Upstream, in_thread
from tests.harness.places import open_place
from tests.harness.waiting import wait_until

ASKED = 1500
MAX_CHI_SQUARE = 255 + 8 * 22.6  # of 256 equally likely values: the mean and eight standard deviations
MIN_PORTS = 1024
FORGED = 100_000
PORTS = range(32768, 61000)  # whence the kernel takes the ports of sockets that name none
EQUAL = 200
ANSWER_SECONDS = 0.7  # how long the upstream thinks in tests where many ask meanwhile


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def upstream(script: Script) -> Iterator[Upstream]:
    with in_thread(Upstream(script)) as made:
        yield made


def ask_many(client: Client, queries: Sequence[bytes], sockets: int = 16, at_once: int = 256) -> list[bytes]:
    """Send them from some sockets, so many without waiting for a reply; the replies."""
    opened = [client.server.peer().open_udp(5) for _ in range(sockets)]
    try:
        replies = []
        for start in range(0, len(queries), at_once):
            numbers = range(start, min(start + at_once, len(queries)))
            for number in numbers:
                opened[number % sockets].send(queries[number])
            replies += [opened[number % sockets].recv(65535) for number in numbers]
        return replies
    finally:
        for one in opened:
            one.close()


def unique_queries(prefix: str, count: int) -> list[bytes]:
    return [dns.message.make_query(f"{prefix}{number}.test.", "A").to_wire() for number in range(count)]


def ids_of(upstream: Upstream) -> list[int]:
    return [int.from_bytes(seen.wire[:2], "big") for seen in upstream.seen]


def chi_square(values: Sequence[int]) -> float:
    """How far numbers below 256 are from being equally frequent."""
    expected, counts = len(values) / 256, Counter(values)
    return sum((counts[value] - expected) ** 2 / expected for value in range(256))


def test_ids_and_ports_cannot_be_foretold(upstream: Upstream, tmp_path: Path) -> None:
    runs = []
    for run in range(2):
        upstream.seen.clear()
        with serving(tmp_path / str(run), forward_block(upstream.port)) as client:
            if run:  # a worker that was forked later
                first = next(process for process in client.server.processes() if process.title == "kdns: worker 0")
                os.kill(first.pid, signal.SIGKILL)
                wait_until(
                    lambda pid=first.pid: any(  # type: ignore[misc]
                        process.title == "kdns: worker 0" and process.pid != pid
                        for process in client.server.processes()
                    ),
                    "the worker is back",
                )
            # One by one, for what arrives together may leave by the same port, and then all together.
            ask_many(client, unique_queries(f"r{run}-", ASKED), at_once=256 if run else 1)
        runs.append(ids_of(upstream))
        ports = {seen.client[1] for seen in upstream.seen}
        assert run or len(ports) >= MIN_PORTS
        assert min(ports) >= 1024
        assert len({(seen.client[1], seen.wire[:2]) for seen in upstream.seen}) == ASKED
    for ids in runs:
        assert len(ids) == ASKED
        assert chi_square([number >> 8 for number in ids]) < MAX_CHI_SQUARE
        assert chi_square([number & 255 for number in ids]) < MAX_CHI_SQUARE
        # 1,500 of 65,536 leave 17 repeated; had two workers the same row of ids, 750 were.
        assert len(ids) - len(set(ids)) < 100
    assert runs[0][:100] != runs[1][:100]
    assert len(set(runs[0]) & set(runs[1])) < 200  # 34 by chance


def test_forged_replies_by_the_hundred_thousand_are_not_believed(script: Script, tmp_path: Path) -> None:
    """To ports and ids that are guessed, while the true answer is under way; in a network where nobody else listens."""
    place = open_place()
    try:
        with in_thread(Upstream(script, place=place)) as upstream:
            forge_many(script, upstream, tmp_path)
    finally:
        place.close()


def forge_many(script: Script, upstream: Upstream, directory: Path) -> None:

    async def answer(seen: Seen) -> Sequence[bytes]:
        asked.set()
        await asyncio.sleep(ANSWER_SECONDS)
        return [seen.address(TRUE)]

    asked = threading.Event()
    script.say("goal.test.", answer)
    block = forward_block(upstream.port, options=("read_timeout 2s",))
    with serving(directory, block, place=upstream.place) as client:
        said: list[str] = []
        asking = threading.Thread(target=lambda: said.append(client.says("goal.test.")))
        asking.start()
        assert asked.wait(5)
        (seen,) = [seen for seen in upstream.seen if seen.name == "goal.test."]
        forged = bytearray(seen.address(FALSE))
        chance = random.Random(1)
        assert upstream._datagrams is not None
        forger = upstream._datagrams.dup()
        sent = 0
        for _ in range(FORGED):
            forged[:2] = chance.randbytes(2)
            port = chance.choice(PORTS)
            if forged[:2] == seen.wire[:2] or port == upstream.port:
                continue
            try:
                forger.sendto(forged, ("127.0.0.1", port))
                sent += 1
            except (BlockingIOError, ConnectionRefusedError):
                continue
        forger.close()
        asking.join()
        assert sent > FORGED / 2
        assert said == [TRUE]
        assert client.says("goal.test.") == TRUE
        assert len([seen for seen in upstream.seen if seen.name == "goal.test."]) <= 3
        client.assert_well()


def test_a_port_that_is_known_and_flooded_is_left_for_tcp(script: Script, upstream: Upstream, tmp_path: Path) -> None:
    """Every id but the right one comes to the right port, at once."""

    def answer(seen: Seen) -> Sequence[bytes]:
        if seen.transport == "tcp":
            return [seen.address(TRUE)]
        wire, right = seen.address(FALSE), int.from_bytes(seen.wire[:2], "big")
        return [(right ^ guess).to_bytes(2, "big") + wire[2:] for guess in range(1, 20_000)]

    script.say("flooded.test.", answer)
    with serving(tmp_path, forward_block(upstream.port)) as client:
        assert client.says("flooded.test.") == TRUE
        assert len([seen for seen in upstream.seen if seen.name == "flooded.test."]) <= 3
        assert client.says("next.test.") == TRUE
        client.assert_well()


def spelled(name: str, chance: random.Random) -> str:
    return "".join(chance.choice((letter.lower(), letter.upper())) for letter in name)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("before", [("cache",), ()], ids=["cache", "plain"])
def test_two_hundred_equal_questions_at_once_cost_one_packet_of_each_worker(
    script: Script, upstream: Upstream, tmp_path: Path, workers: int, before: tuple[str, ...]
) -> None:
    """In any spelling. Workers do not wait for each other: with two of them it may be two packets."""

    async def answer(seen: Seen) -> Sequence[bytes]:
        await asyncio.sleep(ANSWER_SECONDS)
        return [seen.address(TRUE)]

    script.say("equal.test.", answer)
    chance = random.Random(1)
    queries = [
        dns.message.make_query(spelled("equal.test.", chance), "A", id=number).to_wire() for number in range(EQUAL)
    ]
    with serving(tmp_path, forward_block(upstream.port, before=before), workers=workers) as client:
        replies = ask_many(client, queries)
        assert len(replies) == EQUAL
        spellings = {query[:2]: query[12:24] for query in queries}
        for wire in replies:
            assert wire[12:24] == spellings[wire[:2]]
            assert [str(data) for data in dns.message.from_wire(wire).answer[0]] == [TRUE]
        assert 1 <= len([seen for seen in upstream.seen if seen.name.lower() == "equal.test."]) <= workers


def test_those_who_wait_hear_of_a_failure_together(script: Script, upstream: Upstream, tmp_path: Path) -> None:
    script.say("silent.test.", lambda _: [])
    queries = [dns.message.make_query("silent.test.", "A", id=number).to_wire() for number in range(EQUAL)]
    block = forward_block(upstream.port, options=("read_timeout 300ms", "max_fails 0"))
    with serving(tmp_path, block, workers=1) as client:
        started = time.monotonic()
        replies = ask_many(client, queries)
        assert {wire[3] & 15 for wire in replies} == {2}
        assert time.monotonic() - started < 3
        assert len([seen for seen in upstream.seen if seen.name == "silent.test."]) <= 3
        client.assert_well()


def test_a_worker_that_dies_with_questions_under_way_leaves_the_others_served(
    script: Script, upstream: Upstream, tmp_path: Path
) -> None:
    """What it had asked nobody answers; who asks again is answered."""
    script.say("held.test.", lambda _: [])
    with serving(tmp_path, forward_block(upstream.port, options=("max_concurrent 3",)), workers=2) as client:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.connect((client.server.peer().address, client.server.peer().port))
            asking.send(dns.message.make_query("held.test.", "A").to_wire())
            wait_until(lambda: any(seen.name == "held.test." for seen in upstream.seen), "asked")
            workers = [process for process in client.server.processes() if process.title.startswith("kdns: worker")]
            for process in workers:
                os.kill(process.pid, signal.SIGKILL)
        script.forget("held.test.")
        # Its share of what may be under way went with it.
        wait_until(lambda: client.says("held.test.") == TRUE, "answered")
        for number in range(20):
            assert client.says(f"n{number}.after.test.") == TRUE
