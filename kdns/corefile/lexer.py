"""Corefile text to tokens: words between white space, quoted strings, comments.

The rules are those of the Caddyfile, version 1, and have corners that deployed Corefiles lean on:

- `"` quotes only as the first character of a word, and the closing one ends the token: `"a"b` is `a` and `b`.
- Inside quotes only `\\"` is an escape; every other backslash stays, so regular expressions need no doubling.
- `#` starts a comment anywhere outside quotes, even inside a word. Glued to a word, the comment lasts only to the next
  blank: the word ends there, and with it what was known about the line. `a#b c` is `a` and `c`; `a #b c` is `a`.
- `\\r` outside quotes is skipped without ending a word.
- Braces are ordinary characters here; the parser knows them as whole tokens.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

BYTE_ORDER_MARK = "\ufeff"

# Go's unicode.IsSpace. str.isspace differs: it holds the separators U+001C to U+001F as well.
WHITE_SPACE = frozenset(
    "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
)

_QUOTED_BODY = re.compile(r'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)  # pair by pair: the second half of two backslashes escapes nothing
_UNDECODABLE = re.compile("[\udc80-\udcff]")


@dataclass(frozen=True, slots=True)
class Token:
    """A word of a Corefile: the file it is cited by, the line it starts on (from 1), and its text without quotes."""

    file: str
    line: int
    text: str

    @property
    def last_line(self) -> int:
        """The line the token ends on; quoted text may hold line breaks."""
        return self.line + self.text.count("\n")


def starts_line(previous: Token, token: Token) -> bool:
    """Whether `token` stands on a later line than `previous`, or comes from another file.

    A token from further up in the same file does not: it was put here by a snippet, and reads on as the same line.
    """
    return previous.file != token.file or previous.last_line < token.line


def follows_on_line(previous: Token, token: Token) -> bool:
    """Whether `token` continues the line of `previous`, as an argument must."""
    return previous.file == token.file and previous.last_line == token.line


def decode(raw: bytes) -> str:
    """Read bytes as UTF-8, each octet that is none as one U+FFFD."""
    return _UNDECODABLE.sub("\ufffd", raw.decode("utf-8", "surrogateescape"))


def lex(text: str, filename: str) -> list[Token]:
    """Split `text` into tokens cited as `filename`. Every text has tokens: an open quote is closed by the end."""
    tokens: list[Token] = []
    word: list[str] = []
    in_comment = False
    line = start = 1
    at = len(BYTE_ORDER_MARK) if text.startswith(BYTE_ORDER_MARK) else 0
    while at < len(text):
        char = text[at]
        at += 1
        if char == "\r":
            continue
        if char in WHITE_SPACE:
            if char == "\n":
                line += 1
                in_comment = False
            if word:
                tokens.append(Token(filename, start, "".join(word)))
                word.clear()
                in_comment = False
            continue
        if char == "#":
            in_comment = True
        if in_comment:
            continue
        if not word:
            start = line
            if char == '"':
                token, at = _lex_quoted(text, at, filename, line)
                if token is not None:
                    tokens.append(token)
                    line = token.last_line
                continue
        word.append(char)
    if word:
        tokens.append(Token(filename, start, "".join(word)))
    return tokens


def _lex_quoted(text: str, at: int, filename: str, line: int) -> tuple[Token | None, int]:
    """The quoted token whose body begins at `at`, and where to go on; None if the text ends with nothing quoted."""
    match = _QUOTED_BODY.match(text, at)
    assert match is not None  # the pattern meets the empty string
    body = _ESCAPE.sub(lambda pair: '"' if pair[1] == '"' else pair[0], match[0])
    if match.end() < len(text) and text[match.end()] == '"':
        return Token(filename, line, body), match.end() + 1
    # Not closed: what is left is at most a lone backslash, and that escapes nothing.
    return (Token(filename, line, body) if body else None), len(text)
