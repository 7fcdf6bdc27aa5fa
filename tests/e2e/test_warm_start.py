"""A restart with `--state-dir`: the new process answers at once, from what the former one knew."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import dns.message
import dns.rcode
import pytest

from tests.e2e.conftest import COREFILE, copy_cluster
from tests.e2e.test_lifecycle import http_status, wait_answer, write_service
from tests.fakes.apiserver import FakeApiServer
from tests.harness.exchange import ask
from tests.harness.places import Loopback, Place, open_place
from tests.harness.server import START_SECONDS, Server
from tests.harness.waiting import wait_until

HOST = "kubernetes.default.svc.cluster.local."
ADDRESS = "10.96.0.1"
NEW, WEB = "new.shop.svc.cluster.local.", "web.shop.svc.cluster.local."
RECOVERY_SECONDS = 20.0  # within which an API server that is back is listed
WITH_READY = COREFILE.replace("    errors\n", "    errors\n    ready 127.0.0.1:8181\n")


@pytest.fixture
def place() -> Iterator[Place]:
    made = open_place()
    yield made
    made.close()


def first_reply(server: Server, qname: str) -> dns.message.Message:
    """The first reply there is."""
    query = dns.message.make_query(qname, "A").to_wire()

    def reply() -> bytes | None:
        assert server.returncode is None, server.said()
        with suppress(OSError):
            return server.place.run(lambda: ask(server.peer(), query, timeout_seconds=0.1))
        return None

    wire = wait_until(reply, lambda: f"a reply\n{server.said()}", START_SECONDS)
    assert wire is not None
    return dns.message.from_wire(wire)


def addresses(reply: dns.message.Message) -> list[str]:
    return [rdata.to_text() for rrset in reply.answer for rdata in rrset]


def run_once(place: Place, directory: Path, state: Path, corefile: str = COREFILE) -> None:
    """A server that has read the cluster, saved its table, and ended as it should."""
    arguments = ["--state-dir", str(state)]
    with Server(place, directory, corefile, manifests=directory / "cluster", arguments=arguments) as server:
        server.wait_answering()
        server.wait_synced()
        image = state / "table.image"
        wait_until(image.exists, lambda: f"{image}\n{server.said()}")
        server.send_signal(signal.SIGTERM)
        assert server.wait_ended() == 0
        assert server.stderr == ""


@pytest.fixture
def state(tmp_path: Path) -> Path:
    copy_cluster(tmp_path / "cluster")
    folder = tmp_path / "state"
    folder.mkdir()
    return folder


def test_a_restart_answers_at_once_without_its_source(place: Place, tmp_path: Path, state: Path) -> None:
    run_once(place, tmp_path, state)
    shutil.move(tmp_path / "cluster", tmp_path / "away")
    arguments = ["--state-dir", str(state)]
    with Server(place, tmp_path, COREFILE, manifests=tmp_path / "cluster", arguments=arguments) as server:
        first = first_reply(server, HOST)
        assert (first.rcode(), addresses(first)) == (dns.rcode.NOERROR, [ADDRESS]), server.said()
        assert len(addresses(first_reply(server, "many.shop.svc.cluster.local."))) > 1
        assert first_reply(server, "no.shop.svc.cluster.local.").rcode() == dns.rcode.NXDOMAIN
        assert f"[INFO] serving from {state}/table.image, " in server.stdout
        trouble = f"{tmp_path}/cluster: no such file or folder"
        wait_until(lambda: trouble in server.stdout, lambda: f"{trouble}\n{server.said()}")
        assert server.returncode is None
        # The source is back: what it says now goes on being followed.
        shutil.move(tmp_path / "away", tmp_path / "cluster")
        write_service(tmp_path / "cluster" / "new.json", "10.96.99.1")
        wait_answer(server, NEW, {"10.96.99.1"})


def service(name: str, address: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "shop"}
    return {"kind": "Service", "metadata": metadata, "spec": {"clusterIP": address, "ports": [{"port": 80}]}}


def test_a_restart_answers_at_once_while_the_api_server_is_down(tmp_path: Path) -> None:
    state, place = tmp_path / "state", Loopback()
    state.mkdir()
    arguments = ["--state-dir", str(state)]
    with FakeApiServer() as api:
        api.put({"kind": "Namespace", "metadata": {"name": "shop"}}, service("web", "10.96.0.7"))
        corefile = f".:53 {{\n    kubernetes cluster.local {{\n        endpoint {api.url}\n    }}\n}}\n"
        with Server(place, tmp_path, corefile, arguments=arguments) as server:
            server.wait_answering()
            wait_answer(server, WEB, {"10.96.0.7"})
            wait_until((state / "table.image").exists, server.said)
        api.stop()
        with Server(place, tmp_path, corefile, arguments=arguments) as server:
            assert addresses(first_reply(server, WEB)) == ["10.96.0.7"], server.said()
            assert f"[INFO] serving from {state}/table.image, " in server.stdout
            api.put(service("new", "10.96.99.1"))
            api.start()
            wait_until(lambda: addresses(first_reply(server, NEW)) == ["10.96.99.1"], server.said, RECOVERY_SECONDS)
            assert addresses(first_reply(server, WEB)) == ["10.96.0.7"]


def test_what_changed_just_before_the_end_is_known_at_once(place: Place, tmp_path: Path, state: Path) -> None:
    arguments = ["--state-dir", str(state)]
    with Server(place, tmp_path, COREFILE, manifests=tmp_path / "cluster", arguments=arguments) as server:
        server.wait_synced()
        wait_until((state / "table.image").exists, server.said)
        write_service(tmp_path / "cluster" / "new.json", "10.96.99.1")
        wait_answer(server, NEW, {"10.96.99.1"})
        server.send_signal(signal.SIGTERM)
        assert server.wait_ended() == 0
    shutil.move(tmp_path / "cluster", tmp_path / "away")
    with Server(place, tmp_path, COREFILE, manifests=tmp_path / "cluster", arguments=arguments) as server:
        assert addresses(first_reply(server, NEW)) == ["10.96.99.1"]


def test_a_restart_is_ready_at_once(place: Place, tmp_path: Path, state: Path) -> None:
    run_once(place, tmp_path, state, WITH_READY)
    shutil.move(tmp_path / "cluster", tmp_path / "away")
    arguments = ["--state-dir", str(state)]
    with Server(place, tmp_path, WITH_READY, manifests=tmp_path / "cluster", arguments=arguments) as server:
        server.wait_answering()
        assert "serving from" in server.stdout
        assert http_status(place, "http://127.0.0.1:8181/ready") == 200


def test_a_damaged_image_is_refused_and_a_new_one_made(place: Place, tmp_path: Path, state: Path) -> None:
    run_once(place, tmp_path, state)
    image = state / "table.image"
    octets = bytearray(image.read_bytes())
    octets[len(octets) // 2] ^= 1
    image.write_bytes(octets)
    run_once(place, tmp_path, state)
    said = (tmp_path / "stdout.log").read_text()
    assert f"[WARNING] {image} is not used: damaged: the table does not match its checksum\n" in said
    wait_until(lambda: image.read_bytes() != octets, "a new image")
    run_once(place, tmp_path, state)
    assert f"[INFO] serving from {image}, " in (tmp_path / "stdout.log").read_text()


def test_a_folder_that_is_not_there_ends_the_start(place: Place, tmp_path: Path, state: Path) -> None:
    arguments = ["--state-dir", str(state / "nowhere")]
    with Server(place, tmp_path, COREFILE, manifests=tmp_path / "cluster", arguments=arguments) as server:
        assert server.wait_ended() == 1
        assert server.stderr == f"--state-dir {state}/nowhere: no such folder\n"
