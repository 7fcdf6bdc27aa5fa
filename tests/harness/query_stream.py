"""A steady stream of queries, and what became of each.

How long a reply took ends when the kernel has received it: this process shares its processor, and is not judged.
"""

from __future__ import annotations

import selectors
import socket
import struct
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import dns.message

from tests.harness.exchange import MAX_DATAGRAM, Peer
from tests.harness.places import Place

SOCKETS = 32  # the kernel spreads the queries over the workers by their source port
LATE_SECONDS = 1.0  # a reply that takes longer is lost
_SO_TIMESTAMPNS = 35  # asm-generic/socket.h; Python has no name for it


@dataclass(frozen=True, slots=True)
class StreamStatistics:
    """What became of the queries."""

    sent: int
    answered: int
    wrong: int  # replies with another rcode than NOERROR, or without an answer
    longest_gap_seconds: float  # between two answers
    p99_seconds: float = 0.0  # within which 99 % of the answers came

    @property
    def lost(self) -> int:
        """Queries without a reply."""
        return self.sent - self.answered


class QueryStream:
    """Sends queries for one name at a steady rate from many sockets until the context is left."""

    def __init__(self, place: Place, peer: Peer, qname: str, queries_per_second: int = 1000) -> None:
        self._wire = dns.message.make_query(qname, "A").to_wire()[2:]
        self._interval = 1 / queries_per_second
        self._is_ending = threading.Event()
        self._sent = self._answered = self._wrong = 0
        self._gap = 0.0
        self._latencies: list[float] = []
        self._waiting: dict[tuple[int, int], float] = {}
        self._selector = selectors.DefaultSelector()
        self._sockets = place.run(lambda: [peer.open_udp() for _ in range(SOCKETS)])
        for number, opened in enumerate(self._sockets):
            opened.setblocking(False)
            opened.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            self._selector.register(opened, selectors.EVENT_READ, number)
        self._thread = threading.Thread(target=self._run, name="queries", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_ending.set()
        self._thread.join()
        self._selector.close()
        for opened in self._sockets:
            opened.close()

    @property
    def answered(self) -> int:
        """Replies so far."""
        return self._answered

    def statistics(self) -> StreamStatistics:
        """The result; complete once the context was left."""
        latencies = sorted(self._latencies)
        p99 = latencies[len(latencies) * 99 // 100] if latencies else 0.0
        return StreamStatistics(self._sent, self._answered, self._wrong, self._gap, p99)

    def _run(self) -> None:
        started = last_answer = time.monotonic()
        while not self._is_ending.is_set():
            due = int((time.monotonic() - started) / self._interval)
            while self._sent < due:
                self._send()
            last_answer = self._receive(last_answer, self._interval)
        deadline = time.monotonic() + LATE_SECONDS
        while self._waiting and time.monotonic() < deadline:
            last_answer = self._receive(last_answer, 0.01)

    def _send(self) -> None:
        number, message_id = self._sent % SOCKETS, self._sent // SOCKETS % 65_536
        self._sent += 1
        sent = time.time()
        try:
            self._sockets[number].send(message_id.to_bytes(2, "big") + self._wire)
        except (BlockingIOError, ConnectionRefusedError):  # counted as sent, and never answered
            return
        self._waiting[number, message_id] = sent

    def _receive(self, last_answer: float, timeout_seconds: float) -> float:
        for key, _ in self._selector.select(timeout_seconds):
            while True:
                try:
                    reply, control, _, _ = key.fileobj.recvmsg(MAX_DATAGRAM, 64)  # type: ignore[union-attr]
                except (BlockingIOError, ConnectionRefusedError):
                    break
                now = time.monotonic()
                seconds, nanoseconds = struct.unpack("=qq", control[0][2])
                sent = self._waiting.pop((key.data, int.from_bytes(reply[:2], "big")), None)
                if sent is not None:
                    self._answered += 1
                    self._latencies.append(seconds + nanoseconds / 1e9 - sent)
                    self._gap = max(self._gap, now - last_answer)
                    last_answer = now
                    if reply[3] & 0xF or reply[6:8] == b"\0\0":
                        self._wrong += 1
        return last_answer
