"""What a load can be put to: a server that the bench started, or one that runs already."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Protocol

from bench.errors import BenchError, PeerError
from bench.processes import ProcessStat, process_title, process_tree


class Target(Protocol):
    """A server that answers at `address` and `port`."""

    @property
    def name(self) -> str:
        """What it is called in tables."""

    @property
    def address(self) -> str:
        """Where it answers."""

    @property
    def port(self) -> int:
        """Where it answers."""

    def pin(self, cores: Collection[int]) -> None:
        """Bind every thread of it to `cores`, if that is the bench's to decide."""

    def tree(self) -> dict[int, ProcessStat]:
        """Its processes now; empty where nobody knows them."""

    def processes(self) -> dict[int, str]:
        """Their titles."""

    def check_running(self) -> None:
        """Raise PeerError unless it runs, as far as one can tell."""


class Stranger:
    """A server that somebody else started. Where it runs is left as it is; its CPU time is known if `pid` is."""

    def __init__(self, address: str, port: int, pid: int | None = None) -> None:
        self.name = f"{address}:{port}"
        self.address = address
        self.port = port
        self._pid = pid
        if pid is not None and not os.path.exists(f"/proc/{pid}"):
            raise BenchError(f"--pid {pid}: there is no such process; `pgrep -o NAME` prints a server's first one")

    def pin(self, cores: Collection[int]) -> None:
        """Leave it where it is."""

    def tree(self) -> dict[int, ProcessStat]:
        """The process and all it started, if it is known."""
        return {} if self._pid is None else process_tree(self._pid)

    def processes(self) -> dict[int, str]:
        """Their titles."""
        return {pid: process_title(pid) for pid in self.tree()}

    def check_running(self) -> None:
        """Raise PeerError if the process is known, and gone."""
        if self._pid is not None and not os.path.exists(f"/proc/{self._pid}"):
            raise PeerError(f"{self.name}: process {self._pid} ended during a run")
