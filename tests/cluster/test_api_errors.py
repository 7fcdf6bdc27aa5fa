"""What a failed request means."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.cluster.api_errors import ApiError, ErrorKind, error_of_event, error_of_reply, retry_after_seconds

NOW = "Wed, 21 Oct 2015 07:28:00 GMT"


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        (401, {}, ErrorKind.UNAUTHORIZED),
        (403, {}, ErrorKind.FORBIDDEN),
        (404, {}, ErrorKind.NOT_FOUND),
        (410, {"reason": "Expired"}, ErrorKind.GONE),
        (500, {"reason": "Expired"}, ErrorKind.GONE),
        (422, {"reason": "Invalid"}, ErrorKind.INVALID),
        (429, {}, ErrorKind.THROTTLED),
        (500, {}, ErrorKind.SERVER),
        (503, {}, ErrorKind.SERVER),
        (504, {"details": {"causes": [{"reason": "ResourceVersionTooLarge"}]}}, ErrorKind.VERSION_TOO_LARGE),
        (504, {"message": "Timeout: Too large resource version: 9, current: 1"}, ErrorKind.VERSION_TOO_LARGE),
        (504, {"details": {"causes": [None]}}, ErrorKind.SERVER),
        (302, {}, ErrorKind.PROTOCOL),
        (204, {}, ErrorKind.PROTOCOL),
    ],
)
def test_status_decides_what_follows(code: int, status: dict[str, Any], kind: ErrorKind) -> None:
    assert error_of_reply(code, json.dumps(status).encode(), {}).kind is kind
    if code >= 400:
        assert error_of_event(json.dumps({"code": code, **status}).encode()).kind is kind


@pytest.mark.parametrize("body", [b"", b"<html>\n<b>Bad Gateway</b>", b"[]", b"\xff\xfe", b'{"message": 7}'])
def test_body_that_is_no_status_leaves_the_http_status(body: bytes) -> None:
    error = error_of_reply(502, body, {})
    assert error.kind is ErrorKind.SERVER
    assert str(error).startswith("HTTP 502")
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("", None),
        ("5", 5.0),
        (" 7 ", 7.0),
        ("-1", 0.0),
        ("1000000000", 60.0),
        ("9" * 400, 60.0),
        ("1.5", None),
        ("soon", None),
        ("Wed, 21 Oct 2015 07:28:30 GMT", 30.0),
        ("Wed, 21 Oct 2015 07:20:00 GMT", 0.0),
        ("Wed, 21 Oct 2035 07:28:00 GMT", 60.0),
        ("Wed, 99 Oct 2015 07:28:00 GMT", None),
    ],
)
def test_retry_after_is_understood_within_a_minute(text: str, seconds: float | None) -> None:
    assert retry_after_seconds(text, NOW) == seconds
    assert error_of_reply(429, b"", {"retry-after": text, "date": NOW}).retry_after_seconds == seconds


def test_date_in_retry_after_says_nothing_without_the_time_of_the_reply() -> None:
    assert retry_after_seconds(NOW, "") is None


def test_status_may_say_how_long_to_wait() -> None:
    assert error_of_reply(429, b'{"details":{"retryAfterSeconds":3}}', {}).retry_after_seconds == 3.0


@given(st.text(), st.text())
def test_any_retry_after_is_a_wait_or_none(text: str, now: str) -> None:
    seconds = retry_after_seconds(text, now)
    assert seconds is None or 0 <= seconds <= 60


@given(st.integers(0, 999), st.binary())
def test_any_reply_makes_an_error(code: int, body: bytes) -> None:
    assert isinstance(error_of_reply(code, body, {}), ApiError)
    assert isinstance(error_of_event(body), ApiError)
