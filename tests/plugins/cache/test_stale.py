"""Entries that have expired and are served all the same."""

from __future__ import annotations

import asyncio

import pytest

from tests.fakes.cached_upstream import Upstream, address, ask, server, settle, ttls


async def test_an_expired_entry_is_served_at_once_and_renewed_behind_it():
    cached = server("success 9984 3600 1\nserve_stale", upstream := Upstream(ttl=1))
    await ask(cached)
    cached.wait(2)
    upstream.number = 2
    reply = await ask(cached)
    assert (address(reply), ttls(reply)) == (1, {0})
    await settle()
    assert address(await ask(cached)) == 2
    assert cached.total("served_stale_total", ".", "") == 1
    assert cached.total("hits_total", "success", ".", "") == 2


@pytest.mark.parametrize("kind", ["error", "servfail", "refused", "truncated", "formerr"])
async def test_what_went_wrong_does_not_take_its_place(kind: str):
    cached = server("success 9984 3600 1\nserve_stale", upstream := Upstream(ttl=1))
    await ask(cached)
    cached.wait(2)
    upstream.kind = kind
    for _ in range(3):
        assert address(await ask(cached)) == 1
        await settle()


async def test_an_entry_is_served_for_its_time_and_no_longer():
    cached = server("success 9984 3600 1\nserve_stale 10s", upstream := Upstream(ttl=1))
    await ask(cached)
    upstream.kind = "error"
    cached.wait(10.999)
    assert address(await ask(cached)) == 1
    await settle()
    cached.wait(0.001)
    assert (await ask(cached)).rcode() == 2


async def test_a_stale_ttl_may_be_given():
    cached = server("success 9984 3600 1\nserve_stale 1h immediate 30s", Upstream(ttl=1))
    await ask(cached)
    cached.wait(2)
    assert ttls(await ask(cached)) == {30}
    await settle()


async def test_denials_are_served_too():
    cached = server("denial 9984 3600 1\nserve_stale", upstream := Upstream("nxdomain", ttl=1))
    await ask(cached)
    cached.wait(2)
    upstream.kind = "error"
    reply = await ask(cached)
    assert (reply.rcode(), ttls(reply)) == (3, {0})
    await settle()


async def test_only_one_renewal_is_under_way():
    cached = server("success 9984 3600 1\nserve_stale", upstream := Upstream(ttl=1))
    await ask(cached)
    cached.wait(2)
    upstream.gate = asyncio.Event()
    for _ in range(5):
        await ask(cached)
        await settle()
    assert len(cached.upstream.asked) == 2
    upstream.gate.set()
    await settle()


async def test_after_a_failure_nobody_is_asked_for_a_while():
    cached = server("success 9984 3600 1\nserve_stale 1h immediate 30s 30s", upstream := Upstream(ttl=1))
    await ask(cached)
    upstream.kind = "servfail"
    cached.wait(2)
    for _ in range(3):
        await ask(cached)
        await settle()
    assert len(cached.upstream.asked) == 2
    cached.wait(30)
    await ask(cached)
    await settle()
    assert len(cached.upstream.asked) == 3


# verify


async def test_verify_asks_first():
    cached = server("success 9984 3600 1\nserve_stale 1h verify", upstream := Upstream(ttl=1))
    await ask(cached)
    cached.wait(2)
    upstream.number = 2
    assert address(await ask(cached)) == 2


@pytest.mark.parametrize("kind", ["error", "servfail", "refused", "truncated"])
async def test_verify_falls_back_to_what_has_expired(kind: str):
    cached = server("success 9984 3600 1\nserve_stale 1h verify", upstream := Upstream(ttl=1))
    await ask(cached)
    cached.wait(2)
    upstream.kind = kind
    for count in (2, 3):
        reply = await ask(cached)
        assert (address(reply), ttls(reply)) == (1, {0})
        assert len(cached.upstream.asked) == count


@pytest.mark.parametrize(("kind", "rcode"), [("nxdomain", 3), ("nodata", 0)])
async def test_verify_believes_a_denial(kind: str, rcode: int):
    cached = server("success 9984 3600 1\nserve_stale 1h verify", upstream := Upstream(ttl=1))
    await ask(cached)
    cached.wait(2)
    upstream.kind = kind
    for _ in range(2):
        reply = await ask(cached)
        assert (reply.rcode(), reply.answer) == (rcode, [])


@pytest.mark.parametrize("kind", ["nxdomain", "nodata", "servfail", "empty"])
async def test_a_policy_may_prefer_answers(kind: str):
    options = "success 9984 3600 1\nserve_stale 1h verify\nserve_stale_policy prefer_positive"
    cached = server(options, upstream := Upstream(ttl=1))
    await ask(cached)
    cached.wait(2)
    upstream.kind = kind
    for _ in range(2):
        assert address(await ask(cached)) == 1
    upstream.kind, upstream.number = "answer", 3
    assert address(await ask(cached)) == 3


async def test_verify_gives_up_in_time_and_keeps_what_comes_later():
    cached = server("success 9984 3600 1\nserve_stale 1h verify 20ms", upstream := Upstream(ttl=1))
    await ask(cached)
    cached.wait(2)
    upstream.number, upstream.gate = 2, asyncio.Event()
    assert address(await ask(cached)) == 1
    upstream.gate.set()
    await settle()
    assert address(await ask(cached)) == 2
    assert len(cached.upstream.asked) == 2


async def test_those_who_verify_at_once_share_one_question():
    cached = server("success 9984 3600 1\nserve_stale 1h verify 1s 0s 30s", upstream := Upstream(ttl=1))
    await ask(cached)
    cached.wait(2)
    upstream.number, upstream.gate = 2, asyncio.Event()
    tasks = [asyncio.create_task(ask(cached)) for _ in range(5)]
    await settle()
    upstream.gate.set()
    assert {address(reply) for reply in await asyncio.gather(*tasks)} == {2}
    assert len(cached.upstream.asked) == 2


async def test_after_a_failed_verify_nobody_is_asked_for_a_while():
    cached = server("success 9984 3600 1\nserve_stale 1h verify 0 0s 30s", upstream := Upstream(ttl=1))
    await ask(cached)
    cached.wait(2)
    upstream.kind = "servfail"
    for _ in range(3):
        assert address(await ask(cached)) == 1
    assert len(cached.upstream.asked) == 2
    cached.wait(30)
    await ask(cached)
    assert len(cached.upstream.asked) == 3


async def test_renewals_end_with_the_service():
    cached = server("success 9984 3600 1\nserve_stale", upstream := Upstream(ttl=1))
    await ask(cached)
    cached.wait(2)
    (work,) = [asyncio.create_task(run()) for run in cached.resolver.background()]
    upstream.gate = asyncio.Event()
    await ask(cached)
    await settle()
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    await settle()
    upstream.gate.set()
    await settle()
    assert address(await ask(cached)) == 1  # it was not renewed
