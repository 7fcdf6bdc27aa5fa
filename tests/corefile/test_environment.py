"""Environment variables in keys, directive names, arguments and imports."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.corefile import ServerBlock, parse
from kdns.corefile.environment import expand_environment
from kdns.errors import CorefileError

ENVIRON = {"ZONE": "env.test", "PORT": "1053", "WORD": "hosts", "EMPTY": "", "SPACED": "a b", "INNER": "{$ZONE}"}


def parse_text(text: str) -> ServerBlock:
    (block,) = parse(text, "Corefile", None, ENVIRON)
    return block


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{$ZONE}:{$PORT}", "env.test:1053"),
        ("{%ZONE%}:{$PORT}", "env.test:1053"),
        ("a{$EMPTY}b{$UNSET}c", "abc"),
        ("{$ZONE}{$ZONE}", "env.testenv.test"),
        ("{$INNER}", "env.test"),
        ("{$}", "{$}"),
        ("{%%}", "{%%}"),
        ("{%}", "{%}"),
        ("{$ZONE", "{$ZONE"),
        ("{$} {$ZONE}", "{$} {$ZONE}"),
        ("{$ZONE} {$}", "env.test {$}"),
        ("{ $ZONE} ${ZONE} $ZONE", "{ $ZONE} ${ZONE} $ZONE"),
        ("{{$x}}", "{}"),
        ("{{ $x }}", "{{ $x }}"),
    ],
)
def test_references(text: str, expected: str) -> None:
    assert expand_environment(text, ENVIRON) == expected


@pytest.mark.parametrize("value", ["{$LOOP}", "{$LOOP}{$LOOP}", "x{$OTHER}"])
def test_a_value_that_refers_to_itself_is_refused_where_it_stands(value: str) -> None:
    with pytest.raises(CorefileError) as caught:
        parse(". {\nlog {$LOOP}\n}", "Corefile", None, {"LOOP": value, "OTHER": "{$LOOP}"})
    text = "Environment variables expand without end, one may refer to itself"
    assert str(caught.value) == f"Corefile:2 - Error during parsing: {text}"


def test_keys_directive_names_and_arguments_are_expanded() -> None:
    block = parse_text('{$ZONE}:{$PORT} {\n{$WORD} "{$PORT} x" {\n10.0.0.1 {$ZONE}\n}\n}')
    assert block.keys == ("env.test:1053",)
    assert [token.text for token in block.directives["hosts"][1:]] == ["1053 x", "{", "10.0.0.1", "env.test", "}"]


def test_the_name_of_a_directive_keeps_its_reference_in_the_token() -> None:
    """The token is hashed as it is written; it is filed under what it means."""
    assert parse_text(". {\n{$WORD}\n}").directives["hosts"][0].text == "{$WORD}"


def test_a_value_with_blanks_is_one_argument() -> None:
    block = parse_text(". {\nforward . {$SPACED}\n}")
    assert [token.text for token in block.directives["forward"]] == ["forward", ".", "a b"]


def test_an_unset_key_is_no_key() -> None:
    assert parse_text("{$UNSET} a.test {\n}").keys == ("a.test",)


def test_import_patterns_are_expanded(tmp_path: Path) -> None:
    (tmp_path / "hosts.conf").write_text("errors\n")
    (block,) = parse(". {\nimport {$WORD}.conf\n}", str(tmp_path / "Corefile"), None, ENVIRON)
    assert list(block.directives) == ["errors"]


@given(st.text("{}$%AB "), st.dictionaries(st.sampled_from(["A", "B", "AB"]), st.text("{}$%AB x")))
def test_any_reference_expands_or_is_refused(text: str, environ: dict[str, str]) -> None:
    try:
        expanded = expand_environment(text, environ)
    except CorefileError:
        assert any("{" in value for value in environ.values())
    else:
        assert expanded == text or "{" in text
