"""Numbers as Go reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.plugins.go_numbers import parse_uint, quoted


@pytest.mark.parametrize(
    ("text", "base", "bits", "value"),
    [
        ("65535", 10, 16, 65535),
        ("0xffee", 0, 16, 0xFFEE),
        ("0b101", 0, 8, 5),
        ("0o17", 0, 8, 15),
        ("017", 0, 8, 15),
        ("0", 0, 8, 0),
        ("1_000", 0, 16, 1000),
        ("ff", 16, 8, 255),
        ("FF", 16, 8, 255),
        ("z", 36, 0, 35),
        ("18446744073709551615", 10, 64, 2**64 - 1),
    ],
)
def test_numbers(text: str, base: int, bits: int, value: int):
    assert parse_uint(text, base, bits) == value


@pytest.mark.parametrize(
    ("text", "base", "bits", "complaint"),
    [
        ("", 10, 16, "invalid syntax"),
        ("x", 10, 16, "invalid syntax"),
        ("-1", 10, 16, "invalid syntax"),
        ("+1", 10, 16, "invalid syntax"),
        ("1_0", 10, 16, "invalid syntax"),
        ("1__0", 0, 16, "invalid syntax"),
        ("_1", 0, 16, "invalid syntax"),
        ("0x", 0, 16, "invalid syntax"),
        ("08", 0, 16, "invalid syntax"),
        ("٣", 10, 16, "invalid syntax"),
        ("65536", 10, 16, "value out of range"),
        ("1", 1, 16, "invalid base 1"),
        ("1", 10, 65, "invalid bit size 65"),
    ],
)
def test_what_is_no_number_is_said_in_gos_words(text: str, base: int, bits: int, complaint: str):
    with pytest.raises(ValueError, match="strconv") as caught:
        parse_uint(text, base, bits)
    assert str(caught.value) == f'strconv.ParseUint: parsing "{text}": {complaint}'


@given(st.text(max_size=20), st.sampled_from([0, 8, 10, 16]))
def test_any_text_is_a_number_or_refused(text: str, base: int):
    try:
        assert 0 <= parse_uint(text, base, 16) < 2**16
    except ValueError as error:
        assert "strconv.ParseUint" in str(error)  # noqa: PT017


def test_texts_are_quoted_as_go_does():
    assert quoted('a"b\\\n\té\x01\udcff\u200b') == r'"a\"b\\\n\té\x01\xff\u200b"'
