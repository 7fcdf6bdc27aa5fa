"""Sending hostile packets, and judging what comes back."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

import dns.exception
import dns.flags
import dns.message
import dns.rcode

from tests.e2e.packets import DROP, FORMERR, HEADER, Packet
from tests.harness.exchange import MAX_DATAGRAM, TCP, Peer, frame, receive_frame

FIRST_ID = 0x1000
SENTINEL_ID = 0x0FFF
_SENTINEL_SECONDS = 2.0
_AFTER_SENTINEL_SECONDS = 0.15  # for replies that are made elsewhere and arrive late
_BATCH = 16  # packets sent before the replies are read: no socket buffer overflows


def send_udp(peer: Peer, sent: Sequence[bytes], sentinel: bytes) -> dict[int, list[bytes]]:
    """What comes back, by id. A good query behind each batch tells when the server has seen it."""
    replies: dict[int, list[bytes]] = {}
    with peer.open_udp(_SENTINEL_SECONDS) as udp:
        for start in range(0, len(sent), _BATCH):
            for wire in sent[start : start + _BATCH]:
                udp.send(wire)
            udp.send(sentinel)
            _collect(udp, replies, _SENTINEL_SECONDS, until=SENTINEL_ID)
        _collect(udp, replies, _AFTER_SENTINEL_SECONDS)
    return replies


def send_tcp(peer: Peer, wire: bytes, sentinel: bytes) -> list[bytes]:
    """The replies on a connection of its own, the sentinel's among them if the connection outlived the packet."""
    replies = []
    with peer.open_tcp(_SENTINEL_SECONDS) as tcp, suppress(ConnectionError):
        tcp.sendall(frame(wire) + frame(sentinel))
        tcp.shutdown(socket.SHUT_WR)
        while (reply := receive_frame(tcp)) is not None:
            replies.append(reply)
    return replies


def outcome_problems(packet: Packet, query: bytes, replies: Sequence[bytes], transport: str) -> list[str]:
    """What is wrong with the replies to one packet."""
    if not replies:
        return [] if DROP in packet.allowed else [f"no reply, expected {sorted(packet.allowed)}"]
    if len(replies) > 1:
        return [f"{len(replies)} replies"]
    reply = replies[0]
    if len(reply) < HEADER:
        return [f"a reply of {len(reply)} octets"]
    flags = int.from_bytes(reply[2:4], "big")
    rcode = dns.rcode.to_text(dns.rcode.Rcode(flags & 0xF))
    found = [] if rcode in packet.allowed else [f"{rcode}, expected {sorted(packet.allowed)}"]
    if not flags & dns.flags.QR:
        found.append("QR is clear")
    if packet.is_header_only and rcode == FORMERR and len(reply) != HEADER:
        found.append(f"{len(reply)} octets, expected the header only")
    if rcode == FORMERR and len(reply) > len(query):
        found.append(f"{len(reply)} octets for {len(query)}: amplification")
    if packet.growth is not None and len(reply) > len(query) + packet.growth:
        found.append(f"{len(reply)} octets for {len(query)}")
    if packet.is_not_authoritative and flags & (dns.flags.AA | dns.flags.RA):
        found.append("AA or RA is set")
    return found + _message_problems(packet, reply, transport)


def silence_problems(replies: Mapping[int, Sequence[bytes]], expected: set[int]) -> list[str]:
    """Replies with ids that nobody sent."""
    return [f"a reply with the id {found:#06x}" for found in replies if found not in expected]


def _message_problems(packet: Packet, reply: bytes, transport: str) -> list[str]:
    try:
        message = dns.message.from_wire(reply)
    except dns.exception.DNSException as error:
        return [f"the reply is no message: {error!r}"]
    options = {int(option.otype) for option in message.options} - (packet.tcp_options if transport == TCP else set())
    return [f"options {sorted(options)} in the reply"] if packet.has_no_options and options else []


def _collect(
    udp: socket.socket, replies: dict[int, list[bytes]], timeout_seconds: float, until: int | None = None
) -> None:
    deadline = time.monotonic() + timeout_seconds
    while (left := deadline - time.monotonic()) > 0:
        udp.settimeout(left)
        try:
            reply = udp.recv(MAX_DATAGRAM)
        except TimeoutError:
            break
        found = int.from_bytes(reply[:2], "big")
        replies.setdefault(found, []).append(reply)
        if found == until:
            return
    if until is not None:
        raise AssertionError("a good query behind hostile packets was not answered")
