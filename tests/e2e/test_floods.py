"""Floods of names nobody asked for before: the cluster's names go on, memory stays, soon after all is as before.

`FLOOD_SECONDS`, `FLOOD_RATE` and `FLOOD_SLACK_SECONDS` in the environment make the floods longer and judge them more
strictly; `pytest --log-cli-level=INFO` shows figures.
"""

from __future__ import annotations

import logging
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dns.message
import pytest

from tests.e2e.forwarding import CLUSTER_ADDRESS, CLUSTER_NAME, Client, serving
from tests.harness.exchange import TCP, frame, receive_frame
from tests.harness.flood import Flood, FloodResult, slow_upstream
from tests.harness.places import Loopback, free_port
from tests.harness.query_stream import QueryStream, StreamStatistics
from tests.harness.waiting import wait_until

SECONDS = float(os.environ.get("FLOOD_SECONDS", "3"))
RATE = int(os.environ.get("FLOOD_RATE", "20000"))  # queries a second
CALM_SECONDS = 3.0  # of the cluster's names alone, to compare with
# Of p99, beyond twice what it is without a flood. Flood, upstream, clients and server share two processors here, and
# with them whatever else a machine does; 0.001 is enough where there is nothing else.
SLACK_SECONDS = float(os.environ.get("FLOOD_SLACK_SECONDS", "0.1"))
RECOVERY_SECONDS = 1.0
THINKING_SECONDS = 0.2  # of a slow upstream
MAX_GROWTH = 96 << 20  # octets of a worker's own memory while everything it may have under way is
MAX_LEAK = 12 << 20  # octets that another flood may add
MAX_CONCURRENT = 1000
CLUSTER_QUERIES = 500  # a second

REFUSED, SERVFAIL, NOERROR = "5", "2", "0"


def deployed(port: int, *options: str) -> str:
    """The directives of most clusters."""
    lines = "".join(f"        {line}\n" for line in options)
    return (
        "outside.test:53 .:53 {\n    errors\n    kubernetes other.local in-addr.arpa ip6.arpa {\n"
        "        pods insecure\n        fallthrough in-addr.arpa ip6.arpa\n    }\n"
        f"    forward . 127.0.0.1:{port} {{\n{lines}    }}\n    cache 30\n    loop\n    loadbalance\n}}\n"
    )


@contextmanager
def silent_upstream() -> Iterator[int]:
    """A port where queries arrive and nobody reads them, over UDP and TCP."""
    port = free_port()
    with (
        socket.create_server(("127.0.0.1", port), backlog=1000),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
    ):
        udp.bind(("127.0.0.1", port))
        yield port


def memory_of_workers(client: Client) -> int:
    """The octets of the largest worker that are its own."""
    workers = [process.pid for process in client.server.processes() if process.title.startswith("kdns: worker")]
    texts = [Path(f"/proc/{pid}/status").read_text() for pid in workers]
    return max(1024 * int(text.partition("RssAnon:")[2].split()[0]) for text in texts)


@dataclass(frozen=True, slots=True)
class Measured:
    """The cluster's names before and during a flood, and what the flood came to."""

    calm: StreamStatistics
    flooded: StreamStatistics
    flood: FloodResult
    grown: int  # octets

    def show(self, title: str) -> None:
        """Log it."""
        logging.getLogger("floods").info(
            f"{title}: {self.flood.rate:.0f} unique names/s, {self.flood.rcodes}; cluster names: "
            f"{self.flooded.lost} of {self.flooded.sent} lost, p99 {1000 * self.flooded.p99_seconds:.1f} ms "
            f"(without the flood {1000 * self.calm.p99_seconds:.1f} ms); {self.grown >> 20} MiB more memory"
        )


def measure(client: Client, title: str, meanwhile: Callable[[], None] = lambda: None) -> Measured:
    place, peer = client.server.place, client.server.peer()
    before = memory_of_workers(client)
    with QueryStream(place, peer, CLUSTER_NAME, CLUSTER_QUERIES) as stream:
        wait_until(lambda: stream.answered > CALM_SECONDS * CLUSTER_QUERIES, "queries are answered")
    calm = stream.statistics()
    with QueryStream(place, peer, CLUSTER_NAME, CLUSTER_QUERIES) as stream, Flood(peer, RATE, SECONDS) as flood:
        meanwhile()
        result = flood.wait()
        grown = memory_of_workers(client) - before
    measured = Measured(calm, stream.statistics(), result, grown)
    measured.show(title)
    return measured


def assert_unharmed(measured: Measured) -> None:
    assert measured.flooded.wrong == 0
    assert measured.flooded.lost == 0
    assert measured.flooded.p99_seconds < 2 * measured.calm.p99_seconds + SLACK_SECONDS
    assert measured.grown < MAX_GROWTH


def test_a_silent_upstream_and_a_limit(tmp_path: Path) -> None:
    with silent_upstream() as port:
        block = deployed(port, f"max_concurrent {MAX_CONCURRENT}")
        with serving(tmp_path, block, arguments=("--cache-size", "8M")) as client:
            first = measure(client, "silent upstream, max_concurrent")
            assert_unharmed(first)
            assert first.flood.rcodes[REFUSED] > 0
            second = measure(client, "the same again")
            assert_unharmed(second)
            assert second.grown < MAX_LEAK
            client.assert_well()


def test_a_silent_upstream_and_no_limit(tmp_path: Path) -> None:
    """What a worker has under way has a bound all the same, and leaves descriptors for clients over TCP."""

    def ask_over_tcp() -> None:
        for _ in range(20):
            assert client.says(CLUSTER_NAME, transport=TCP) == CLUSTER_ADDRESS
            assert client.seconds < 1

    with silent_upstream() as port, serving(tmp_path, deployed(port), arguments=("--cache-size", "8M")) as client:
        first = measure(client, "silent upstream, no limit", ask_over_tcp)
        assert_unharmed(first)
        second = measure(client, "the same again")
        assert_unharmed(second)
        assert second.grown < MAX_LEAK
        client.assert_well()


def test_a_slow_upstream_and_names_that_are_kept(tmp_path: Path) -> None:
    """The cache fills up and stays as large as it is; after the flood other names are answered at once."""
    with slow_upstream(THINKING_SECONDS) as port:
        block = deployed(port, f"max_concurrent {MAX_CONCURRENT}")
        with serving(tmp_path, block, arguments=("--cache-size", "8M")) as client:
            measured = measure(client, "slow upstream, max_concurrent")
            assert_unharmed(measured)
            assert measured.flood.rcodes[NOERROR] > 0
            assert measured.flood.rcodes[REFUSED] > 0
            ended, numbers = time.monotonic(), iter(range(1_000_000))
            wait_until(lambda: client.says(f"after{next(numbers)}.test.") == "192.0.2.1", "others are answered")
            assert time.monotonic() - ended < RECOVERY_SECONDS
            client.assert_well()


@pytest.mark.parametrize("forwarded", [1, 100])
def test_a_cluster_name_does_not_wait_for_a_forwarded_one_on_the_same_connection(
    tmp_path: Path, forwarded: int
) -> None:
    with silent_upstream() as port, serving(tmp_path, deployed(port), workers=1) as client:
        outside = [
            dns.message.make_query(f"n{number}.test.", "A", id=1000 + number).to_wire() for number in range(forwarded)
        ]
        inside = dns.message.make_query(CLUSTER_NAME, "A", id=1).to_wire()
        with client.server.peer().open_tcp(2) as opened:
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(3):
                opened.sendall(b"".join(map(frame, outside)) + frame(inside))
                started = time.monotonic()
                reply = receive_frame(opened)
                assert reply is not None
                assert struct.unpack("!H", reply[:2]) == (1,)
                assert str(dns.message.from_wire(reply).answer[0][0]) == CLUSTER_ADDRESS
                assert time.monotonic() - started < 0.5
                outside = []
        client.assert_well()


def test_a_reload_under_a_flood_loses_no_cluster_name(tmp_path: Path) -> None:
    """Queries to a silent upstream are under way in the workers that end."""
    place = Loopback()
    with silent_upstream() as port, serving(tmp_path, deployed(port, "max_concurrent 500"), place=place) as client:

        def reload() -> None:
            before = client.server.stdout.count("Reloading complete")
            client.server.send_signal(10)  # type: ignore[arg-type]
            wait_until(lambda: client.server.stdout.count("Reloading complete") > before, "reloaded", 20)

        measured = measure(client, "a reload meanwhile", reload)
        assert (measured.flooded.lost, measured.flooded.wrong) == (0, 0)
        client.assert_well()
