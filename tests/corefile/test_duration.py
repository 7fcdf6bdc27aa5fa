"""Durations in Go's syntax."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.corefile import format_duration, parse_duration
from kdns.errors import CorefileError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5s", 5),
        ("300ms", 0.3),
        ("1m30s", 90),
        ("1h", 3600),
        ("1.5h", 5400),
        (".5s", 0.5),
        ("5.s", 5),
        ("0", 0),
        ("+0", 0),
        ("-1.5s", -1.5),
        ("1h1h", 7200),
        ("100us100\u00b5s100\u03bcs", 0.0003),
        ("1ns", 1e-9),
        ("0.0000000001s", 0),
        ("9223372036854775807ns", 9223372036.854775807),
        ("-9223372036854775808ns", -9223372036.854775808),
        ("00000000000000000000000000005s", 5),
    ],
)
def test_parse(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("5", 'time: missing unit in duration "5"'),
        ("1m5", 'time: missing unit in duration "1m5"'),
        ("1.2.3s", 'time: missing unit in duration "1.2.3s"'),
        ("fast", 'time: invalid duration "fast"'),
        ("", 'time: invalid duration ""'),
        ("-", 'time: invalid duration "-"'),
        (".s", 'time: invalid duration ".s"'),
        ("1s ", 'time: unknown unit "s " in duration "1s "'),
        ("5x", 'time: unknown unit "x" in duration "5x"'),
        ("1d", 'time: unknown unit "d" in duration "1d"'),
        ("5S", 'time: unknown unit "S" in duration "5S"'),
        ('5"\u00e9\\\n', 'time: unknown unit "\\"\\xc3\\xa9\\\\\\x0a" in duration "5\\"\\xc3\\xa9\\\\\\x0a"'),
        ("\u0665s", 'time: invalid duration "\\xd9\\xa5s"'),
        ("9223372036854775808ns", 'time: invalid duration "9223372036854775808ns"'),
        ("2562048h", 'time: invalid duration "2562048h"'),
        ("2562047h2562047h", 'time: invalid duration "2562047h2562047h"'),
        ("9" * 30 + "s", f'time: invalid duration "{"9" * 30}s"'),
    ],
)
def test_errors(text: str, message: str) -> None:
    with pytest.raises(CorefileError) as caught:
        parse_duration(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (5, "5s"),
        (90, "1m30s"),
        (0.3, "300ms"),
        (3600, "1h0m0s"),
        (5.001, "5.001s"),
        (0.0015, "1.5ms"),
        (0.000002, "2\u00b5s"),
        (3e-9, "3ns"),
        (-61, "-1m1s"),
        (100 * 3600 + 1, "100h0m1s"),
    ],
)
def test_format(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers(-(10**15), 10**15))
def test_what_is_formatted_parses_to_the_same(nanoseconds: int) -> None:
    assert round(parse_duration(format_duration(nanoseconds / 1e9)) * 1e9) == nanoseconds


@given(st.text("0123456789.+-nuµmsh") | st.text())
def test_every_text_is_a_duration_or_refused(text: str) -> None:
    try:
        seconds = parse_duration(text)
    except CorefileError:
        return
    assert abs(seconds) <= 2**63 / 1e9
