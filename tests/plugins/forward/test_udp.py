"""Queries over UDP: what is believed, how long is waited, and what a query may cost."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Sequence

import dns.flags
import dns.message
import dns.rcode
import pytest

from kdns.errors import ServeError
from tests.fakes.context import until
from tests.fakes.lies import FALSE, LIES
from tests.fakes.upstream import Seen, Upstream, addressed, silent
from tests.harness.exchange import TCP, UDP
from tests.plugins.forward.forwarding import Stopwatch, addresses, edns_query, forwarding


@pytest.mark.parametrize("lie", LIES)
async def test_what_is_no_answer_is_discarded_and_the_answer_waited_for(lie: str) -> None:
    async with (
        Upstream(lambda seen: [LIES[lie](seen), seen.address()]) as upstream,
        forwarding(f"forward . 127.0.0.1:{upstream.port}") as forward,
    ):
        assert addresses(await forward.ask()) == ["192.0.2.1"]
        assert upstream.count() == 1
        assert forward.total("kdns_forward_near_misses_total", f"127.0.0.1:{upstream.port}") == 1


@pytest.mark.parametrize("lie", ["another id", "another name", "garbage"])
async def test_whoever_guesses_too_often_makes_the_query_go_over_tcp(lie: str) -> None:
    def answer(seen: Seen) -> Sequence[bytes]:
        return [seen.address()] if seen.transport == TCP else [LIES[lie](seen)] * 5 + [seen.address(FALSE)]

    async with (
        Upstream(answer) as upstream,
        forwarding(f"forward . 127.0.0.1:{upstream.port}") as forward,
    ):
        assert addresses(await forward.ask()) == ["192.0.2.1"]
        assert (upstream.count(UDP), upstream.count(TCP)) == (1, 1)


async def test_an_upstream_that_only_lies_costs_three_packets_at_most() -> None:
    async with (
        Upstream(lambda seen: [LIES["another name"](seen)] * 20) as upstream,
        forwarding(f"forward . 127.0.0.1:{upstream.port}") as forward,
    ):
        text = await forward.failure()
        assert text.startswith("2 read ")
        assert text.endswith("5 messages that are no answer, the last: another question")
        assert upstream.count() <= 3


async def test_another_source_is_not_heard() -> None:
    """The socket is connected: what comes from elsewhere never reaches it."""
    async with Upstream(silent) as liar:

        def answer(seen: Seen) -> Sequence[bytes]:
            liar.send(seen.address(FALSE), seen.client)
            return [seen.address()]

        async with (
            Upstream(answer) as upstream,
            forwarding(f"forward . 127.0.0.1:{upstream.port}") as forward,
        ):
            assert addresses(await forward.ask()) == ["192.0.2.1"]
            assert forward.total("kdns_forward_near_misses_total", f"127.0.0.1:{upstream.port}") == 0


async def test_silence_is_an_error_with_both_addresses_in_it() -> None:
    async with (
        Upstream(silent) as upstream,
        forwarding(f"forward . 127.0.0.1:{upstream.port} {{", "read_timeout 100ms", "}") as forward,
    ):
        text = await forward.failure()
        assert upstream.count() == 2
        port = [seen for seen in upstream.seen if seen.name == "a.test."][1].client[1]
        assert text == f"2 read udp 127.0.0.1:{port}->127.0.0.1:{upstream.port}: i/o timeout"


async def test_refusal_by_the_host_is_noticed_at_once() -> None:
    async with Upstream() as upstream:
        pass
    async with forwarding(f"forward . 127.0.0.1:{upstream.port}") as forward:
        watch = Stopwatch()
        text = await forward.failure()
        assert text.startswith("2 read udp 127.0.0.1:")
        assert text.endswith(f"->127.0.0.1:{upstream.port}: read: connection refused")
        assert watch.seconds < 1


async def test_a_source_address_that_is_not_ours_is_told_of() -> None:
    async with forwarding("forward . 127.0.0.1 {", "source_address 203.0.113.9", "}") as forward:
        expected = "2 dial {} 203.0.113.9:0->127.0.0.1:53: bind: cannot assign requested address"
        assert await forward.failure() == expected.format("udp")
        assert await forward.failure(stream=True) == expected.format("tcp")


async def test_ports_and_ids_are_never_shared_by_two_queries() -> None:
    waiting = asyncio.Event()

    async def answer(seen: Seen) -> Sequence[bytes]:
        await waiting.wait()
        return [seen.address()]

    async with (
        Upstream(answer) as upstream,
        forwarding(f"forward . 127.0.0.1:{upstream.port}") as forward,
    ):
        asked = [asyncio.create_task(forward.ask(f"n{number}.test")) for number in range(200)]
        await until(lambda: upstream.count() == 200, "all asked")
        waiting.set()
        await asyncio.gather(*asked)
        assert len({seen.client for seen in upstream.seen}) == 200


async def test_ports_change_from_query_to_query() -> None:
    async with (
        Upstream() as upstream,
        forwarding(f"forward . 127.0.0.1:{upstream.port}") as forward,
    ):
        for number in range(300):
            await forward.ask(f"n{number}.test")
        assert len({seen.client for seen in upstream.seen}) == 300
        assert len({seen.wire[:2] for seen in upstream.seen}) > 280


async def test_sockets_are_taken_again_once_there_are_enough() -> None:
    async with (
        Upstream() as upstream,
        forwarding(f"forward . 127.0.0.1:{upstream.port} {{", "max_idle_conns 3", "}") as forward,
    ):
        for number in range(9):
            await forward.ask(f"n{number}.test")
        ports = [seen.client[1] for seen in upstream.seen]
        assert len(set(ports)) == 3
        assert ports[:3] == ports[3:6] == ports[6:]
        to = f"127.0.0.1:{upstream.port}"
        assert forward.total("coredns_proxy_conn_cache_misses_total", "forward", to, "udp") == 3
        assert forward.total("coredns_proxy_conn_cache_hits_total", "forward", to, "udp") == 6


async def test_queries_at_once_share_the_sockets_there_are() -> None:
    async with (
        Upstream() as upstream,
        forwarding(f"forward . 127.0.0.1:{upstream.port} {{", "max_idle_conns 8", "}") as forward,
    ):
        for step in range(6):
            await asyncio.gather(*(forward.ask(f"n{number}.r{step}.test") for number in range(4)))
        assert len({seen.client for seen in upstream.seen}) == 8
        await asyncio.gather(*(forward.ask(f"m{number}.test") for number in range(20)))
        (asked,) = forward.plugin.upstreams
        assert asked._udp.alive == 8


async def test_a_socket_that_timed_out_is_not_used_again() -> None:
    """A late answer must not meet another query."""
    late: list[Seen] = []

    def answer(seen: Seen) -> Sequence[bytes]:
        if seen.name == "slow.test.":
            late.append(seen)
            return []
        return [seen.address()]

    async with (
        Upstream(answer) as upstream,
        forwarding(f"forward . 127.0.0.1:{upstream.port} {{", "read_timeout 50ms", "max_idle_conns 1", "}") as forward,
    ):
        await forward.failure("slow.test")
        await forward.ask("quick.test")
        assert upstream.seen[-1].client not in [seen.client for seen in late]


async def test_ports_are_used_again_where_descriptors_are_short() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with (
        Upstream() as upstream,
        forwarding(f"forward . 127.0.0.1:{upstream.port}") as forward,
    ):
        await forward.ask("first.test")
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        try:
            for number in range(5):
                assert addresses(await forward.ask(f"n{number}.test")) == ["192.0.2.1"]
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert len({seen.client for seen in upstream.seen}) < 6


async def test_idle_sockets_are_closed() -> None:
    async with (
        Upstream() as upstream,
        forwarding(f"forward . 127.0.0.1:{upstream.port} {{", "expire 20ms", "}") as forward,
    ):
        await forward.ask()
        (asked,) = forward.plugin.upstreams
        idle = next(iter(asked._udp._idle))
        running = asyncio.create_task(forward.plugin.run())
        await until(lambda: idle.socket.fileno() < 0, "closed")
        running.cancel()


async def test_the_query_goes_out_with_the_clients_flags_and_edns() -> None:
    async with (
        Upstream() as upstream,
        forwarding(f"forward . 127.0.0.1:{upstream.port}") as forward,
    ):
        await forward.ask_query(edns_query("plain.test"))
        flags = dns.flags.RD | dns.flags.CD | dns.flags.AD
        cookie = dns.edns.GenericOption(10, b"12345678")
        subnet = dns.edns.ECSOption("192.0.2.0", 24)
        asked = edns_query(
            "full.test", "MX", use_edns=0, payload=1400, want_dnssec=True, options=[cookie, subnet], flags=flags
        )
        await forward.ask_query(asked)
        plain, full = (seen.message for seen in upstream.seen)
    assert plain.edns < 0
    assert plain.flags == dns.flags.RD
    assert full.flags == flags
    assert (full.payload, full.ednsflags) == (1400, dns.flags.DO)
    assert [option.otype for option in full.options] == [dns.edns.OptionType.ECS]
    assert full.question[0].to_text() == "full.test. IN MX"


async def test_other_classes_go_out_unchanged_but_those_that_mean_nothing() -> None:
    async with (
        Upstream(lambda seen: [seen.reply().to_wire()]) as upstream,
        forwarding(f"forward . 127.0.0.1:{upstream.port}") as forward,
    ):
        await forward.ask_query(edns_query("version.bind", "TXT", rdclass="CH"))
        assert upstream.seen[0].message.question[0].rdclass == dns.rdataclass.CH
        for rclass in ("ANY", "NONE"):
            with pytest.raises(ServeError, match=r"^$"):
                await forward.ask_query(edns_query("a.test", rdclass=rclass))
        assert upstream.count() == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_zone_transfers_are_refused(stream: bool) -> None:
    async with Upstream() as upstream, forwarding(f"forward . 127.0.0.1:{upstream.port}") as forward:
        for rtype in ("AXFR", "IXFR"):
            with pytest.raises(ServeError, match=r"^$") as caught:
                await forward.ask(rtype=rtype, stream=stream)
            assert caught.value.rcode == dns.rcode.REFUSED
        assert upstream.count() == 0


async def test_truncated_replies_are_passed_on() -> None:
    async with (
        Upstream(lambda seen: [seen.reply("a.test. 60 IN A 192.0.2.1", tc=True).to_wire()]) as upstream,
        forwarding(f"forward . 127.0.0.1:{upstream.port}") as forward,
    ):
        reply = await forward.ask()
        assert reply.truncated
        assert addresses(reply) == ["192.0.2.1"]
        assert upstream.count(TCP) == 0


async def test_prefer_udp_asks_again_over_tcp_what_was_truncated() -> None:
    def answer(seen: Seen) -> Sequence[bytes]:
        return [seen.reply("a.test. 60 IN A 192.0.2.1", tc=seen.transport == UDP).to_wire()]

    async with (
        Upstream(answer) as upstream,
        forwarding(f"forward . 127.0.0.1:{upstream.port} {{", "prefer_udp", "}") as forward,
    ):
        reply = await forward.ask(stream=True)
        assert not reply.truncated
        assert [seen.transport for seen in upstream.seen] == [UDP, TCP]


async def test_what_is_truncated_costs_three_packets_where_tcp_is_refused() -> None:
    """A connection that did not come about costs nothing; what went out over UDP before it does."""
    async with Upstream(lambda seen: [seen.reply(tc=True).to_wire()]) as upstream:
        assert upstream._tcp is not None
        upstream._tcp.close()
        others = " ".join(f"127.0.0.{number}:{upstream.port}" for number in range(2, 9))
        async with forwarding(
            f"forward . 127.0.0.1:{upstream.port} {others} {{",
            "policy sequential",
            "prefer_udp",
            "max_connect_attempts 0",
            "read_timeout 100ms",
            "}",
        ) as forward:
            assert (await forward.failure()).startswith("2 ")
            assert 1 <= upstream.count() <= 3


@pytest.mark.parametrize("kind", ["twice", "refused later"])
async def test_what_comes_unasked_leaves_nothing_of_its_socket(kind: str) -> None:
    upstream = Upstream((lambda seen: [seen.address()] * 2) if kind == "twice" else addressed)
    await upstream.start()
    async with forwarding(f"forward . 127.0.0.1:{upstream.port} {{", "expire 1h", "}") as forward:
        pool = forward.plugin.upstreams[0]._udp
        for number in range(20):
            await forward.ask(f"n{number}.test")
        await upstream.stop()
        if kind == "refused later":
            for socket in pool._idle:
                socket.socket.send(b"is anybody there")
        await until(lambda: not pool._idle and not pool.alive, "nothing is kept")


async def test_source_address_is_where_queries_come_from() -> None:
    async with (
        Upstream() as upstream,
        forwarding(f"forward . 127.0.0.1:{upstream.port} {{", "source_address 127.0.0.9", "}") as forward,
    ):
        await forward.ask()
        await forward.ask(stream=True)
        assert [seen.client[0] for seen in upstream.seen] == ["127.0.0.9", "127.0.0.9"]


async def test_replies_over_ipv6_are_heard() -> None:
    async with (
        Upstream(host="::1") as upstream,
        forwarding(f"forward . [::1]:{upstream.port}") as forward,
    ):
        assert addresses(await forward.ask()) == ["192.0.2.1"]
        assert forward.plugin.upstreams[0].address == f"[::1]:{upstream.port}"
