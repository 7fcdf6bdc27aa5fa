"""Reading a directive's tokens as its setup does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.corefile import Dispenser, Token, lex, parse


def dispense(text: str) -> Dispenser:
    return Dispenser(lex(text, "Corefile"))


def read_all(tokens: Dispenser) -> list[tuple[list[str], list[list[str]]]]:
    """Each occurrence as its arguments and the options of its block."""
    found = []
    for _ in tokens.occurrences():
        arguments = tokens.remaining_args()
        options = [[option, *tokens.remaining_args()] for option in tokens.block()]
        found.append((arguments, options))
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("loop", [([], [])], id="a name"),
        pytest.param("log a b", [(["a", "b"], [])], id="arguments"),
        pytest.param(
            "cache 30 {\nsuccess 9984 30\nprefetch 1\n}\ncache",
            [(["30"], [["success", "9984", "30"], ["prefetch", "1"]]), ([], [])],
            id="a block",
        ),
        pytest.param("log {\n}\nlog b", [([], []), (["b"], [])], id="an empty block over two lines"),
        pytest.param("log { }\nlog b", [([], []), (["b"], [])], id="an empty block on one line"),
        pytest.param("health { lameduck 5s }", [([], [["lameduck", "5s", "}"]])], id="a closing brace as an argument"),
        pytest.param("log { class all\n}", [([], [["class", "all"]])], id="an option on the line of the brace"),
        pytest.param('log "a\nb" c {\nx\n}', [(["a\nb", "c"], [["x"]])], id="a line goes on after quoted line breaks"),
        pytest.param("log\n{\n}", [([], []), ([], []), ([], [])], id="braces on other lines are occurrences"),
        pytest.param('log "" x', [(["", "x"], [])], id="an empty argument"),
    ],
)
def test_occurrences(text: str, expected: list[tuple[list[str], list[list[str]]]]) -> None:
    assert read_all(dispense(text)) == expected


def test_a_snippet_imported_twice_reads_as_one_line() -> None:
    """The second copy's first token stands on the line on which the first copy ended."""
    (block,) = parse("(s) {\nforward . 10.0.0.1\n}\n. {\nimport s\nimport s\n}", "Corefile", None, {})
    arguments = [".", "10.0.0.1", "forward", ".", "10.0.0.1"]
    assert read_all(Dispenser(block.directives["forward"])) == [(arguments, [])]


def test_tokens_of_another_file_begin_a_line() -> None:
    tokens = Dispenser([Token("a", 1, "log"), Token("b", 1, "x")])
    assert tokens.next()
    assert not tokens.next_arg()
    assert tokens.next_line()
    assert tokens.val == "x"


def test_next_line_stays_on_a_line_that_goes_on() -> None:
    tokens = dispense("log a\nb")
    assert tokens.next_line()  # before the first token every line is the next
    assert not tokens.next_line()
    assert tokens.next_arg()
    assert tokens.next_line()
    assert (tokens.val, tokens.line, tokens.file) == ("b", 2, "Corefile")
    assert not tokens.next_line()
    assert not tokens.next_arg()
    assert not tokens.next()
    assert tokens.val == "b"


def test_before_the_first_token_there_is_no_value() -> None:
    tokens = Dispenser([], "Corefile")
    assert (tokens.val, tokens.line, tokens.file) == ("", 0, "Corefile")
    assert not tokens.next()
    assert not tokens.next_arg()
    assert not tokens.next_block()


def test_errors_point_at_the_token_read_last() -> None:
    tokens = dispense("health a b {\n  lameduk 5s\n}")
    tokens.next()
    tokens.remaining_args()
    assert (
        str(tokens.arg_error())
        == "Corefile:1 - Error during parsing: Wrong argument count or unexpected line ending after 'b'"
    )
    tokens.next_block()
    assert str(tokens.error("bad")) == "Corefile:2 - Error during parsing: bad"
    assert str(tokens.syntax_error("Unknown field x")) == (
        "Corefile:2 - Syntax error: Unexpected token 'lameduk', expecting 'Unknown field x'"
    )
    assert str(tokens.unknown_property()) == "Corefile:2 - Error during parsing: unknown property 'lameduk'"
    assert tokens.unknown_property(["lameduck"]).hint == "did you mean 'lameduck'?"


def test_a_brace_in_place_of_an_argument_is_named() -> None:
    tokens = dispense("health {")
    tokens.next()
    tokens.next_arg()
    assert str(tokens.arg_error()) == "Corefile:1 - Error during parsing: Unexpected token '{', expecting argument"


def test_errors_after_a_block_point_at_its_end() -> None:
    tokens = dispense("kubernetes {\n namespaces a\n}")
    read_all(tokens)
    assert tokens.line == 3


def test_line_breaks_within_tokens_stay_out_of_messages() -> None:
    tokens = dispense('log "a\nb"')
    tokens.next()
    tokens.next_arg()
    assert str(tokens.arg_error()).endswith("after 'a\\nb'")


@given(st.text('a{}" \n#'))
def test_every_token_list_is_read_to_its_end(text: str) -> None:
    tokens = dispense(text)
    read_all(tokens)
    assert not tokens.next()
