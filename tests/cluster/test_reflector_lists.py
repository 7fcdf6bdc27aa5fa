"""How one resource is listed, by pages or in a watch, and what makes that happen again; time is held by the test."""

from __future__ import annotations

import pytest

from kdns.cluster.api_errors import ApiError, ErrorKind
from tests.fakes.logs import collected
from tests.fakes.model_api import Followed, error_line, follow, namespace, watch_line


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
