"""Server blocks: keys, braces, directives, and the errors about them."""

from __future__ import annotations

import pytest

from kdns.corefile import ServerBlock, default_corefile, parse
from kdns.errors import CorefileError

KNOWN = ("errors", "log", "cache", "forward", "hosts", "whoami", "template")


def parse_text(text: str) -> list[ServerBlock]:
    return parse(text, "Corefile", KNOWN, {})


def words_of(block: ServerBlock) -> dict[str, list[str]]:
    return {name: [token.text for token in tokens] for name, tokens in block.directives.items()}


def refusal(text: str) -> CorefileError:
    with pytest.raises(CorefileError) as caught:
        parse_text(text)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        pytest.param(". {\n}", [(".",)], id="one"),
        pytest.param("a.test b.test:53 {\n}", [("a.test", "b.test:53")], id="several"),
        pytest.param("a.test, b.test,\n\nc.test {\n}", [("a.test", "b.test", "c.test")], id="over lines with a comma"),
        pytest.param("a.test,\nb.test c.test\n{\n}", [("a.test", "b.test", "c.test")], id="brace on the next line"),
        pytest.param("a.test\n\n{\n}", [("a.test",)], id="brace after an empty line"),
        pytest.param('"" a.test {\n}', [("a.test",)], id="empty quotes are no key"),
        pytest.param("a.test:53{\nerrors", [("a.test:53{",)], id="a glued brace is part of the key"),
        pytest.param("a.test", [("a.test",)], id="keys alone"),
        pytest.param("a.test {\n}\nb.test {\n}", [("a.test",), ("b.test",)], id="two blocks"),
        pytest.param("a.test {\n} b.test {\n}", [("a.test",), ("b.test",)], id="a block after a brace"),
        pytest.param("a.test {\n}\n}", [("a.test",), ("}",)], id="a stray brace is a key"),
        pytest.param("{\nerrors\n}", [], id="braces without a key serve nothing"),
        pytest.param("", [], id="nothing"),
        pytest.param("# a comment\n", [], id="a comment"),
    ],
)
def test_keys(text: str, keys: list[tuple[str, ...]]) -> None:
    assert [block.keys for block in parse_text(text)] == keys


@pytest.mark.parametrize(
    ("body", "directives"),
    [
        pytest.param("{\nerrors\n}", {"errors": ["errors"]}, id="alone"),
        pytest.param("{ errors\n}", {"errors": ["errors"]}, id="on the line of the brace"),
        pytest.param("\nerrors\ncache 30", {"errors": ["errors"], "cache": ["cache", "30"]}, id="without braces"),
        pytest.param(
            "{\nlog a\nerrors\nlog b {\nclass all\n}\n}",
            {"log": ["log", "a", "log", "b", "{", "class", "all", "}"], "errors": ["errors"]},
            id="occurrences of one directive are joined in order",
        ),
        pytest.param("{\nerrors { }\n}", {"errors": ["errors", "{", "}"]}, id="an empty block on one line"),
        pytest.param("{\nerrors\n{\nx\n}\n}", {"errors": ["errors", "{", "x", "}"]}, id="a block below its line"),
        pytest.param(
            "{\nhosts {\na {\nb\n}\n}\n}", {"hosts": ["hosts", "{", "a", "{", "b", "}", "}"]}, id="nested blocks"
        ),
        pytest.param(
            '{\nlog "a\nb" c\nerrors\n}', {"log": ["log", "a\nb", "c"], "errors": ["errors"]}, id="quoted line"
        ),
        pytest.param("{\n    }", {}, id="nothing"),
    ],
)
def test_directives(body: str, directives: dict[str, list[str]]) -> None:
    (block,) = parse_text(". " + body)
    assert words_of(block) == directives


def test_blocks_and_tokens_know_their_place() -> None:
    first, second = parse_text("# x\n. {\n  errors\n}\n\na.test,\nb.test {\n}\n")
    assert (first.file, first.line) == ("Corefile", 2)
    assert (second.file, second.line) == ("Corefile", 6)
    (token,) = first.directives["errors"]
    assert (token.file, token.line) == ("Corefile", 3)


def test_a_directive_that_swallows_the_brace_of_its_block_is_accepted() -> None:
    (block,) = parse_text(". {\nerrors {\nx\n}")
    assert words_of(block) == {"errors": ["errors", "{", "x", "}"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (".:53 {\n    errors\n    nonsense\n}\n", "Corefile:3 - Error during parsing: Unknown directive 'nonsense'"),
        (".:53 {\n    federation c\n}\n", "Corefile:2 - Error during parsing: Unknown directive 'federation'"),
        (".:53 {\n    errors\n", "Corefile:2 - Syntax error: Unexpected token 'errors', expecting '}'"),
        (".:53 {", "Corefile:1 - Syntax error: Unexpected token '{', expecting '}'"),
        (".:53 {\n  log {\n    class all\n", "Corefile:3 - Error during parsing: Unexpected EOF"),
        ("a.test,", "Corefile:1 - Error during parsing: Unexpected EOF"),
        (
            ".:53, {\n    errors\n}\n",
            "Corefile:1 - Error during parsing: Expected another address but had '{' - check for extra comma",
        ),
        (
            ".:53 {\n  errors }\n",
            "Corefile:2 - Error during parsing: Unexpected '}' because no matching opening brace",
        ),
        ('. {\n"a\nb\t\x07"\n}', "Corefile:2 - Error during parsing: Unknown directive 'a\\nb\\t\\x07'"),
    ],
)
def test_errors(text: str, message: str) -> None:
    assert str(refusal(text)) == message


def test_an_unknown_directive_comes_with_the_name_that_is_near() -> None:
    assert refusal(". {\nfoward . 10.0.0.1\n}").hint == "did you mean 'forward'?"
    assert refusal(". {\nxyzzy\n}").hint == ""


def test_without_known_names_every_directive_is_taken() -> None:
    (block,) = parse(". {\nnonsense 1\n}", "Corefile", None, {})
    assert words_of(block) == {"nonsense": ["nonsense", "1"]}


def test_the_default_answers_and_logs_on_the_default_port() -> None:
    (block,) = parse_text(default_corefile(1053, KNOWN))
    assert block.keys == (".:1053",)
    assert list(block.directives) == ["whoami", "log"]


def test_the_default_holds_only_directives_there_are() -> None:
    (block,) = parse(default_corefile(53, ["whoami"]), "Corefile", ["whoami"], {})
    assert list(block.directives) == ["whoami"]
