"""`cancel`: what takes too long."""

from __future__ import annotations

import asyncio

import pytest

from kdns.dns.reply import Reply
from kdns.errors import ServeError
from tests.fakes.clock import HeldLoop, run_held
from tests.fakes.directives import answering, refused, request, set_up


@pytest.mark.parametrize(
    ("directive", "seconds"), [("cancel", 5.001), ("cancel 1s", 1.0), ("cancel 1s\ncancel 20ms", 0.02)]
)
def test_a_query_is_given_up_after_its_time(directive: str, seconds: float):
    async def check(loop: HeldLoop) -> None:
        async def wait(_: object) -> Reply:
            await asyncio.sleep(3600)
            raise AssertionError("waited")

        task = loop.create_task(set_up(directive).serve(request(), wait))
        await loop.advance(0)  # it begins
        await loop.advance(seconds - 0.002)
        assert not task.done()
        await loop.advance(0.003)
        assert task.done()
        with pytest.raises(ServeError, match="context deadline exceeded") as caught:
            await task
        assert caught.value.rcode == 2

    run_held(check)


async def test_what_comes_in_time_passes():
    handed_on = answering()
    assert await set_up("cancel").serve(request(), handed_on) == await handed_on(request())


async def test_a_timeout_of_somebody_else_stays_one():
    async def fail(_: object) -> Reply:
        raise TimeoutError("of a socket")

    with pytest.raises(TimeoutError, match="of a socket"):
        await set_up("cancel").serve(request(), fail)


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("5", 'invalid duration: "5"'),
        ("0s", 'invalid negative duration: "0s"'),
        ("-1s", 'invalid negative duration: "-1s"'),
        ("1s 2s", "Corefile:2 - Error during parsing: Wrong argument count or unexpected line ending after '2s'"),
    ],
)
def test_mistakes_are_refused_in_coredns_words(word: str, text: str):
    assert refused(f"cancel {word}") == f"plugin/cancel: {text}"
