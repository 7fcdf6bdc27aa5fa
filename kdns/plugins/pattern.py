"""Regular expressions of a Corefile: Go's syntax, which is RE2's, in linear time whatever a client sends."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import re2

from kdns.errors import CorefileError

MAX_PATTERN = 10_000  # characters of a regular expression, as CoreDNS allows
MAX_GROUP = 100  # the highest group a replacement can name, as CoreDNS's `rewrite`

# RE2's complaints, and Go's words for them.
_COMPLAINTS = {
    "missing )": "missing closing )",
    "missing ]": "missing closing ]",
    "trailing \\": "trailing backslash at end of expression",
    "bad repetition operator": "invalid nested repetition operator",
    "no argument for repetition operator": "missing argument to repetition operator",
    "invalid repetition size": "invalid repeat count",
    "invalid perl operator": "invalid or unsupported Perl syntax",
    "invalid named capture group": "invalid named capture",
    "pattern too large - compile failed": "expression too large",
}
# The one escape RE2 has and Go has not: a single octet, which may be half a character.
_OCTET_ESCAPE = re.compile(r"(?:[^\\]|\\[^CQ]|\\Q.*?(?:\\E|\Z))*?(\\C)", re.DOTALL)
_GROUP = re.compile(r"\{(0|[1-9][0-9]{0,2})\}")

Groups = tuple[str, ...]
_ANYWHERE = re2._Anchor.UNANCHORED


class PatternError(CorefileError):
    """A regular expression that is none; the text is Go's."""


class PatternTooLong(PatternError):
    """A regular expression over the limit; the text is CoreDNS's."""


class Pattern:
    """A compiled expression, searched for anywhere in a text."""

    __slots__ = ("_match", "groups", "names", "text")

    def __init__(self, text: str) -> None:
        if len(text) > MAX_PATTERN:
            raise PatternTooLong(f"regex pattern too long: {len(text)} > {MAX_PATTERN}")
        options = re2.Options()
        options.log_errors = False
        if "\\C" in text and _OCTET_ESCAPE.match(text):
            raise PatternError("error parsing regexp: invalid escape sequence: `\\C`")
        try:
            compiled = re2.compile(text, options)
        except UnicodeEncodeError as error:
            raise PatternError(f"error parsing regexp: invalid UTF-8: `{_printable(text)}`") from error
        except re2.error as error:
            raise PatternError(_complaint(error.args[0])) from error
        self.text = text
        self.groups: int = compiled.groups
        self.names: Mapping[str, int] = compiled.groupindex
        # The compiled search itself: the Python around it costs five times as much, most of it for the groups.
        self._match: Callable[[object, bytes, int, int], list[tuple[int, int]]] = compiled._regexp.Match

    def search(self, text: str) -> Groups | None:
        """The leftmost match and its groups, an empty text for one that took no part; None where there is none."""
        octets = text.encode("utf-8", "surrogateescape")
        spans = self._match(_ANYWHERE, octets, 0, len(octets))
        if spans[0][0] < 0:
            return None
        if len(octets) == len(text):
            return tuple([text[start:end] if start >= 0 else "" for start, end in spans])
        parts = [octets[start:end] if start >= 0 else b"" for start, end in spans]
        return tuple([part.decode("utf-8", "surrogateescape") for part in parts])

    def is_in(self, text: str) -> bool:
        """Whether a text holds a match."""
        octets = text.encode("utf-8", "surrogateescape")
        return self._match(_ANYWHERE, octets, 0, len(octets))[0][0] >= 0


# An expression's pieces, as far as it takes to know what stands at its end.
_PIECE = re.compile(r"\\.|\[(?:\^?\])?(?:\[:\^?\w+:\]|\\.|[^\]\\])*\]|\(\?P?<[^>]*>|\(\?[a-zA-Z\-]*[:)]|.", re.DOTALL)
_LITERAL = re.compile(r"\\[.\-_]|[a-z0-9\-_]").fullmatch


def literal_ending(text: str) -> str:
    """What a name with a final dot must end in to meet an expression; empty where that cannot be told.

    Told are expressions such as `(.*)\\.corp\\.test\\.$`, with a question mark behind the last dot or without.
    """
    if "\\Q" in text or "\\C" in text:
        return ""
    pieces = [found[0] for found in _PIECE.finditer(text)]
    if pieces[-1:] != ["$"]:
        return ""
    depth = 0
    for piece in pieces:
        depth += (piece[0] == "(" and not piece.endswith(")")) - (piece == ")")
        if piece == "|" and not depth:
            return ""
    del pieces[-1]
    if pieces[-2:] == ["\\.", "?"]:
        del pieces[-1]
    literal = ""
    while pieces and _LITERAL(pieces[-1]):
        literal = pieces.pop()[-1] + literal
    return literal if literal.endswith(".") else ""


class Replacement:
    """A text with `{0}` to `{100}` in it, which stand for the groups of a match.

    Each stands for its group once: what a client put into a group is never read as `{1}` again.
    """

    __slots__ = ("_parts",)

    def __init__(self, text: str, groups: int) -> None:
        parts: list[str | int] = []
        end = 0
        for found in _GROUP.finditer(text):
            if int(found[1]) <= groups:
                parts += [text[end : found.start()], int(found[1])]
                end = found.end()
        self._parts = (*parts, text[end:])

    def expand(self, groups: Groups) -> str:
        """The text with the groups of a match in it."""
        return "".join([part if isinstance(part, str) else groups[part] for part in self._parts])


def groups_used(text: str) -> int:
    """How many different groups a replacement names."""
    return len({found[1] for found in _GROUP.finditer(text) if int(found[1]) <= MAX_GROUP})


def _complaint(raw: bytes) -> str:
    said, _, part = _printable(raw.decode("utf-8", "replace")).partition(": ")
    if said == "trailing \\":
        part = ""
    return f"error parsing regexp: {_COMPLAINTS.get(said, said)}: `{part}`"


def _printable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
