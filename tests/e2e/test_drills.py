"""Deaths and ends under load: the cluster's names, names that are kept, and names that are asked for each time.

`DRILL_RATE` in the environment is the load of each stream; what the test itself can send is the limit here.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.forwarding import CLUSTER_NAME, Client, forward_block, serving
from tests.e2e.test_lifecycle import RECEIVE_BATCH, kill_and_wait_replaced
from tests.fakes.upstream import Upstream, in_thread
from tests.harness.query_stream import QueryStream, StreamStatistics
from tests.harness.waiting import wait_until

RATE = int(os.environ.get("DRILL_RATE", "1000"))  # queries a second of each stream over the compiled path
PLAIN_RATE = 50  # of the stream whose every query goes to the upstream, a Python program in this process
KILLS = 20
LAMEDUCK = 2  # seconds
KEPT, PLAIN = "kept.test.", "each.plain.test."


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    health = f"health 127.0.0.1:0 {{\n lameduck {LAMEDUCK}s\n }}"
    with in_thread(Upstream()) as upstream:
        corefile = forward_block(upstream.port, before=("errors", "cache", health)) + forward_block(
            upstream.port, zone="plain.test", before=("errors",)
        )
        with serving(tmp_path, corefile) as made:
            assert made.says(KEPT) == made.says(PLAIN) == "192.0.2.1"
            yield made


def streams(client: Client, opened: ExitStack) -> list[QueryStream]:
    place, peer = client.server.place, client.server.peer()
    rates = {CLUSTER_NAME: RATE, KEPT: RATE, PLAIN: PLAIN_RATE}
    return [opened.enter_context(QueryStream(place, peer, name, rate)) for name, rate in rates.items()]


def lost(statistics: StreamStatistics) -> int:
    assert statistics.answered
    assert statistics.wrong == 0
    return statistics.lost


def test_twenty_deaths_of_workers_cost_a_batch_each_at_most(client: Client) -> None:
    with ExitStack() as opened:
        running = streams(client, opened)
        for number in range(KILLS):
            kill_and_wait_replaced(client.server, f"kdns: worker {number % 2}")
        before = [stream.answered for stream in running]
        wait_until(
            lambda: all(stream.answered > known for stream, known in zip(running, before, strict=True)), "answered"
        )
    assert sum(lost(stream.statistics()) for stream in running) <= KILLS * RECEIVE_BATCH
    for name in (CLUSTER_NAME, KEPT, PLAIN):
        assert client.says(name)


def test_an_end_with_lameduck_loses_nothing_that_comes_while_it_lasts(client: Client) -> None:
    with ExitStack() as opened:
        running = streams(client, opened)
        wait_until(lambda: all(stream.answered for stream in running), "answered")
        started = time.monotonic()
        client.server.send_signal(signal.SIGTERM)
        wait_until(lambda: time.monotonic() > started + LAMEDUCK / 2, "half of it is over")
        assert client.server.returncode is None
    assert [lost(stream.statistics()) for stream in running] == [0, 0, 0]
    assert client.server.wait_ended() == 0
    assert time.monotonic() - started >= LAMEDUCK
