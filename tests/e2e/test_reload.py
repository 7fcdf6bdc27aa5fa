"""Another Corefile takes over while a server is asked: nothing lost or wrong, and nothing changed where it is bad."""

from __future__ import annotations

import os
import random
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Self

import dns.message
import dns.rcode
import pytest

from tests.e2e.conftest import COREFILE, copy_cluster
from tests.harness.exchange import TCP, UDP, Peer, ask
from tests.harness.places import Place, open_place
from tests.harness.query_stream import QueryStream
from tests.harness.server import WORKERS, Server
from tests.harness.waiting import wait_until

HOST = "kubernetes.default.svc.cluster.local."
WHOAMI = ".:53 {\n    whoami\n}\n"
RECEIVE_BATCH = 64  # datagrams a worker takes from its socket at once: what its death may cost
COMPLETE = "[INFO] Reloading complete"


@pytest.fixture
def place() -> Iterator[Place]:
    made = open_place()
    yield made
    made.close()


class Reloaded(Server):
    """A server whose Corefile changes."""

    def write(self, corefile: str, *, by_signal: bool = True) -> None:
        """Put another Corefile in place."""
        draft = self.directory / "Corefile.new"
        draft.write_text(self.place.with_own_ports(corefile))
        os.replace(draft, self.directory / "Corefile")
        if by_signal:
            self.send_signal(signal.SIGUSR1)

    def count(self, line: str) -> int:
        """How often a line was logged."""
        return self.stdout.splitlines().count(line)

    def reload(self, corefile: str) -> None:
        """Change over to another Corefile, and wait until it has happened."""
        before = self.count(COMPLETE)
        self.write(corefile)
        wait_until(lambda: self.count(COMPLETE) > before, lambda: f"reloaded\n{self.said()}", 15)

    def wait_line(self, line: str) -> None:
        wait_until(lambda: line in self.stdout.splitlines(), lambda: f"{line}\n{self.said()}", 15)

    def refuse(self, corefile: str, failure: str) -> None:
        """Offer a Corefile that is refused."""
        before = self.count(f"[ERROR] Restart failed: {failure}")
        self.write(corefile)
        wait_until(
            lambda: self.count(f"[ERROR] Restart failed: {failure}") > before,
            lambda: f"refused with {failure}\n{self.said()}",
            15,
        )


@pytest.fixture
def server(place: Place, tmp_path: Path) -> Iterator[Reloaded]:
    copy_cluster(tmp_path / "cluster")
    with Reloaded(place, tmp_path, COREFILE, manifests=tmp_path / "cluster") as made:
        made.wait_answering()
        made.wait_synced()
        yield made


@pytest.fixture
def plain(place: Place, tmp_path: Path) -> Iterator[Reloaded]:
    with Reloaded(place, tmp_path, WHOAMI) as made:
        made.wait_answering()
        wait_until(lambda: len(workers_of(made)) == WORKERS, lambda: f"{WORKERS} workers\n{made.said()}")
        yield made


def workers_of(server: Server) -> dict[str, int]:
    """The workers that serve, by title."""
    return {process.title: process.pid for process in server.processes() if process.title.startswith("kdns: worker")}


def rcode(server: Server, qname: str, transport: str = UDP, peer: Peer | None = None) -> str | None:
    """The rcode of a reply; None where there is none."""
    wire = dns.message.make_query(qname, "A").to_wire()
    reply = server.place.run(lambda: ask(peer or server.peer(), wire, transport, timeout_seconds=1.0))
    return None if reply is None else dns.rcode.to_text(dns.message.from_wire(reply).rcode())


class TcpStream:
    """Asks over TCP, a connection for each question, until the context is left."""

    def __init__(self, server: Server, qname: str) -> None:
        self._server = server
        message = dns.message.make_query(qname, "A").to_wire()
        self._frame = struct.pack("!H", len(message)) + message
        self._is_ending = threading.Event()
        self.answered = 0
        self.failures: list[str] = []
        self._thread = threading.Thread(target=lambda: server.place.run(self._run), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_ending.set()
        self._thread.join()

    def _run(self) -> None:
        peer = self._server.peer()
        while not self._is_ending.is_set():
            try:
                with socket.create_connection((peer.address, peer.port), 5.0) as client:
                    client.sendall(self._frame)
                    with client.makefile("rb") as replies:
                        (size,) = struct.unpack("!H", replies.read(2))
                        reply = replies.read(size)
            except (OSError, struct.error) as error:
                self.failures.append(repr(error))
                continue
            if reply[3] & 0xF or reply[6:8] == b"\0\0":
                self.failures.append(reply.hex())
            self.answered += 1


VARIANTS = [
    COREFILE,
    COREFILE.replace("    loadbalance\n", ""),
    COREFILE.replace("pods insecure", "pods insecure\n        ttl 30"),
    COREFILE + "\nother.test:53 {\n    whoami\n}\n",
    COREFILE.replace("errors", "nonsense"),
]


def test_reloads_under_load_lose_nothing_and_answer_nothing_wrong(server: Reloaded) -> None:
    """One of five is refused; two of five read the cluster anew."""
    with QueryStream(server.place, server.peer(), HOST) as stream, TcpStream(server, HOST) as over_tcp:
        for number in range(15):
            server.write(VARIANTS[number % len(VARIANTS)])
            time.sleep(0.3)
        server.refuse(VARIANTS[4], "Corefile:2 - Error during parsing: Unknown directive 'nonsense'")
        server.reload(VARIANTS[0])
    seen = stream.statistics()
    assert (seen.lost, seen.wrong) == (0, 0)
    assert seen.answered > 2000
    assert over_tcp.failures == []
    assert over_tcp.answered > 100


def test_queries_are_answered_while_an_address_of_its_own_takes_the_place_of_all_and_back(server: Reloaded) -> None:
    """The kernel prefers the narrower socket, whoever reads it, from when it is bound until it is closed by all."""
    narrow = COREFILE.replace("errors", "bind 127.0.0.1\n    errors")
    with QueryStream(server.place, server.peer(), HOST, 3000) as stream, TcpStream(server, HOST) as over_tcp:
        for _ in range(4):
            server.reload(narrow)
            server.reload(COREFILE)
    seen = stream.statistics()
    assert (seen.lost, seen.wrong) == (0, 0)
    # Who connects in the microseconds before a socket listens no more is told so, and connects again.
    assert len(over_tcp.failures) <= 4
    assert all("ConnectionResetError" in failure for failure in over_tcp.failures)


def test_a_reload_is_told_as_coredns_tells_it(plain: Reloaded) -> None:
    plain.write(WHOAMI.replace("whoami", "reload 2s\n    whoami"))
    plain.wait_line(COMPLETE)
    lines = plain.stdout.splitlines()
    told = lines[lines.index("[INFO] SIGUSR1: Reloading") :]
    assert told[1] == "[INFO] Reloading"
    assert told[2].startswith("[INFO] plugin/reload: Running configuration SHA512 = ")
    assert told[3] == COMPLETE


def test_sighup_reloads_as_well(plain: Reloaded) -> None:
    plain.write(WHOAMI.replace("whoami", "errors\n    whoami"), by_signal=False)
    plain.send_signal(signal.SIGHUP)
    plain.wait_line("[INFO] SIGHUP: Reloading")
    plain.wait_line(COMPLETE)


def test_a_changed_file_is_noticed_where_reload_says_so(place: Place, tmp_path: Path) -> None:
    corefile = ".:53 {\n    reload 2s 0s\n    whoami\n    import more.conf\n}\n"
    (tmp_path / "more.conf").write_text("errors\n")
    with Reloaded(place, tmp_path, corefile) as server:
        server.wait_answering()
        server.write(corefile.replace("whoami", "whoami # nothing else"), by_signal=False)
        time.sleep(2.5)
        assert server.count("[INFO] Reloading") == 0
        (tmp_path / "more.conf").write_text("loadbalance\n")
        server.wait_line(COMPLETE)
        server.write(corefile.replace("whoami", "nonsense"), by_signal=False)
        failure = "Corefile:3 - Error during parsing: Unknown directive 'nonsense'"
        told = "[ERROR] plugin/reload: Corefile changed but reload failed: starting with listener file descriptors: "
        server.wait_line(told + failure)
        time.sleep(2.5)
        assert server.count(f"[ERROR] Restart failed: {failure}") == 1  # not again before the file changes
        assert rcode(server, "www.example.org.") == "NOERROR"
        server.write(corefile, by_signal=False)
        wait_until(lambda: server.count(COMPLETE) == 2, lambda: server.said(), 10)


@pytest.mark.parametrize(
    ("corefile", "failure"),
    [
        (".:53 {\n    errors\n    nonsense\n}\n", "Corefile:3 - Error during parsing: Unknown directive 'nonsense'"),
        (
            ".:53 {\n    health a b\n}\n",
            "plugin/health: Corefile:2 - Error during parsing: "
            "Wrong argument count or unexpected line ending after 'b'",
        ),
        (
            ".:53 {\n    whoami\n    bind 203.0.113.77\n}\n",
            "Listen: listen tcp 203.0.113.77:{port}: bind: cannot assign requested address",
        ),
        (
            ".:53 {\n    whoami\n    health 203.0.113.77:80\n}\n",
            "listen tcp 203.0.113.77:80: bind: cannot assign requested address",
        ),
        (".:53 {\n    whoami\n", "Corefile:2 - Syntax error: Unexpected token 'whoami', expecting '}}'"),
    ],
    ids=["unknown", "setup", "bind", "health", "syntax"],
)
def test_a_corefile_that_fails_leaves_the_one_before(plain: Reloaded, corefile: str, failure: str) -> None:
    before = workers_of(plain)
    failure = failure.format(port=plain.place.dns_port)
    plain.refuse(corefile, failure)
    plain.wait_line(f"[ERROR] SIGUSR1: starting with listener file descriptors: {failure}")
    assert workers_of(plain) == before
    for transport in (UDP, TCP):
        assert rcode(plain, "www.example.org.", transport) == "NOERROR"
    plain.reload(WHOAMI)


def test_a_corefile_that_is_gone_leaves_the_one_before(plain: Reloaded) -> None:
    (plain.directory / "Corefile").unlink()
    plain.send_signal(signal.SIGUSR1)
    plain.wait_line("[ERROR] SIGUSR1: loading updated Caddyfile: open Corefile: no such file or directory")
    assert rcode(plain, "www.example.org.") == "NOERROR"


def test_places_come_and_go(plain: Reloaded) -> None:
    port = plain.place.dns_port + 1
    plain.reload(f"{WHOAMI}\nother.test:{port} {{\n    whoami\n}}\n")
    beside = Peer("127.0.0.1", port)
    for transport in (UDP, TCP):
        assert rcode(plain, "www.other.test.", transport, beside) == "NOERROR"
    plain.reload(WHOAMI)
    wait_until(lambda: is_refused(plain, beside), "nobody listens at the place that is gone")
    plain.reload(f"{WHOAMI}\nother.test:{port} {{\n    whoami\n}}\n")
    for _ in range(40):  # no socket of before is left, which would swallow what the kernel gives it
        assert rcode(plain, "www.other.test.", UDP, beside) == "NOERROR"
        assert rcode(plain, "www.other.test.", TCP, beside) == "NOERROR"


def is_refused(server: Server, peer: Peer) -> bool:
    def connect() -> bool:
        with socket.socket() as client:
            return client.connect_ex((peer.address, peer.port)) != 0

    return server.place.run(connect)


def test_a_connection_finishes_what_it_has_asked(server: Reloaded) -> None:
    message = dns.message.make_query(HOST, "A").to_wire()
    frame = struct.pack("!H", len(message)) + message
    peer = server.peer()
    with server.place.run(lambda: socket.create_connection((peer.address, peer.port), 5.0)) as client:
        server.reload(VARIANTS[1])
        client.sendall(frame)  # accepted by a worker that has been told to end, or by one that has not
        with client.makefile("rb") as replies:
            (size,) = struct.unpack("!H", replies.read(2))
            assert len(replies.read(size)) == size


def test_an_end_during_a_reload_is_an_end(place: Place, tmp_path: Path) -> None:
    copy_cluster(tmp_path / "cluster")
    for number in range(8):
        with Reloaded(place, tmp_path, COREFILE, manifests=tmp_path / "cluster") as server:
            server.wait_answering()
            server.write(VARIANTS[2])
            time.sleep(0.02 * number)
            began = time.monotonic()
            server.send_signal(signal.SIGTERM)
            assert server.wait_ended() == 0
            assert time.monotonic() - began < 1.0
            server.wait_gone()
            assert server.stderr == ""


def test_no_descriptor_and_no_process_is_left_of_former_configurations(server: Reloaded) -> None:
    def counts() -> tuple[int, int]:
        return len(os.listdir(f"/proc/{server.pid}/fd")), len(server.processes())

    server.reload(VARIANTS[1])
    wait_until(lambda: counts()[1] == 5, lambda: f"supervisor, informer, two workers, spare: {server.processes()}")
    before = counts()
    for corefile in (VARIANTS[2], VARIANTS[3], VARIANTS[0]):
        server.reload(corefile)
        server.refuse(VARIANTS[4], "Corefile:2 - Error during parsing: Unknown directive 'nonsense'")
    server.reload(VARIANTS[1])
    wait_until(lambda: counts() == before, lambda: f"{before}, not {counts()}: {server.processes()}")


def test_kills_of_anybody_during_reloads_cost_a_batch_at_the_most(server: Reloaded) -> None:
    chosen, kills = random.Random(7), 0
    with QueryStream(server.place, server.peer(), HOST, 500) as stream:
        for number in range(16):
            server.write(VARIANTS[number % 4])
            time.sleep(chosen.uniform(0.0, 0.4))
            with suppress(ProcessLookupError, IndexError):
                os.kill(chosen.choice([found.pid for found in server.processes() if found.pid != server.pid]), 9)
                kills += 1
        server.reload(VARIANTS[0])
        before = stream.answered
        wait_until(lambda: stream.answered > before + 200, "queries are answered")
    seen = stream.statistics()
    assert seen.wrong == 0
    assert seen.lost <= kills * RECEIVE_BATCH
    assert server.stderr == ""


def test_many_requests_at_once_are_two_reloads_at_the_most(plain: Reloaded) -> None:
    for _ in range(20):
        plain.send_signal(signal.SIGUSR1)
    plain.wait_line(COMPLETE)
    plain.reload(WHOAMI)
    assert plain.count(COMPLETE) <= 4
