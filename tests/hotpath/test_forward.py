"""Forwarding on the compiled path: what it does itself, and what it hands back to the slow one."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Awaitable, Callable, Sequence

import dns.edns
import dns.flags
import dns.message
import pytest

from tests.fakes.forwarded import ForwardingServer
from tests.fakes.upstream import Answer, Seen, Upstream, addressed, silent
from tests.harness.exchange import TCP, UDP

Test = Callable[[ForwardingServer, Upstream], Awaitable[None]]


def run(test: Test, answer: Answer = addressed, options: str = "", before: str = "") -> None:
    """Run a test with a server before an upstream."""

    async def play() -> None:
        async with Upstream(answer) as upstream:
            block = f".:53 {{\n{before}\nforward . 127.0.0.1:{upstream.port} {{\n{options}\n}}\n}}\n"
            async with ForwardingServer(block).serving() as server:
                await test(server, upstream)

    asyncio.run(play())


def query(name: str = "a.test.", rtype: str = "A", **edns: object) -> bytes:
    return dns.message.make_query(name, rtype, **edns).to_wire()  # type: ignore[arg-type]


def address_in(reply: bytes) -> str:
    return dns.message.from_wire(reply).answer[-1].to_text().split()[-1]


def test_a_plain_query_never_reaches_the_slow_path():
    async def test(server: ForwardingServer, upstream: Upstream) -> None:
        asked = query("wWw.A.test.")
        (reply,) = await server.ask(asked)
        assert reply[:2] == asked[:2]
        assert reply[12 : len(asked)] == asked[12:], "the client's own spelling"
        assert address_in(reply) == "192.0.2.1"
        assert server.slow == []
        assert server.outcomes() == {"forwarded": 1}
        to = f"127.0.0.1:{upstream.port}"
        assert server.total("coredns_forward_requests_total", to) == 1
        assert server.total("coredns_forward_responses_total", to, "NOERROR") == 1
        assert server.total("coredns_proxy_conn_cache_misses_total", "forward", to, "udp") == 1

    run(test)


def test_what_is_asked_is_what_the_slow_path_would_ask():
    async def test(server: ForwardingServer, upstream: Upstream) -> None:
        cookie = dns.edns.GenericOption(10, b"12345678")
        for sent in (
            query(),
            query(use_edns=0, payload=1232),
            query(want_dnssec=True, payload=700, options=[cookie]),
            query("b.test.", flags=dns.flags.CD | dns.flags.AD),
        ):
            await server.ask(sent)
            assert server.slow == []
            got, wanted = upstream.seen[-1].message, dns.message.from_wire(sent)
            assert (got.question, got.flags, got.edns, got.ednsflags, got.options) == (
                wanted.question, wanted.flags, wanted.edns, wanted.ednsflags, (),
            )  # fmt: skip
            assert not sent[11] or got.payload == wanted.payload

    run(test)


@pytest.mark.parametrize(
    "sent",
    [
        query(rtype="ANY"),
        query(rtype="HINFO"),
        query(options=[dns.edns.ECSOption("192.0.2.0", 24)]),
        query(options=[dns.edns.GenericOption(3, b"")]),
    ],
)
def test_unusual_queries_go_the_slow_path(sent):
    async def test(server: ForwardingServer, upstream: Upstream) -> None:
        await server.ask(sent)
        assert len(server.slow) == 1
        assert server.outcomes() == {"miss": 1}

    run(test)


def test_equal_questions_are_asked_once():
    release = asyncio.Event()

    async def held(seen: Seen) -> Sequence[bytes]:
        await release.wait()
        return [seen.address()]

    async def test(server: ForwardingServer, upstream: Upstream) -> None:
        sent = [struct.pack("!H", number) + query("a.TEST." if number % 2 else "a.test.")[2:] for number in range(200)]
        asking = asyncio.ensure_future(server.ask_all(sent))
        await server.wait_for(200)
        release.set()
        replies = await asking
        assert sorted(reply[:2] for reply in replies) == [message[:2] for message in sent]
        assert all(reply[12:24] == sent[int.from_bytes(reply[:2], "big")][12:24] for reply in replies)
        assert upstream.count() == 1
        assert server.slow == []
        assert server.engines[0].waiting == 0

    run(test, held)


@pytest.mark.parametrize(
    "forge",
    [
        lambda seen: bytes((seen.wire[0] ^ 1, *seen.address()[1:])),
        lambda seen: seen.address().replace(b"\1a\4test", b"\1b\4test"),
        lambda seen: seen.address()[:12] + seen.address()[12:].replace(b"\0\1\0\1", b"\0\1\0\3", 1),
        lambda seen: seen.wire,
        lambda seen: seen.address()[:-3],
        lambda seen: seen.wire[:2],
        lambda seen: b"",
        lambda seen: seen.wire[:2] + b"\x81\x80" + bytes(8),
    ],
    ids=["id", "name", "class", "query", "cut", "two octets", "empty", "no question"],
)
def test_what_is_no_answer_is_waited_past(forge):
    async def test(server: ForwardingServer, upstream: Upstream) -> None:
        (reply,) = await server.ask(query())
        assert address_in(reply) == "192.0.2.1"
        assert upstream.count() == 1
        assert server.slow == []
        assert server.total("kdns_forward_near_misses_total", f"127.0.0.1:{upstream.port}") == 1

    run(test, lambda seen: [forge(seen), seen.address()])


def test_guesses_lead_to_tcp():
    def answer(seen: Seen) -> Sequence[bytes]:
        if seen.transport == TCP:
            return [seen.address("192.0.2.2")]
        return [bytes((seen.wire[0], seen.wire[1] ^ number)) + seen.address()[2:] for number in range(1, 6)]

    async def test(server: ForwardingServer, upstream: Upstream) -> None:
        (reply,) = await server.ask(query())
        assert address_in(reply) == "192.0.2.2"
        assert (upstream.count(UDP), upstream.count(TCP)) == (1, 1)

    run(test, answer)


def test_silence_is_handed_back_with_what_was_spent():
    async def test(server: ForwardingServer, upstream: Upstream) -> None:
        begun = time.monotonic()
        replies = await server.ask_all([query(), query()])
        assert {dns.message.from_wire(reply).rcode() for reply in replies} == {2}
        assert time.monotonic() - begun < 5
        assert upstream.count() <= 3
        assert server.total("coredns_forward_requests_total", f"127.0.0.1:{upstream.port}") == upstream.count()
        assert len(server.slow) == 2

    run(test, silent, "read_timeout 200ms\nmax_fails 0")


def test_another_upstream_answers_for_a_silent_one():
    async def test(server: ForwardingServer, upstream: Upstream) -> None:
        async with Upstream() as other:
            block = (
                f".:53 {{\nforward . 127.0.0.1:{upstream.port} 127.0.0.1:{other.port} {{\n"
                "policy sequential\nread_timeout 100ms\n}\n}\n"
            )
            async with ForwardingServer(block).serving() as both:
                (reply,) = await both.ask(query())
                assert address_in(reply) == "192.0.2.1"
                assert (upstream.count(), other.count()) == (1, 1)
                # It is known to be in trouble now, so the other one is asked at once.
                (reply,) = await both.ask(query("b.test."))
                assert (upstream.count(), other.count()) == (1, 2)
                assert both.slow == []

    run(test, silent)


def test_whoever_was_not_asked_comes_first():
    """Also where nobody remembers who failed."""

    async def test(server: ForwardingServer, upstream: Upstream) -> None:
        async with Upstream(silent) as second, Upstream() as third:
            block = (
                f".:53 {{\nforward . 127.0.0.1:{upstream.port} 127.0.0.1:{second.port} 127.0.0.1:{third.port} {{\n"
                "policy sequential\nmax_fails 0\nread_timeout 100ms\n}\n}\n"
            )
            async with ForwardingServer(block).serving() as three:
                for number in range(30):  # more than the slow path would get
                    (reply,) = await three.ask(query(f"n{number}.test."))
                    assert address_in(reply) == "192.0.2.1"
                assert (upstream.count(), second.count(), third.count()) == (30, 30, 30)
                assert three.slow == []

    run(test, silent)


def test_what_was_spent_counts_for_those_who_waited_only():
    def answer(seen: Seen) -> Sequence[bytes]:
        return [seen.reply(f"{seen.name} 60 IN A 192.0.2.1", tc=seen.transport == UDP).to_wire()]

    async def test(server: ForwardingServer, upstream: Upstream) -> None:
        replies = await server.ask_all([query(), query(), query()])
        assert [address_in(reply) for reply in replies] == ["192.0.2.1"] * 3
        assert server.engines[0].waiting == 0
        compiled = server.engines[0].on_handed_back.__self__  # type: ignore[union-attr]
        assert compiled.take_spent(query()[12:]) is None

    run(test, answer, "prefer_udp")


def test_the_last_of_upstreams_that_refuse_counts():
    def refusing(rcode: int) -> Answer:
        return lambda seen: [seen.reply(rcode=rcode).to_wire()]

    async def test(server: ForwardingServer, upstream: Upstream) -> None:
        async with Upstream(refusing(5)) as other:
            block = (
                f".:53 {{\nforward . 127.0.0.1:{upstream.port} 127.0.0.1:{other.port} {{\n"
                "policy sequential\nfailover SERVFAIL REFUSED\n}\n}\n"
            )
            async with ForwardingServer(block).serving() as both:
                (reply,) = await both.ask(query())
                assert dns.message.from_wire(reply).rcode() == 5
                assert (upstream.count(), other.count()) == (1, 1)

    run(test, refusing(2))


def test_a_late_answer_is_not_taken_for_another():
    async def late(seen: Seen) -> Sequence[bytes]:
        if seen.name == "slow.test.":
            await asyncio.sleep(0.5)
        return [seen.address()]

    async def test(server: ForwardingServer, upstream: Upstream) -> None:
        slow = asyncio.ensure_future(server.ask(query("slow.test.")))
        await asyncio.sleep(0.2)
        for number in range(20):
            (reply,) = await server.ask(query(f"n{number}.test."))
            assert dns.message.from_wire(reply).question[0].name.to_text() == f"n{number}.test."
        (reply,) = await slow
        assert dns.message.from_wire(reply).question[0].name.to_text() == "slow.test."

    run(test, late, "read_timeout 100ms\nmax_fails 0")


def test_a_port_that_refuses_is_handed_back_at_once():
    async def test(server: ForwardingServer, upstream: Upstream) -> None:
        await upstream.stop()
        begun = time.monotonic()
        (reply,) = await server.ask(query())
        assert dns.message.from_wire(reply).rcode() == 2
        assert time.monotonic() - begun < 1.5
        assert server.engines[0].waiting == 0
        await upstream.start()

    run(test, options="max_fails 0")


def test_truncation_reaches_the_client_or_leads_to_tcp():
    def answer(seen: Seen) -> Sequence[bytes]:
        return [seen.address() if seen.transport == TCP else seen.reply(tc=True).to_wire()]

    async def passed_on(server: ForwardingServer, upstream: Upstream) -> None:
        (reply,) = await server.ask(query())
        assert dns.message.from_wire(reply).flags & dns.flags.TC
        assert (server.slow, upstream.count(TCP)) == ([], 0)

    async def followed(server: ForwardingServer, upstream: Upstream) -> None:
        (reply,) = await server.ask(query())
        assert address_in(reply) == "192.0.2.1"
        assert (upstream.count(UDP), upstream.count(TCP)) == (1, 1)

    run(passed_on, answer)
    run(followed, answer, "prefer_udp")


def test_options_for_the_client_come_by_the_slow_path():
    def answer(seen: Seen) -> Sequence[bytes]:
        reply = seen.reply(rcode=2)
        reply.use_edns(0, options=[dns.edns.EDEOption(22, "nobody")])
        return [reply.to_wire()]

    async def test(server: ForwardingServer, upstream: Upstream) -> None:
        (reply,) = await server.ask(query(use_edns=0, payload=1232))
        assert dns.message.from_wire(reply).options[0].text == "nobody"
        assert upstream.count() == 2

    run(test, answer)


def test_a_reply_is_cut_to_what_the_client_takes():
    def answer(seen: Seen) -> Sequence[bytes]:
        return [seen.reply(*(f"{seen.name} 60 IN A 192.0.2.{n}" for n in range(60))).to_wire(max_size=65_535)]

    async def test(server: ForwardingServer, upstream: Upstream) -> None:
        for sent, limit in ((query(), 512), (query(use_edns=0, payload=800), 800), (query(payload=1232), 1232)):
            (reply,) = await server.ask(sent)
            read = dns.message.from_wire(reply)
            assert limit - 16 < len(reply) <= limit or not read.flags & dns.flags.TC
            assert bool(read.flags & dns.flags.TC) == (limit < 1000)
        assert server.slow == []

    run(test, answer)


def test_concurrent_queries_count_against_the_limit():
    release = asyncio.Event()

    async def held(seen: Seen) -> Sequence[bytes]:
        await release.wait()
        return [seen.address()]

    async def test(server: ForwardingServer, upstream: Upstream) -> None:
        asking = [asyncio.ensure_future(server.ask(query(f"n{number}.test."))) for number in range(3)]
        await server.wait_for(3)
        (refused,) = await server.ask(query("n4.test."))
        assert dns.message.from_wire(refused).rcode() == 5
        assert server.total("coredns_forward_max_concurrent_rejects_total") == 1
        release.set()
        assert all(address_in(reply) == "192.0.2.1" for (reply,) in await asyncio.gather(*asking))
        (reply,) = await server.ask(query("n5.test."))
        assert address_in(reply) == "192.0.2.1"

    run(test, held, "max_concurrent 3")


def test_a_flood_of_questions_is_bounded_and_answered():
    async def test(server: ForwardingServer, upstream: Upstream) -> None:
        for start in range(0, 4800, 100):
            await server.ask_all([query(f"n{number}.test.") for number in range(start, start + 100)], 0)
            await server.wait_for(start + 100)
        assert server.engines[0].waiting == 4096
        slow = server.outcomes()["miss"]
        assert server.outcomes() == {"forwarded": 4800 - slow, "miss": slow}
        assert slow == len(server.slow) == 704 - server.engines[0].overloaded
        sent = [query(f"m{number}.test.") for number in range(300)]
        replies = await server.ask_all(sent, 150)
        assert {dns.message.from_wire(reply).rcode() for reply in replies} == {2}

    run(test, silent, "read_timeout 60s\nmax_fails 0")


@pytest.mark.parametrize("before", ["", "cache"])
def test_a_flood_beyond_the_limit_is_refused(before):
    sent = [
        query(f"N{number}.Test.", flags=dns.flags.CD, want_dnssec=bool(number % 2), use_edns=number % 3 > 0 or None)
        for number in range(60)
    ]

    async def ask(server: ForwardingServer) -> tuple[list[bytes], ForwardingServer]:
        for number in range(2):
            await server.ask_all([query(f"first{number}.test.")], 0)
        if server.is_compiled:
            await server.wait_for(2)
            # The slow path's share is used up.
            await server.ask_all([query(f"a{number}.test.") for number in range(110)])
        return [(await server.ask(message))[0] for message in sent], server

    async def test(server: ForwardingServer, upstream: Upstream) -> None:
        replies, _ = await ask(server)
        assert {dns.message.from_wire(reply).rcode() for reply in replies} == {5}
        assert len(server.slow) <= 200
        assert server.engines[0].refused > 0
        assert server.total("coredns_forward_max_concurrent_rejects_total") == 170
        assert upstream.count() == 2
        async with ForwardingServer(server.corefile, is_compiled=False).serving() as other:
            reference, _ = await ask(other)
        assert replies == reference

    run(test, silent, "max_concurrent 2\nread_timeout 60s", before)


def test_failures_beyond_what_the_slow_path_can_tell_of_are_answered():
    async def test(server: ForwardingServer, upstream: Upstream) -> None:
        sent = [query(f"n{number}.test.") for number in range(200)]
        replies = await server.ask_all(sent)
        assert {dns.message.from_wire(reply).rcode() for reply in replies} == {2}
        assert sorted(reply[:2] for reply in replies) == sorted(message[:2] for message in sent)
        assert server.engines[0].unanswered == 200 - len(server.slow) > 0
        assert server.engines[0].waiting == 0
        assert upstream.count() <= 600

    run(test, silent, "read_timeout 100ms\nmax_fails 0")


def test_an_upstream_in_doubt_is_asked_where_there_is_no_other():
    """One lost datagram must not send everybody the slow path."""

    is_checked = asyncio.Event()

    def deaf_at_first(seen: Seen) -> Sequence[bytes]:
        if seen.name == ".":
            is_checked.set()
        return [] if seen.name in ("lost.test.", ".") else [seen.address()]

    async def test(server: ForwardingServer, upstream: Upstream) -> None:
        lost = asyncio.ensure_future(server.ask(query("lost.test.")))
        await is_checked.wait()
        for number in range(50):
            (reply,) = await server.ask(query(f"n{number}.test."))
            assert address_in(reply) == "192.0.2.1"
        assert server.slow == []
        await lost
        assert len(server.slow) == 1

    run(test, deaf_at_first, "read_timeout 300ms\nhealth_check 10ms\nmax_fails 1000")


def test_with_all_upstreams_down_one_is_asked_all_the_same():
    def deaf_to_checks(seen: Seen) -> Sequence[bytes]:
        return [] if seen.name in ("lost.test.", ".") else [seen.address()]

    async def test(server: ForwardingServer, upstream: Upstream) -> None:
        await server.ask(query("lost.test."))
        while not server.total("coredns_forward_healthcheck_broken_total"):
            (reply,) = await server.ask(query("a.test."))
            assert address_in(reply) == "192.0.2.1"
        assert len(server.slow) == 1

    run(test, deaf_to_checks, "read_timeout 50ms\nhealth_check 10ms\nmax_fails 1")


def test_with_all_upstreams_down_it_may_fail_at_once():
    async def test(server: ForwardingServer, upstream: Upstream) -> None:
        while not server.total("coredns_forward_healthcheck_broken_total"):
            await server.ask(query("a.test."))
        replies = await server.ask_all([query(f"n{number}.test.") for number in range(200)])
        assert {dns.message.from_wire(reply).rcode() for reply in replies} == {2}
        assert {seen.name for seen in upstream.seen} == {"a.test.", "."}
        assert server.engines[0].overloaded > 0

    run(test, silent, "read_timeout 30ms\nhealth_check 10ms\nmax_fails 1\nfailfast_all_unhealthy_upstreams")


def test_ports_are_fresh_until_there_are_enough():
    async def test(server: ForwardingServer, upstream: Upstream) -> None:
        for number in range(100):
            await server.ask(query(f"n{number}.test."))
        assert len({seen.client for seen in upstream.seen}) == 100
        ids = {seen.wire[:2] for seen in upstream.seen}
        assert len(ids) > 95

    run(test)


def test_round_robin_goes_around():
    async def test(server: ForwardingServer, upstream: Upstream) -> None:
        async with Upstream() as other:
            block = (
                f".:53 {{\nforward . 127.0.0.1:{upstream.port} 127.0.0.1:{other.port} {{\npolicy round_robin\n}}\n}}\n"
            )
            async with ForwardingServer(block).serving() as both:
                for number in range(6):
                    await both.ask(query(f"n{number}.test."))
                assert (upstream.count(), other.count()) == (3, 3)
                assert both.slow == []

    run(test)


@pytest.mark.parametrize(
    ("block", "is_compiled"),
    [
        ("forward . 127.0.0.1:1", True),
        ("errors\nloadbalance\nloop\nprometheus\nforward . 127.0.0.1:1 {\nmax_concurrent 1000\n}", True),
        ("cache 30 {\ndisable success cluster.local\n}\nforward . 127.0.0.1:1", True),
        ("forward . 127.0.0.1:1 {\nforce_tcp\n}", False),
        ("forward . tls://127.0.0.1", False),
        ("log\nforward . 127.0.0.1:1", False),
        ("cancel\nforward . 127.0.0.1:1", False),
        ("cache {\nserve_stale\n}\nforward . 127.0.0.1:1", False),
        ("acl {\nallow\n}\nforward . 127.0.0.1:1", False),
        ("minimal\nforward . 127.0.0.1:1", False),
        ("forward test 127.0.0.1:1", False),
        ("forward . 127.0.0.1:1 {\nexcept .\n}", False),
        ("forward . 127.0.0.1:1 {\nmax_idle_conns 3\n}", False),
    ],
)
def test_which_blocks_are_forwarded_on_the_compiled_path(block, is_compiled):
    from kdns import resolver
    from kdns.corefile import parse
    from kdns.plugins import ORDER
    from kdns.plugins.plugin import Surroundings

    built = resolver.build(parse(f".:53 {{\n{block}\n}}\n", "Corefile", ORDER, {}), Surroundings(), 53)
    root = next(route for route in built.listeners[0].routes() if route.suffix == b"\0")
    assert (root.forwarding is not None) == is_compiled


def test_names_of_other_plugins_are_not_forwarded():
    async def test(server: ForwardingServer, upstream: Upstream) -> None:
        for name in ("known.test.", "a.excepted.test."):
            await server.ask(query(name))
        assert len(server.slow) == 2
        assert upstream.count() == 0
        await server.ask(query("unknown.test."))
        assert (len(server.slow), upstream.count()) == (2, 1)

    run(test, options="except excepted.test", before="hosts {\n192.0.2.9 known.test\nfallthrough\n}")
