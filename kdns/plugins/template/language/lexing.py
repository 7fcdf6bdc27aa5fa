"""From a template's text to tokens, as Go's text/template reads it."""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import NamedTuple

from kdns.errors import CorefileError
from kdns.plugins.go_numbers import quoted


class TemplateSyntaxError(CorefileError):
    """A text that is no template; the words are Go's."""


class Kind(Enum):
    """What a token is."""

    TEXT = auto()
    LEFT = auto()  # {{
    RIGHT = auto()  # }}
    SPACE = auto()
    PIPE = auto()
    COMMA = auto()
    DECLARE = auto()  # :=
    ASSIGN = auto()  # =
    LEFT_PAREN = auto()
    RIGHT_PAREN = auto()
    DOT = auto()
    FIELD = auto()  # .Name
    VARIABLE = auto()  # $name
    IDENTIFIER = auto()
    KEYWORD = auto()
    NIL = auto()
    BOOL = auto()
    NUMBER = auto()
    CHARACTER = auto()
    STRING = auto()
    RAW_STRING = auto()
    OTHER = auto()  # a character that means nothing
    EOF = auto()


class Token(NamedTuple):
    """A piece of a template and where it begins."""

    kind: Kind
    text: str
    at: int  # characters before it


KEYWORDS = frozenset(
    ("block", "break", "continue", "define", "else", "end", "if", "range", "template", "with")
)  # fmt: skip
_SPACES = " \t\r\n"
_WORD = re.compile(r"\w+")
_NUMBER = re.compile(
    r"[+-]?(0[xX][0-9a-fA-F_]*(\.[0-9a-fA-F_]*)?([pP][+-]?[0-9_]+)?|0[oO][0-7_]*|0[bB][01_]*"
    r"|[0-9_]*(\.[0-9_]*)?([eE][+-]?[0-9_]+)?)i?"
)
_QUOTED = re.compile(r'"(?:[^"\\\n]|\\[^\n])*"')
_CHARACTER = re.compile(r"'(?:[^'\\\n]|\\[^\n])*'")
_SINGLE = {"|": Kind.PIPE, ",": Kind.COMMA, "=": Kind.ASSIGN, "(": Kind.LEFT_PAREN, ")": Kind.RIGHT_PAREN}


class Lexer:
    """Reads one template. Raises TemplateSyntaxError."""

    def __init__(self, name: str, text: str) -> None:
        self._name = name
        self._text = text
        self._tokens: list[Token] = []

    def tokens(self) -> list[Token]:
        """All tokens, the last of which is EOF."""
        text, at, trims = self._text, 0, False
        while True:
            left = text.find("{{", at)
            end = len(text) if left < 0 else left
            piece = text[at:end]
            begin = at
            if trims:
                begin += len(piece) - len(piece.lstrip(_SPACES))
                piece = piece.lstrip(_SPACES)
            if left >= 0 and text.startswith("-", left + 2) and text[left + 3 : left + 4] in tuple(_SPACES):
                piece = piece.rstrip(_SPACES)
                inside = left + 4
            else:
                inside = left + 2
            if piece:
                self._add(Kind.TEXT, piece, begin)
            if left < 0:
                self._add(Kind.EOF, "", len(text))
                return self._tokens
            at, trims = self._comment(inside) if text.startswith("/*", inside) else self._action(left, inside)

    def error(self, text: str, at: int) -> TemplateSyntaxError:
        """The error that says `text` of the place `at`."""
        return TemplateSyntaxError(f"template: {self._name}:{self.line_of(at)}: {text}")

    def line_of(self, at: int) -> int:
        """The line of a place, from 1 on."""
        return 1 + self._text.count("\n", 0, at)

    def _add(self, kind: Kind, text: str, at: int) -> None:
        self._tokens.append(Token(kind, text, at))

    def _comment(self, at: int) -> tuple[int, bool]:
        end = self._text.find("*/", at)
        if end < 0:
            raise self.error("unclosed comment", at)
        closing = self._right_delimiter(end + 2)
        if closing is None:
            raise self.error("comment ends before closing delimiter", at)
        return closing

    def _right_delimiter(self, at: int) -> tuple[int, bool] | None:
        """(the place behind the delimiter at `at`, whether it trims); None where there is none."""
        text = self._text
        if text[at : at + 1] in tuple(_SPACES) and text.startswith("-}}", at + 1):
            return at + 4, True
        return (at + 2, False) if text.startswith("}}", at) else None

    def _action(self, left: int, at: int) -> tuple[int, bool]:
        self._add(Kind.LEFT, "{{", left)
        depth = 0
        while True:
            closing = self._right_delimiter(at)
            if closing is not None:
                if depth:
                    raise self.error("unclosed left paren", at)
                self._add(Kind.RIGHT, "}}", at)
                return closing
            if at >= len(self._text):
                raise self.error("unclosed action", at)
            token = self._inside_action(at)
            depth += (token.kind is Kind.LEFT_PAREN) - (token.kind is Kind.RIGHT_PAREN)
            if depth < 0:
                raise self.error("unexpected right paren", at)
            self._tokens.append(token)
            at += len(token.text)

    def _inside_action(self, at: int) -> Token:
        text = self._text
        character = text[at]
        if character in _SPACES:
            end = at + 1
            # A space may be the first character of a delimiter that trims.
            while end < len(text) and text[end] in _SPACES and self._right_delimiter(end) is None:
                end += 1
            return Token(Kind.SPACE, text[at:end], at)
        if text.startswith(":=", at):
            return Token(Kind.DECLARE, ":=", at)
        if character == ":":
            raise self.error("expected :=", at)
        if character in _SINGLE:
            return Token(_SINGLE[character], character, at)
        if character == '"':
            return self._match(_QUOTED, Kind.STRING, at, "unterminated quoted string")
        if character == "'":
            return self._match(_CHARACTER, Kind.CHARACTER, at, "unterminated character constant")
        if character == "`":
            end = text.find("`", at + 1)
            if end < 0:
                raise self.error("unterminated raw quoted string", at)
            return Token(Kind.RAW_STRING, text[at : end + 1], at)
        if character == "." and not text[at + 1 : at + 2].isdigit():
            return self._word(at, 1, Kind.FIELD, Kind.DOT)
        if character == "$":
            return self._word(at, 1, Kind.VARIABLE, Kind.VARIABLE)
        if character in "+-." or character.isdigit():
            return self._number(at)
        if character == "_" or character.isalpha():
            return self._word(at, 0, Kind.IDENTIFIER, Kind.IDENTIFIER)
        if character.isascii() and character.isprintable():
            return Token(Kind.OTHER, character, at)
        raise self.error(f"unrecognized character in action: {_code_point(character)}", at)

    def _match(self, pattern: re.Pattern[str], kind: Kind, at: int, complaint: str) -> Token:
        found = pattern.match(self._text, at)
        if found is None:
            raise self.error(complaint, at)
        return Token(kind, found[0], at)

    def _word(self, at: int, sigil: int, kind: Kind, bare: Kind) -> Token:
        """A sigil, if any, and letters and digits; `bare` where none follow."""
        found = _WORD.match(self._text, at + sigil)
        end = at + sigil if found is None else found.end()
        word = self._text[at:end]
        if not self._ends_word(end) and not (bare is Kind.DOT and found is None):
            raise self.error(f"bad character {_code_point(self._text[end])}", at)
        if found is None:
            return Token(bare, word, at)
        if kind is Kind.IDENTIFIER:
            if word in KEYWORDS:
                kind = Kind.KEYWORD
            elif word in ("true", "false"):
                kind = Kind.BOOL
            elif word == "nil":
                kind = Kind.NIL
        return Token(kind, word, at)

    def _ends_word(self, at: int) -> bool:
        return at >= len(self._text) or self._text[at] in " \t\r\n.,|:)(" or self._text.startswith("}}", at)

    def _number(self, at: int) -> Token:
        found = _NUMBER.match(self._text, at)
        end = at if found is None else found.end()
        if end == at or self._text[end : end + 1].isalnum() or self._text[at:end] in ("+", "-", "."):
            raise self.error(f"bad number syntax: {quoted(self._text[at : max(end, at + 1) + 1].rstrip())}", at)
        return Token(Kind.NUMBER, self._text[at:end], at)


def _code_point(character: str) -> str:
    return f"U+{ord(character):04X} '{character}'" if character.isprintable() else f"U+{ord(character):04X}"
