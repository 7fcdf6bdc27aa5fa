"""What an upstream says goes to the client, and into the cache, in the same octets by both paths."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence

import dns.message
import dns.rrset
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdns.dns.codes import rcode_text
from kdns.metrics.meters import FIELDS, WRITERS
from tests.fakes.forwarded import ForwardingServer
from tests.fakes.upstream import Seen, Upstream
from tests.harness.examples import examples

BLOCKS = (
    "",
    "cache",
    "errors\ncache 30 {\nservfail 1m\n}",
    "cache {\nsuccess 100 60 10\ndenial 100 40 20\nprefetch 2\n}",
    "bufsize 900\ncache 3600",
)
SOA = "test. 40 IN SOA ns.test. root.test. 1 2 3 4 50"
NOW = 1_000_000  # ms

ttls = st.sampled_from((0, 1, 4, 30, 300, 2**31 - 1, 2**31, 2**32 - 1))


@st.composite
def replies(draw: st.DrawFn) -> tuple[int, int, list[str], list[str], list[str]]:
    """(rcode, flags, answer, authority, additional); a record is (owner, type, data), `@` being the question's name."""
    ttl = draw(ttls)
    kind = draw(st.sampled_from(("A", "A", "AAAA", "TXT", "MX", "CNAME", "RRSIG", "")))
    data = {
        "A": "192.0.2.{n}",
        "AAAA": "2001:db8::{n}",
        "TXT": '"text {n}"',
        "MX": "{n} mx{n}.test.",
        "CNAME": "other.test.",
        "RRSIG": "A 8 2 60 20200101000000 20100101000000 1 test. AAAA",
    }
    count = draw(st.integers(0, 12 if kind not in ("CNAME", "RRSIG") else 1)) if kind else 0
    answer = [f"@ {ttl} IN {kind} {data[kind].format(n=n)}" for n in range(count)] if kind else []
    if draw(st.booleans()) and answer:
        answer = ["@ 11 IN CNAME alias.test.", *(line.replace("@", "alias.test.") for line in answer)]
    authority = draw(st.sampled_from(([], [], [SOA], [SOA.replace("40", "90")], ["test. 20 IN NS ns.test."])))
    additional = draw(st.sampled_from(([], [], ["ns.test. 9 IN A 192.0.2.53"])))
    rcode = draw(st.sampled_from((0, 0, 0, 0, 3, 3, 2, 4, 5, 9)))
    flags = draw(st.sampled_from((0x8180, 0x8580, 0x81A0, 0x8190, 0x8100, 0x8380)))
    return rcode, flags, answer, authority, additional


@st.composite
def queries(draw: st.DrawFn) -> bytes:
    name = draw(st.sampled_from(("a.test.", "A.tEst.", ".", "x" * 60 + ".a.test.")))
    message = dns.message.make_query(name, draw(st.sampled_from(("A", "AAAA", "TXT", "MX", "CNAME"))))
    message.flags = draw(st.sampled_from((0, 0x0100, 0x0110, 0x0120, 0x0010)))
    size = draw(st.sampled_from((None, 1232, 1232, 4096)))
    if size is not None:
        message.use_edns(0, draw(st.sampled_from((0, 0x8000))), size)
    return message.to_wire()


def written(query: bytes, made: tuple[int, int, list[str], list[str], list[str]]) -> bytes:
    rcode, flags, *sections = made
    message = dns.message.from_wire(query)
    reply = dns.message.make_response(message, our_payload=1232)
    for section, lines in zip((reply.answer, reply.authority, reply.additional), sections, strict=True):
        for line in lines:
            owner, ttl, rclass, rtype, data = line.replace("@", str(message.question[0].name)).split(None, 4)
            section.append(dns.rrset.from_text(owner, int(ttl) & 0x7FFFFFFF, rclass, rtype, data))
            if int(ttl) >> 31:
                section[-1].ttl = int(ttl) & 0x7FFFFFFF
    wire = bytearray(reply.to_wire(max_size=65_535))
    wire[2:4] = struct.pack("!H", flags | rcode)
    return bytes(wire)


async def outcome(block: str, query: bytes, made: tuple, is_compiled: bool) -> tuple[object, ...]:
    """The reply, what is kept, and what is counted."""

    def answer(seen: Seen) -> Sequence[bytes]:
        return [written(seen.wire, made)]

    async with Upstream(answer) as upstream:
        corefile = f".:53 {{\nprometheus\n{block}\nforward . 127.0.0.1:{upstream.port}\n}}\n"
        server = ForwardingServer(corefile, is_compiled)
        server.memory.hold_clock(NOW)
        async with server.serving():
            (reply,) = await server.ask(query)
            assert bool(server.slow) != is_compiled
            asked = upstream.seen[-1].wire[2:]
            name = query[12 : len(dns.message.from_wire(query).question[0].name.to_wire()) + 12].lower()
            qtype = int.from_bytes(query[12 + len(name) : 14 + len(name)], "big")
            policy = next(route.cache for route in server.routes)
            kept = [server.memory.get(policy.store, name, qtype, flags) for flags in range(4)] if policy else []
            return asked, reply, kept, counted(server)


def counted(server: ForwardingServer) -> dict[object, float]:
    """All counters but those that tell the time, and who did it."""
    found: dict[object, float] = {}
    registry = server.surroundings.metrics
    for name, cells in registry.read().items():
        for labels, values in cells.items():
            if name.startswith("kdns_") or name == "coredns_cache_entries":
                continue
            if name == "coredns_dns_responses_total":
                found["responses", labels[1], labels[3], labels[4]] = values[0]
            elif len(values) == 1:
                found[name, tuple("to" if ":" in label else label for label in labels)] = values[0]
            else:
                found[name, tuple("to" if ":" in label else label for label in labels)] = sum(values[:-1])
    for _, zone, numbers in registry.meters.read():
        for field in ("requests", "dnssec_ok", "request_sizes", "request_octets", "response_sizes", "response_octets"):
            at, count = FIELDS[field].at, FIELDS[field].count
            for index, number in enumerate(numbers[at : at + count]):
                found[zone, field, index] = number
        at, count = FIELDS["responses"].at, FIELDS["responses"].count
        for index, number in enumerate(numbers[at : at + count]):
            if number:
                found["responses", zone, rcode_text(index % 16), WRITERS[index // 16]] = number
    return {key: value for key, value in found.items() if value}


@given(block=st.sampled_from(BLOCKS), query=queries(), made=replies())
@settings(max_examples=examples(120), deadline=None, suppress_health_check=list(HealthCheck))
def test_both_paths_come_to_the_same(block, query, made):
    by_compiled = asyncio.run(outcome(block, query, made, True))
    by_slow = asyncio.run(outcome(block, query, made, False))
    for compiled, slow in zip(by_compiled, by_slow, strict=True):
        assert compiled == slow


@pytest.mark.parametrize("block", ["loadbalance", "loadbalance\ncache"])
def test_addresses_start_at_any(block):
    def answer(seen: Seen) -> Sequence[bytes]:
        return [seen.reply(*(f"{seen.name} 60 IN A 192.0.2.{n}" for n in range(4))).to_wire()]

    async def play() -> None:
        async with Upstream(answer) as upstream:
            corefile = f".:53 {{\n{block}\nforward . 127.0.0.1:{upstream.port}\n}}\n"
            async with ForwardingServer(corefile).serving() as server:
                firsts = set()
                for number in range(100):
                    (reply,) = await server.ask(dns.message.make_query(f"n{number}.test.", "A").to_wire())
                    found = [record.to_text() for record in dns.message.from_wire(reply).answer[0]]
                    assert sorted(found) == [f"192.0.2.{n}" for n in range(4)]
                    firsts.add(found[0])
                assert len(firsts) == 4
                assert server.slow == []

    asyncio.run(play())
