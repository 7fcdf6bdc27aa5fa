"""The fake API server as a process of its own, and the line on which it is told what to do."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from bench.errors import PeerError
from bench.processes import spawn, stop

START_SECONDS = 120.0  # for it to hold a whole cluster; 100,000 Services take half of it on a slow machine
ORDER_SECONDS = 30.0  # for one order to be done: putting back a whole churned cluster is one
POLL_SECONDS = 0.02  # between two looks for an answer that takes its time
QUICK_SECONDS = 0.01  # in which most orders are done: looks follow each other without a pause


class ApiProcess:
    """`python -m bench.apiserver`, started and ready; `port` is where it serves."""

    def __init__(self, manifests: Path, folder: Path, cores: Collection[int] = ()) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder / "api.log"
        command = [sys.executable, "-m", "bench.apiserver", str(manifests)]
        self._process = spawn(command, cores, self._log, stdin=subprocess.PIPE)
        self._read = 0  # octets of its log that were read
        try:
            self.port: int = self._next_answer(START_SECONDS)["ready"]
        except BaseException:
            self.stop()
            raise

    def order(self, do: str, **details: Any) -> dict[str, Any]:
        """Have something done; returns what the server tells of it, above all when it began (`at`)."""
        self.send(do, **details)
        return self.answer()

    def send(self, do: str, **details: Any) -> None:
        """Have something done, without waiting for it."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **details}).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise PeerError(f"the API server is gone; see {self._log}") from error

    def answer(self) -> dict[str, Any]:
        """What the server tells of the oldest order that has not been told of."""
        found = self._next_answer(ORDER_SECONDS)
        if "error" in found:
            raise PeerError(f"the API server refused an order: {found['error']}")
        return found

    def _next_answer(self, limit_seconds: float) -> dict[str, Any]:
        began = time.monotonic()
        while True:
            with self._log.open("rb") as log:
                log.seek(self._read)
                line = log.readline()
            if line.endswith(b"\n"):
                self._read += len(line)
                if line.startswith(b"{"):
                    answer: dict[str, Any] = json.loads(line)
                    return answer
                continue  # a warning of Python, say
            if self._process.poll() is not None or time.monotonic() - began > limit_seconds:
                raise PeerError(f"the API server ended or hangs; see {self._log}")
            time.sleep(0.0005 if time.monotonic() - began < QUICK_SECONDS else POLL_SECONDS)

    def stop(self) -> None:
        """End it."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        stop(self._process)
