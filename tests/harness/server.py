"""Starting, watching and ending a kdns server, or another one with CoreDNS's flags."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import dns.message
import dns.rcode

from tests.harness.exchange import TRANSPORTS, Peer, ask
from tests.harness.places import Place, with_files
from tests.harness.processes import Process, kill_all, processes_of, wait_gone
from tests.harness.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
KDNS = (sys.executable, "-m", "kdns")
WORKERS = 2
START_SECONDS = 10.0
STOP_SECONDS = 8.0
_KEPT_ENVIRONMENT = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV")
# Opcode 10 at the name "up": any server says NOTIMP, and no plugin ever sees it.
_PROBE = bytes.fromhex("123450000001000000000000") + b"\x02up\0\0\x01\0\x01"


class Server:
    """One server process and its children, in a place, with a working directory of its own.

    Leaving the context ends all of them, whatever state they are in.
    """

    def __init__(
        self,
        place: Place,
        directory: Path,
        corefile: str | None,
        *,
        manifests: Path | str | None = None,
        workers: int | None = WORKERS,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        files: Mapping[str, Path] | None = None,
        command: Sequence[str] = KDNS,
    ) -> None:
        """`corefile` None leaves the file out; `files` are seen in place of files of the machine."""
        directory.mkdir(parents=True, exist_ok=True)
        self.place = place
        self.directory = directory
        self._out = directory / "stdout.log"
        self._err = directory / "stderr.log"
        if corefile is not None:
            (directory / "Corefile").write_text(place.with_own_ports(corefile), newline="")
        argv = [*command, "-conf", "Corefile", "-dns.port", str(place.dns_port)]
        if manifests is not None:
            argv += ["--manifests", str(manifests)]
        if workers is not None:
            argv += ["--workers", str(workers)]
        argv += arguments
        if files:
            argv = with_files(argv, files)
        self._process = place.run(lambda: self._spawn(argv, environment or {}))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The supervisor."""
        return self._process.pid

    @property
    def stdout(self) -> str:
        """Everything logged so far."""
        return self._out.read_text(errors="replace")

    @property
    def stderr(self) -> str:
        """Everything said on standard error so far."""
        return self._err.read_text(errors="replace")

    @property
    def returncode(self) -> int | None:
        """How the supervisor ended; None while it runs."""
        return self._process.poll()

    def peer(self, address: str = "127.0.0.1", source: str | None = None) -> Peer:
        """Where to ask this server."""
        return Peer(address, self.place.dns_port, source)

    def processes(self) -> list[Process]:
        """The supervisor and every process it started that lives."""
        return processes_of(self.pid, self.place.namespace)

    def wait_answering(self, address: str = "127.0.0.1", port: int | None = None) -> None:
        """Wait until a query gets a reply, over UDP and over TCP."""
        peer = Peer(address, port or self.place.dns_port)
        wait_until(
            lambda: all(self.is_answering(peer, transport) for transport in TRANSPORTS),
            lambda: f"{peer.address}:{peer.port} answers\n{self.said()}",
            START_SECONDS,
        )

    def wait_synced(self, zone: str = "cluster.local.") -> None:
        """Wait until the server knows the cluster: a name of it is no longer SERVFAIL."""
        query = dns.message.make_query(f"synced.{zone}", "A", flags=0).to_wire()

        def has_synced() -> bool:
            reply = self.place.run(lambda: ask(self.peer(), query))
            return reply is not None and dns.message.from_wire(reply).rcode() == dns.rcode.NXDOMAIN

        wait_until(has_synced, lambda: f"the cluster is known\n{self.said()}", START_SECONDS)

    def is_answering(self, peer: Peer, transport: str) -> bool:
        """Whether a query gets a reply; fails at once if the server has ended."""
        if self.returncode is not None:
            raise AssertionError(f"the server ended with {self.returncode} instead of answering\n{self.said()}")
        try:
            return self.place.run(lambda: ask(peer, _PROBE, transport, timeout_seconds=0.2)) is not None
        except OSError:  # nobody listens, or the address is not there yet
            return False

    def wait_ended(self, timeout_seconds: float = STOP_SECONDS) -> int:
        """Wait for the supervisor to end; its exit code."""
        try:
            return self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout_seconds:g} s\n{self.said()}") from None

    def wait_gone(self, timeout_seconds: float = 5.0) -> None:
        """Wait until no process of the server is left."""
        wait_gone(self.pid, self.place.namespace, timeout_seconds)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the supervisor."""
        self._process.send_signal(number)

    def stop(self) -> None:
        """End everything, politely first; nothing of it is left afterwards."""
        if self._process.poll() is None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        kill_all(self.pid, self.place.namespace)
        self.wait_gone()

    def said(self) -> str:
        """The end of both outputs, for a failure's text."""
        return f"stdout: {self.stdout[-2000:]}\nstderr: {self.stderr[-2000:]}"

    def _spawn(self, argv: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        base = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
        with self._out.open("wb") as out, self._err.open("wb") as err:
            return subprocess.Popen(
                argv,
                cwd=self.directory,
                env={**base, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **environment},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
