"""The servers that are measured: how each is configured for one core, started, and found ready.

Each gets the same names, the tuning its own documentation recommends for one core, a port of its own on 127.0.0.1, and
one core, which everything it starts inherits. Rate limiting is off. A new peer is a subclass in PEERS.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchError, PeerError
from bench.processes import free_port, process_title, process_tree, spawn, stop

ADDRESS = "127.0.0.1"
START_SECONDS = 60.0  # for a server to answer from the whole cluster
POLL_SECONDS = 0.05  # between two looks at a server that starts
LOG_LINES = 5  # of a server that failed, shown with the error


@dataclass(frozen=True, slots=True)
class ClusterFiles:
    """The generated cluster on disk, in the forms that servers read."""

    manifests: Path
    zones: dict[str, Path]


class Peer(ABC):
    """A server under measurement; `port` is where it answers once started."""

    name: str
    program: str
    package: str  # what to install where the program is missing

    def __init__(self, folder: Path, files: ClusterFiles) -> None:
        self.folder = folder.resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.files = files
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def find(cls) -> str:
        """The path of the program; raises PeerError that names the package where it is missing."""
        search = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
        path = shutil.which(cls.program, path=search)
        if path is None:
            raise PeerError(f"{cls.name}: {cls.program} is not installed; apt-get install {cls.package}")
        return path

    @classmethod
    @abstractmethod
    def version(cls) -> str:
        """The program's version, as it prints it."""

    @abstractmethod
    def command(self) -> list[str]:
        """Write the configuration; returns the command that serves it."""

    def start(self, core: int | None, check: Callable[[int], None]) -> None:
        """Start the server on `core` and wait until `check` of its port raises no PeerError; raises the last one."""
        self._process = spawn(self.command(), core, self.folder / "log")
        deadline = time.monotonic() + START_SECONDS
        while True:
            self.check_running()
            try:
                check(self.port)
            except PeerError as error:
                if time.monotonic() > deadline:
                    waited = f"{self.name}: no right answer within {START_SECONDS:.0f} s"
                    raise PeerError(f"{waited}: {error}{self._last_words()}") from error
                time.sleep(POLL_SECONDS)
            else:
                return

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


class Knot(Peer):
    """Knot DNS with one UDP and one TCP worker; zone files only, no journal."""

    name = "knot"
    program = "knotd"
    package = "knot"

    @classmethod
    def version(cls) -> str:
        """The first line of `knotd --version`."""
        return _first_line([cls.find(), "--version"])

    def command(self) -> list[str]:
        """`knotd -c FILE`."""
        zones = "".join(
            f'  - domain: {zone}\n    file: "{path.resolve()}"\n' for zone, path in self.files.zones.items()
        )
        config = f"""\
server:
    rundir: "{self.folder}"
    pidfile: "{self.folder}/knot.pid"
    listen: {ADDRESS}@{self.port}
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
log:
  - target: stderr
    any: warning
database:
    storage: "{self.folder}"
template:
  - id: default
    storage: "{self.folder}"
    zonefile-load: whole
    zonefile-sync: -1
    journal-content: none
    semantic-checks: off
zone:
{zones}"""
        return [self.find(), "-c", str(self._write("knot.conf", config))]


class Nsd(Peer):
    """NSD with one server process; zone files only, no database."""

    name = "nsd"
    program = "nsd"
    package = "nsd"

    @classmethod
    def version(cls) -> str:
        """The first line of `nsd -v`."""
        return _first_line([cls.find(), "-v"], statuses=(0, 1))  # NSD ends with 1 after it told its version

    def command(self) -> list[str]:
        """`nsd -d -c FILE`."""
        paths = {zone: path.resolve() for zone, path in self.files.zones.items()}
        zones = "".join(f'zone:\n    name: "{zone}"\n    zonefile: "{path}"\n' for zone, path in paths.items())
        config = f"""\
server:
    ip-address: {ADDRESS}@{self.port}
    server-count: 1
    tcp-count: 200
    username: ""
    chroot: ""
    zonesdir: "{self.folder}"
    database: ""
    zonelistfile: "{self.folder}/zone.list"
    xfrdfile: "{self.folder}/xfrd.state"
    xfrdir: "{self.folder}"
    pidfile: "{self.folder}/nsd.pid"
    verbosity: 0
    minimal-responses: yes
    rrl-ratelimit: 0
    rrl-whitelist-ratelimit: 0
remote-control:
    control-enable: no
{zones}"""
        return [self.find(), "-d", "-c", str(self._write("nsd.conf", config))]


class Kdns(Peer):
    """kdns from this tree, fed with manifests; `workers` may differ from the one that a core is for."""

    name = "kdns"
    program = "python"
    package = "kdns (pip install -e .)"
    corefile = """\
cluster.local in-addr.arpa ip6.arpa {
    errors
    kubernetes cluster.local in-addr.arpa ip6.arpa
    loadbalance
}
"""
    workers = 1

    @classmethod
    def find(cls) -> str:
        """The Python that runs the bench; raises PeerError if kdns cannot run in it."""
        cls.version()
        return sys.executable

    @classmethod
    def version(cls) -> str:
        """What `kdns -version` prints first."""
        command = [sys.executable, "-m", "kdns", "-version"]
        try:
            return _first_line(command)
        except BenchError as error:
            raise PeerError(f"{cls.name}: cannot be run here ({error}); `make build` builds it") from error

    def command(self) -> list[str]:
        """`python -m kdns -conf FILE ...`."""
        return [
            *(sys.executable, "-m", "kdns"),
            *("-conf", str(self._write("Corefile", self.corefile))),
            *("-dns.port", str(self.port)),
            *("--manifests", str(self.files.manifests.resolve())),
            *("--workers", str(self.workers)),
        ]


PEERS: dict[str, type[Peer]] = {peer.name: peer for peer in (Knot, Nsd, Kdns)}


def parse_peers(text: str) -> list[type[Peer]]:
    """The peers named in `text`, separated by commas."""
    names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        raise BenchError(f"unknown peer {unknown[0]!r}: expected some of {', '.join(PEERS)}")
    return [PEERS[name] for name in names]


def _first_line(command: list[str], statuses: tuple[int, ...] = (0,)) -> str:
    """What `command` prints first; raises BenchError if it ends with a status other than `statuses`."""
    result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    lines = [line for line in (result.stdout + result.stderr).splitlines() if line.strip()]
    if result.returncode not in statuses or not lines:
        raise BenchError(f"{' '.join(command)}: status {result.returncode}: {lines[-1] if lines else 'no output'}")
    return lines[0].strip()
