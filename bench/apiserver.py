"""An API server for servers that follow one: `python -m bench.apiserver MANIFESTS` serves a generated cluster.

It is the one the tests use. Whoever started it may change what it serves, with a line of JSON on standard input each;
every one is answered with one, `{"at": SECONDS}`, when it began on the monotonic clock, or `{"error": TEXT}`:

    {"do": "put", "objects": [...]}      create or replace objects
    {"do": "churn", "rate": 100}         from now on, so many changes a second (see churn.py); 0 ends them, and what was
                                         changed is put back; the answer counts the `changes` made since the last time
    {"do": "fault", "name": "relist"}    one of the faults that happen at once
    {"do": "stop"}, {"do": "start"}      refuse connections; welcome them again

It ends at the end of its input, or when told by SIGTERM.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any

from bench.churn import Object, changes, churned_slices
from tests.fakes.apiserver import FakeApiServer

LARGEST_STEP = 50  # changes between two looks at the input, where the rate cannot be kept


class _Control:
    """A server, and what it is told to do."""

    def __init__(self, server: FakeApiServer, objects: list[Object]) -> None:
        self._server = server
        self._slices = churned_slices(objects)
        self._changes = changes(self._slices)
        self._rate = 0.0
        self._due = 0.0  # when the next change is, on the monotonic clock
        self._made = 0

    def do(self, order: dict[str, Any]) -> dict[str, Any]:
        """Do what an order says; returns what to tell of it."""
        answer: dict[str, Any] = {"at": time.monotonic()}
        match order["do"]:
            case "put":
                self._server.put(*order["objects"])
            case "churn":
                answer["changes"] = self._churn(float(order["rate"]))
            case "fault":
                self._server.faults.add(order["name"], times=1)
            case "stop":
                self._server.stop()
            case "start":
                self._server.start()
            case other:
                raise ValueError(f"no order is called {other!r}")
        return answer

    def _churn(self, rate: float) -> int:
        made, self._made = self._made, 0
        self._rate, self._due = rate, time.monotonic()
        if not rate and made:
            self._server.put(*self._slices)
            self._changes = changes(self._slices)
        return made

    def seconds_to_next_change(self) -> float | None:
        """How long there is nothing to change; None: for ever."""
        return max(0.0, self._due - time.monotonic()) if self._rate and self._slices else None

    def make_changes(self) -> None:
        """Make those changes that are due."""
        for _ in range(LARGEST_STEP):
            if self.seconds_to_next_change() != 0.0:
                return
            self._server.put(next(self._changes))
            self._made += 1
            self._due += 1 / self._rate


def _serve(control: _Control) -> None:
    """Follow orders until there are no more."""
    os.set_blocking(0, False)
    waiting = b""
    while True:
        ready, _, _ = select.select([0], [], [], control.seconds_to_next_change())
        if ready:
            octets = os.read(0, 1 << 20)
            if not octets:
                return
            *lines, waiting = (waiting + octets).split(b"\n")
            for line in lines:
                print(json.dumps(_answer(control, line)), flush=True)
        control.make_changes()


def _answer(control: _Control, line: bytes) -> dict[str, Any]:
    try:
        return control.do(json.loads(line))
    except (ValueError, KeyError, TypeError) as error:
        return {"error": f"{type(error).__name__}: {error}"}


def main() -> int:
    """Serve until told to end; prints `{"ready": PORT}` once everything can be listed."""
    parser = argparse.ArgumentParser(prog="python -m bench.apiserver", description=__doc__)
    parser.add_argument("manifests", type=Path, help="a folder of List files, as `python -m bench cluster` writes them")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    objects: list[Object] = []
    for path in sorted(options.manifests.glob("*.json")):
        objects += json.loads(path.read_text())["items"]
    with FakeApiServer() as server:
        if objects:
            server.put(*objects)
        print(json.dumps({"ready": server.port}), flush=True)
        _serve(_Control(server, objects))
    return 0


if __name__ == "__main__":
    sys.exit(main())
