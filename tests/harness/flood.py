"""A flood of questions nobody asked before, from a process of its own, and an upstream that thinks for a while.

    python -m tests.harness.flood ADDRESS PORT QUERIES_PER_SECOND SECONDS

prints as JSON what was sent and what came back, by rcode.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import struct
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tests.harness.exchange import MAX_DATAGRAM, Peer

SOCKETS = 64  # the kernel spreads the queries over the workers by their source port
TICK_SECONDS = 0.002
LATE_SECONDS = 0.3  # replies are counted for so long after the last query
ZONE = b"\x05flood\x04test\0"
TRUE = bytes((192, 0, 2, 1))
_ANSWER = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + TRUE


@dataclass(frozen=True, slots=True)
class FloodResult:
    """What one flood came to."""

    sent: int
    seconds: float
    rcodes: dict[str, int]

    @property
    def rate(self) -> float:
        """Queries a second."""
        return self.sent / self.seconds


class Flood:
    """A flood that runs until it is over; `wait` tells what it came to."""

    def __init__(self, peer: Peer, queries_per_second: int, seconds: float) -> None:
        arguments = (peer.address, str(peer.port), str(queries_per_second), str(seconds))
        self._process = subprocess.Popen(
            (sys.executable, "-m", "tests.harness.flood", *arguments), stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "begun\n"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def wait(self) -> FloodResult:
        """The result, once it is over."""
        out, _ = self._process.communicate()
        assert self._process.returncode == 0
        return FloodResult(**json.loads(out))


@contextmanager
def slow_upstream(seconds: float) -> Iterator[int]:
    """The port of an upstream, in a process of its own, that answers every query after this time."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        opened.bind(("127.0.0.1", 0))
        code = f"from tests.harness.flood import serve_slowly; serve_slowly({opened.fileno()}, {seconds})"
        process = subprocess.Popen((sys.executable, "-c", code), pass_fds=(opened.fileno(),))
        try:
            yield opened.getsockname()[1]
        finally:
            process.kill()
            process.wait()


def serve_slowly(fd: int, seconds: float) -> None:
    """Answer each query with one address after a time, until killed."""
    opened = socket.socket(fileno=fd)
    opened.setblocking(False)
    waiting: deque[tuple[float, bytes, tuple[str, int]]] = deque()
    selector = selectors.DefaultSelector()
    selector.register(opened, selectors.EVENT_READ)
    while True:
        selector.select(max(0.0, waiting[0][0] - time.monotonic()) if waiting else None)
        now = time.monotonic()
        while True:
            try:
                query, client = opened.recvfrom(MAX_DATAGRAM)
            except BlockingIOError:
                break
            end = query.index(b"\0", 12) + 5
            waiting.append((now + seconds, query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + query[12:end] + _ANSWER, client))
        while waiting and waiting[0][0] <= now:
            _, reply, client = waiting.popleft()
            try:
                opened.sendto(reply, client)
            except OSError:
                continue


def run(peer: Peer, queries_per_second: int, seconds: float) -> FloodResult:
    """Send, and count what comes back."""
    sockets = [peer.open_udp() for _ in range(SOCKETS)]
    selector = selectors.DefaultSelector()
    for opened in sockets:
        opened.setblocking(False)
        selector.register(opened, selectors.EVENT_READ)
    rcodes: Counter[int] = Counter()
    head, tail = struct.pack("!HHHHHH", 7, 0x0100, 1, 0, 0, 0), ZONE + b"\0\1\0\1"
    prefix = b"%04x" % (os.getpid() & 0xFFFF)

    def receive(timeout_seconds: float) -> bool:
        found = selector.select(timeout_seconds)
        for key, _ in found:
            try:
                while True:
                    rcodes[key.fileobj.recv(MAX_DATAGRAM)[3] & 15] += 1  # type: ignore[union-attr]
            except OSError:
                continue
        return bool(found)

    sys.stdout.write("begun\n")
    sys.stdout.flush()
    started, sent = time.monotonic(), 0
    while (passed := time.monotonic() - started) < seconds:
        due = int(passed * queries_per_second)
        while sent < due:
            query = b"%b\x0c%b%08x%b" % (head, prefix, sent, tail)
            with suppress(OSError):  # as lost as any other
                sockets[sent % SOCKETS].send(query)
            sent += 1
        receive(TICK_SECONDS)
    passed = time.monotonic() - started
    while receive(LATE_SECONDS):
        continue
    return FloodResult(sent, passed, {str(rcode): count for rcode, count in sorted(rcodes.items())})


if __name__ == "__main__":
    done = run(Peer(sys.argv[1], int(sys.argv[2])), int(sys.argv[3]), float(sys.argv[4]))
    json.dump({"sent": done.sent, "seconds": done.seconds, "rcodes": done.rcodes}, sys.stdout)
