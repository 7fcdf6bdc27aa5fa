"""A reflector before servers that go back in time, stay away, refuse or are overloaded; time is held by the test."""

from __future__ import annotations

import pytest

from kdns.cluster.api_errors import ApiError, ErrorKind
from tests.fakes.logs import collected
from tests.fakes.model_api import UNREACHABLE, Followed, error_line, follow, namespace, watch_line


def test_history_is_checked_after_a_reconnect_before_anything_of_the_new_watch_counts() -> None:
    async def test(it: Followed) -> None:
        for name in ("a", "b", "c"):
            it.api.put(name)
        await it.start()
        await it.pass_time(5)
        # "b" has the version it had, in another history: it is another object.
        it.api.restore(12, {"a": 11, "b": 12})
        it.api.compacted = 0
        it.api.cut = lambda octets: [watch_line("ADDED", namespace("mixed", 14))]
        await it.settle()
        it.api.cut = lambda octets: [octets]
        await it.pass_time(3)
        assert it.names == {"a", "b"}
        assert "mixed" not in {event.name for event in it.events}
        assert it.relists == {"start": 1, "regressed": 1}
        assert [event.name for event in it.batches[-1]] == ["c", "a", "b"]

    with collected() as lines:
        follow(test)
    assert any("the server is at version 12, after 13" in line for line in lines)


def test_history_is_checked_though_the_new_watch_is_silent() -> None:
    async def test(it: Followed) -> None:
        it.api.put("a")
        it.api.put("b")
        await it.start()
        await it.pass_time(5)
        it.api.restore(11, {"a": 11})
        it.api.compacted = 0
        await it.pass_time(3)
        assert it.names == {"a"}

    with collected():
        follow(test)


def test_list_of_an_older_state_means_that_no_known_version_is_believed() -> None:
    async def test(it: Followed) -> None:
        it.api.put("a")
        it.api.put("b")
        await it.start()
        await it.pass_time(5)
        it.api.restore(12, {"a": 11, "b": 12})
        it.api.version = 9
        it.api.failures["watch"].append(ApiError(ErrorKind.GONE, "HTTP 410"))
        await it.pass_time(5)
        assert it.relists == {"start": 1, "gone": 1, "regressed": 1}
        assert [event.name for event in it.batches[-1]] == ["a", "b"]

    with collected():
        follow(test)


def test_list_that_lacks_most_of_many_objects_is_confirmed_by_a_second_one() -> None:
    async def test(it: Followed) -> None:
        for number in range(150):
            it.api.put(f"n{number}")
        await it.start()
        await it.pass_time(5)
        whole = dict(it.api.objects)
        it.api.objects.clear()
        it.api.streams[0].send(error_line(code=410))
        await it.settle()
        it.api.objects.update(whole)  # the first list was of a server that had not read its own disk yet
        await it.pass_time(3)
        assert len(it.names) == 150
        assert len(it.events) == 150
        assert it.relists == {"start": 1, "gone": 1, "confirm": 1}
        it.api.objects.clear()
        it.api.streams[0].send(error_line(code=410))
        await it.pass_time(5)
        assert it.names == set()
        assert it.relists == {"start": 1, "gone": 2, "confirm": 2}

    with collected():
        follow(test)


def test_outage_is_tried_about_once_a_second_for_a_minute_then_rarer_and_ends_within_one_try() -> None:
    async def test(it: Followed) -> None:
        it.api.put("a")
        await it.start()
        await it.pass_time(5)
        it.api.steady_failure = UNREACHABLE
        it.api.streams[0].break_off()
        await it.pass_time(60)
        assert 36 <= len(it.api.requests) <= 62
        await it.pass_time(240)
        before = len(it.api.requests)
        await it.pass_time(300)
        assert 6 <= len(it.api.requests) - before <= 10
        it.api.steady_failure = None
        it.api.put("b")
        await it.pass_time(46)
        assert it.names == {"a", "b"}
        assert it.relists == {"start": 1}

    with collected() as lines:
        follow(test)
    assert len(lines) == 2  # one when it began, one when it was over


def test_all_resources_together_ask_a_server_that_stays_away_no_more_than_three_times_a_minute() -> None:
    async def test(it: Followed) -> None:
        others = [Followed(it.loop), Followed(it.loop)]
        for other in others:
            other.api, other.outage = it.api, it.outage
        it.api.put("a")
        it.api.steady_failure = ApiError(ErrorKind.SERVER, "HTTP 500")
        for each in (it, *others):
            await each.start()
        await it.pass_time(300, step=1)
        before = len(it.api.requests)
        await it.pass_time(600, step=1)
        assert 10 <= len(it.api.requests) - before <= 30
        it.api.steady_failure = None
        await it.pass_time(46)
        for each in (it, *others):
            assert each.names == {"a"}
        for other in others:
            await other.stop()

    with collected():
        follow(test)


def test_throttled_watch_waits_as_long_as_it_is_told_and_is_not_listed() -> None:
    async def test(it: Followed) -> None:
        it.api.put("a")
        await it.start()
        await it.pass_time(5)
        it.api.failures["watch"].append(ApiError(ErrorKind.THROTTLED, "HTTP 429", 20.0))
        it.api.streams[0].end()
        await it.pass_time(19)
        assert it.api.counted("watch") == 1
        await it.pass_time(3)
        assert it.api.counted("watch") == 2
        assert it.relists == {"start": 1}

    with collected():
        follow(test)


def test_refused_resource_is_told_in_one_line_and_tried_again() -> None:
    async def test(it: Followed) -> None:
        it.api.put("a")
        it.api.steady_failure = ApiError(ErrorKind.FORBIDDEN, "HTTP 403: namespaces is forbidden")
        await it.start()
        await it.pass_time(10)
        assert it.replica.tally.is_refused
        assert not it.outage.is_on
        it.api.steady_failure = None
        await it.pass_time(2)
        assert it.names == {"a"}
        assert not it.replica.tally.is_refused

    with collected() as lines:
        follow(test)
    assert lines[0] == (
        "[WARNING] plugin/kubernetes: namespaces at https://api.test: list and watch are refused: grant the verbs list "
        "and watch on namespaces; until then all names are held back (HTTP 403: namespaces is forbidden)"
    )
    assert len(lines) == 2


@pytest.mark.parametrize(
    ("kind", "advice"),
    [
        (ErrorKind.UNAUTHORIZED, "correct or renew them"),
        (ErrorKind.FORBIDDEN, "grant the verbs list and watch on namespaces"),
        (ErrorKind.NOT_FOUND, "install the definition of namespaces, or remove the option"),
    ],
)
def test_every_refusal_says_what_to_do(kind: ErrorKind, advice: str) -> None:
    async def test(it: Followed) -> None:
        it.api.steady_failure = ApiError(kind, "no")
        await it.start()
        await it.pass_time(59)
        assert 35 <= len(it.api.requests) <= 60  # steps of half a second round delays up

    with collected() as lines:
        follow(test)
    assert len(lines) == 1
    assert advice in lines[0]


def test_refusal_of_what_is_known_already_holds_nothing_back() -> None:
    async def test(it: Followed) -> None:
        it.api.put("a")
        await it.start()
        await it.pass_time(5)
        it.api.steady_failure = ApiError(ErrorKind.FORBIDDEN, "no")
        it.api.streams[0].end()
        await it.pass_time(5)
        assert it.names == {"a"}

    with collected() as lines:
        follow(test)
    assert "held back" not in lines[0]
