"""Which names are forwarded, whom they are asked of, and what becomes of upstreams that fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import dns.rcode
import pytest

from kdns.dns.reply import Reply
from kdns.errors import ServeError
from kdns.plugins.forward.flights import MAX_WAITERS
from tests.fakes.context import until
from tests.fakes.directives import query
from tests.fakes.logs import collected
from tests.fakes.upstream import Answer, Seen, Upstream, addressed, silent
from tests.plugins.forward.forwarding import Forwarding, Stopwatch, addresses, edns_query, forwarding, no_next


@asynccontextmanager
async def upstreams(*answers: Answer) -> AsyncIterator[list[Upstream]]:
    """Upstreams on one port of 127.0.0.1, 127.0.0.2 and so on."""
    async with AsyncExitStack() as stack:
        made: list[Upstream] = []
        for index, answer in enumerate(answers):
            upstream = Upstream(answer, host=f"127.0.0.{index + 1}", port=made[0].port if made else 0)
            made.append(await stack.enter_async_context(upstream))
        yield made


def to(made: Sequence[Upstream]) -> str:
    """Them, as a Corefile lists them."""
    return " ".join(f"{upstream.host}:{upstream.port}" for upstream in made)


def saying(rcode: str) -> Answer:
    return lambda seen: [seen.reply(rcode=dns.rcode.from_text(rcode)).to_wire()]


def at(address: str) -> Answer:
    return lambda seen: [seen.address(address)]


# Which names


async def test_names_outside_the_zone_are_handed_on() -> None:
    async with upstreams(addressed) as made, forwarding(f"forward corp.test {to(made)}") as forward:
        assert addresses(await forward.ask("a.corp.test"), "a.corp.test")
        assert addresses(await forward.ask("corp.test"), "corp.test")
        for name in ("a.test", "test", "acorp.test", "corp.test.test"):
            assert await forward.failure(name) == "2 plugin/forward: no next plugin found"


async def test_excepted_names_are_handed_on_but_never_the_zone_itself() -> None:
    async with (
        upstreams(addressed) as made,
        forwarding(f"forward corp.test {to(made)} {{", "except in.corp.test corp.test", "}") as forward,
    ):
        assert addresses(await forward.ask("corp.test"), "corp.test")
        for name in ("a.in.corp.test", "in.corp.test", "b.corp.test"):
            assert await forward.failure(name) == "2 plugin/forward: no next plugin found"


async def test_the_first_line_that_takes_a_name_answers() -> None:
    async with (
        upstreams(at("192.0.2.1"), at("192.0.2.2")) as made,
        forwarding(
            f"forward . {to(made[:1])} {{",
            "except corp.test",
            "}",
            f"forward corp.test {to(made[1:])}",
            f"forward . {to(made[:1])}",
        ) as forward,
    ):
        assert addresses(await forward.ask()) == ["192.0.2.1"]
        assert addresses(await forward.ask("a.corp.test"), "a.corp.test") == ["192.0.2.2"]


async def test_a_cidr_is_its_reverse_zone_and_only_the_first_of_several() -> None:
    with collected() as lines:
        async with upstreams(addressed) as made, forwarding(f"forward 10.2.0.0/15 {to(made)}") as forward:
            assert addresses(await forward.ask("1.0.2.10.in-addr.arpa"), "1.0.2.10.in-addr.arpa")
            assert await forward.failure("1.0.3.10.in-addr.arpa") == "2 plugin/forward: no next plugin found"
    assert lines == [
        "[WARNING] plugin/forward: Unsupported CIDR notation: '10.2.0.0/15' expands to multiple zones. "
        "Using only '2.10.in-addr.arpa.'."
    ]


async def test_next_goes_on_to_another_forward_only() -> None:
    async with (
        upstreams(saying("NXDOMAIN"), saying("SERVFAIL"), at("192.0.2.3")) as made,
        forwarding(
            f"forward . {to(made[:1])} {{", "next nxdomain", "}",
            f"forward . {to(made[1:2])} {{", "next SERVFAIL", "}",
            f"forward test {to(made[2:])} {{", "next NOERROR", "}",
        ) as forward,
    ):  # fmt: skip
        assert addresses(await forward.ask()) == ["192.0.2.3"]
        assert await forward.failure("a.example") == "2 plugin/forward: no next plugin found"


async def test_next_on_nodata_goes_on_where_there_is_nothing_of_the_type() -> None:
    async with (
        upstreams(lambda seen: [seen.reply().to_wire()], at("192.0.2.2")) as made,
        forwarding(f"forward . {to(made[:1])} {{", "next_on_nodata", "}", f"forward . {to(made[1:])}") as forward,
    ):
        assert addresses(await forward.ask()) == ["192.0.2.2"]


# Whom


async def asked(made: Sequence[Upstream], forward: Forwarding, times: int) -> list[int]:
    for number in range(times):
        await forward.ask(f"n{number}.test")
    return [upstream.count() for upstream in made]


async def test_round_robin_asks_each_as_often() -> None:
    async with (
        upstreams(addressed, addressed, addressed) as made,
        forwarding(f"forward . {to(made)} {{", "policy round_robin", "}") as forward,
    ):
        assert await asked(made, forward, 12) == [4, 4, 4]


async def test_sequential_asks_the_first() -> None:
    async with (
        upstreams(addressed, addressed) as made,
        forwarding(f"forward . {to(made)} {{", "policy sequential", "}") as forward,
    ):
        assert await asked(made, forward, 12) == [12, 0]


async def test_random_asks_everybody_about_as_often() -> None:
    async with upstreams(addressed, addressed) as made, forwarding(f"forward . {to(made)}") as forward:
        counts = await asked(made, forward, 120)
    assert sum(counts) == 120
    assert min(counts) > 30  # one in 10^8 runs has fewer


async def test_an_address_listed_twice_is_one_upstream() -> None:
    async with upstreams(addressed) as made, forwarding(f"forward . {to(made)} {to(made)} dns://{to(made)}") as forward:
        assert [upstream.address for upstream in forward.plugin.upstreams] == [to(made)]


# Answers that are none


@pytest.mark.parametrize("rcode", ["SERVFAIL", "REFUSED", "FORMERR", "NOTIMP", "NXDOMAIN"])
async def test_whatever_an_upstream_says_is_the_answer(rcode: str) -> None:
    async with (
        upstreams(saying(rcode), addressed) as made,
        forwarding(f"forward . {to(made)} {{", "policy sequential", "}") as forward,
    ):
        reply = await forward.ask()
        assert reply.rcode == dns.rcode.from_text(rcode)
        assert reply.writer == "forward"
        assert [upstream.count() for upstream in made] == [1, 0]


async def test_failover_asks_the_next_and_hands_on_the_last_answer() -> None:
    async with (
        upstreams(saying("SERVFAIL"), saying("REFUSED"), addressed) as made,
        forwarding(f"forward . {to(made)} {{", "policy sequential", "failover SERVFAIL refused", "}") as forward,
        forwarding(f"forward . {to(made[:2])} {{", "policy sequential", "failover SERVFAIL REFUSED", "}") as vain,
    ):
        assert addresses(await forward.ask()) == ["192.0.2.1"]
        assert (await vain.ask("b.test")).rcode == dns.rcode.REFUSED
        assert [upstream.count() for upstream in made] == [2, 2, 1]


# Upstreams that fail


async def test_a_silent_upstream_is_left_for_the_next() -> None:
    async with (
        upstreams(silent, addressed) as made,
        forwarding(f"forward . {to(made)} {{", "policy sequential", "read_timeout 100ms", "}") as forward,
    ):
        watch = Stopwatch()
        assert addresses(await forward.ask()) == ["192.0.2.1"]
        assert watch.seconds < 0.5
        # Until it is known to be well again others come first, though it is not down yet.
        await forward.ask("b.test")
        assert [upstream.count() for upstream in made] == [1, 2]


async def test_checks_begin_with_a_failure_and_end_with_an_answer() -> None:
    async with (
        upstreams(silent, addressed) as made,
        forwarding(
            f"forward . {to(made)} {{",
            "policy sequential",
            "health_check 20ms no_rec domain Probe.test",
            "read_timeout 50ms",
            "}",
        ) as forward,
    ):
        first = made[0]
        await forward.ask()
        await until(lambda: first.count(name="probe.test."), "a check")
        check = first.seen[-1].message
        assert check.question[0].to_text() == "probe.test. IN NS"
        assert (check.flags, check.edns) == (0, -1)
        first.answer = addressed
        await until(lambda: forward.plugin.upstreams[0].is_well, "well again")
        checks = first.count(name="probe.test.")
        await forward.ask("b.test")
        assert first.count(name="b.test.") == 1
        assert first.count(name="probe.test.") == checks


@pytest.mark.parametrize("option", ["max_fails 2", "force_tcp"])
async def test_any_reply_to_a_check_is_a_sign_of_life(option: str) -> None:
    """Servers that understand nothing of a query send back its header alone."""

    def answer(seen: Seen) -> Sequence[bytes]:
        return [seen.wire[:2] + b"\x80\x01" + bytes(8)] if seen.name == "." else []

    async with (
        upstreams(answer) as made,
        forwarding(f"forward . {to(made)} {{", "read_timeout 30ms", "health_check 10ms", option, "}") as forward,
    ):
        await forward.failure()
        await until(lambda: made[0].count(name="."), "checked")
        await until(lambda: forward.plugin.upstreams[0].is_well, "well")


async def test_an_upstream_whose_checks_fail_is_not_asked() -> None:
    async with Upstream(host="127.0.0.1") as gone:
        pass
    async with (
        Upstream(host="127.0.0.2", port=gone.port) as upstream,
        forwarding(
            f"forward . 127.0.0.1:{gone.port} 127.0.0.2:{gone.port} {{",
            "policy sequential",
            "health_check 10ms",
            "max_fails 1",
            "}",
        ) as forward,
    ):
        await forward.ask()
        first = forward.plugin.upstreams[0]
        await until(lambda: first.is_down, "down")
        upstream.answer = silent
        asking = asyncio.create_task(forward.failure("b.test"))
        await until(lambda: upstream.count(name="b.test."), "asked")
        assert forward.total("coredns_proxy_healthcheck_failures_total", "forward", f"127.0.0.1:{gone.port}") >= 2
        assert forward.total("coredns_forward_healthcheck_failures_total", f"127.0.0.1:{gone.port}") >= 2
        assert forward.total("coredns_forward_healthcheck_broken_total") == 0
        upstream.answer = addressed
        await gone.start()
        try:
            await until(lambda: first.is_well, "back")
        finally:
            asking.cancel()
            await gone.stop()


async def test_with_all_of_them_down_one_is_tried_all_the_same() -> None:
    async with (
        upstreams(silent) as made,
        forwarding(f"forward . {to(made)} {{", "health_check 10ms", "max_fails 1", "read_timeout 30ms", "}") as forward,
        forwarding(
            f"forward . {to(made)} {{",
            "health_check 10ms",
            "max_fails 1",
            "read_timeout 30ms",
            "failfast_all_unhealthy_upstreams",
            "}",
        ) as fast,
    ):
        for each in (forward, fast):
            await each.failure()
            (upstream,) = each.plugin.upstreams
            upstream._state.trouble = 3  # as after two failed checks, which would take seconds
            assert upstream.is_down
        asked_before = made[0].count()
        assert (await forward.failure("b.test")).endswith("i/o timeout")
        assert made[0].count() > asked_before
        asked_before = made[0].count()
        assert await fast.failure("b.test") == "2 no healthy proxies"
        assert made[0].count() == asked_before
        for each in (forward, fast):
            assert each.total("coredns_forward_healthcheck_broken_total") == 1


async def test_max_fails_0_is_never_down_and_never_checked() -> None:
    async with (
        upstreams(silent) as made,
        forwarding(f"forward . {to(made)} {{", "max_fails 0", "health_check 1ms", "read_timeout 20ms", "}") as forward,
    ):
        await forward.failure()
        assert forward.plugin.upstreams[0].is_well
        assert made[0].count(name=".") == 0


async def test_checks_a_dead_worker_left_behind_are_taken_over() -> None:
    async with (
        upstreams(addressed) as made,
        forwarding(f"forward . {to(made)} {{", "health_check 1ms", "}") as forward,
    ):
        (upstream,) = forward.plugin.upstreams
        upstream._state.trouble = 5  # as a worker left it that died long ago
        await forward.ask()
        await until(lambda: upstream.is_well, "checked and well")


@pytest.mark.parametrize(("option", "packets"), [("max_connect_attempts 1", 1), ("max_connect_attempts 0", 3), ("", 2)])
async def test_a_query_costs_a_few_packets_at_most(option: str, packets: int) -> None:
    async with (
        upstreams(silent) as made,
        forwarding(f"forward . {to(made)} {{", "read_timeout 20ms", option, "}") as forward,
    ):
        await forward.failure()
        assert made[0].count() == packets


async def test_many_dead_upstreams_cost_no_more_packets_than_one() -> None:
    async with (
        upstreams(*[silent] * 5) as made,
        forwarding(f"forward . {to(made)} {{", "read_timeout 20ms", "}") as forward,
    ):
        await forward.failure()
        assert sum(upstream.count() for upstream in made) == 3


async def test_the_client_hears_of_it_before_it_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdns.plugins.forward.budget.TOTAL_SECONDS", 0.25)
    async with (
        upstreams(silent, silent) as made,
        forwarding(f"forward . {to(made)} {{", "read_timeout 100ms", "}") as forward,
    ):
        watch = Stopwatch()
        await forward.failure()
        assert 0.2 < watch.seconds < 0.35


async def test_an_upstream_that_is_taken_out_is_never_asked_again() -> None:
    async with (
        upstreams(addressed, addressed) as made,
        forwarding(f"forward . {to(made)} {{", "policy sequential", "}") as forward,
    ):
        with collected() as lines:
            forward.plugin.upstreams[0].take_out("it leads back here")
            forward.plugin.upstreams[0].take_out("it leads back here")
        assert lines == [
            f"[ERROR] plugin/forward: upstream 127.0.0.1:{made[0].port} is not asked any more: it leads back here"
        ]
        await forward.ask()
        assert [upstream.count() for upstream in made] == [0, 1]
        forward.plugin.upstreams[1].take_out("so does this")
        assert await forward.failure("b.test") == "2 no healthy proxies"
        assert [upstream.count() for upstream in made] == [0, 1]


# Equal questions


async def test_equal_questions_at_once_cost_one_packet() -> None:
    async def answer(seen: Seen) -> Sequence[bytes]:
        await asyncio.sleep(0.05)
        return [seen.address()]

    async with upstreams(answer) as made, forwarding(f"forward . {to(made)}") as forward:
        spellings = [query(name) for name in ("a.test",) * 100] + [
            edns_query(name) for name in ("A.test", "a.TEST", "A.tESt") for _ in range(33)
        ]
        replies = await asyncio.gather(*(forward.ask_query(each) for each in spellings))
        assert made[0].count() == 1
        assert {tuple(addresses(reply)) for reply in replies} == {("192.0.2.1",)}


async def test_questions_that_are_not_equal_are_asked_each() -> None:
    async def answer(seen: Seen) -> Sequence[bytes]:
        await asyncio.sleep(0.05)
        return [seen.reply().to_wire()]

    different = [
        edns_query("a.test"),
        edns_query("b.test"),
        edns_query("a.test", "AAAA"),
        edns_query("a.test", use_edns=0),
        edns_query("a.test", use_edns=0, want_dnssec=True),
        edns_query("a.test", flags=0x0110),
        edns_query("a.test", rdclass="CH"),
    ]
    async with upstreams(answer) as made, forwarding(f"forward . {to(made)}") as forward:
        await asyncio.gather(*(forward.ask_query(each) for each in different))
        assert made[0].count() == len(different)


async def test_those_who_wait_hear_of_an_error_too() -> None:
    async with upstreams(silent) as made, forwarding(f"forward . {to(made)} {{", "read_timeout 50ms", "}") as forward:
        texts = await asyncio.gather(*(forward.failure() for _ in range(20)))
        assert len(set(texts)) == 1
        assert made[0].count() == 2


async def test_those_who_wait_go_on_where_the_one_who_asks_is_cancelled() -> None:
    asked_once = asyncio.Event()

    async def answer(seen: Seen) -> Sequence[bytes]:
        if not asked_once.is_set():
            asked_once.set()
            return []
        return [seen.address()]

    async with upstreams(answer) as made, forwarding(f"forward . {to(made)}") as forward:
        first = asyncio.create_task(forward.ask())
        await asked_once.wait()
        others = [asyncio.create_task(forward.ask()) for _ in range(10)]
        await asyncio.sleep(0)
        first.cancel()
        for reply in await asyncio.gather(*others):
            assert addresses(reply) == ["192.0.2.1"]
        assert made[0].count() == 2


async def test_no_more_than_so_many_wait_for_one_answer() -> None:
    async with upstreams(silent) as made, forwarding(f"forward . {to(made)} {{", "read_timeout 300ms", "}") as forward:
        asking = [asyncio.create_task(forward.failure()) for _ in range(MAX_WAITERS + 1)]
        await until(lambda: made[0].count(), "asked")
        assert await forward.failure() == f"2 more than {MAX_WAITERS} wait for the same answer"
        await asyncio.gather(*asking)


# max_concurrent


async def test_more_queries_than_allowed_are_refused_at_once() -> None:
    waiting = asyncio.Event()

    async def answer(seen: Seen) -> Sequence[bytes]:
        await waiting.wait()
        return [seen.address()]

    async with (
        upstreams(answer) as made,
        forwarding(f"forward . {to(made)} {{", "max_concurrent 3", "}") as forward,
    ):
        under_way = [asyncio.create_task(forward.ask(f"n{number}.test")) for number in range(3)]
        await until(lambda: made[0].count() == 3, "three asked")
        for _ in range(5):
            assert await forward.failure() == "5 concurrent queries exceeded maximum 3"
        assert forward.total("coredns_forward_max_concurrent_rejects_total") == 5
        waiting.set()
        await asyncio.gather(*under_way)
        assert await forward.ask()


# Files


async def test_a_resolv_conf_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdns.plugins.forward.LOOK_SECONDS", 0.01)
    file = tmp_path / "resolv.conf"
    file.write_text("nameserver 127.0.0.1\n")
    async with forwarding(f"forward test {file} 127.0.0.9:5300") as forward:
        first = forward.plugin.upstreams[0]
        running = asyncio.create_task(forward.plugin.run())
        with collected() as lines:
            file.write_text("# new\nnameserver 127.0.0.2\nnameserver 127.0.0.1\noptions ndots:5\n")
            await until(lambda: lines, "said")
            assert [upstream.address for upstream in forward.plugin.upstreams] == [
                "127.0.0.2:53",
                "127.0.0.1:53",
                "127.0.0.9:5300",
            ]
            assert forward.plugin.upstreams[1] is first
        running.cancel()
    assert lines[0] == "[INFO] plugin/forward: upstreams of test. are now 127.0.0.2:53, 127.0.0.1:53, 127.0.0.9:5300"


async def test_an_upstream_that_is_listed_no_more_is_not_checked_whatever_fails_later() -> None:
    async with (
        Upstream(silent) as old,
        Upstream(silent) as new,
        forwarding(
            f"forward . 127.0.0.1:{old.port} 127.0.0.1:{new.port} {{", "policy sequential", "read_timeout 50ms", "}"
        ) as forward,
    ):
        (forwarder,) = forward.plugin._forwarders
        asking = asyncio.create_task(forward.failure())
        await until(old.count, "asked")
        forwarder._use(list(forwarder._known)[1:])
        assert "i/o timeout" in await asking
        await until(lambda: new.count(name="."), "the other is checked")
        assert old.count(name=".") == 0


async def test_a_worker_that_begins_later_knows_the_files_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("nameserver 127.0.0.1\n")
    async with forwarding(f"forward . {file}") as forward:
        file.write_text("nameserver 127.0.0.2\n")
        running = asyncio.create_task(forward.plugin.run())
        await asyncio.sleep(0)
        assert [upstream.address for upstream in forward.plugin.upstreams] == ["127.0.0.2:53"]
        running.cancel()


async def test_a_resolv_conf_that_is_gone_or_empty_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kdns.plugins.forward.LOOK_SECONDS", 0.01)
    file = tmp_path / "resolv.conf"
    file.write_text("nameserver 127.0.0.1\n")
    async with forwarding(f"forward . {file}") as forward:
        before = forward.plugin.upstreams
        running = asyncio.create_task(forward.plugin.run())
        with collected() as lines:
            file.write_text("search a.test\n")
            await until(lambda: lines, "said")
            file.unlink()
            await until(lambda: len(lines) == 2, "said")
        running.cancel()
        assert forward.plugin.upstreams == before
    assert lines == [
        "[WARNING] plugin/forward: no valid upstream addresses found; the upstreams known so far stay",
        f'[WARNING] plugin/forward: failed to open file "{file}": No such file or directory; '
        "the upstreams known so far stay",
    ]


# Metrics


async def test_requests_are_counted_by_the_new_names_and_the_old() -> None:
    async with (
        upstreams(saying("NXDOMAIN")) as made,
        forwarding(f"forward . {to(made)}") as forward,
    ):
        await forward.ask()
        values = forward.metrics.read()
        address = to(made)
        assert forward.total("coredns_forward_requests_total", address) == 1
        assert forward.total("coredns_forward_responses_total", address, "NXDOMAIN") == 1
        assert forward.total("coredns_forward_conn_cache_misses_total", address, "udp") == 1
        for name, labels in (
            ("coredns_proxy_request_duration_seconds", ("forward", address, "NXDOMAIN")),
            ("coredns_forward_request_duration_seconds", (address, "NXDOMAIN")),
        ):
            assert labels in values[name]


async def test_the_chain_goes_on_behind_forward() -> None:
    async def answer(_: object) -> Reply:
        return Reply(3)

    async with forwarding("forward corp.test 127.0.0.1") as forward:
        request = type("Asked", (), {"query": query("a.test"), "stream": False})()
        assert (await forward.plugin.serve(request, answer)).rcode == 3
        with pytest.raises(ServeError):
            await forward.plugin.serve(request, no_next)
