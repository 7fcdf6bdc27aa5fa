"""Malformed and hostile packets: what may come back, over UDP and TCP, IPv4 and IPv6."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence

import dns.message
import pytest

from tests.e2e.hostility import (
    FIRST_ID,
    SENTINEL_ID,
    outcome_problems,
    send_tcp,
    send_udp,
    silence_problems,
)
from tests.e2e.packets import Packet, packets, short_packets
from tests.e2e.targets import FAMILIES, Target, loopback_target
from tests.fakes.nameserver import FakeNameServer
from tests.fakes.zone import FakeZone, Fault
from tests.harness.exchange import TCP, UDP

FOUND_BY_UDP = {
    Fault.ANSWERS_RESPONSES: "response with rcode 0",
    Fault.ANSWERS_OTHER_OPCODES: "opcode 5",
    Fault.ANSWERS_ANY_CLASS: "class ANY",
    Fault.ECHOES_EDNS_OPTIONS: "padding option",
    Fault.ECHOES_MALFORMED: "two questions",
}


def sentinel(target: Target) -> bytes:
    return dns.message.make_query(target.host, "A", id=SENTINEL_ID).to_wire()


def judge_udp(target: Target, family: str) -> dict[str, list[str]]:
    """The packets that fail over UDP, all sent from one socket, and why."""
    found = packets(target.host)
    sent = [packet.wire(FIRST_ID + number) for number, packet in enumerate(found)]
    replies = target.run(lambda: send_udp(target.peer(family), [*sent, *short_packets()], sentinel(target)))
    problems = {
        packet.name: outcome_problems(packet, wire, replies.get(FIRST_ID + number, []), UDP)
        for number, (packet, wire) in enumerate(zip(found, sent, strict=True))
    }
    problems["ids"] = silence_problems(replies, {SENTINEL_ID, *range(FIRST_ID, FIRST_ID + len(found))})
    return {name: texts for name, texts in problems.items() if texts}


def judge_tcp(target: Target, family: str, chosen: Sequence[Packet]) -> dict[str, list[str]]:
    """The packets that fail over TCP, each on its own connection with a good query behind it, and why."""
    good = sentinel(target)

    def replies_to(packet: Packet) -> list[bytes]:
        return target.run(lambda: send_tcp(target.peer(family), packet.wire(FIRST_ID), good))

    problems = {packet.name: _frame_problems(packet, replies_to(packet)) for packet in chosen}
    return {name: texts for name, texts in problems.items() if texts}


def _frame_problems(packet: Packet, replies: Sequence[bytes]) -> list[str]:
    """What is wrong with the replies on the connection of one packet."""
    wire = packet.wire(FIRST_ID)
    own = [reply for reply in replies if reply[:2] == wire[:2]]
    behind = [reply for reply in replies if reply[:2] != wire[:2]]
    found = outcome_problems(packet, wire, own, TCP)
    if any(reply[:2] != SENTINEL_ID.to_bytes(2, "big") for reply in behind):
        found.append("a reply to something else")
    # A connection may be closed for what it brought, but only then; a reply promises that it goes on.
    if own and len(behind) != 1:
        found.append(f"{len(behind)} replies to the good query behind it")
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_hostile_datagram_gets_what_it_may(target: Target, family: str) -> None:
    assert judge_udp(target, family) == {}


@pytest.mark.parametrize("family", FAMILIES)
def test_hostile_frame_gets_what_it_may(target: Target, family: str) -> None:
    assert judge_tcp(target, family, packets(target.host)) == {}


@pytest.mark.parametrize("size", range(12))
def test_frame_without_a_header_is_skipped_or_ends_the_connection(target: Target, size: int) -> None:
    replies = target.run(lambda: send_tcp(target.peer("ipv4"), short_packets()[size], sentinel(target)))
    assert [reply[:2] for reply in replies] in ([], [SENTINEL_ID.to_bytes(2, "big")])


def test_datagrams_from_port_zero_do_no_harm(target: Target) -> None:
    assert target.place.namespace is not None, "a datagram from port 0 needs a raw socket, and that a namespace"
    query = dns.message.make_query(target.host, "A").to_wire()
    datagram = struct.pack("!4H", 0, target.port, 8 + len(query), 0) + query  # a checksum of 0 is none

    def send() -> dict[int, list[bytes]]:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP) as raw:
            for _ in range(10):
                raw.sendto(datagram, ("127.0.0.1", 0))
        return send_udp(target.peer("ipv4"), [query], sentinel(target))

    assert SENTINEL_ID in target.run(send)


def test_careful_server_passes() -> None:
    with FakeNameServer(FakeZone()) as server:
        target = fake_target(server)
        assert judge_udp(target, "ipv4") == {}
        assert judge_tcp(target, "ipv4", packets(target.host)) == {}


@pytest.mark.parametrize("fault", FOUND_BY_UDP, ids=lambda fault: fault.name.lower())
def test_mistake_is_found(fault: Fault) -> None:
    with FakeNameServer(FakeZone([fault])) as server:
        target = fake_target(server)
        assert FOUND_BY_UDP[fault] in judge_udp(target, "ipv4")
        chosen = [packet for packet in packets(target.host) if packet.name == FOUND_BY_UDP[fault]]
        assert FOUND_BY_UDP[fault] in judge_tcp(target, "ipv4", chosen)


def fake_target(server: FakeNameServer) -> Target:
    return loopback_target(server.port, "host.test.cluster.local.", "many.cluster.local.")
