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
from tests.harness.exchange import Peer, frame, receive_frame
from tests.harness.places import open_namespace

FOUND_BY_UDP = {
    Fault.ANSWERS_RESPONSES: "response with rcode 0",
    Fault.ANSWERS_OTHER_OPCODES: "opcode 5",
    Fault.ANSWERS_ANY_CLASS: "class ANY",
    Fault.ECHOES_EDNS_OPTIONS: "cookie of 7 octets",
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
        packet.name: outcome_problems(packet, wire, replies.get(FIRST_ID + number, []))
        for number, (packet, wire) in enumerate(zip(found, sent, strict=True))
    }
    problems["ids"] = silence_problems(replies, {SENTINEL_ID, *range(FIRST_ID, FIRST_ID + len(found))})
    return {name: texts for name, texts in problems.items() if texts}


def judge_tcp(target: Target, family: str, chosen: Sequence[Packet]) -> dict[str, list[str]]:
    """The packets that fail over TCP, each on its own connection with a good query behind it, and why."""
    problems = {}
    for packet in chosen:
        wire = packet.wire(FIRST_ID)
        replies = target.run(lambda wire=wire: send_tcp(target.peer(family), wire, sentinel(target)))  # type: ignore[misc]
        own = [reply for reply in replies if reply[:2] == wire[:2]]
        problems[packet.name] = outcome_problems(packet, wire, own) + [
            "a reply to something else" for reply in replies if reply not in own and reply[:2] != sentinel(target)[:2]
        ]
    return {name: texts for name, texts in problems.items() if texts}


@pytest.mark.parametrize("family", FAMILIES)
def test_hostile_datagram_gets_what_it_may(target: Target, family: str) -> None:
    assert judge_udp(target, family) == {}


@pytest.mark.parametrize("family", FAMILIES)
def test_hostile_frame_gets_what_it_may(target: Target, family: str) -> None:
    assert judge_tcp(target, family, packets(target.host)) == {}


def test_good_query_is_answered_behind_each_refused_frame(target: Target) -> None:
    unanswered = []
    for packet in packets(target.host):
        replies = target.run(lambda p=packet: send_tcp(target.peer("ipv4"), p.wire(FIRST_ID), sentinel(target)))  # type: ignore[misc]
        if SENTINEL_ID.to_bytes(2, "big") not in {reply[:2] for reply in replies}:
            unanswered.append(packet.name)
    # A server may close the connection of a client that sends replies or nothing at all, but never stall it.
    assert [name for name in unanswered if not name.startswith("response")] == []


@pytest.mark.parametrize("size", range(12))
def test_frame_without_a_header_is_skipped_or_ends_the_connection(target: Target, size: int) -> None:
    replies = target.run(lambda: send_tcp(target.peer("ipv4"), short_packets()[size], sentinel(target)))
    assert [reply[:2] for reply in replies] in ([], [SENTINEL_ID.to_bytes(2, "big")])


def test_datagram_from_port_zero_is_not_answered() -> None:
    place = open_namespace()
    try:
        with FakeServerInNamespace(place) as fake:
            assert place.run(lambda: replies_to_port_zero(fake)) != [], "the test sees no reply where there is one"
    finally:
        place.close()


def test_server_does_not_answer_port_zero(target: Target) -> None:
    assert target.place.namespace is not None, "port 0 can be tested in a network namespace only, which needs root"
    peer = target.peer("ipv4")
    assert target.run(lambda: replies_to_port_zero(peer)) == []
    # And lives on.
    assert target.run(lambda: send_udp(peer, [], sentinel(target))) == {}


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
    return loopback_target(server.port, "host.cluster.local.", "many.cluster.local.")
