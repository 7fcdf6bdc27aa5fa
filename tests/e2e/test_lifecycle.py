"""The life of a server: its processes, their deaths, its end, and a cluster that changes under it."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dns.message
import dns.rcode
import pytest

from tests.e2e.conftest import COREFILE, copy_cluster
from tests.harness.exchange import TCP, UDP, ask
from tests.harness.places import Place, open_place
from tests.harness.query_stream import QueryStream, StreamStatistics
from tests.harness.server import Server
from tests.harness.waiting import wait_until

HOST = "kubernetes.default.svc.cluster.local."
WORKERS = 2
RECEIVE_BATCH = 64  # datagrams a worker takes from its socket at once: what its death may cost
RESTART_SECONDS = 0.5  # within which a process is replaced
TITLES = ["kdns: informer", "kdns: supervisor", "kdns: worker 0", "kdns: worker 1"]
SPARE = "kdns: spare"
OBSERVED_SECONDS = 3.0  # within which a change of the folder must be seen


@pytest.fixture
def place() -> Iterator[Place]:
    made = open_place()
    yield made
    made.close()


@contextmanager
def serving(place: Place, directory: Path, corefile: str = COREFILE) -> Iterator[Server]:
    """A server of its own over a copy of the example cluster, which answers from it."""
    copy_cluster(directory / "cluster")
    with Server(place, directory, corefile, manifests=directory / "cluster", workers=WORKERS) as server:
        server.wait_answering()
        server.wait_synced()
        yield server


@pytest.fixture
def server(place: Place, tmp_path: Path) -> Iterator[Server]:
    with serving(place, tmp_path) as made:
        yield made


def addresses(server: Server, qname: str, transport: str = UDP) -> set[str] | str:
    """The addresses of a name, or the rcode if it is not NOERROR."""
    wire = server.place.run(lambda: ask(server.peer(), dns.message.make_query(qname, "A").to_wire(), transport))
    assert wire is not None
    reply = dns.message.from_wire(wire)
    if reply.rcode() != dns.rcode.NOERROR:
        return dns.rcode.to_text(reply.rcode())
    return {rdata.address for rrset in reply.answer for rdata in rrset if hasattr(rdata, "address")}


def pid_of(server: Server, title: str) -> int | None:
    return next((process.pid for process in server.processes() if process.title == title), None)


def wait_titles(server: Server) -> None:
    """Wait for every process; one that stands ready to take another's place may be there or not."""
    wait_until(
        lambda: sorted(process.title for process in server.processes() if process.title != SPARE) == TITLES,
        lambda: f"processes {TITLES}; there are {server.processes()}",
    )


def kill_and_wait_replaced(server: Server, title: str) -> float:
    """Kill a process; the seconds until another has its title."""
    old = pid_of(server, title)
    assert old is not None
    started = time.monotonic()
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: pid_of(server, title) not in (old, None), f"{title} is back")
    return time.monotonic() - started


def kill_under_load(server: Server, title: str, times: int = 3) -> tuple[StreamStatistics, float]:
    """Kill a process again and again under a stream of queries; what the stream saw, and the slowest replacement."""
    slowest = 0.0
    with QueryStream(server.place, server.peer(), HOST) as stream:
        for _ in range(times):
            before = stream.answered
            wait_until(lambda b=before: stream.answered > b + 200, "queries are answered")  # type: ignore[misc]
            slowest = max(slowest, kill_and_wait_replaced(server, title))
        before = stream.answered
        wait_until(lambda: stream.answered > before + 200, "queries are answered")
    return stream.statistics(), slowest


def test_titles_say_who_is_who(server: Server) -> None:
    wait_titles(server)


@pytest.mark.parametrize("title", ["kdns: worker 0", "kdns: worker 1"])
def test_killed_worker_costs_one_batch_at_most(server: Server, title: str) -> None:
    wait_titles(server)
    seen, slowest = kill_under_load(server, title)
    assert seen.wrong == 0
    assert seen.lost <= 3 * RECEIVE_BATCH
    assert seen.longest_gap_seconds < RESTART_SECONDS
    assert slowest < RESTART_SECONDS


def test_killed_informer_costs_nothing(server: Server) -> None:
    wait_titles(server)
    seen, slowest = kill_under_load(server, "kdns: informer")
    assert (seen.wrong, seen.lost) == (0, 0)
    assert slowest < RESTART_SECONDS


def test_changes_are_seen_after_the_informer_was_killed(server: Server, tmp_path: Path) -> None:
    kill_and_wait_replaced(server, "kdns: informer")
    write_service(tmp_path / "cluster" / "new.yaml", "10.96.99.1")
    wait_until(lambda: addresses(server, "new.shop.svc.cluster.local.") == {"10.96.99.1"}, "the change is seen")


def test_killed_worker_is_named_in_the_log(server: Server) -> None:
    pid = pid_of(server, "kdns: worker 0")
    kill_and_wait_replaced(server, "kdns: worker 0")
    wait_until(lambda: any("worker 0" in line and str(pid) in line for line in server.stdout.splitlines()), "a line")


def test_tcp_goes_on_after_a_worker_was_killed(server: Server) -> None:
    for title in ("kdns: worker 0", "kdns: worker 1"):
        kill_and_wait_replaced(server, title)
        assert addresses(server, HOST, TCP) == {"10.96.0.1"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_the_server_with_0_and_leaves_no_process(server: Server, number: signal.Signals) -> None:
    server.send_signal(number)
    assert server.wait_ended() == 0
    server.wait_gone(timeout_seconds=1.0)
    assert f"[INFO] {number.name}: Shutting down servers then terminating" in server.stdout.splitlines()


def test_sigterm_loses_no_query_that_was_answered_before(server: Server) -> None:
    with QueryStream(server.place, server.peer(), HOST) as stream:
        wait_until(lambda: stream.answered > 200, "queries are answered")
        server.send_signal(signal.SIGTERM)
        assert server.wait_ended() == 0
    assert stream.statistics().wrong == 0


def test_no_process_outlives_the_supervisor(server: Server) -> None:
    wait_titles(server)
    server.send_signal(signal.SIGKILL)
    server.wait_gone(timeout_seconds=2.0)


def test_port_is_free_again_after_the_end(server: Server, place: Place, tmp_path: Path) -> None:
    server.send_signal(signal.SIGKILL)
    server.wait_gone()
    with serving(place, tmp_path / "second") as second:
        assert addresses(second, HOST) == {"10.96.0.1"}


def write_service(path: Path, address: str, name: str = "new") -> None:
    """A manifest, put in place at once."""
    item = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"clusterIP": address, "ports": [{"port": 80}]},
    }
    draft = path.parent.with_name("draft.json")
    draft.write_text(json.dumps(item))
    os.replace(draft, path)


def wait_answer(server: Server, qname: str, expected: set[str] | str) -> None:
    wait_until(lambda: addresses(server, qname) == expected, f"{qname} is {expected}", OBSERVED_SECONDS)


def test_file_added_edited_and_deleted_is_seen(server: Server, tmp_path: Path) -> None:
    path, qname = tmp_path / "cluster" / "new.yaml", "new.shop.svc.cluster.local."
    assert addresses(server, qname) == "NXDOMAIN"
    write_service(path, "10.96.99.1")
    wait_answer(server, qname, {"10.96.99.1"})
    write_service(path, "10.96.99.2")
    wait_answer(server, qname, {"10.96.99.2"})
    path.unlink()
    wait_answer(server, qname, "NXDOMAIN")


def test_file_written_in_place_is_seen(server: Server, tmp_path: Path) -> None:
    path, qname = tmp_path / "cluster" / "new.yaml", "new.shop.svc.cluster.local."
    write_service(path, "10.96.99.1")
    wait_answer(server, qname, {"10.96.99.1"})
    path.write_text(path.read_text().replace("10.96.99.1", "10.96.99.3"))
    wait_answer(server, qname, {"10.96.99.3"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("apiVersion: v1\nkind: Service\nmetadata: {name: new\n", "line"),
        ("apiVersion: v1\nkind: Service\nmetadata: {namespace: shop}\nspec: {clusterIP: 10.96.99.9}\n", "name"),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: new, namespace: shop}\n"
            "spec: {clusterIP: 10.96.99.9, ports: seven}\n",
            "ports",
        ),
    ],
    ids=["no-yaml", "no-name", "wrong-type"],
)
def test_broken_file_is_named_and_what_it_held_goes_on(server: Server, tmp_path: Path, text: str, said: str) -> None:
    path, qname = tmp_path / "cluster" / "new.yaml", "new.shop.svc.cluster.local."
    write_service(path, "10.96.99.1")
    wait_answer(server, qname, {"10.96.99.1"})
    path.write_text(text)
    wait_until(
        lambda: any("new.yaml" in line and said in line for line in server.stdout.splitlines()),
        lambda: f"a line about new.yaml and {said}\n{server.said()}",
        OBSERVED_SECONDS,
    )
    assert addresses(server, qname) == {"10.96.99.1"}
    assert addresses(server, HOST) == {"10.96.0.1"}
    write_service(path, "10.96.99.4")
    wait_answer(server, qname, {"10.96.99.4"})


def test_emptied_folder_keeps_what_was_served(server: Server, tmp_path: Path) -> None:
    for path in (tmp_path / "cluster").iterdir():
        path.unlink()
    wait_until(lambda: str(Path("cluster")) in server.stdout.split("CoreDNS-", 1)[1], "the folder is named in the log")
    assert addresses(server, HOST) == {"10.96.0.1"}


def test_unsynced_server_says_so(place: Place, tmp_path: Path) -> None:
    """Objects that never come: SERVFAIL for names of the cluster, not ready, but healthy."""
    os.mkfifo(tmp_path / "never.yaml")
    corefile = f"{COREFILE.rstrip()[:-1]}    health 127.0.0.1:8080\n    ready 127.0.0.1:8181\n}}\n"
    with Server(place, tmp_path, corefile, manifests=tmp_path / "never.yaml") as server:
        server.wait_answering()
        assert addresses(server, HOST) == "SERVFAIL"
        assert http_status(place, "http://127.0.0.1:8080/health") == 200
        assert http_status(place, "http://127.0.0.1:8181/ready") == 503
        server.send_signal(signal.SIGKILL)  # the informer waits for a file that never comes


def http_status(place: Place, url: str) -> int:
    def get() -> int:
        try:
            with urllib.request.urlopen(url, timeout=2) as reply:  # our own server, on loopback
                return int(reply.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    return place.run(get)
