"""How large replies are: limits over UDP, what a cut reply holds, and everything over TCP."""

from __future__ import annotations

import dns.flags
import dns.message
import dns.rdatatype
import dns.rrset
import pytest

from tests.e2e.conftest import MANY
from tests.e2e.targets import FAMILIES, Target, loopback_target
from tests.fakes.nameserver import FakeNameServer
from tests.fakes.zone import FakeZone, Fault
from tests.harness.exchange import TCP, UDP, ask

MIN_UDP_PAYLOAD, MAX_UDP_PAYLOAD = 512, 1232  # octets
ADDRESS_RECORD = 16  # octets: a pointer, type, class, TTL, length and an IPv4 address
OPT_RECORD = 11  # octets, without options
# The size a client says, and the limit that follows; None is no EDNS.
LIMITS = {None: 512, 0: 512, 100: 512, 511: 512, 512: 512, 513: 513, 1000: 1000, 1232: 1232, 4096: 1232, 65_535: 1232}


def exchange(
    target: Target, qname: str, qtype: str, size: int | None, transport: str = UDP, family: str = "ipv4"
) -> bytes:
    query = dns.message.make_query(qname, qtype)
    if size is not None:
        query.use_edns(0, payload=size)
    wire = query.to_wire()
    reply = target.run(lambda: ask(target.peer(family), wire, transport))
    assert reply is not None
    return reply


def addresses(wire: bytes) -> list[str]:
    message = dns.message.from_wire(wire, one_rr_per_rrset=True)
    return [rrset[0].to_text() for rrset in message.answer if rrset.rdtype == dns.rdatatype.A]


def cut_problems(target: Target, size: int | None, family: str = "ipv4") -> list[str]:
    """What is wrong with the reply for 200 addresses to a client of this size."""
    wire = exchange(target, target.many, "A", size, family=family)
    message = dns.message.from_wire(wire)
    limit = LIMITS[size]
    found = []
    if len(wire) > limit:
        found.append(f"{len(wire)} octets, at most {limit}")
    elif len(wire) + ADDRESS_RECORD <= limit:
        found.append(f"{len(wire)} octets of {limit}: one more record fits")
    if not message.flags & dns.flags.TC:
        found.append("TC is clear")
    got = addresses(wire)
    if len(set(got)) != len(got) or not got:
        found.append(f"{len(got)} records, {len(set(got))} of them distinct")
    if (message.edns >= 0) != (size is not None):
        found.append("OPT lost or added")
    return found


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", LIMITS)
def test_cut_reply_fills_the_limit_with_whole_records(target: Target, size: int | None, family: str) -> None:
    assert cut_problems(target, size, family) == []


@pytest.mark.parametrize("size", LIMITS)
def test_own_size_is_advertised_whatever_the_client_says(target: Target, size: int | None) -> None:
    message = dns.message.from_wire(exchange(target, target.host, "A", size))
    assert message.payload == (0 if size is None else MAX_UDP_PAYLOAD)


def test_cut_reply_shows_other_records_each_time(target: Target) -> None:
    seen = {address for _ in range(60) for address in addresses(exchange(target, target.many, "A", None))}
    assert len(seen) > MANY * 3 // 4  # each reply shows some 28; only chance keeps one out of all of them


def test_small_reply_is_whole(target: Target) -> None:
    message = dns.message.from_wire(exchange(target, target.host, "A", 512))
    assert not message.flags & dns.flags.TC
    assert len(message.answer) == 1


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", [None, 512, 1232])
def test_tcp_reply_is_whole(target: Target, size: int | None, family: str) -> None:
    wire = exchange(target, target.many, "A", size, TCP, family)
    message = dns.message.from_wire(wire)
    assert not message.flags & dns.flags.TC
    assert len(set(addresses(wire))) == MANY
    question = len(dns.message.make_query(target.many, "A").to_wire())
    assert len(wire) == question + MANY * ADDRESS_RECORD + (0 if size is None else OPT_RECORD)


@pytest.mark.parametrize("qtype", ["A", "AAAA", "SRV", "TXT", "ANY", "SOA", "NS"])
def test_no_datagram_is_over_the_limit(target: Target, qtype: str) -> None:
    for qname in (target.host, target.many, "cluster.local.", f"_http._tcp.{target.many}", "no.cluster.local."):
        assert len(exchange(target, qname, qtype, 65_535)) <= MAX_UDP_PAYLOAD


def test_cut_srv_reply_keeps_answers_before_additional_records(target: Target) -> None:
    message = dns.message.from_wire(exchange(target, f"_http._tcp.{target.many}", "SRV", MAX_UDP_PAYLOAD))
    assert message.flags & dns.flags.TC
    assert message.answer
    assert not message.additional


@pytest.mark.parametrize("size", LIMITS)
def test_careful_server_passes(size: int | None) -> None:
    with FakeNameServer(FakeZone()) as server:
        assert cut_problems(loopback_target(server.port, "", "many.cluster.local."), size) == []


@pytest.mark.parametrize("fault", [Fault.IGNORES_LIMIT, Fault.EMPTY_WHEN_CUT], ids=lambda fault: fault.name.lower())
def test_mistake_is_found(fault: Fault) -> None:
    with FakeNameServer(FakeZone([fault])) as server:
        assert cut_problems(loopback_target(server.port, "", "many.cluster.local."), None)
