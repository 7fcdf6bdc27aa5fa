"""Equal questions at the same time."""

from __future__ import annotations

import asyncio

import pytest

from kdns.errors import Dropped, ServeError
from kdns.plugins.cache.flights import MAX_WAITING, Flights


class Question:
    """Something that is asked and answered when the test says so."""

    def __init__(self) -> None:
        self.asked = 0
        self.outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def __call__(self) -> str:
        self.asked += 1
        return await asyncio.shield(self.outcome)


async def test_two_hundred_equal_questions_are_one():
    flights: Flights[str, str] = Flights()
    question = Question()
    tasks = [asyncio.create_task(flights.ask("a", question)) for _ in range(200)]
    await asyncio.sleep(0)
    assert "a" in flights
    question.outcome.set_result("answer")
    assert set(await asyncio.gather(*tasks)) == {"answer"}
    assert question.asked == 1
    assert "a" not in flights


async def test_other_questions_are_asked():
    flights: Flights[str, str] = Flights()
    question = Question()
    question.outcome.set_result("answer")
    await asyncio.gather(flights.ask("a", question), flights.ask("b", question))
    assert question.asked == 2


@pytest.mark.parametrize("error", [ServeError("no", 5), Dropped("no")])
async def test_an_error_is_everybodys(error: Exception):
    flights: Flights[str, str] = Flights()
    question = Question()
    tasks = [asyncio.create_task(flights.ask("a", question)) for _ in range(3)]
    await asyncio.sleep(0)
    question.outcome.set_exception(error)
    for found in await asyncio.gather(*tasks, return_exceptions=True):
        assert type(found) is type(error)
        assert str(found) == "no"
    assert question.asked == 1


async def test_a_failure_nobody_foresaw_is_a_servfail_to_those_who_wait():
    flights: Flights[str, str] = Flights()
    question = Question()
    tasks = [asyncio.create_task(flights.ask("a", question)) for _ in range(2)]
    await asyncio.sleep(0)
    question.outcome.set_exception(ZeroDivisionError())
    first, second = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(first, ZeroDivisionError)
    assert isinstance(second, ServeError)
    assert second.rcode == 2


async def test_somebody_else_asks_where_the_first_one_went_away():
    flights: Flights[str, str] = Flights()
    question = Question()
    first, *others = [asyncio.create_task(flights.ask("a", question)) for _ in range(3)]
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert question.asked == 2
    question.outcome.set_result("answer")
    assert await asyncio.gather(*others) == ["answer", "answer"]


async def test_one_who_waits_may_go_away():
    flights: Flights[str, str] = Flights()
    question = Question()
    first, second = [asyncio.create_task(flights.ask("a", question)) for _ in range(2)]
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.sleep(0)
    question.outcome.set_result("answer")
    assert await first == "answer"


async def test_no_more_than_so_many_wait():
    flights: Flights[str, str] = Flights()
    question = Question()
    tasks = [asyncio.create_task(flights.ask("a", question)) for _ in range(MAX_WAITING + 1)]
    await asyncio.sleep(0)
    with pytest.raises(ServeError, match="more than 1000 equal queries"):
        await flights.ask("a", question)
    question.outcome.set_result("answer")
    await asyncio.gather(*tasks)
