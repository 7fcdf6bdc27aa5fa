"""Regular expressions: what Go takes them for, and what replacements make of their groups."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.plugins.pattern import MAX_PATTERN, Pattern, PatternError, PatternTooLong, Replacement, groups_used


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("(", "missing closing ): `(`"),
        ("[a", "missing closing ]: `[a`"),
        ("a)", "unexpected ): `a)`"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("*", "missing argument to repetition operator: `*`"),
        ("x{1001}", "invalid repeat count: `{1001}`"),
        ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        ("(?P<n", "invalid named capture: `(?P<n`"),
        ("\\8", "invalid escape sequence: `\\8`"),
        ("\\C", "invalid escape sequence: `\\C`"),
        ("[z-a]", "invalid character class range: `z-a`"),
        ("\\", "trailing backslash at end of expression: ``"),
    ],
)
def test_complaints_are_in_gos_words(text: str, complaint: str):
    with pytest.raises(PatternError) as caught:
        Pattern(text)
    assert str(caught.value) == f"error parsing regexp: {complaint}"


@pytest.mark.parametrize("text", ["(?U)a+", "\\pN", "[[:alpha:]]", "a\\z", "(?P<n>a)", "(?<n>a)", "\\Q\\C", "a\\\\C"])
def test_what_go_has_and_python_has_not_is_understood(text: str):
    assert Pattern(text).text == text


def test_a_pattern_may_have_ten_thousand_characters():
    assert Pattern("a" * MAX_PATTERN).is_in("a" * MAX_PATTERN)
    with pytest.raises(PatternTooLong) as caught:
        Pattern("a" * (MAX_PATTERN + 1))
    assert str(caught.value) == "regex pattern too long: 10001 > 10000"


def test_a_match_may_begin_anywhere_and_has_its_groups():
    pattern = Pattern(r"(?P<host>[a-z]+)-(us|eu)(x)?\.test")
    assert pattern.search("web.db-eu.test.") == ("db-eu.test", "db", "eu", "")
    assert pattern.search("db-asia.test.") is None
    assert (pattern.groups, dict(pattern.names)) == (3, {"host": 1})


def test_text_beyond_ascii_is_cut_at_characters():
    assert Pattern("(é+)(.)").search("caféé!") == ("éé!", "éé", "!")


def test_octets_that_are_no_text_are_searched_all_the_same():
    assert Pattern("b").search("a\udcffb") == ("b",)


def test_an_expression_that_backtracks_elsewhere_takes_no_time():
    began = time.process_time()
    assert not Pattern("(a+)+$").is_in("a" * 5000 + "b")
    assert time.process_time() - began < 1


def test_a_replacement_takes_groups_by_number():
    assert Replacement("{2}.{1}.x{0}", 2).expand(("ab", "a", "b")) == "b.a.xab"


def test_a_group_that_is_not_there_stays_as_it_is_written():
    assert Replacement("{1}.{2}.{01}.{101}", 1).expand(("a", "b")) == "b.{2}.{01}.{101}"


def test_what_a_group_holds_is_not_read_as_a_group_again():
    assert Replacement("{1}.{2}", 2).expand(("", "{2}{2}", "x")) == "{2}{2}.x"


def test_groups_are_counted_once_each_and_up_to_a_hundred():
    assert groups_used("{1}{1}{0}{100}{101}{01}") == 3


@given(st.text(max_size=30))
def test_any_text_is_a_pattern_or_refused(text: str):
    try:
        Pattern(text).search("a.test.")
    except PatternError as error:
        assert str(error).startswith("error parsing regexp: ")  # noqa: PT017
