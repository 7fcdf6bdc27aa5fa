"""A server under measurement that follows a real control plane: its start, its CPU time and its memory."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import dns.message

from bench.memory import Memory, read_tree_memory
from bench.processes import process_title, process_tree
from bench.records import Question
from tests.controlplane.cluster import ADMIN, ControlPlane
from tests.harness.places import Loopback
from tests.harness.server import KDNS, Server
from tests.live_controlplane.mounting import Mount, in_a_pod

KNOWN_SECONDS = 120.0  # from a start to the whole cluster
LOOK_SECONDS = 0.01  # between two questions to a server that starts: answering them costs CPU time too
WARM_LOOK_SECONDS = 0.0005  # where it is about milliseconds
COREFILE = ".:53 {\n errors\n kubernetes cluster.local in-addr.arpa\n}\n"


@dataclass(frozen=True, slots=True)
class Start:
    """What it took until the questions were answered: the first of them, and all."""

    first_seconds: float
    seconds: float
    cpu_seconds: float


class Measured:
    """A kdns with so many workers, or a CoreDNS, by its path."""

    def __init__(
        self,
        plane: ControlPlane,
        folder: Path,
        coredns: str = "",
        workers: int = 1,
        arguments: Sequence[str] = (),
    ) -> None:
        self.name = "CoreDNS" if coredns else "kdns"
        folder.mkdir(parents=True, exist_ok=True)
        # As in a Pod, but with the administrator's token: the role of `deploy/` is another test's matter.
        mount = Mount(folder / "mount", plane.ca_file)
        mount.write(plane.tokens[ADMIN])
        self._environment = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(plane.port)}
        self._folder = folder
        self._command = in_a_pod(mount.path, (coredns,) if coredns else KDNS)
        self._workers = None if coredns else workers
        self._arguments = arguments

    def __enter__(self) -> Self:
        self._place = Loopback()
        self._began = time.monotonic()
        self._server = Server(
            self._place,
            self._folder,
            COREFILE,
            workers=self._workers,
            arguments=self._arguments,
            environment=self._environment,
            command=self._command,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop()

    @property
    def port(self) -> int:
        """Where it answers."""
        return self._place.dns_port

    @property
    def stdout(self) -> str:
        """What it has logged."""
        return self._server.stdout

    @property
    def cpu_seconds(self) -> float:
        """CPU time of all its processes that live."""
        return sum(stat.cpu.total for stat in process_tree(self._server.pid).values())

    def cpu_by_title(self) -> dict[str, float]:
        """The same, by what `ps` shows."""
        return {process_title(pid): stat.cpu.total for pid, stat in process_tree(self._server.pid).items()}

    def memory(self) -> Memory:
        """The memory of all its processes, pages they share counted once."""
        return read_tree_memory({pid: process_title(pid) for pid in process_tree(self._server.pid)})

    def wait_known(self, questions: Sequence[Question], look_seconds: float = LOOK_SECONDS) -> Start:
        """Wait until each of the questions has an answer."""
        first = 0.0
        for question in questions:
            self._wait_answer(dns.message.make_query(question.name, question.type).to_wire(), look_seconds)
            first = first or time.monotonic() - self._began
        return Start(first, time.monotonic() - self._began, self.cpu_seconds)

    def _wait_answer(self, query: bytes, look_seconds: float) -> None:
        """Ask until there is an answer section; refused at first, for nobody listens."""
        while time.monotonic() - self._began < KNOWN_SECONDS and self._server.returncode is None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened, suppress(OSError):
                opened.settimeout(0.2)
                opened.connect(("127.0.0.1", self.port))
                opened.send(query)
                reply = opened.recv(65_535)
                if not reply[3] & 15 and reply[6:8] != b"\0\0":
                    return
            time.sleep(look_seconds)
        raise AssertionError(f"{self.name} did not know the cluster within {KNOWN_SECONDS:g} s\n{self._server.said()}")
