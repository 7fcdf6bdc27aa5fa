"""How many instructions a server retires, counted by `perf stat` while a load runs, where this machine can say."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from collections.abc import Collection
from functools import cache
from types import TracebackType
from typing import Self

EVENT = "instructions"
PROBE_SECONDS = 10.0  # for `perf stat true`
STOP_SECONDS = 5.0  # for perf to print what it counted
_COUNT = re.compile(r"^(\d+),[^,]*,instructions", re.MULTILINE)


@cache
def can_count() -> bool:
    """Whether `perf stat` counts instructions here; virtual machines often have no counter, and it may be forbidden."""
    if shutil.which("perf") is None:
        return False
    try:
        tried = subprocess.run(
            ["perf", "stat", "-x", ",", "-e", EVENT, "true"], capture_output=True, text=True, timeout=PROBE_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return _read(tried.stderr) is not None


class InstructionCounter:
    """Counts what `pids` and their threads retire between entering and leaving; `count` is None if nobody could say."""

    def __init__(self, pids: Collection[int]) -> None:
        self.count: int | None = None
        self._pids = sorted(pids)
        self._perf: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        if self._pids and can_count():
            command = ["perf", "stat", "-x", ",", "-e", EVENT, "-p", ",".join(map(str, self._pids))]
            self._perf = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._perf is None:
            return
        self._perf.send_signal(signal.SIGINT)  # the signal at which it prints
        try:
            self.count = _read(self._perf.communicate(timeout=STOP_SECONDS)[1])
        except subprocess.TimeoutExpired:
            self._perf.kill()
            self._perf.communicate()


def _read(printed: str) -> int | None:
    """The count in what `perf stat -x ,` prints."""
    match = _COUNT.search(printed)
    return None if match is None else int(match[1])
