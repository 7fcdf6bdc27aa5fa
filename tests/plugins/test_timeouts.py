"""`timeouts`: limits of TCP connections."""

from __future__ import annotations

import pytest

from kdns.plugins.plugin import StreamSettings
from tests.fakes.directives import build, refused


def settings(*lines: str) -> StreamSettings:
    body = "\n".join(lines)
    (listener,) = build(f".:53 {{\ntimeouts {{\n{body}\n}}\nwhoami\n}}").listeners
    return listener.zones[b"\0"].settings.stream


@pytest.mark.parametrize(("text", "seconds"), [("5s", 5.0), ("7", 7.0), ("1m30s", 90.0), ("24h", 86_400.0), ("1", 1.0)])
def test_durations_and_bare_seconds_are_understood(text: str, seconds: float):
    assert settings(f"read {text}") == StreamSettings(read_seconds=seconds)
    assert settings(f"write {text}", f"idle {text}") == StreamSettings(write_seconds=seconds, idle_seconds=seconds)


@pytest.mark.parametrize(("text", "number"), [("10", 10), ("-1", None), ("0", None)])
def test_queries_are_limited_or_not(text: str, number: int | None):
    assert settings(f"maxtcpqueries {text}").max_queries == number


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("", "Corefile:2 - Error during parsing: timeouts block with no timeouts specified"),
        (
            "read 0s",
            "Corefile:3 - Error during parsing: timeout provided '0s' needs to be between 1 second and 24 hours",
        ),
        (
            "idle 25h",
            "Corefile:3 - Error during parsing: timeout provided '25h0m0s' needs to be between 1 second and 24 hours",
        ),
        ("idle x", "Corefile:3 - Error during parsing: failed to parse duration 'x'"),
        ("write", "Corefile:3 - Error during parsing: Wrong argument count or unexpected line ending after 'write'"),
        ("other 1s", "Corefile:3 - Error during parsing: unknown option: 'other'"),
        ("maxtcpqueries x", 'Corefile:3 - Error during parsing: strconv.Atoi: parsing "x": invalid syntax'),
        (
            "maxtcpqueries -2",
            "Corefile:3 - Error during parsing: maxtcpqueries of -2, expected -1 for any number, or more",
        ),
    ],
)
def test_mistakes_are_refused(body: str, text: str):
    assert refused(f"timeouts {{\n{body}\n}}" if body else "timeouts") == f"plugin/timeouts: {text}"
