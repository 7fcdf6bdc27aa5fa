"""Sending bytes to a DNS server over UDP or TCP, and what comes back."""

from __future__ import annotations

import socket
import struct
import time
from dataclasses import dataclass

UDP = "udp"
TCP = "tcp"
TRANSPORTS = (UDP, TCP)
TIMEOUT_SECONDS = 2.0
MAX_DATAGRAM = 65_535  # octets


@dataclass(frozen=True, slots=True)
class Peer:
    """Where a server listens, and the address to ask it from."""

    address: str = "127.0.0.1"
    port: int = 53
    source: str | None = None

    @property
    def family(self) -> socket.AddressFamily:
        """The address family of the server's address."""
        return socket.AF_INET6 if ":" in self.address else socket.AF_INET

    def open_udp(self, timeout_seconds: float = TIMEOUT_SECONDS) -> socket.socket:
        """A connected UDP socket: only the address asked may answer."""
        return self._open(socket.SOCK_DGRAM, timeout_seconds)

    def open_tcp(self, timeout_seconds: float = TIMEOUT_SECONDS) -> socket.socket:
        """A TCP connection."""
        return self._open(socket.SOCK_STREAM, timeout_seconds)

    def _open(self, kind: socket.SocketKind, timeout_seconds: float) -> socket.socket:
        made = socket.socket(self.family, kind)
        try:
            made.settimeout(timeout_seconds)
            if self.source is not None:
                made.bind((self.source, 0))
            made.connect((self.address, self.port))
        except OSError:
            made.close()
            raise
        return made


def ask(peer: Peer, query: bytes, transport: str = UDP, timeout_seconds: float = TIMEOUT_SECONDS) -> bytes | None:
    """The reply to `query`, or None when none came, or the connection was closed instead."""
    try:
        if transport == UDP:
            with peer.open_udp(timeout_seconds) as udp:
                udp.send(query)
                return _receive_reply(udp, query, timeout_seconds)
        with peer.open_tcp(timeout_seconds) as tcp:
            tcp.sendall(frame(query))
            return receive_frame(tcp)
    except (TimeoutError, ConnectionError):
        return None


def frame(message: bytes) -> bytes:
    """A message as it goes over TCP (RFC 1035, 4.2.2)."""
    return struct.pack("!H", len(message)) + message


def receive_frame(tcp: socket.socket) -> bytes | None:
    """The next message of a TCP connection, or None when it was closed before a whole one came."""
    size = receive_exactly(tcp, 2)
    return None if size is None else receive_exactly(tcp, struct.unpack("!H", size)[0])


def receive_exactly(tcp: socket.socket, count: int) -> bytes | None:
    """The next `count` bytes, or None when the connection was closed before."""
    parts = bytearray()
    while len(parts) < count:
        part = tcp.recv(count - len(parts))
        if not part:
            return None
        parts += part
    return bytes(parts)


def _receive_reply(udp: socket.socket, query: bytes, timeout_seconds: float) -> bytes:
    deadline = time.monotonic() + timeout_seconds
    while True:
        udp.settimeout(max(0.0, deadline - time.monotonic()) or 1e-3)
        reply = udp.recv(MAX_DATAGRAM)
        if reply[:2] == query[:2]:
            return reply
