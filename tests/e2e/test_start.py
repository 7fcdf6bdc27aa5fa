"""Starting: what is said and done when it cannot work, and the flags that only print."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.harness.places import Place, open_place
from tests.harness.server import KDNS, ROOT, Server

COREFILE = ".:53 {\n    whoami\n}\n"
CLUSTER = ".:53 {\n    kubernetes cluster.local\n}\n"


@pytest.fixture
def place() -> Iterator[Place]:
    made = open_place()
    yield made
    made.close()


def failed_start(
    place: Place,
    directory: Path,
    corefile: str | None = COREFILE,
    manifests: Path | None = None,
    arguments: Sequence[str] = (),
    workers: int | None = 1,
) -> str:
    """What a start that fails says: on standard error, without a traceback, with exit status 1 and no process left."""
    with Server(place, directory, corefile, manifests=manifests, arguments=arguments, workers=workers) as server:
        assert server.wait_ended() == 1
        server.wait_gone(timeout_seconds=1.0)
        assert "Traceback" not in server.stderr + server.stdout
        return server.stderr


def test_corefile_that_is_missing(place: Place, tmp_path: Path) -> None:
    said = failed_start(place, tmp_path, corefile=None)
    assert said == "loading Caddyfile via flag: open Corefile: no such file or directory\n"


def test_corefile_that_is_a_folder(place: Place, tmp_path: Path) -> None:
    (tmp_path / "Corefile").mkdir()
    said = failed_start(place, tmp_path, corefile=None)
    assert said == "loading Caddyfile via flag: read Corefile: is a directory\n"


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM], ids=["udp", "tcp"])
def test_port_in_use_is_named(place: Place, tmp_path: Path, kind: socket.SocketKind) -> None:
    def occupy() -> socket.socket:
        taken = socket.socket(socket.AF_INET6, kind)
        taken.bind(("::", place.dns_port))
        if kind == socket.SOCK_STREAM:
            taken.listen()
        return taken

    with place.run(occupy):
        said = failed_start(place, tmp_path)
    network = "udp" if kind == socket.SOCK_DGRAM else "tcp"
    assert re.search(rf"listen.* {network} :{place.dns_port}: bind: address already in use", said), said


def test_manifests_that_are_missing(place: Place, tmp_path: Path) -> None:
    said = failed_start(place, tmp_path, CLUSTER, manifests=tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in said
    assert "no such file" in said
    assert len(said.splitlines()) == 1


def test_folder_without_manifests(place: Place, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    said = failed_start(place, tmp_path, CLUSTER, manifests=tmp_path / "empty")
    assert str(tmp_path / "empty") in said
    assert len(said.splitlines()) == 1


def test_broken_manifest_at_start(place: Place, tmp_path: Path) -> None:
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster" / "a.yaml").write_text("kind: Service\nmetadata: {name: [\n")
    said = failed_start(place, tmp_path, CLUSTER, manifests=tmp_path / "cluster")
    assert "a.yaml" in said
    assert len(said.splitlines()) == 1


def test_extra_argument(place: Place, tmp_path: Path) -> None:
    assert "extra command line arguments: [extra more]" in failed_start(place, tmp_path, arguments=["extra", "more"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--workers", "0"], "0"),
        (["--workers", "many"], "many"),
        (["--workers", "100000"], "100000"),
        (["-dns.port", "70000"], "70000"),
        (["-dns.port", "dns"], "dns"),
        (["-nonsense"], "-nonsense"),
    ],
)
def test_option_out_of_range(place: Place, tmp_path: Path, arguments: list[str], said: str) -> None:
    assert said in failed_start(place, tmp_path, arguments=arguments, workers=None)


def printed(*arguments: str) -> list[str]:
    ran = subprocess.run([*KDNS, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=20, check=True)
    assert ran.stderr == ""
    return ran.stdout.splitlines()


def test_version_is_two_lines() -> None:
    first, second = printed("-version")
    assert first == "CoreDNS-1.14.7"
    assert re.match(r"linux/\w+, ", second)


def test_plugins_are_listed_by_name() -> None:
    names = printed("-plugins")
    assert names == sorted(names)
    assert {"errors", "health", "kubernetes", "loadbalance", "ready", "whoami"} <= set(names)


def test_help_shows_every_flag_and_an_example() -> None:
    text = "\n".join(printed("--help"))
    for flag in ("-conf", "-dns.port", "-plugins", "-version", "--manifests", "--workers", "dig "):
        assert flag in text


def test_zones_and_version_are_printed_at_start(place: Place, tmp_path: Path) -> None:
    with Server(place, tmp_path, COREFILE) as server:
        server.wait_answering()
        assert server.stdout.splitlines()[0] == f".:{place.dns_port}"
        assert server.stdout.splitlines()[1] == "CoreDNS-1.14.7"


def test_quiet_start_prints_neither(place: Place, tmp_path: Path) -> None:
    with Server(place, tmp_path, COREFILE, arguments=["-quiet"]) as server:
        server.wait_answering()
        assert server.stdout == ""


def test_pidfile_holds_the_supervisor(place: Place, tmp_path: Path) -> None:
    with Server(place, tmp_path, COREFILE, arguments=["-pidfile", "kdns.pid"]) as server:
        server.wait_answering()
        assert (tmp_path / "kdns.pid").read_text() == f"{server.pid}\n"
