"""Following one resource through everything an API server does; time is held by the test."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdns.cluster.api_errors import ApiError, ErrorKind
from kdns.cluster.reflector import SHORT_WATCH_SECONDS, WATCH_GRACE_SECONDS, WATCH_SECONDS
from tests.fakes.logs import collected
from tests.fakes.model_api import Followed, error_line, follow, namespace, watch_line

REFUSED = ApiError(ErrorKind.UNREACHABLE, "connection refused")


def test_list_in_a_watch_is_told_in_one_batch_and_goes_on_as_that_watch() -> None:
    async def test(it: Followed) -> None:
        it.api.put("a")
        it.api.put("b")
        await it.start()
        assert [[event.name for event in batch] for batch in it.batches] == [["a", "b"]]
        it.api.put("c")
        await it.settle()
        assert it.names == {"a", "b", "c"}
        assert [request.verb for request in it.api.requests] == ["watch-list"]
        parameters = it.api.requests[0].parameters
        assert parameters.pop("timeoutSeconds").isdecimal()
        assert parameters == {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "sendInitialEvents": "true",
            "resourceVersionMatch": "NotOlderThan",
        }

    follow(test)


def test_nothing_of_a_list_is_told_before_its_end() -> None:
    async def test(it: Followed) -> None:
        it.api.put("a")
        it.api.sends_end = False
        await it.start()
        await it.pass_time(5)
        assert it.batches == []
        it.api.streams[0].send(it.api.bookmark(**{"k8s.io/initial-events-end": "true"}))
        await it.settle()
        assert it.names == {"a"}

    follow(test)


def test_server_that_refuses_to_stream_lists_is_listed_by_pages_without_a_version() -> None:
    async def test(it: Followed) -> None:
        it.api.streams_lists = False
        for number in range(250):
            it.api.put(f"n{number:03}")
        await it.start()
        assert len(it.names) == 250
        lists = [request.parameters for request in it.api.requests if request.verb == "list"]
        assert [parameters["limit"] for parameters in lists] == ["100", "500"]
        assert not any("resourceVersion" in parameters for parameters in lists)
        it.api.put("later")
        await it.settle()
        assert "later" in it.names
        assert [request.verb for request in it.api.requests] == ["watch-list", "list", "list", "watch"]

    follow(test)


def test_server_that_ignores_the_wish_for_a_list_is_warned_about_and_listed_within_30_seconds() -> None:
    async def test(it: Followed) -> None:
        it.api.put("a")
        it.api.sends_end = False
        with collected() as lines:
            await it.start()
            await it.pass_time(11)
            assert any("does not come to its end" in line for line in lines)
            await it.pass_time(14)
        assert it.names == {"a"}
        assert it.api.counted("list") == 1

    follow(test)


def test_missing_end_twice_means_that_lists_are_never_streamed() -> None:
    async def test(it: Followed) -> None:
        it.api.sends_end = False
        await it.start()
        for _ in range(3):
            await it.pass_time(30)
            it.api.put("x")
            it.api.compact()
            it.api.streams[0].send(error_line(code=410, reason="Expired"))
        await it.settle()
        await it.pass_time(3)
        assert it.api.counted("watch-list") == 2
        assert it.names == {"x"}

    follow(test)


def test_slow_line_is_no_missing_end() -> None:
    async def test(it: Followed) -> None:
        it.api.sends_end = False
        await it.start()
        (stream,) = it.api.streams
        octets = watch_line("ADDED", namespace("a", 5)) + it.api.bookmark(**{"k8s.io/initial-events-end": "true"})
        for start in range(0, len(octets), 4):
            stream.send(octets[start : start + 4])
            await it.pass_time(1)
        assert it.names == {"a"}
        assert it.api.counted("list") == 0

    follow(test)


def test_list_that_trickles_beyond_its_time_is_given_up() -> None:
    async def test(it: Followed) -> None:
        it.api.sends_end = False
        await it.start(list_seconds=60)
        for number in range(70):
            for stream in it.api.streams:
                stream.send(watch_line("ADDED", namespace(f"n{number}", 5)))
            await it.pass_time(1)
        assert it.errors.get("timeout") == 1
        assert it.batches == []

    follow(test)


def test_expired_continue_token_means_one_list_in_one_piece() -> None:
    async def test(it: Followed) -> None:
        it.api.streams_lists = False
        for number in range(250):
            it.api.put(f"n{number:03}")
        # The deque is asked on every list: the first page passes, the second has expired.
        pages = it.api.get
        calls = 0

        async def get(path: str, parameters: dict[str, str], timeout_seconds: float) -> bytes:
            nonlocal calls
            calls += 1
            if calls == 2:
                assert "continue" in parameters
                raise ApiError(ErrorKind.GONE, "HTTP 410: continue token expired")
            return await pages(path, parameters, timeout_seconds)

        it.api.get = get  # type: ignore[method-assign]
        await it.start()
        assert len(it.names) == 250
        assert len(it.batches) == 1
        assert "limit" not in it.api.requests[-2].parameters

    follow(test)


@pytest.mark.parametrize("kind", [ErrorKind.GONE, ErrorKind.VERSION_TOO_LARGE])
def test_version_a_list_cannot_have_is_listed_again_at_once(kind: ErrorKind) -> None:
    async def test(it: Followed) -> None:
        it.api.put("a")
        it.api.failures["watch-list"].append(ApiError(kind, "no"))
        await it.start()
        await it.pass_time(2)
        assert it.names == {"a"}
        assert it.relists == {"start": 1, kind.value: 1}

    follow(test)


@pytest.mark.parametrize(
    "line",
    [
        error_line(code=410, reason="Expired", message="too old resource version: 1 (2)"),
        error_line(code=410),
        error_line(message="too old resource version"),
        error_line(),
        b'{"type":"ERROR","object":null}\n',
        b'{"type":"ERROR","object":{"code":"x","details":[]}}\n',
    ],
)
def test_watch_that_is_too_old_is_listed_again_within_a_second(line: bytes) -> None:
    async def test(it: Followed) -> None:
        it.api.put("a")
        await it.start()
        await it.pass_time(60)
        it.api.streams[0].send(line)
        it.api.delete("a")
        it.api.put("b")
        await it.pass_time(1)
        assert it.names == {"b"}
        assert it.relists == {"start": 1, "gone": 1}

    follow(test)


def test_410_as_status_of_the_watch_leads_to_a_list_at_once() -> None:
    async def test(it: Followed) -> None:
        it.api.put("a")
        await it.start()
        await it.pass_time(60)
        it.api.put("b")
        it.api.compact()
        it.api.put("c")
        it.api.streams[0].end()
        it.api.failures["watch"].append(ApiError(ErrorKind.GONE, "HTTP 410"))
        await it.settle()
        assert it.names == {"a", "b", "c"}
        assert it.relists == {"start": 1, "gone": 1}

    follow(test)


def test_five_410s_in_a_minute_do_not_slow_lists_down() -> None:
    async def test(it: Followed) -> None:
        await it.start()
        for number in range(5):
            await it.pass_time(10)
            before = it.api.counted("watch-list")
            it.api.put(f"n{number}")
            it.api.streams[0].send(error_line(code=410))
            await it.pass_time(2)
            assert it.api.counted("watch-list") == before + 1
        assert len(it.names) == 5

    follow(test)


def test_server_that_only_says_410_is_listed_no_more_than_once_a_second() -> None:
    async def test(it: Followed) -> None:
        it.api.steady_failure = ApiError(ErrorKind.GONE, "HTTP 410")
        await it.start()
        await it.pass_time(60)
        assert 30 <= len(it.api.requests) <= 61

    follow(test)


def test_watch_that_ends_is_resumed_from_its_version_without_a_list() -> None:
    async def test(it: Followed) -> None:
        it.api.put("a")
        await it.start()
        await it.pass_time(5)
        it.api.put("b")
        await it.settle()
        version = it.api.version
        it.api.streams[0].end()
        await it.settle()
        assert it.api.requests[1].verb == "watch"
        assert it.api.requests[1].parameters["resourceVersion"] == str(version)
        it.api.put("c")
        await it.pass_time(1)
        assert it.names == {"a", "b", "c"}
        assert it.relists == {"start": 1}
        assert 300 <= int(it.api.requests[1].parameters["timeoutSeconds"]) <= 600

    follow(test)


def test_watches_that_end_at_once_are_tried_about_once_a_second_and_never_listed() -> None:
    async def test(it: Followed) -> None:
        await it.start()
        await it.pass_time(5)
        it.api.streams[0].end()
        first = len(it.api.requests)
        for _ in range(300):
            for stream in it.api.streams:
                stream.end()
            await it.pass_time(0.1, step=0.1)
        assert 15 <= len(it.api.requests) - first <= 31
        assert it.relists == {"start": 1}
        assert it.errors["short_watch"] >= 10

    follow(test)


def test_watch_that_repeats_one_old_event_and_ends_is_a_failure_too() -> None:
    async def test(it: Followed) -> None:
        it.api.put("a")
        await it.start()
        await it.pass_time(5)
        repeated = watch_line("ADDED", it.api.objects["a"])
        it.api.streams[0].end()
        first = len(it.api.requests)
        for _ in range(100):
            for stream in it.api.streams:
                stream.send(repeated)
                stream.end()
            await it.pass_time(0.1, step=0.1)
        assert it.api.counted("watch") <= 11
        assert len(it.api.requests) > first
        assert len(it.events) == 1

    follow(test)


def test_half_a_line_is_no_event_and_the_watch_resumes_before_it() -> None:
    async def test(it: Followed) -> None:
        it.api.put("a")
        await it.start()
        await it.pass_time(5)
        it.api.cut = lambda octets: [octets[: len(octets) // 2]]
        it.api.put("b")
        await it.settle()
        assert it.names == {"a"}
        it.api.cut = lambda octets: [octets]
        it.api.streams[0].break_off()
        await it.pass_time(1)
        assert it.names == {"a", "b"}
        assert it.relists == {"start": 1}

    follow(test)


def test_line_that_is_no_json_ends_the_watch_at_the_same_version() -> None:
    async def test(it: Followed) -> None:
        it.api.put("a")
        await it.start()
        it.api.streams[0].send(b"<html>\n")
        await it.settle()
        it.api.put("b")
        await it.pass_time(3)
        assert it.names == {"a", "b"}
        assert it.errors == {"protocol": 1}
        assert it.relists == {"start": 1}

    follow(test)


def test_error_that_comes_back_at_one_version_is_left_by_a_list() -> None:
    async def test(it: Followed) -> None:
        it.api.put("a")
        await it.start()
        for _ in range(60):
            for stream in it.api.streams:
                if not it.relists.get("futile"):
                    stream.send(error_line(code=500, message="etcd event does not decode"))
            await it.pass_time(1)
        assert it.relists == {"start": 1, "futile": 1}
        it.api.put("b")
        await it.pass_time(3)
        assert it.names == {"a", "b"}

    with collected() as lines:
        follow(test)
    assert len(lines) == 2


def test_silence_is_nothing_where_the_server_has_nothing_new() -> None:
    async def test(it: Followed) -> None:
        it.api.put("a")
        await it.start()
        await it.pass_time(300)
        assert it.api.counted("watch-list", "watch") == 1
        assert 9 <= it.api.counted("side") <= 10

    follow(test)


def test_bookmarks_keep_a_silent_watch_alive_while_other_resources_change() -> None:
    async def test(it: Followed) -> None:
        it.api.put("a")
        await it.start()
        for _ in range(5):
            await it.pass_time(61)
            it.api.version += 10  # what happens to other resources
            it.api.streams[0].send(it.api.bookmark())
        assert it.api.counted("watch-list", "watch") == 1
        it.api.streams[0].end()
        await it.settle()
        assert it.api.requests[-1].parameters["resourceVersion"] == str(it.api.version)

    follow(test)


def test_watch_that_is_dead_while_the_server_works_is_replaced_within_75_seconds() -> None:
    async def test(it: Followed) -> None:
        it.api.put("a")
        await it.start()
        it.api.cut = lambda octets: []  # nothing arrives any more
        it.api.put("b")
        await it.pass_time(30)
        it.api.cut = lambda octets: [octets]
        await it.pass_time(44)
        assert it.names == {"a", "b"}
        assert it.relists == {"start": 1}

    follow(test)


def test_watch_is_dead_when_the_server_does_not_answer_either() -> None:
    async def test(it: Followed) -> None:
        it.api.put("a")
        await it.start()
        it.api.steady_failure = ApiError(ErrorKind.TIMEOUT, "no reply in time")
        await it.pass_time(32)
        assert it.api.streams == []
        it.api.steady_failure = None
        it.api.put("b")
        await it.pass_time(2)
        assert it.names == {"a", "b"}

    follow(test)


def test_watch_that_outlasts_its_time_is_ended_from_here() -> None:
    async def test(it: Followed) -> None:
        await it.start()
        await it.pass_time(WATCH_SECONDS[1] + WATCH_GRACE_SECONDS + 1, step=1)
        assert it.api.counted("watch-list", "watch") == 2

    follow(test)


@pytest.mark.parametrize(
    "line",
    [
        b'{"type":"BOOKMARK"}\n',
        b'{"type":"BOOKMARK","object":null}\n',
        b'{"type":"BOOKMARK","object":{"metadata":null}}\n',
        b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":""}}}\n',
        b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":7}}}\n',
        b'{"type":"SOMETHING","object":{"metadata":{"name":"a","resourceVersion":"99"}}}\n',
        b'{"type":"ADDED","object":null}\n',
        b'{"type":"ADDED","object":[]}\n',
        b'{"type":"ADDED"}\n',
        b"{}\n",
        b'{"type":"MODIFIED","object":{"kind":"Namespace","metadata":null}}\n',
        b'{"type":"MODIFIED","object":{"kind":"Namespace","metadata":{"name":7}}}\n',
        b'{"type":"DELETED","object":{"kind":"Namespace","metadata":{"name":"unknown"}}}\n',
        b'{"type":"DELETED","object":{"kind":"Namespace","metadata":{}}}\n',
    ],
)
def test_line_that_says_nothing_usable_changes_nothing_and_moves_no_version(line: bytes) -> None:
    async def test(it: Followed) -> None:
        it.api.put("a")
        await it.start()
        it.api.streams[0].send(line)
        await it.settle()
        assert len(it.events) == 1
        it.api.put("b")
        await it.settle()
        assert it.names == {"a", "b"}
        assert it.api.counted("watch-list", "watch") == 1

    with collected():
        follow(test)


def test_malformed_object_is_logged_once_and_leaves_what_was_known() -> None:
    async def test(it: Followed) -> None:
        it.api.put("a")
        it.api.put("b", labels=7)
        it.api.put("c")
        with collected() as lines:
            await it.start()
            assert it.names == {"a", "c"}
            it.api.put("a", labels=["x"])
            it.api.put("a", labels=["x"])
            await it.settle()
        assert it.names == {"a", "c"}
        assert it.replica.tally.malformed == 3
        assert len(lines) == 2
        it.api.streams[0].end()
        await it.settle()
        assert it.api.requests[-1].parameters["resourceVersion"] == str(it.api.version)

    follow(test)


def test_malformed_object_in_a_list_is_not_a_deleted_one() -> None:
    async def test(it: Followed) -> None:
        it.api.put("a")
        await it.start()
        await it.pass_time(5)
        it.api.objects["a"]["metadata"] |= {"labels": 7, "resourceVersion": "12"}
        it.api.version = 12
        it.api.streams[0].send(error_line(code=410))
        with collected():
            await it.pass_time(1)
        assert it.names == {"a"}
        assert it.relists == {"start": 1, "gone": 1}
        assert len(it.events) == 1

    follow(test)


def test_types_of_events_do_not_matter_and_repetitions_are_dropped() -> None:
    async def test(it: Followed) -> None:
        it.api.put("a")
        await it.start()
        stream = it.api.streams[0]
        stream.send(watch_line("ADDED", namespace("a", 20, labels={"x": "1"})))
        stream.send(watch_line("MODIFIED", namespace("new", 21)))
        stream.send(watch_line("MODIFIED", namespace("new", 21)))
        stream.send(watch_line("DELETED", namespace("a", 22)))
        stream.send(watch_line("DELETED", namespace("a", 22)))
        stream.send(watch_line("ADDED", namespace("a", 23)))
        await it.settle()
        assert it.names == {"a", "new"}
        assert [(event.name, event.object is None) for event in it.events] == [
            ("a", False),
            ("a", False),
            ("new", False),
            ("a", True),
            ("a", False),
        ]

    follow(test)


def test_what_was_deleted_while_nobody_watched_goes_first_and_what_is_the_same_is_not_told() -> None:
    async def test(it: Followed) -> None:
        for name in ("same", "ghost", "changed"):
            it.api.put(name)
        await it.start()
        await it.pass_time(5)
        it.api.steady_failure = REFUSED
        it.api.streams[0].break_off()
        await it.settle()
        it.api.delete("ghost")
        it.api.put("changed")
        it.api.put("created")
        it.api.compact()
        it.api.put("late")
        it.api.steady_failure = None
        await it.pass_time(4)
        assert [(event.name, event.object is None) for event in it.batches[1]] == [
            ("ghost", True),
            ("changed", False),
            ("created", False),
            ("late", False),
        ]
        assert it.names == {"same", "changed", "created", "late"}

    follow(test)


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
        it.api.steady_failure = REFUSED
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


def test_burst_in_one_read_is_one_batch_and_a_single_change_does_not_wait() -> None:
    async def test(it: Followed) -> None:
        await it.start()
        for number in range(50):
            it.api.put(f"n{number}")
        await it.settle()
        assert [len(batch) for batch in it.batches] == [50]
        it.api.put("single")
        await it.settle()  # no time passes
        assert [len(batch) for batch in it.batches] == [50, 1]

    follow(test)


def test_endless_burst_is_told_every_hundredth_of_a_second() -> None:
    async def test(it: Followed) -> None:
        await it.start()
        stream = it.api.streams[0]
        read_ready = stream.read_ready
        number = 0

        def never_empty() -> list[bytes]:
            nonlocal number
            number += 1
            it.loop._now += 0.001  # applying takes time
            it.api.put(f"n{number}")
            return read_ready()

        stream.read_ready = never_empty  # type: ignore[method-assign]
        for _ in range(5):
            it.api.put("first")
            await it.settle()
        assert number >= 50
        assert all(5 <= len(batch) <= 15 for batch in it.batches)

    follow(test)


def test_line_too_long_is_counted_and_what_follows_is_read() -> None:
    async def test(it: Followed) -> None:
        await it.start()
        it.api.streams[0].oversize = 1
        it.api.put("b")
        await it.settle()
        it.api.streams[0].end()
        await it.settle()
        assert it.replica.tally.malformed == 1
        assert it.names == {"b"}

    follow(test)


changes = st.lists(
    st.tuples(st.sampled_from(["put", "delete", "compact", "break"]), st.sampled_from("abcdef")), max_size=30
)


@settings(max_examples=60, deadline=None)
@given(changes, st.lists(st.integers(1, 400), max_size=12), st.lists(st.integers(0, 2), max_size=30), st.booleans())
def test_any_history_cut_anywhere_with_repetitions_ends_in_the_same_state(
    steps: list[tuple[str, str]], cuts: list[int], repeats: list[int], streams_lists: bool
) -> None:
    async def test(it: Followed) -> None:
        it.api.streams_lists = streams_lists
        remaining_cuts, remaining_repeats = list(cuts), list(repeats)

        def cut(octets: bytes) -> list[bytes]:
            """Repeat lines, and cut them into pieces."""
            lines = octets.splitlines(keepends=True)
            told = b"".join(line * (1 + (remaining_repeats.pop() if remaining_repeats else 0)) for line in lines)
            pieces = []
            while remaining_cuts and told:
                size = remaining_cuts.pop()
                pieces.append(told[:size])
                told = told[size:]
            return [*pieces, told] if told else pieces

        it.api.cut = cut
        await it.start()
        for action, name in steps:
            if action == "put":
                it.api.put(name)
            elif action == "delete" and name in it.api.objects:
                it.api.delete(name)
            elif action == "compact":
                it.api.compact()
            elif action == "break":
                for stream in it.api.streams:
                    stream._pieces.clear()  # what was under way is lost
                    stream.break_off()
            if name > "c":
                await it.pass_time(SHORT_WATCH_SECONDS)
        remaining_cuts.clear()
        remaining_repeats.clear()
        await it.pass_time(120, step=2)
        assert it.names == set(it.api.objects)
        assert len(it.replica) == len(it.api.objects)

    with collected():
        follow(test)
