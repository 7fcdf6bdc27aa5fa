"""A name server on loopback that answers what a test tells it to, over UDP and TCP, in threads."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Self

from tests.harness.exchange import MAX_DATAGRAM, TCP, UDP, frame, receive_frame

Answer = Callable[[bytes, str], Sequence[bytes]]  # query and transport to the messages sent back, none for silence


def _bind_both(address: str, port: int) -> tuple[socket.socket, socket.socket]:
    """A TCP and a UDP socket at one port."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with ExitStack() as opened:
        tcp = opened.enter_context(socket.create_server((address, port), family=family))
        udp = opened.enter_context(socket.socket(family, socket.SOCK_DGRAM))
        udp.bind((address, tcp.getsockname()[1]))
        opened.pop_all()
    return tcp, udp


class FakeNameServer:
    """Serves `answer` on a free port of the loopback, or on the port given."""

    def __init__(self, answer: Answer, address: str = "127.0.0.1", port: int = 0) -> None:
        self._answer = answer
        self._is_closing = threading.Event()
        self._connections: list[socket.socket] = []
        self.address = address
        while True:
            try:
                self._tcp, self._udp = _bind_both(address, port)
                break
            except OSError as error:
                # A port that is free for TCP may be another's for UDP.
                if port or error.errno != errno.EADDRINUSE:
                    raise
        self.port = int(self._tcp.getsockname()[1])
        self._threads = [threading.Thread(target=job, daemon=True) for job in (self._serve_udp, self._accept)]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every socket and end every thread."""
        self._is_closing.set()
        for opened in (self._tcp, self._udp, *self._connections):
            with suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits on it
        for thread in self._threads:
            thread.join()
        for opened in (self._tcp, self._udp, *self._connections):
            opened.close()

    def _serve_udp(self) -> None:
        while not self._is_closing.is_set():
            try:
                query, client = self._udp.recvfrom(MAX_DATAGRAM)
            except OSError:
                continue
            if self._is_closing.is_set():
                return
            for reply in self._answer(query, UDP):
                with suppress(OSError):  # a client that has gone
                    self._udp.sendto(reply, client)

    def _accept(self) -> None:
        while not self._is_closing.is_set():
            try:
                connection, _ = self._tcp.accept()
            except OSError:
                continue
            self._connections.append(connection)
            thread = threading.Thread(target=self._serve_tcp, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve_tcp(self, connection: socket.socket) -> None:
        with suppress(OSError):
            while (query := receive_frame(connection)) is not None:
                for reply in self._answer(query, TCP):
                    connection.sendall(frame(reply))
        with suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
