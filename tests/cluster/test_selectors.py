"""Label selectors: what parses, what they match, and what the error says of the rest."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.cluster.selectors import Selector, SelectorError

LABELS = {"app": "web", "tier": "front", "empty": "", "example.com/owner": "shop"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "app",
        "app=web",
        "app==web",
        "app = web",
        "app!=db",
        "app in (web, db)",
        "app  in(web)",
        "app notin (db,cache)",
        "absent notin (db)",
        "absent!=db",
        "!absent",
        "! absent",
        "empty=",
        "empty in ()",
        "empty in (,web)",
        "example.com/owner=shop",
        "app=web,tier!=back , !absent,tier in (front)",
    ],
)
def test_selector_matches(text: str) -> None:
    assert Selector.parse(text).matches(LABELS)


@pytest.mark.parametrize(
    "text",
    ["absent", "app=", "app=db", "app!=web", "app in (db)", "app notin (web,db)", "!app", "app=web,absent", "absent="],
)
def test_selector_does_not_match(text: str) -> None:
    assert not Selector.parse(text).matches(LABELS)


def test_operators_are_plain_words_as_keys_and_values() -> None:
    selector = Selector.parse("in in (in,notin),notin=in")
    assert selector.matches({"in": "notin", "notin": "in"})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a=b,c", "c,a==b"),
        ("a in (b)", "a=b"),
        ("a in (y,x,y)", "a  in ( x,y )"),
        ("a notin (b)", "a!=b"),
        ("a,a", "a"),
    ],
)
def test_selectors_that_say_the_same_are_equal(one: str, other: str) -> None:
    assert Selector.parse(one) == Selector.parse(other)
    assert hash(Selector.parse(one)) == hash(Selector.parse(other))


def test_different_selectors_differ() -> None:
    assert Selector.parse("a=b") != Selector.parse("a!=b")
    assert Selector.parse("a") != Selector.parse("!a")


@pytest.mark.parametrize(
    ("text", "column", "expected"),
    [
        (",", 1, "a label key"),
        ("a,", 3, "a label key"),
        ("a b", 3, "'=', '==', '!='"),
        ("a>1", 2, "'=', '==', '!='"),
        ("a in b", 6, "'('"),
        ("a in (b", 8, "',' or ')'"),
        ("a in (b c)", 9, "',' or ')'"),
        ("a=b=c", 4, "',' or the end"),
        ("a=b c", 5, "',' or the end"),
        ("!a=b", 3, "',' or the end"),
        ("a=-b", 3, "a label value"),
        ("a=" + "x" * 64, 3, "a label value"),
        ("a/b/c", 1, "a label key"),
        ("/a", 1, "a label key"),
        ("Example.com/a", 1, "a label key"),
        ("ключ=x", 1, "a label key"),
    ],
)
def test_error_says_what_was_met_and_expected_and_where(text: str, column: int, expected: str) -> None:
    with pytest.raises(SelectorError) as caught:
        Selector.parse(text)
    assert f"at column {column}, expected {expected}" in str(caught.value)
    assert repr(text) in str(caught.value)


@given(st.text() | st.text(alphabet="ab/.,!=()<> \tin"))
def test_any_text_is_a_selector_or_a_selector_error(text: str) -> None:
    try:
        selector = Selector.parse(text)
    except SelectorError:
        return
    assert Selector.parse(str(selector)) == selector
    assert selector.matches({}) in (True, False)
