"""Errors that point into a Corefile, in CoreDNS's words and always on one line."""

from __future__ import annotations

from collections.abc import Iterable

from kdns.corefile.lexer import Token
from kdns.errors import CorefileError

# Quoted tokens may hold line breaks and the like; in a message they would pass for lines of their own.
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}
_CONTROLS |= {ord("\t"): "\\t", ord("\n"): "\\n", ord("\r"): "\\r", 0x2028: "\\u2028", 0x2029: "\\u2029"}


def parsing_error(token: Token, text: str, *, hint: str = "") -> CorefileError:
    """The error that says `text` of the place where `token` stands."""
    return _error(f"{token.file}:{token.line} - Error during parsing: {text}", hint)


def syntax_error(token: Token, expected: str) -> CorefileError:
    """The error that `token` stands where `expected` should."""
    return _error(f"{token.file}:{token.line} - Syntax error: Unexpected token '{token.text}', expecting '{expected}'")


def argument_error(token: Token) -> CorefileError:
    """The error that `token` is one argument too many, or the last one before a missing one."""
    if token.text == "{":
        return parsing_error(token, "Unexpected token '{', expecting argument")
    return parsing_error(token, f"Wrong argument count or unexpected line ending after '{token.text}'")


def one_line(text: str) -> str:
    """Text from a Corefile with its control characters escaped, for messages."""
    return text.translate(_CONTROLS)


def suggest(word: str, known: Iterable[str]) -> str:
    """A hint at the one of `known` that `word` was probably meant to be, or nothing."""
    import difflib  # only who has to complain waits for it

    near = difflib.get_close_matches(word, sorted(known), n=1)
    return f"did you mean '{near[0]}'?" if near else ""


def _error(message: str, hint: str = "") -> CorefileError:
    return CorefileError(one_line(message), hint=hint)
