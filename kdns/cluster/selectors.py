"""Label selectors, written as `kubectl -l` and the API's `labelSelector` parameter take them.

    selector    = [ requirement *( "," requirement ) ]
    requirement = key | "!" key | key ( "=" | "==" | "!=" ) [ value ] | key ( "in" | "notin" ) "(" values ")"
    values      = [ value ] *( "," [ value ] )

Blanks may stand between any two words. `in` and `notin` are operators only after a key: elsewhere they are plain words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from kdns.errors import KdnsError

MAX_NAME = 63  # characters in a label's value, and in its key without the prefix (Kubernetes, "Labels and Selectors")
MAX_PREFIX = 253  # characters in a key's prefix

_WORD = re.compile(r"[ \t\r\n]*(?:(==|!=|[=!(),<>])|([^ \t\r\n=!(),<>]+))")
_NAME = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?")
_PREFIX = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")


class SelectorError(KdnsError):
    """A label selector does not parse; says what was met, what was expected, and at which column."""


class Operator(Enum):
    """How a requirement compares; `=` and `!=` are IN and NOT_IN with one value."""

    IN = "in"
    NOT_IN = "notin"
    EXISTS = "exists"
    DOES_NOT_EXIST = "!"


class Requirement(NamedTuple):
    """One comma-separated part of a selector."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()  # sorted, without repetitions

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether `labels` meet the requirement. An absent label meets NOT_IN, as the API server has it."""
        present = self.key in labels
        if self.operator is Operator.IN:
            return present and labels[self.key] in self.values
        if self.operator is Operator.NOT_IN:
            return not present or labels[self.key] not in self.values
        return present is (self.operator is Operator.EXISTS)

    def __str__(self) -> str:
        if self.operator is Operator.EXISTS:
            return self.key
        if self.operator is Operator.DOES_NOT_EXIST:
            return f"!{self.key}"
        if len(self.values) == 1:
            return f"{self.key}{'=' if self.operator is Operator.IN else '!='}{self.values[0]}"
        return f"{self.key} {self.operator.value} ({','.join(self.values)})"


@dataclass(frozen=True, slots=True)
class Selector:
    """Requirements that labels must all meet. Selectors that say the same in another order or spelling are equal."""

    requirements: tuple[Requirement, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Selector:
        """Read a selector; empty text selects everything. Raises SelectorError."""
        return cls(tuple(sorted(set(_Parser(text).requirements()), key=str)))

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether an object with these labels is selected."""
        return all(requirement.matches(labels) for requirement in self.requirements)

    def __str__(self) -> str:
        return ",".join(map(str, self.requirements))


class _Word(NamedTuple):
    """A symbol or a word of the text, and its column, counted from 1. Both empty: the end."""

    symbol: str
    text: str
    column: int


class _Parser:
    """Recursive descent over the words of a selector."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._words = [
            _Word(found[1] or "", found[2] or "", found.start(found.lastindex or 0) + 1)
            for found in _WORD.finditer(text)
        ]
        self._words.append(_Word("", "", len(text) + 1))
        self._at = 0

    def requirements(self) -> list[Requirement]:
        """The requirements in the order of the text."""
        found: list[Requirement] = []
        if self._is_at_end():
            return found
        while True:
            found.append(self._requirement())
            if self._is_at_end():
                return found
            if not self._skip(","):
                raise self._error("',' or the end")

    def _requirement(self) -> Requirement:
        if self._skip("!"):
            return Requirement(self._key(), Operator.DOES_NOT_EXIST)
        key = self._key()
        if self._skip("=") or self._skip("=="):
            return Requirement(key, Operator.IN, (self._value(),))
        if self._skip("!="):
            return Requirement(key, Operator.NOT_IN, (self._value(),))
        for operator in (Operator.IN, Operator.NOT_IN):
            if self._words[self._at].text == operator.value:
                self._at += 1
                return Requirement(key, operator, self._values())
        if self._is_at_end() or self._words[self._at].symbol == ",":
            return Requirement(key, Operator.EXISTS)
        # `<` and `>` exist for node affinity only: API servers refuse them here too.
        raise self._error("'=', '==', '!=', 'in', 'notin', ',' or the end")

    def _key(self) -> str:
        word = self._words[self._at]
        if not word.text:
            raise self._error("a label key")
        prefix, slash, name = word.text.rpartition("/")
        if not _is_name(name) or (slash and not (_PREFIX.fullmatch(prefix) and len(prefix) <= MAX_PREFIX)):
            raise self._error(f"a label key: [prefix/]name, the name of 1 to {MAX_NAME} letters, digits, '-', '_', '.'")
        self._at += 1
        return word.text

    def _value(self) -> str:
        """The next word, or the empty value where none stands."""
        word = self._words[self._at]
        if word.text:
            if not _is_name(word.text):
                raise self._error(f"a label value: at most {MAX_NAME} letters, digits, '-', '_', '.'")
            self._at += 1
        return word.text

    def _values(self) -> tuple[str, ...]:
        if not self._skip("("):
            raise self._error("'('")
        values = {self._value()}
        while self._skip(","):
            values.add(self._value())
        if not self._skip(")"):
            raise self._error("',' or ')'")
        return tuple(sorted(values))

    def _skip(self, symbol: str) -> bool:
        """Step over `symbol` if it is next."""
        if self._words[self._at].symbol != symbol:
            return False
        self._at += 1
        return True

    def _is_at_end(self) -> bool:
        return self._at == len(self._words) - 1

    def _error(self, expected: str) -> SelectorError:
        word = self._words[self._at]
        met = "the end" if self._is_at_end() else repr(word.symbol or word.text)
        return SelectorError(f"label selector {self._text!r}: met {met} at column {word.column}, expected {expected}")


def _is_name(text: str) -> bool:
    return len(text) <= MAX_NAME and _NAME.fullmatch(text) is not None
