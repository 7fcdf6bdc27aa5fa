"""What `cache` keeps, for how long, and what clients get."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import dns.flags
import pytest

from kdns.dns import names
from kdns.dns.codes import RRType
from kdns.dns.compression import Body
from kdns.dns.reply import Reply
from kdns.dns.rrset import Record
from kdns.plugins.plugin import Request
from tests.fakes.cached import CachedServer
from tests.fakes.cached_upstream import Upstream, address, ask, body_of, question, server, settle, soa, ttls
from tests.fakes.directives import request


@pytest.mark.parametrize(("kind", "is_kept", "ttl"), [
    ("answer", True, 60), ("nxdomain", True, 60), ("nodata", True, 60), ("alias to nothing", True, 60),
    ("empty", True, 5), ("delegation", True, 5), ("servfail", True, 5), ("notimp", True, 5),
    ("nxdomain without soa", False, 5), ("nxdomain with answers", False, 5), ("alias", False, 60),
    ("refused", False, 5), ("formerr", False, 5), ("truncated", False, 60),
    ("of the table", False, 60), ("of the server", False, 5),
])  # fmt: skip
async def test_what_is_kept_and_for_how_long(kind: str, is_kept: bool, ttl: int):
    cached = server(upstream=Upstream(kind))
    first, second = await ask(cached), await ask(cached)
    assert len(cached.upstream.asked) == (1 if is_kept else 2)
    assert ttls(first) <= {ttl}
    assert first.rcode() == second.rcode()
    assert bool(second.flags & dns.flags.AA) is is_kept
    cached.wait(ttl - 0.001)
    await ask(cached)
    assert len(cached.upstream.asked) == (1 if is_kept else 3)
    cached.wait(0.001)
    await ask(cached)
    assert len(cached.upstream.asked) == (2 if is_kept else 4)


@pytest.mark.parametrize(("options", "upstream", "expected"), [
    ("success 9984 20 10", Upstream(ttl=300), 20), ("success 9984 20 10", Upstream(ttl=3), 10),
    ("success 9984 20 10", Upstream(ttl=15), 15), ("success 9984 5 10", Upstream(ttl=15), 5),
    ("denial 9984 20 10", Upstream("nxdomain", 300), 20), ("denial 9984 20 10", Upstream("nodata", 3), 10),
    ("denial 9984 20 10", Upstream(ttl=3), 5), ("success 9984 60 0", Upstream(ttl=2), 2),
    ("", Upstream(ttl=90_000), 3600), ("", Upstream("nxdomain", 90_000), 1800), ("", Upstream(ttl=0), 5),
    ("", Upstream(ttl=2**31 - 1), 3600), ("success 1 99999", Upstream(ttl=90_000), 90_000),
])  # fmt: skip
async def test_ttls_are_raised_and_cut_on_a_miss_and_on_a_hit(options: str, upstream: Upstream, expected: int):
    cached = server(options, upstream)
    assert [ttls(await ask(cached)) for _ in range(2)] == [{expected}, {expected}]


async def test_a_ttl_of_zero_without_a_least_one_is_not_kept():
    cached = server("success 9984 60 0", Upstream(ttl=0))
    assert [ttls(await ask(cached)) for _ in range(2)] == [{0}, {0}]
    assert len(cached.upstream.asked) == 2


async def test_the_lowest_ttl_of_all_sections_becomes_everybodys():
    def mixed(asked: Request) -> Reply:
        alias = names.from_text("alias.test")
        records = [Record(asked.query.qname, 5, 30, alias), Record(alias, 1, 20, b"\1\2\3\4")]
        return Reply(body=body_of(asked, records, [soa(9)]), writer="forward")

    cached = CachedServer(".:53 {\n cache\n erratic\n}\n", mixed)
    assert [ttls(await ask(cached)) for _ in range(2)] == [{9}, {9}]


async def test_a_ttl_with_the_first_bit_set_is_none():
    """RFC 2181, 8."""
    cached = server(upstream=Upstream(ttl=2**31))
    assert ttls(await ask(cached)) == {5}


async def test_keepttl_shows_the_ttl_as_it_was_and_lets_it_end_all_the_same():
    cached = server("keepttl", Upstream(ttl=20))
    await ask(cached)
    cached.wait(19)
    assert ttls(await ask(cached)) == {20}
    cached.wait(1)
    await ask(cached)
    assert len(cached.upstream.asked) == 2


async def test_servfail_says_how_long_failures_are_kept():
    for options, seconds in (("servfail 30s", 30), ("servfail 0", 0)):
        cached = server(options, Upstream("servfail"))
        await ask(cached)
        cached.wait(max(0, seconds - 1))
        await ask(cached)
        assert len(cached.upstream.asked) == (1 if seconds else 2)


async def test_a_failure_of_the_server_itself_is_an_error_each_time():
    cached = server(upstream=Upstream("error"))
    assert [(await ask(cached)).rcode() for _ in range(2)] == [2, 2]
    assert len(cached.upstream.asked) == 2


async def test_disabled_zones_are_not_kept_but_their_ttls_are_cut():
    cached = server("disable success a.test\ndisable denial b.test", arguments="30")
    for name, count in (("x.a.test.", 2), ("x.b.test.", 1)):
        before = len(cached.upstream.asked)
        assert [ttls(await ask(cached, question(name))) for _ in range(2)] == [{30}, {30}]
        assert len(cached.upstream.asked) - before == count
    cached.upstream.answer.kind = "nxdomain"  # type: ignore[attr-defined]
    for name, count in (("y.a.test.", 1), ("y.b.test.", 2)):
        before = len(cached.upstream.asked)
        await ask(cached, question(name))
        await ask(cached, question(name))
        assert len(cached.upstream.asked) - before == count


@pytest.mark.parametrize(("one", "other", "is_same"), [
    (question(), question("A.TEST."), True), (question(), question(do=True), False),
    (question(), question(flags=0x0110), False), (question(), question(flags=0x0120), True),
    (question(), question(flags=0), True), (question(), question(rtype="AAAA"), False),
    (question(do=True), question(do=True, flags=0x0110), False),
])  # fmt: skip
async def test_name_type_do_and_cd_are_the_key(one: bytes, other: bytes, is_same: bool):
    cached = server()
    await ask(cached, one)
    await ask(cached, other)
    assert len(cached.upstream.asked) == (1 if is_same else 2)


async def test_the_question_comes_back_as_it_was_spelled():
    cached = server()
    await ask(cached)
    reply = await ask(cached, question("A.tEsT."))
    assert str(reply.question[0].name) == "A.tEsT."
    assert str(reply.answer[0].name) == "A.tEsT."


@pytest.mark.parametrize(("message", "has_ad"), [
    (question(do=True), True), (question(do=True, flags=0x0120), True), (question(flags=0x0120), True),
    (question(), False),
])  # fmt: skip
async def test_ad_goes_to_those_who_understand_it(message: bytes, has_ad: bool):
    cached = server(upstream=Upstream(authentic=True))
    for _ in range(2):
        assert bool((await ask(cached, message)).flags & dns.flags.AD) is has_ad


async def test_the_servers_behind_are_always_asked_with_ad():
    cached = server()
    await ask(cached)
    assert cached.upstream.asked[0].query.authentic_data


@pytest.mark.parametrize(("qclass", "qtype"), [(3, 16), (3, 1), (1, RRType.AXFR), (1, RRType.IXFR)])
async def test_other_classes_and_transfers_are_passed_on(qclass: int, qtype: int):
    cached = server(upstream=Upstream(ttl=7000))
    asked = request("a.test")
    query = asked.query.with_question(asked.query.name, qtype).with_class(qclass)
    for _ in range(2):
        reply = await _plugin_of(cached).serve(replace(asked, query=query), cached.upstream.serve_last)
        assert int.from_bytes(reply.body.octets[6:10], "big") == 7000
    assert len(cached.upstream.asked) == 2


async def test_names_outside_its_zones_are_left_alone():
    cached = server(arguments="30 b.test")
    assert [ttls(await ask(cached)) for _ in range(2)] == [{60}, {60}]
    assert len(cached.upstream.asked) == 2


async def test_a_reply_that_cannot_be_read_goes_out_and_is_not_kept():
    cached = CachedServer(".:53 {\n cache\n erratic\n}\n", lambda _: Reply(body=Body(b"\xc0", 1), writer="x"))
    for _ in range(2):
        reply = await _plugin_of(cached).serve(request("a.test"), cached.upstream.serve_last)
        assert reply.body.octets == b"\xc0"
    assert cached.memory.statistics()["slots_used"] == 0


def _plugin_of(cached: CachedServer) -> Any:
    (block,) = cached.listener.zones.values()
    return dict(block.plugins)["cache"]


async def test_an_expired_signature_is_not_kept_for_those_who_look_at_it():
    def signed(asked: Request) -> Reply:
        data = b"\0\1\x0d\2\0\0\0\x14" + (1_000_000_000).to_bytes(4, "big") + bytes(4) + b"\0\1\0x"
        record = Record(asked.query.qname, RRType.A, 60, b"\1\2\3\4")
        return Reply(body=body_of(asked, [record, Record(asked.query.qname, RRType.RRSIG, 60, data)]), writer="x")

    cached = CachedServer(".:53 {\n cache\n erratic\n}\n", signed)
    for _ in range(2):
        await ask(cached, question(do=True))
    assert len(cached.upstream.asked) == 2
    for _ in range(2):
        await ask(cached)
    assert len(cached.upstream.asked) == 3


async def test_equal_questions_at_once_are_asked_once():
    upstream = Upstream(gate=asyncio.Event())
    cached = server(upstream=upstream)
    tasks = [asyncio.create_task(ask(cached)) for _ in range(200)]
    await settle()
    assert upstream.gate is not None
    upstream.gate.set()
    assert {address(reply) for reply in await asyncio.gather(*tasks)} == {1}
    assert len(cached.upstream.asked) == 1


async def test_a_failure_does_not_hide_an_answer_that_is_known():
    cached = server("servfail 5m", Upstream(ttl=100))
    await ask(cached)
    store = _plugin_of(cached).policy("").store
    cached.memory.put(store, names.from_text("a.test"), 1, 0, True, 2 << 4, 300, Body(b"", 0))
    assert (await ask(cached)).rcode() == 0
    cached.wait(100)
    assert (await ask(cached)).rcode() == 2


# Prefetch


async def test_a_popular_entry_is_renewed_before_it_ends():
    cached = server("success 9984 3600 1\nprefetch 2 1m 50%", upstream := Upstream(ttl=10))
    await ask(cached)
    upstream.number = 2
    assert address(await ask(cached)) == 1
    cached.wait(5)
    assert address(await ask(cached)) == 1
    await settle()
    assert len(cached.upstream.asked) == 2
    reply = await ask(cached)
    assert (address(reply), ttls(reply)) == (2, {10})
    assert cached.total("prefetch_total", ".", "") == 1


async def test_an_entry_asked_for_now_and_then_is_not_renewed():
    cached = server("success 9984 3600 1\nprefetch 2 1s 50%", Upstream(ttl=10))
    await ask(cached)
    for _ in range(4):
        cached.wait(2)
        await ask(cached)
        await settle()
    assert len(cached.upstream.asked) == 1


async def test_an_entry_is_renewed_once_at_a_time():
    upstream = Upstream(ttl=10)
    cached = server("success 9984 3600 1\nprefetch 1 1m 90%", upstream)
    await ask(cached)
    cached.wait(2)
    upstream.gate = asyncio.Event()
    for _ in range(5):
        await ask(cached)
        await settle()
    assert len(cached.upstream.asked) == 2
    upstream.gate.set()
    await settle()


async def test_an_entry_that_cannot_be_renewed_holds_on():
    cached = server("success 9984 3600 1\nprefetch 1 1m 90%", upstream := Upstream(ttl=10))
    await ask(cached)
    upstream.kind = "error"
    cached.wait(2)
    assert address(await ask(cached)) == 1
    await settle()
    assert address(await ask(cached)) == 1
    await settle()


# Metrics


async def test_lookups_and_entries_are_counted():
    cached = server(upstream=Upstream("nxdomain"))
    for _ in range(3):
        await ask(cached)
    zone = (".", "")
    assert cached.total("requests_total", *zone) == 3
    assert cached.total("misses_total", *zone) == 1
    assert cached.total("hits_total", "denial", *zone) == 2
    assert cached.total("entries", "denial", *zone) == 1
    assert cached.total("entries", "success", *zone) == 0


async def test_entries_that_make_room_are_counted():
    cached = server()
    await ask(cached)
    store = _plugin_of(cached).policy("").store
    for number in range(12_000):
        cached.memory.put(store, names.from_text(f"h{number}.test"), 1, 0, False, 0, 30, Body(b"", 0))
    await ask(cached, question("b.test."))
    assert cached.total("evictions_total", "success", ".", "") > 1_000
    assert cached.total("entries", "success", ".", "") < 11_000
