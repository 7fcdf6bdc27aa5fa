"""The sockets DNS is served on. The supervisor makes them before it starts anybody, and keeps them for its life.

Each worker has a UDP and a TCP socket of its own for each address family; the kernel spreads clients over them
(SO_REUSEPORT). A socket whose worker died keeps its queue for the next one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kdns.errors import StartError

DISCARD_PORT = 9  # RFC 863: nobody asks from there
TCP_BACKLOG = 1024  # connections the kernel accepts ahead of a worker
RECEIVE_BUFFER = 4 << 20  # octets; more than the default, so that a worker's successor finds what came in between
IP_PKTINFO = 8  # linux/in.h; Python's socket module has neither on every build
IPV6_RECVPKTINFO = 49  # linux/in6.h
SO_RCVBUFFORCE = 33  # asm-generic/socket.h
WILDCARDS = ("0.0.0.0", "::")  # noqa: S104 - a DNS server is for everybody


@dataclass(frozen=True, slots=True)
class DnsSocket:
    """A bound socket; a wildcard one tells with each datagram where it arrived."""

    socket: socket.socket
    family_is_v6: bool
    wildcard: bool

    def leave(self) -> None:
        """Have the kernel give new queries to others, whoever holds this socket open; what waits in it can be read.

        As long as a socket is open anywhere, the kernel prefers it to one of all addresses. So a UDP socket is
        connected, to where nothing comes from; replies name where they go. A TCP socket listens no more.
        """
        with contextlib.suppress(OSError):
            if self.socket.type == socket.SOCK_STREAM:
                self.socket.shutdown(socket.SHUT_RDWR)
            else:
                host = self.socket.getsockname()[0]
                loopback = "::1" if self.family_is_v6 else "127.0.0.1"
                self.socket.connect((loopback if self.wildcard else host, DISCARD_PORT))


@dataclass(frozen=True, slots=True)
class ListenerSockets:
    """The sockets of one listener, by worker number."""

    udp: tuple[tuple[DnsSocket, ...], ...]
    tcp: tuple[tuple[DnsSocket, ...], ...]

    def close(self) -> None:
        """Close them in this process; where others have them too, they stay open."""
        for of_worker in (*self.udp, *self.tcp):
            for bound in of_worker:
                bound.socket.close()


def bind_listeners(
    places: Sequence[tuple[str, int]], workers: int, kept: Mapping[tuple[str, int], ListenerSockets]
) -> tuple[ListenerSockets, ...]:
    """The sockets of each place, those of `kept` and new ones. Raises StartError; then no new one is left."""
    made: list[ListenerSockets] = []
    try:
        made.extend(bind_listener(*place, workers) for place in places if place not in kept)
    except StartError:
        for sockets in made:
            sockets.close()
        raise
    new = iter(made)
    return tuple(kept[place] if place in kept else next(new) for place in places)


def bind_listener(host: str, port: int, workers: int) -> ListenerSockets:
    """Bind one listener for so many workers. Raises StartError with the address and the reason."""
    families = _families(host)
    with contextlib.ExitStack() as bound:  # of what is bound already, should something not be
        # TCP first: it is the one CoreDNS names where neither can be had.
        tcp = tuple(_bind_worker(families, port, socket.SOCK_STREAM, bound) for _ in range(workers))
        udp = tuple(_bind_worker(families, port, socket.SOCK_DGRAM, bound) for _ in range(workers))
        bound.pop_all()
    return ListenerSockets(udp, tcp)


def _families(host: str) -> list[tuple[socket.AddressFamily, str]]:
    # Either wildcard address means both families, as to Go.
    if host not in ("", *WILDCARDS):
        return [(socket.AF_INET6 if ":" in host else socket.AF_INET, host)]
    families = (socket.AF_INET, socket.AF_INET6) if _has_ipv6() else (socket.AF_INET,)
    return list(zip(families, WILDCARDS, strict=False))


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::", 0))
    except OSError:
        return False
    return True


def _bind_worker(
    families: list[tuple[socket.AddressFamily, str]], port: int, kind: socket.SocketKind, bound: contextlib.ExitStack
) -> tuple[DnsSocket, ...]:
    made = []
    for family, host in families:
        made.append(_bind(family, host, port, kind))
        bound.callback(made[-1].socket.close)
    return tuple(made)


def _bind(family: socket.AddressFamily, host: str, port: int, kind: socket.SocketKind) -> DnsSocket:
    is_v6 = family == socket.AF_INET6
    wildcard = host in WILDCARDS
    bound = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if is_v6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_DGRAM:
            _prepare_udp(bound, is_v6, wildcard)
        else:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(_socket_address(host, port))
        if kind == socket.SOCK_STREAM:
            bound.listen(TCP_BACKLOG)
    except OSError as error:
        bound.close()
        listen = "ListenPacket: listen udp" if kind == socket.SOCK_DGRAM else "Listen: listen tcp"
        shown = "" if wildcard else f"[{host}]" if is_v6 else host
        reason = os.strerror(error.errno or 0).lower()
        raise StartError(f"{listen} {shown}:{port}: bind: {reason}{_advice(error)}") from error
    return DnsSocket(bound, is_v6, wildcard)


def _socket_address(host: str, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
    """What an address is to the kernel; one of a single link has that link's number."""
    address, _, zone = host.partition("%")
    return (address, port, 0, socket.if_nametoindex(zone)) if zone else (address, port)


def _prepare_udp(bound: socket.socket, is_v6: bool, wildcard: bool) -> None:
    if wildcard:
        if is_v6:
            bound.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
        else:
            bound.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    # The larger of what the system's limit allows and, with the right to it, what is asked for.
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    with contextlib.suppress(PermissionError):
        bound.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)


def _advice(error: OSError) -> str:
    if error.errno == errno.EACCES:
        return " (a port below 1024 needs the capability NET_BIND_SERVICE; -dns.port chooses another)"
    return ""
