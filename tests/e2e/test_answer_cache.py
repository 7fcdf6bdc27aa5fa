"""The answer cache of a whole server: one for all its workers, kept over their deaths and over reloads."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import dns.message
import pytest

from tests.e2e.test_lifecycle import kill_and_wait_replaced
from tests.fakes.nameserver import FakeNameServer
from tests.fakes.stub_resolver import StubResolver
from tests.harness.exchange import TRANSPORTS, UDP, ask
from tests.harness.places import Loopback
from tests.harness.server import Server
from tests.harness.waiting import wait_until

COMPLETE = "[INFO] Reloading complete"
ASKED = 60  # queries from as many ports: both workers get some


class Upstream:
    """Counts what it is asked."""

    def __init__(self) -> None:
        names = [f"{name}.test. 300 IN A 192.0.2.{number}" for number, name in enumerate("abcd")]
        self.asked: list[str] = []
        self._resolver = StubResolver(names)

    def __call__(self, wire: bytes, transport: str) -> Sequence[bytes]:
        name = str(dns.message.from_wire(wire).question[0].name).lower()
        self.asked.append(name)
        return self._resolver(wire, transport)

    def count(self, name: str) -> int:
        """How often a name was asked for."""
        return self.asked.count(name)


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


@pytest.fixture
def server(upstream: Upstream, tmp_path: Path) -> Iterator[Server]:
    with FakeNameServer(upstream) as behind:
        corefile = f".:53 {{\n    errors\n    cache\n    forward . 127.0.0.1:{behind.port}\n}}\n"
        with Server(Loopback(), tmp_path / "server", corefile, arguments=("--cache-size", "8M")) as running:
            running.wait_answering()
            yield running


def ask_all(server: Server, name: str, transport: str = UDP) -> set[int]:
    """The TTLs of the answers to a name, asked from many ports."""
    found = set()
    for _ in range(ASKED):
        wire = ask(server.peer(), dns.message.make_query(name, "A").to_wire(), transport)
        assert wire is not None
        (rrset,) = dns.message.from_wire(wire).answer
        found.add(rrset.ttl)
    return found


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_what_one_worker_was_told_all_workers_know(server: Server, upstream: Upstream, transport: str) -> None:
    assert ask_all(server, "a.test.", transport) <= set(range(200, 301))
    assert upstream.count("a.test.") == 1


def test_nothing_is_lost_with_a_worker(server: Server, upstream: Upstream) -> None:
    for name in ("a.test.", "b.test.", "c.test."):
        ask_all(server, name)
    for title in ("kdns: worker 0", "kdns: worker 1"):
        kill_and_wait_replaced(server, title)
        for name in ("a.test.", "b.test.", "c.test."):
            ask_all(server, name)
    ask_all(server, "d.test.")
    assert sorted(upstream.asked) == ["a.test.", "b.test.", "c.test.", "d.test."]


def reload(server: Server) -> None:
    before = server.stdout.count(COMPLETE)
    server.send_signal(signal.SIGUSR1)
    wait_until(lambda: server.stdout.count(COMPLETE) > before, "the server has reloaded", 15)


def test_a_reload_that_changes_no_answers_keeps_them(server: Server, upstream: Upstream) -> None:
    ask_all(server, "a.test.")
    corefile = server.directory / "Corefile"
    corefile.write_text(corefile.read_text().replace("errors\n", "loadbalance\n").replace("cache\n", "cache 250\n"))
    reload(server)
    assert max(ask_all(server, "a.test.")) <= 300
    assert upstream.count("a.test.") == 1
    ask_all(server, "b.test.")
    assert upstream.count("b.test.") == 1


def test_a_reload_that_may_change_answers_begins_anew(server: Server, upstream: Upstream) -> None:
    ask_all(server, "a.test.")
    corefile = server.directory / "Corefile"
    text = corefile.read_text()
    line = next(line for line in text.splitlines() if "forward" in line)
    corefile.write_text(text.replace(line, line + " {\n    max_fails 1\n    }"))
    reload(server)
    ask_all(server, "a.test.")
    assert upstream.count("a.test.") == 2
