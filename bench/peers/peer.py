"""The servers that are measured: how each is configured for its cores, started, and found ready.

Each gets the same names, the tuning its own documentation recommends for so many cores, a port of its own on 127.0.0.1,
and the same cores, which everything it starts inherits. Rate limiting is off.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchError, PeerError
from bench.processes import ProcessStat, free_port, pin_tree, process_title, process_tree, spawn, stop

ADDRESS = "127.0.0.1"
START_SECONDS = 60.0  # for a server to answer from the whole cluster
POLL_SECONDS = 0.05  # between two looks at a server that starts
LOG_LINES = 5  # of a server that failed, shown with the error


@dataclass(frozen=True, slots=True)
class ClusterFiles:
    """The generated cluster on disk, in the forms that servers read, and where the outside world is asked."""

    manifests: Path
    zones: dict[str, Path]
    hosts: Path | None = None  # addresses and names, as /etc/hosts writes them
    upstream_port: int | None = None  # on ADDRESS; None: nobody forwards anything
    api_port: int | None = None  # on ADDRESS, of an API server to follow; None: none is there yet


@dataclass(frozen=True, slots=True)
class Start:
    """What it took a server to come up: until its first right answers, of the whole cluster."""

    wall_seconds: float
    cpu_seconds: float


class Peer(ABC):
    """A server under measurement; `port` is where it answers once started."""

    name: str
    address = ADDRESS
    program: str
    package: str  # how to get the program where it is missing
    forwards = False  # it can ask an upstream server, and keep what that answers
    reads = "zones"  # of ClusterFiles, what it gets the cluster from
    workers = 1  # cores that it is configured for
    uses_workers = True  # it can use more than one
    start_seconds = START_SECONDS
    started: Start | None = None
    binary: str | None = None  # the program's path, where it is not to be searched for

    def __init__(self, folder: Path, files: ClusterFiles) -> None:
        self.folder = folder.resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.files = files
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def find(cls) -> str:
        """The path of the program; raises PeerError that names the package where it is missing."""
        if cls.binary is not None:
            if not os.access(cls.binary, os.X_OK):
                raise PeerError(f"{cls.name}: {cls.binary} cannot be executed (see --binary)")
            return cls.binary
        search = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
        path = shutil.which(cls.program, path=search)
        if path is None:
            raise PeerError(f"{cls.name}: {cls.program} is not installed; {cls.package}")
        return path

    @classmethod
    def is_installed(cls) -> bool:
        """Whether the program is there."""
        try:
            cls.find()
        except BenchError:
            return False
        return True

    @classmethod
    @abstractmethod
    def version(cls) -> str:
        """The program's version, as it prints it."""

    @abstractmethod
    def command(self) -> list[str]:
        """Write the configuration; returns the command that serves it."""

    def start(self, cores: Collection[int], check: Callable[[int], None]) -> None:
        """Start the server on `cores` and wait until `check` of its port raises no PeerError; raises the last one."""
        began = time.monotonic()
        self._process = spawn(self.command(), cores, self.folder / "log")
        deadline = began + self.start_seconds
        while True:
            self.check_running()
            try:
                check(self.port)
            except PeerError as error:
                if time.monotonic() > deadline:
                    waited = f"{self.name}: no right answer within {self.start_seconds:.0f} s"
                    raise PeerError(f"{waited}: {error}{self._last_words()}") from error
                time.sleep(POLL_SECONDS)
            else:
                self.started = Start(time.monotonic() - began, sum(stat.total for stat in self.tree().values()))
                return

    def pin(self, cores: Collection[int]) -> None:
        """Bind every thread of the server to `cores`."""
        pin_tree(self.pid, cores)

    def tree(self) -> dict[int, ProcessStat]:
        """Its processes now, with the CPU time each has used."""
        return process_tree(self.pid)

    def is_running(self) -> bool:
        """Whether the server's first process lives."""
        return self._process is not None and self._process.poll() is None

    def check_running(self) -> None:
        """Raise PeerError, with the end of its log, unless the server runs."""
        if not self.is_running():
            status = self._process.returncode if self._process else "not started"
            raise PeerError(f"{self.name}: the server ended (status {status}){self._last_words()}")

    def processes(self) -> dict[int, str]:
        """The processes of the server now, with their titles."""
        return {pid: process_title(pid) for pid in process_tree(self.pid)}

    @property
    def pid(self) -> int:
        """The server's first process."""
        assert self._process is not None, "the server was started"
        return self._process.pid

    def stop(self) -> None:
        """End the server and everything it started."""
        if self._process is not None:
            stop(self._process)
            self._process = None

    def _last_words(self) -> str:
        try:
            lines = (self.folder / "log").read_text(errors="replace").splitlines()[-LOG_LINES:]
        except FileNotFoundError:
            return ""
        return "".join(f"\n    {line}" for line in lines)

    def _write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path


def first_line(command: list[str], statuses: tuple[int, ...] = (0,)) -> str:
    """What `command` prints first; raises BenchError if it ends with a status other than `statuses`."""
    result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    lines = [line for line in (result.stdout + result.stderr).splitlines() if line.strip()]
    if result.returncode not in statuses or not lines:
        raise BenchError(f"{' '.join(command)}: status {result.returncode}: {lines[-1] if lines else 'no output'}")
    return lines[0].strip()
