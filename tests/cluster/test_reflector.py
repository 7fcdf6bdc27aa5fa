"""Following one resource by watches, whatever comes in them and however they end; time is held by the test."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdns.cluster.api_errors import ApiError, ErrorKind
from kdns.cluster.reflector import SHORT_WATCH_SECONDS, WATCH_GRACE_SECONDS, WATCH_SECONDS
from tests.fakes.logs import collected
from tests.fakes.model_api import UNREACHABLE, Followed, error_line, follow, namespace, watch_line


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
        it.api.steady_failure = UNREACHABLE
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
            it.api.put("second")
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
