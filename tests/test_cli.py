"""The command line: flags, what a start says, and what stops it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import dns.message
import pytest

from kdns import cli, log
from kdns.plugins import SETUPS
from tests.harness.exchange import TRANSPORTS, Peer, ask
from tests.harness.places import free_port
from tests.harness.waiting import wait_until

ROOT = Path(__file__).resolve().parents[1]
COMMAND = (sys.executable, "-m", "kdns")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "KUBERNETES_SERVICE_HOST": ""}
VERSION = rf"CoreDNS-1\.14\.7\nlinux/\w+, kdns \S+, Python {re.escape(sys.version.split()[0])}, uvloop \S+\n"
# Opcode 10 at the root: answered with NOTIMP, and no plugin ever sees it.
PROBE = bytes.fromhex("1234500000010000000000000000010001")
CLUSTER = ".:{port} {{\n    errors\n    kubernetes cluster.local\n}}\n"


@pytest.fixture(autouse=True)
def restored_log() -> Iterator[None]:
    """The log of the other tests, afterwards."""
    logger = log.logger()
    before = logger.handlers[:], logger.propagate, logger.level
    yield
    logger.handlers[:], logger.propagate = before[0], before[1]
    logger.setLevel(before[2])


def run(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """(exit status, standard output, standard error) of a start that ends by itself, in this process."""
    try:
        status = cli.main(arguments)
    except SystemExit as end:
        status = int(str(end.code or 0))
    return status, *capsys.readouterr()


def run_process(arguments: Sequence[str], directory: Path, stdin: str = "") -> tuple[int, str, str]:
    """The same in a process of its own."""
    done = subprocess.run(
        [*COMMAND, *arguments], cwd=directory, env=ENVIRONMENT, input=stdin, capture_output=True, text=True, timeout=10
    )
    return done.returncode, done.stdout, done.stderr


class Running:
    """A server that has started."""

    def __init__(self, process: subprocess.Popen[bytes], directory: Path) -> None:
        self.process = process
        self._directory = directory

    @property
    def stdout(self) -> str:
        """What it has printed."""
        return (self._directory / "out").read_text()

    @property
    def stderr(self) -> str:
        """What it has complained of."""
        return (self._directory / "err").read_text()

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it; its exit status."""
        self.process.send_signal(number)
        return self.process.wait(8)


@contextmanager
def running(arguments: Sequence[str], directory: Path, port: int, stdin: str = "") -> Iterator[Running]:
    """A server with one worker that answers on `port`."""
    (directory / "in").write_text(stdin)
    with (
        (directory / "in").open("rb") as fed,
        (directory / "out").open("wb") as out,
        (directory / "err").open("wb") as err,
    ):
        argv = [*COMMAND, "--workers", "1", *arguments]
        process = subprocess.Popen(argv, cwd=directory, env=ENVIRONMENT, stdin=fed, stdout=out, stderr=err)
    try:
        started = Running(process, directory)
        for transport in TRANSPORTS:
            wait_until(
                lambda t=transport: process.poll() is not None or is_answering(port, t),
                lambda: f"answers: {started.stdout}{started.stderr}",
            )
        assert process.poll() is None, started.stderr
        yield started
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(8)


def is_answering(port: int, transport: str) -> bool:
    try:
        return ask(Peer(port=port), PROBE, transport, timeout_seconds=0.2) is not None
    except OSError:
        return False


# Flags


@pytest.mark.parametrize("word", ["-h", "--help", "-help"])
def test_help_tells_of_every_flag_and_how_to_begin(word: str, capsys: pytest.CaptureFixture[str]):
    status, out, err = run([word], capsys)
    assert (status, err) == (0, "")
    coredns = ("-conf", "-dns.port", "-p", "-pidfile", "-plugins", "-version", "-quiet")
    for flag in (*coredns, "--manifests", "--workers", "--state-dir", "--state-max-age", "--resync"):
        assert re.search(rf"(?<![\w-]){re.escape(flag)}\b", out), flag
    assert "examples:\n  kdns -conf examples/Corefile" in out
    assert "--manifests -" in out


def test_the_examples_of_the_help_parse():
    for line in cli.EXAMPLES.splitlines():
        if " kdns " in line:
            cli._parse_arguments(line.partition(" kdns ")[2].split())


@pytest.mark.parametrize("word", ["-version", "--version", "-version=true", "--version=1", "-version=T"])
def test_the_version_is_two_lines(word: str, capsys: pytest.CaptureFixture[str]):
    status, out, err = run([word], capsys)
    assert (status, err) == (0, "")
    assert re.fullmatch(VERSION, out)


def test_the_directives_are_listed_in_order(capsys: pytest.CaptureFixture[str]):
    status, out, err = run(["-plugins"], capsys)
    assert (status, err) == (0, "")
    assert out.splitlines() == sorted(SETUPS)
    assert "kubernetes" in out.splitlines()


@pytest.mark.parametrize(
    "arguments",
    [
        ["-conf", "F", "-dns.port", "5", "-quiet"],
        ["-conf=F", "-dns.port=5", "-quiet=true"],
        ["--conf", "F", "--dns.port", "5", "--quiet"],
        ["--conf=F", "-p", "5", "-quiet=false", "--quiet=TRUE"],
        ["-quiet", "-p=7", "--p=5", "-conf", "G", "-conf", "F", "--"],
    ],
)
def test_flags_in_all_the_forms_of_go(arguments: list[str]):
    options = cli._parse_arguments(arguments)
    assert (options.conf, options.port, options.quiet) == ("F", 5, True)


@pytest.mark.parametrize("arguments", [["-quiet=false"], ["-quiet=0"], ["-quiet", "-quiet=F"], []])
def test_a_switch_can_be_turned_off(arguments: list[str]):
    assert cli._parse_arguments(arguments).quiet is False


def test_kdns_own_flags_take_one_dash_too_and_any_value():
    options = cli._parse_arguments(["-manifests", "-", "-workers=3", "-pidfile", "-odd", "-conf="])
    assert (options.manifests, options.workers, options.pidfile, options.conf) == ("-", 3, "-odd", "")


def test_defaults():
    options = cli._parse_arguments([])
    assert (options.conf, options.port, options.pidfile, options.quiet) == ("", 53, "", False)
    assert (options.state_dir, options.state_max_age) == (None, 24 * 3600.0)
    assert options.resync == 300.0
    assert (options.manifests, options.workers, options.version, options.plugins) == (None, None, False, False)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["a", "b"], "extra command line arguments: [a b]"),
        (["-version", "a", "-quiet"], "extra command line arguments: [a -quiet]"),
        (["--", "-version"], "extra command line arguments: [-version]"),
        (["-"], "extra command line arguments: [-]"),
        (["-nonsense"], "flag provided but not defined: -nonsense; kdns --help lists those there are"),
        (["--nonsense=3"], "flag provided but not defined: -nonsense; kdns --help lists those there are"),
        (["-quiet=maybe"], 'invalid boolean value "maybe" for -quiet: expected true or false'),
        (["-conf"], "argument -conf: expected one argument"),
        (["-dns.port", "dns"], "argument -dns.port/-p: port 'dns', expected 1 to 65535"),
        (["-p", "0"], "argument -dns.port/-p: port '0', expected 1 to 65535"),
        (["-dns.port=65536"], "argument -dns.port/-p: port '65536', expected 1 to 65535"),
        (["-p", "\u0665"], "argument -dns.port/-p: port '\u0665', expected 1 to 65535"),
        (["--workers", "0"], "argument --workers: worker count '0', expected 1 to 256"),
        (["--workers", "many"], "argument --workers: worker count 'many', expected 1 to 256"),
        (["--workers=257"], "argument --workers: worker count '257', expected 1 to 256"),
        (["--state-max-age", "1d"], 'argument --state-max-age: time: unknown unit "d" in duration "1d"'),
        (["--state-max-age=59s"], "argument --state-max-age: age 59s, expected at least 1m0s"),
        (["--state-max-age=-2h"], "argument --state-max-age: age -2h, expected at least 1m0s"),
        (["--resync", "often"], 'argument --resync: time: invalid duration "often"'),
        (["--resync=29s"], "argument --resync: interval 29s, expected at least 30s, or 0 for never"),
        (["--resync=-1m"], "argument --resync: interval -1m, expected at least 30s, or 0 for never"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]):
    assert run(arguments, capsys) == (1, "", expected + "\n")


# The Corefile


def test_a_corefile_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    expected = "loading Caddyfile via flag: open {}: no such file or directory\n"
    assert run(["-conf", "nowhere/Corefile"], capsys) == (1, "", expected.format("nowhere/Corefile"))
    status, _, err = run(["-conf", str(tmp_path)], capsys)
    assert (status, err) == (1, f"loading Caddyfile via flag: read {tmp_path}: is a directory\n")


def test_an_error_of_the_corefile_names_the_file_as_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "odd"
    path.write_text(". {\nerrors\nkubernets\n}\n")
    expected = f"{path}:3 - Error during parsing: Unknown directive 'kubernets'\ndid you mean 'kubernetes'?\n"
    assert run(["-conf", str(path)], capsys) == (1, "", expected)


def test_a_corefile_in_the_working_directory_is_found(tmp_path: Path):
    (tmp_path / "Corefile").write_text("\n. {\nerrors a b\n}\n")
    status, _, err = run_process([], tmp_path)
    assert status == 1
    assert err.startswith("plugin/errors: Corefile:3 - ")


def test_a_corefile_from_standard_input(tmp_path: Path):
    status, _, err = run_process(["-conf", "stdin"], tmp_path, ". {\nnonsense\n}\n")
    assert (status, err) == (1, "stdin:2 - Error during parsing: Unknown directive 'nonsense'\n")


@pytest.mark.parametrize("corefile", ["", "# nothing but a comment\n"])
def test_an_empty_corefile_tells_clients_who_they_are(corefile: str, tmp_path: Path):
    port = free_port()
    with running(["-conf", "stdin", "-p", str(port)], tmp_path, port, corefile) as server:
        query = dns.message.make_query("some.name.test", "A").to_wire()
        reply = dns.message.from_wire(ask(Peer(port=port), query, "udp"))
        assert reply.additional[0].to_text() == "some.name.test. 0 IN A 127.0.0.1"
        assert server.end() == 0


# Starting


def test_a_start_tells_zones_and_version_and_writes_the_pid(tmp_path: Path):
    port, other = free_port(), free_port()
    (tmp_path / "Corefile").write_text(f"b.test a.test {{\n    errors\n}}\nc.test:{other} {{\n}}\n")
    with running(["-dns.port", str(port), "-pidfile", "pid"], tmp_path, port) as server:
        assert (tmp_path / "pid").read_text() == f"{server.process.pid}\n"
        assert is_answering(other, "udp")
        zones = f"a.test.:{port}\nb.test.:{port}\nc.test.:{other}\n"
        assert re.fullmatch(re.escape(zones) + VERSION, server.stdout)
        assert server.end() == 0
        assert "[INFO] SIGTERM: Shutting down servers then terminating\n" in server.stdout
        assert server.stderr == ""
    assert not (tmp_path / "pid").exists()


def test_a_quiet_start_tells_nothing_and_goes_on_without_a_pidfile(tmp_path: Path):
    port = free_port()
    (tmp_path / "Corefile").write_text(". {\n    errors\n}\n")
    with running(["-quiet", "-p", str(port), "-pidfile", "no/pid"], tmp_path, port) as server:
        assert server.stdout == "[ERROR] Could not write pidfile: open no/pid: no such file or directory\n"


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (socket.SOCK_STREAM, "Listen: listen tcp :{}: bind: address already in use\n"),
        (socket.SOCK_DGRAM, "ListenPacket: listen udp :{}: bind: address already in use\n"),
    ],
)
def test_a_port_in_use_ends_the_start(kind: socket.SocketKind, said: str, tmp_path: Path):
    with socket.socket(socket.AF_INET, kind) as occupant:
        port = free_port()
        occupant.bind(("127.0.0.1", port))  # without SO_REUSEPORT, which kdns sets
        if kind == socket.SOCK_STREAM:
            occupant.listen()
        (tmp_path / "Corefile").write_text(f".:{port} {{\n    errors\n}}\n")
        assert run_process([], tmp_path) == (1, "", said.format(port))


def test_an_address_that_health_cannot_have_ends_the_start(tmp_path: Path):
    with socket.socket() as occupant:
        occupant.bind(("127.0.0.1", 0))
        occupant.listen()
        port = occupant.getsockname()[1]
        (tmp_path / "Corefile").write_text(f".:{free_port()} {{\n    health 127.0.0.1:{port}\n    errors\n}}\n")
        expected = f"listen tcp 127.0.0.1:{port}: bind: address already in use\n"
        assert run_process([], tmp_path) == (1, "", expected)


# Manifests


@pytest.mark.parametrize(
    ("files", "given", "expected"),
    [
        ({}, "nowhere", "nowhere: no such file or folder; give --manifests a file, a folder or - for standard input\n"),
        ({"m/notes": ""}, "m", "m: met no manifest, expected at least one file *.yaml, *.yml, *.json in this folder\n"),
        ({"m/a.yaml": "kind: [", "m/b.json": "{"}, "m", r"m/a\.yaml: document 1, line \d+, column \d+: not YAML: .*\n"),
        ({"one.yaml": "a: b: c"}, "one.yaml", r"one\.yaml: document 1, line 1, column 5: not YAML: .*\n"),
    ],
)
def test_manifests_that_cannot_be_read_end_the_start(files: dict[str, str], given: str, expected: str, tmp_path: Path):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "Corefile").write_text(CLUSTER.format(port=free_port()))
    status, _, err = run_process(["--manifests", given, "--workers", "1"], tmp_path)
    assert status == 1
    assert err == expected or re.fullmatch(expected, err), err


def test_manifests_from_standard_input_are_served(tmp_path: Path):
    port = free_port()
    (tmp_path / "Corefile").write_text(CLUSTER.format(port=port))
    namespace = '{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}'
    with running(["--manifests", "-"], tmp_path, port, namespace) as server:
        query = dns.message.make_query("shop.svc.cluster.local", "A").to_wire()
        wait_until(
            lambda: dns.message.from_wire(ask(Peer(port=port), query, "udp")).rcode() == 0,
            lambda: f"the namespace is known: {server.stdout}",
        )
        assert "[ERROR]" not in server.stdout  # the informer stays, although nothing changes any more
        assert server.end(signal.SIGINT) == 0
