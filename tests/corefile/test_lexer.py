"""Words, quotes and comments."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.corefile import Token, decode, lex
from kdns.corefile.lexer import WHITE_SPACE


def words(text: str) -> list[str]:
    return [token.text for token in lex(text, "Corefile")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("a  b\tc\nd\u2003e\x85f", ["a", "b", "c", "d", "e", "f"], id="unicode white space separates"),
        pytest.param("a\x1cb", ["a\x1cb"], id="information separators are no white space"),
        pytest.param("\ufeffa \ufeffb", ["a", "\ufeffb"], id="only a leading byte order mark is dropped"),
        pytest.param("a\r\nb\rc\r\n", ["a", "bc"], id="carriage returns vanish without ending a word"),
        pytest.param('"a b" c', ["a b", "c"], id="quotes hold blanks"),
        pytest.param('"a"b', ["a", "b"], id="the closing quote ends the token"),
        pytest.param('a"b c"', ['a"b', 'c"'], id="a quote within a word is literal"),
        pytest.param("'a b' `c`", ["'a", "b'", "`c`"], id="other quotes are ordinary"),
        pytest.param(r'"say \"hi\""', ['say "hi"'], id="a quote can be escaped"),
        pytest.param(r'"\d\.\n\\" x', ["\\d\\.\\n\\\\", "x"], id="other backslashes stay, in pairs"),
        pytest.param(r"\"a b\"", ['\\"a', 'b\\"'], id="nothing is escaped outside quotes"),
        pytest.param('"a\r\nb"', ["a\r\nb"], id="line ends in quotes stay as they are"),
        pytest.param('"" x', ["", "x"], id="empty quotes are a token"),
        pytest.param('a "b c', ["a", "b c"], id="an open quote ends with the text"),
        pytest.param('a "', ["a"], id="an open quote before the end is nothing"),
        pytest.param('a "b\\', ["a", "b"], id="an open escape at the end is nothing"),
        pytest.param("a # b c\nd", ["a", "d"], id="a comment runs to the end of the line"),
        pytest.param("a #b c", ["a"], id="a comment needs no blank after its mark"),
        pytest.param("a#b c # d\ne", ["a", "c", "e"], id="a glued comment ends at the next blank"),
        pytest.param("a#b\nc", ["a", "c"], id="a glued comment ends with its line"),
        pytest.param('#"a\nb"', ['b"'], id="comments hold no quotes"),
        pytest.param('"a#b"', ["a#b"], id="quotes hold number signs"),
        pytest.param("{a} { }", ["{a}", "{", "}"], id="braces are characters of words"),
        pytest.param("a\\\nb", ["a\\", "b"], id="no line continues"),
        pytest.param("", [], id="nothing"),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_tokens_know_the_line_they_start_on() -> None:
    tokens = lex('a\n\n  b "c\nd" e\n# x\nf', "F")
    assert tokens == [
        Token("F", 1, "a"),
        Token("F", 3, "b"),
        Token("F", 3, "c\nd"),
        Token("F", 4, "e"),
        Token("F", 6, "f"),
    ]
    assert [token.last_line for token in tokens] == [1, 3, 4, 4, 6]


def test_octets_that_are_not_utf8_are_read_as_replacement_characters_one_by_one() -> None:
    assert decode(b"\xef\xbb\xbfa\xff\xe2\x82\n\xc3\xa9") == "\ufeffa\ufffd\ufffd\ufffd\n\u00e9"


@given(st.text())
def test_every_text_has_tokens_and_their_lines_never_fall(text: str) -> None:
    lines = [token.line for token in lex(text, "F")]
    assert lines == sorted(lines)
    assert all(1 <= line <= text.count("\n") + 1 for line in lines)


@given(st.lists(st.text(st.characters(exclude_characters="\\", exclude_categories=["Cs"]))))
def test_quoted_words_come_back_as_they_were(expected: list[str]) -> None:
    text = " ".join('"' + word.replace('"', '\\"') + '"' for word in expected)
    assert words(text) == expected


@given(st.lists(st.text(st.characters(exclude_characters='"#\ufeff' + "".join(WHITE_SPACE)), min_size=1)))
def test_bare_words_come_back_as_they_were(expected: list[str]) -> None:
    assert words("\t".join(expected)) == expected


@given(st.binary())
def test_every_octet_string_is_text(raw: bytes) -> None:
    decode(raw).encode()
