"""What was kept is answered in the same octets by both paths; what needs a decision is left to the slow one."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace

import dns.flags
import dns.message
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdns.dns.compression import HEADER_SIZE
from kdns.dns.reply import Reply
from kdns.dns.walker import read_reply
from kdns.plugins.plugin import Request
from tests.fakes.cached import CachedServer
from tests.harness.examples import examples

COREFILES = (
    ".:53 {\n cache\n erratic\n}\n",
    ".:53 {\n errors\n loadbalance\n prometheus\n cache 30 {\n keepttl\n servfail 1m\n }\n erratic\n}\n",
    ".:53 {\n loadbalance\n cache {\n prefetch 2 1m 50%\n serve_stale\n }\n erratic\n}\n",
    ".:53 {\n bufsize 700\n cache 60 {\n serve_stale 1h verify\n serve_stale_policy prefer_positive\n }\n erratic\n}\n",
    "a.test {\n cache x.a.test b.test\n erratic\n}\nx.a.test {\n erratic\n}\n. {\n cache 20 B.test\n erratic\n}\n",
)
NAMES = ("a.test.", "x.a.test.", "y.x.a.test.", "b.test.", "w.b.test.", ".")
SOA = "test. 40 IN SOA ns.test. root.test. 1 2 3 4 50"

labels = st.sampled_from(NAMES)
types = st.sampled_from(("A", "AAAA", "TXT", "MX", "CNAME", "ANY", "DS", "TYPE0", "AXFR"))


@st.composite
def upstream_replies(draw: st.DrawFn) -> tuple[int, bool, bool, bool, list[str], list[str], list[str]]:
    """(rcode, RA, AD, TC, answer, authority, additional): records are lines, `@` being the question's name."""
    ttl = draw(st.sampled_from((0, 1, 4, 7, 30, 300, 2**31 - 1)))
    count = draw(st.sampled_from((0, 1, 2, 3, 40, 100)))
    answer = [f"@ {ttl} IN {{type}} {n}" for n in range(count)]
    if draw(st.booleans()) and answer:
        answer = ["@ 11 IN CNAME alias.test.", *(line.replace("@", "alias.test.") for line in answer)]
    if draw(st.integers(0, 9)) == 0:
        answer = ["@ 11 IN CNAME alias.test."]
    authority = draw(st.sampled_from(([], [], [SOA], ["test. 20 IN NS ns.test."])))
    additional = draw(st.sampled_from(([], [], [], ["ns.test. 9 IN A 192.0.2.53"])))
    rcode = draw(st.sampled_from((0, 0, 0, 0, 3, 3, 2, 4, 5)))
    flags = draw(st.tuples(st.booleans(), st.booleans(), st.integers(0, 9).map(lambda n: n == 0)))
    return (rcode, *flags, answer, authority, additional)


def make_reply(request: Request, made: tuple) -> Reply:
    """What `forward` would hand on."""
    rcode, recursion, authentic, truncated, *sections = made
    message = dns.message.from_wire(request.query.head[:10] + bytes(2) + request.query.head[12:])
    reply = dns.message.make_response(message, recursion_available=recursion)
    reply.set_rcode(rcode)
    name = message.question[0].name
    for section, lines in zip((reply.answer, reply.authority, reply.additional), sections, strict=True):
        for line in lines:
            line = line.replace("@", str(name))
            if "{type}" in line:
                line = _with_data(line, message.question[0].rdtype)
            owner, ttl, rclass, rtype, data = line.split(None, 4)
            section.append(dns.rrset.from_text(owner, int(ttl), rclass, rtype, data))
    wire = reply.to_wire(max_size=65_535)
    read = read_reply(wire, int.from_bytes(wire[:2], "big"), request.query.head[HEADER_SIZE:], "forward")
    return replace(read, authentic_data=authentic, truncated=truncated)


def _with_data(line: str, rtype: int) -> str:
    head, _, number = line.partition(" {type} ")
    n = int(number)
    match rtype:
        case 28:
            return f"{head} AAAA 2001:db8::{n:x}"
        case 16:
            return f'{head} TXT "{"x" * (7 * n % 200)}"'
        case 15:
            return f"{head} MX {n} mx{n}.{line.split()[0]}"
        case 5:
            return f"{head} CNAME c{n}.test."
    return f"{head} A 192.0.2.{n}"


@st.composite
def queries(draw: st.DrawFn) -> bytes:
    """A query for one of a few names, in any letter case."""
    text = draw(labels)
    if draw(st.booleans()):
        text = text.upper()
    message = dns.message.make_query(text, draw(types))
    message.id = draw(st.integers(0, 65_535))
    message.flags = draw(st.sampled_from((0, 0x0100, 0x0110, 0x0120, 0x0010)))
    size = draw(st.sampled_from((None, 0, 512, 600, 1232, 4096)))
    if size is not None:
        message.use_edns(0, draw(st.sampled_from((0, 0x8000))), size)
    return message.to_wire()


steps = st.lists(
    st.one_of(queries(), st.sampled_from((0.4, 1.0, 3.0, 29.0, 61.0, 4000.0))), min_size=3, max_size=30
)  # fmt: skip


@given(corefile=st.sampled_from(COREFILES), steps=steps, replies=st.lists(upstream_replies(), min_size=1, max_size=4),
       stream=st.booleans(), chance=st.integers(0, 2**64 - 1))  # fmt: skip
@settings(max_examples=examples(250), deadline=None, suppress_health_check=list(HealthCheck))
def test_both_paths_answer_in_the_same_octets(corefile, steps, replies, stream, chance):
    async def play() -> None:
        made = itertools.cycle(replies)
        server = CachedServer(corefile, lambda request: make_reply(request, next(made)))
        for step in steps:
            if isinstance(step, float):
                server.wait(step)
                continue
            outcome, reply = server.fast(step, stream=stream, chance=chance)
            slow = await server.slow(step, stream=stream, chance=chance)
            if outcome != "miss":
                assert reply == slow, outcome
            if slow is not None:
                dns.message.from_wire(slow)
            # What was just kept is answered alike at once.
            outcome, reply = server.fast(step, stream=stream, chance=chance)
            if outcome == "cached":
                assert reply == await server.slow(step, stream=stream, chance=chance)
            await asyncio.sleep(0)  # entries are renewed behind a reply

    asyncio.run(play())


def ask(name: str = "a.test.", rtype: str = "A", size: int | None = None) -> bytes:
    message = dns.message.make_query(name, rtype, use_edns=size is not None, payload=size or 1232)
    return message.to_wire()


def plain(request: Request) -> Reply:
    return make_reply(request, (0, True, False, False, [f"@ 30 IN {{type}} {n}" for n in range(3)], [], []))


@pytest.mark.parametrize(("name", "is_kept"), [
    ("a.test.", False), ("x.a.test.", False), ("y.x.a.test.", False), ("b.test.", True), ("w.b.test.", True),
    ("c.test.", False),
])  # fmt: skip
def test_only_names_of_its_zones_are_looked_up(name: str, is_kept: bool):
    async def play() -> None:
        server = CachedServer(COREFILES[4], plain)
        await server.slow(ask(name))
        assert (server.fast(ask(name))[0] == "cached") == is_kept
        await server.slow(ask(name))
        assert len(server.upstream.asked) == (1 if is_kept else 2)

    asyncio.run(play())


@pytest.mark.parametrize("directive", ["acl {\n block net 203.0.113.0/24\n }", "rewrite name a.test x.a.test"])
def test_a_plugin_before_it_that_must_be_asked_keeps_names_off_the_compiled_path(directive: str):
    async def play() -> None:
        server = CachedServer(f".:53 {{\n {directive}\n cache\n erratic\n}}\n", plain)
        await server.slow(ask())
        assert server.fast(ask())[0] == "miss"
        await server.slow(ask())
        assert len(server.upstream.asked) == 1

    asyncio.run(play())


def test_ttls_count_down_and_end():
    async def play() -> list[int | None]:
        server = CachedServer(".:53 {\n cache\n erratic\n}\n", plain)
        await server.slow(ask())
        seen: list[int | None] = []
        for seconds in (0, 0.999, 0.001, 28, 0.999, 0.001):
            server.wait(seconds)
            _outcome, reply = server.fast(ask())
            seen.append(dns.message.from_wire(reply).answer[0].ttl if reply is not None else None)
        return seen

    assert asyncio.run(play()) == [30, 30, 29, 1, 1, None]


def test_hits_of_the_compiled_path_are_counted():
    async def play() -> None:
        server = CachedServer(".:53 {\n cache\n erratic\n}\n", plain)
        for _ in range(4):
            await server.ask(ask())
        zones = (".", "")
        assert server.total("requests_total", *zones) == 4
        assert server.total("misses_total", *zones) == 1
        assert server.total("hits_total", "success", *zones) == 3
        assert server.total("entries", "success", *zones) == 1

    asyncio.run(play())


def test_with_loadbalance_every_address_comes_first():
    async def play() -> set[str]:
        server = CachedServer(".:53 {\n loadbalance\n cache\n erratic\n}\n", plain)
        await server.slow(ask())
        replies = [server.fast(ask(), chance=n << 62)[1] for n in range(4)]
        return {str(dns.message.from_wire(reply).answer[0][0]) for reply in replies if reply}

    assert asyncio.run(play()) == {"192.0.2.0", "192.0.2.1", "192.0.2.2"}


def test_a_large_reply_is_cut_over_udp_and_whole_over_a_stream():
    async def play() -> None:
        many = [f"@ 30 IN {{type}} {n}" for n in range(100)]
        server = CachedServer(".:53 {\n cache\n erratic\n}\n", lambda r: make_reply(r, (0, 1, 0, 0, many, [], [])))
        query = ask("b.test.", "TXT", 1232)
        await server.slow(query)
        cut = dns.message.from_wire(server.fast(query)[1])
        whole = dns.message.from_wire(server.fast(query, stream=True)[1])
        assert cut.flags & dns.flags.TC
        assert 0 < len(cut.answer[0]) < len(whole.answer[0])

    asyncio.run(play())
