"""Upstreams that are dead, come back, change, or lead back to where the query came from."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.e2e.forwarding import CLIENT_SECONDS, Client, forward_block, serving
from tests.fakes.lies import TRUE
from tests.fakes.upstream import Seen, Upstream, in_thread
from tests.harness.exchange import TCP, TRANSPORTS, UDP
from tests.harness.places import Loopback, free_port, open_namespace
from tests.harness.waiting import wait_until

FAILOVER_SECONDS = 2.0
SLACK_SECONDS = 0.5  # the machine's, not the server's
CHECK_SECONDS = 1.0  # within which a server that answers again is noticed: two intervals of checks


@contextmanager
def deaf() -> Iterator[int]:
    """A port at which queries arrive and nobody answers."""
    port = free_port()
    with socket.create_server(("127.0.0.1", port)), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", port))
        yield port


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_next_upstream_is_asked_in_time_and_the_silent_one_is_left(tmp_path: Path, transport: str) -> None:
    with in_thread(Upstream()) as upstream, deaf() as silent:
        block = forward_block(silent, upstream.port, options=("policy sequential",))
        with serving(tmp_path, block) as client:
            assert client.says("first.test.", transport=transport) == TRUE
            assert client.seconds < FAILOVER_SECONDS + SLACK_SECONDS
            for number in range(20):
                assert client.says(f"n{number}.test.", transport=transport) == TRUE
                assert client.seconds < SLACK_SECONDS
            client.assert_well()


@pytest.mark.parametrize(("count", "transport"), [(1, TCP), (3, UDP)])
def test_with_all_of_them_silent_the_client_hears_of_it_before_it_gives_up(
    tmp_path: Path, count: int, transport: str
) -> None:
    with ExitStack() as opened:
        silent = [opened.enter_context(deaf()) for _ in range(count)]
        client = opened.enter_context(serving(tmp_path, forward_block(*silent)))
        assert client.says("a.test.", transport=transport) == "SERVFAIL"
        assert client.seconds < CLIENT_SECONDS
        client.assert_well()


def test_what_refuses_is_told_of_at_once_and_taken_back_when_it_answers(tmp_path: Path) -> None:
    upstream = Upstream()
    with in_thread(upstream):
        pass  # it has a port, and is gone
    with serving(tmp_path, forward_block(upstream.port)) as client:
        for number in range(5):
            assert client.says(f"n{number}.test.") == "SERVFAIL"
            assert client.seconds < SLACK_SECONDS
        with in_thread(Upstream(port=upstream.port)) as back:
            wait_until(lambda: any(seen.name == "." for seen in back.seen), "it is checked")
            wait_until(lambda: client.says("n0.test.") == TRUE, "it is asked again", CHECK_SECONDS + SLACK_SECONDS)
            assert client.says("n1.test.") == TRUE  # the failure is not remembered
            before = sum(seen.name == "." for seen in back.seen)
            for number in range(20):
                assert client.says(f"m{number}.test.") == TRUE
            assert sum(seen.name == "." for seen in back.seen) <= before + 2  # and the checks end
        client.assert_well()


def test_a_dead_upstream_is_used_again_after_it_answered_a_check(tmp_path: Path) -> None:
    first, second = Upstream(), Upstream()
    with in_thread(first):
        pass
    with in_thread(second):
        block = forward_block(first.port, second.port, options=("policy sequential",))
        with serving(tmp_path, block) as client:
            for number in range(10):
                assert client.says(f"n{number}.test.") == TRUE
            with in_thread(Upstream(port=first.port)) as back:
                numbers = iter(range(10_000))

                def is_used() -> bool:
                    assert client.says(f"b{next(numbers)}.test.") == TRUE
                    return back.count() > 0

                wait_until(is_used, "the first is asked again")
            for number in range(10):  # and it dies once more
                assert client.says(f"d{number}.test.") == TRUE
                assert client.seconds < FAILOVER_SECONDS + SLACK_SECONDS


# Ways that lead back


def loop_line(client: Client) -> str:
    return next((line for line in client.server.stdout.splitlines() if "detected for zone" in line), "")


def test_two_servers_that_ask_each_other_notice_and_go_on(tmp_path: Path) -> None:
    """With `loop` an upstream is taken out; the cluster's names are answered all the while."""
    with two_servers(tmp_path, before=("errors", "loop", "cache")) as (client, other):
        wait_until(lambda: loop_line(client) or loop_line(other), "the loop is noticed", 10)
        for one in (client, other):
            one.assert_well()
            assert one.server.returncode is None
        wait_until(lambda: client.says("a.test.") == "SERVFAIL" and client.seconds < 1, "nobody is asked any more")


def test_two_servers_that_ask_each_other_without_loop_stay_bounded(tmp_path: Path) -> None:
    with two_servers(tmp_path, options=("read_timeout 300ms",)) as (client, other):
        assert client.says("around.test.") == "SERVFAIL"
        assert client.seconds < CLIENT_SECONDS
        for one in (client, other):
            one.assert_well()


@contextmanager
def two_servers(directory: Path, **block: Sequence[str]) -> Iterator[tuple[Client, Client]]:
    """Each is the other's only upstream."""
    first, second = Loopback(), Loopback()
    with (
        serving(directory / "1", forward_block(second.dns_port, **block), place=first) as client,  # type: ignore[arg-type]
        serving(directory / "2", forward_block(first.dns_port, **block), place=second) as other,  # type: ignore[arg-type]
    ):
        yield client, other


def test_a_server_that_asks_itself_goes_on(tmp_path: Path) -> None:
    place = Loopback()
    with serving(tmp_path, forward_block(place.dns_port, options=("read_timeout 300ms",)), place=place) as client:
        assert client.says("self.test.") == "SERVFAIL"
        client.assert_well()


# Followed files


def test_a_resolv_conf_that_changes_is_followed(tmp_path: Path) -> None:
    """Port 53 is the only one such a file can name, so this has a network of its own."""
    place = open_namespace()
    file = tmp_path / "resolv.conf"
    file.write_text("search test\nnameserver 127.0.0.2\n")

    def saying(address: str, host: str) -> Upstream:
        def answer(seen: Seen) -> Sequence[bytes]:
            return [seen.address(address)]

        return Upstream(answer, host=host, port=53, place=place)

    try:
        old, new = saying("192.0.2.2", "127.0.0.2"), saying("192.0.2.3", "127.0.0.3")
        place.dns_port = 5353
        with in_thread(old), in_thread(new), serving(tmp_path, forward_block(file), place=place) as client:
            assert client.says("a.test.") == "192.0.2.2"
            file.write_text("nameserver 127.0.0.3\n")
            numbers = iter(range(10_000))
            # Each worker looks once a second; one may get all queries of a client that stays on its processor.
            all_have_looked = time.monotonic() + 2.5
            wait_until(
                lambda: client.says(f"n{next(numbers)}.test.") == "192.0.2.3" and time.monotonic() > all_have_looked,
                "all workers ask the new one",
                15,
            )
            file.unlink()
            for _ in range(5):
                assert client.says(f"n{next(numbers)}.test.") == "192.0.2.3"
    finally:
        place.close()
