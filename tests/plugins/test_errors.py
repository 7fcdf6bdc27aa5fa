"""`errors`: which line an error makes, and which errors are counted together."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from kdns.dns.reply import Reply
from kdns.errors import ServeError
from kdns.plugins.errors import Errors
from kdns.plugins.plugin import Request
from tests.fakes.clock import HeldLoop, run_held
from tests.fakes.directives import answering, failing, refused, request, set_up
from tests.fakes.logs import collected

REFUSED = "read udp 10.0.0.1:4242->10.0.0.2:53: read: connection refused"
TIMEOUT = "read udp 10.0.0.1:4242->10.0.0.2:53: i/o timeout"


def errors(*options: str) -> Errors:
    plugin = set_up("errors {\n" + "\n".join(options) + "\n}" if options else "errors")
    assert isinstance(plugin, Errors)
    return plugin


async def fail(plugin: Errors, text: str, name: str = "a.test") -> None:
    with pytest.raises(ServeError, match="^" + text.replace("(", "\\(")[:10]):
        await plugin.serve(request(name), failing(text))


async def test_an_error_is_one_line_with_rcode_name_type_and_reason():
    with collected() as lines, pytest.raises(ServeError) as caught:
        await errors().serve(request("A.Plain.TEST", "AAAA"), failing(REFUSED, 5))
    assert lines == [f"[ERROR] plugin/errors: 5 a.plain.test. AAAA: {REFUSED}"]
    assert caught.value.rcode == 5  # and the server answers with it


async def test_a_type_without_mnemonic_is_a_number_and_odd_octets_are_escaped():
    with collected() as lines, pytest.raises(ServeError):
        await errors().serve(request("a\\010b.test", "TYPE65280"), failing("x"))
    assert lines == ["[ERROR] plugin/errors: 2 a\\010b.test. TYPE65280: x"]


async def test_an_rcode_without_an_error_is_not_logged():
    with collected() as lines:
        reply = await errors().serve(request(), answering(rcode=2))
    assert (reply.rcode, lines) == (2, [])


def test_errors_that_meet_a_pattern_are_counted_and_told_of_once_a_period():
    async def check(loop: HeldLoop) -> None:
        plugin = errors('consolidate 2s ".* connection refused$" warning', 'consolidate 1h "never" error')
        with collected() as lines:
            for _ in range(3):
                await fail(plugin, REFUSED)
            await loop.advance(1.9)
            assert lines == []
            await loop.advance(0.2)
            assert lines == ["[WARNING] plugin/errors: 3 errors like '.* connection refused$' occurred in last 2s"]
            await loop.advance(60)
            assert len(lines) == 1
            await fail(plugin, REFUSED)  # begins a period of its own
            await loop.advance(2)
            assert lines[1] == "[WARNING] plugin/errors: 1 errors like '.* connection refused$' occurred in last 2s"

    run_held(check)


def test_other_errors_are_logged_as_they_come():
    async def check(loop: HeldLoop) -> None:
        plugin = errors('consolidate 1m "refused"')
        with collected() as lines:
            await fail(plugin, TIMEOUT)
        assert lines == [f"[ERROR] plugin/errors: 2 a.test. A: {TIMEOUT}"]

    run_held(check)


def test_the_first_pattern_that_an_error_meets_counts_it():
    async def check(loop: HeldLoop) -> None:
        plugin = errors("consolidate 1m timeout info", "consolidate 1m read warning", "consolidate 1m udp")
        with collected() as lines:
            await fail(plugin, TIMEOUT)
            await fail(plugin, REFUSED)
            await loop.advance(60)
        assert sorted(lines) == [
            "[INFO] plugin/errors: 1 errors like 'timeout' occurred in last 1m0s",
            "[WARNING] plugin/errors: 1 errors like 'read' occurred in last 1m0s",
        ]

    run_held(check)


@pytest.mark.parametrize(
    ("option", "level"),
    [("", "ERROR"), ("warning", "WARNING"), ("error", "ERROR"), ("info", "INFO"), ("debug", "DEBUG")],
)
def test_the_level_is_that_of_the_line(option: str, level: str):
    async def check(loop: HeldLoop) -> None:
        plugin = errors(f"consolidate 1s x {option}")
        with collected(logging.DEBUG) as lines:
            await fail(plugin, "x")
            await loop.advance(1)
        assert lines == [f"[{level}] plugin/errors: 1 errors like 'x' occurred in last 1s"]

    run_held(check)


def test_show_first_logs_the_first_error_at_the_level_and_counts_the_others():
    async def check(loop: HeldLoop) -> None:
        plugin = errors('consolidate 2s "refused" info show_first')
        with collected() as lines:
            await fail(plugin, REFUSED, "a.first.test")
            assert lines == [f"[INFO] plugin/errors: 2 a.first.test. A: {REFUSED}"]
            await fail(plugin, REFUSED, "b.first.test")
            await loop.advance(2)
            assert lines[1:] == ["[INFO] plugin/errors: 2 errors like 'refused' occurred in last 2s"]
            await fail(plugin, REFUSED, "c.first.test")
            await loop.advance(2)
            assert lines[2:] == [f"[INFO] plugin/errors: 2 c.first.test. A: {REFUSED}"]  # no summary of one

    run_held(check)


def test_flush_tells_of_the_periods_that_are_open():
    async def check(loop: HeldLoop) -> None:
        plugin = errors("consolidate 1h refused", "consolidate 1h timeout")
        with collected() as lines:
            await fail(plugin, REFUSED)
            await fail(plugin, REFUSED)
            plugin.flush()
            assert lines == ["[ERROR] plugin/errors: 2 errors like 'refused' occurred in last 1h0m0s"]
            await loop.advance(3600)
            assert len(lines) == 1

    run_held(check)


@contextmanager
def another_worker(work: Callable[[], Awaitable[None]]) -> Iterator[None]:
    """A forked process that has done this, and is killed when the context is left."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        with suppress(BaseException):
            run_held(lambda _: work())  # type: ignore[arg-type, return-value]
            os.write(writing, b"done")
            signal.pause()
        os._exit(1)
    os.close(writing)
    try:
        assert os.read(reading, 4) == b"done"
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(reading)


def test_all_workers_count_together_and_the_one_that_began_tells_of_it():
    plugin = errors("consolidate 2s refused")

    async def check(loop: HeldLoop) -> None:
        with collected() as lines:
            await fail(plugin, REFUSED)
            with another_worker(lambda: fail(plugin, REFUSED)):
                await loop.advance(2)
            assert lines == ["[ERROR] plugin/errors: 2 errors like 'refused' occurred in last 2s"]
            await loop.advance(60)
            plugin.flush()
            assert len(lines) == 1

    run_held(check)


def test_a_worker_that_only_counted_tells_of_it_when_the_one_that_began_is_dead():
    plugin = errors("consolidate 2s refused info show_first")

    async def check(loop: HeldLoop) -> None:
        with collected() as lines:
            with another_worker(lambda: fail(plugin, REFUSED)):
                await fail(plugin, REFUSED)
            await loop.advance(2.4)
            assert lines == []
            await loop.advance(0.2)
            assert lines == ["[INFO] plugin/errors: 2 errors like 'refused' occurred in last 2s"]

    run_held(check)


def test_the_successor_of_a_dead_worker_tells_of_what_that_one_counted():
    plugin = errors("consolidate 2s refused", "consolidate 2s timeout")

    async def check(loop: HeldLoop) -> None:
        with collected() as lines:
            with another_worker(lambda: fail(plugin, REFUSED)):
                pass
            await plugin.run()
            await loop.advance(3)
            assert lines == ["[ERROR] plugin/errors: 1 errors like 'refused' occurred in last 2s"]

    run_held(check)


def test_what_was_never_told_of_is_told_of_soon_after_the_next_error():
    plugin = errors("consolidate 2s refused")

    async def check(loop: HeldLoop) -> None:
        with collected() as lines:
            with another_worker(lambda: fail(plugin, REFUSED)):
                pass
            await loop.advance(3600)
            await fail(plugin, REFUSED)
            await loop.advance(0)
            assert lines == ["[ERROR] plugin/errors: 2 errors like 'refused' occurred in last 2s"]

    run_held(check)


def test_a_count_nobody_made_no_error_for_costs_nothing():
    """No timer, and no file where nothing is counted."""
    before = len(os.listdir("/proc/self/fd"))
    plugin = errors()
    assert len(os.listdir("/proc/self/fd")) == before

    async def check(loop: HeldLoop) -> None:
        await plugin.run()
        await errors("consolidate 2s refused").run()
        assert not loop._scheduled  # type: ignore[attr-defined]

    run_held(check)


@pytest.mark.parametrize(("options", "traces"), [(("stacktrace",), 1), ((), 0)])
async def test_stacktrace_shows_where_a_plugin_raised(options: tuple[str, ...], traces: int):
    async def broken(_: Request) -> Reply:
        raise ZeroDivisionError("by design")

    with collected() as lines, pytest.raises(ZeroDivisionError):
        await errors(*options).serve(request(), broken)
    assert (
        len([line for line in lines if "Traceback" in line and "in broken" in line and "by design" in line]) == traces
    )


@pytest.mark.parametrize("text", ["errors", "errors stdout", "errors {\n}", "errors {\nconsolidate 5m x show_first\n}"])
def test_accepted_forms(text: str):
    assert set_up(text).transparent


WRONG_COUNT = "Error during parsing: Wrong argument count or unexpected line ending after"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("errors stdout x", f"Corefile:2 - {WRONG_COUNT} 'x'"),
        ("errors stderr", "Corefile:2 - Error during parsing: invalid log file: stderr"),
        ("errors\nerrors", "this plugin can only be used once per Server Block"),
        ("errors {\nbogus\n}", "Corefile:3 - Syntax error: Unexpected token 'bogus', expecting 'Unknown field bogus'"),
        ("errors {\nstacktrace x\n}", "Corefile:3 - Syntax error: Unexpected token 'x', expecting 'Unknown field x'"),
        ("errors {\nconsolidate\n}", f"Corefile:3 - {WRONG_COUNT} 'consolidate'"),
        ("errors {\nconsolidate 5s\n}", f"Corefile:3 - {WRONG_COUNT} '5s'"),
        ("errors {\nconsolidate 5s x info show_first more\n}", f"Corefile:3 - {WRONG_COUNT} 'more'"),
        (
            "errors {\nconsolidate 5 x\n}",
            'Corefile:3 - Error during parsing: time: missing unit in duration "5"',
        ),
        (
            "errors {\nconsolidate 5s x loud\n}",
            "Corefile:3 - Error during parsing: unknown option in consolidate: loud",
        ),
        (
            "errors {\nconsolidate 5s x info warning\n}",
            "Corefile:3 - Error during parsing: multiple log levels specified in consolidate",
        ),
        (
            "errors {\nconsolidate 5s x show_first info\n}",
            "Corefile:3 - Error during parsing: log level must come before show_first in consolidate",
        ),
        (
            f"errors {{\nconsolidate 5s {'x' * 10_001}\n}}",
            "Corefile:3 - Error during parsing: regex pattern too long: 10001 > 10000",
        ),
    ],
)
def test_refused_forms(text: str, expected: str):
    assert refused(text) == f"plugin/errors: {expected}"


@pytest.mark.parametrize("pattern", ["(", "[", "*", "(?P<x"])
def test_a_pattern_that_is_none_is_named(pattern: str):
    text = refused(f'errors {{\nconsolidate 5s "{pattern}"\n}}')
    assert text.startswith("plugin/errors: Corefile:3 - Error during parsing: error parsing regexp: ")
    assert text.endswith(f": `{pattern}`")
