"""The tokens of one directive, handed out to its setup line by line and block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from kdns.corefile.complaints import argument_error, parsing_error, suggest, syntax_error
from kdns.corefile.lexer import Token, follows_on_line, starts_line
from kdns.errors import CorefileError


class Dispenser:
    """A cursor over a directive's tokens, before the first one at the start.

    The usual setup reads each occurrence of the directive, its arguments, and the options of its block:

        for _ in tokens.occurrences():
            arguments = tokens.remaining_args()
            for option in tokens.block():
                ...

    Errors point at the token read last; the cursor never leaves the last one. `filename` is cited where no token was
    read.
    """

    def __init__(self, tokens: Sequence[Token], filename: str = "") -> None:
        self._tokens = tokens
        self._cursor = -1
        self._depth = 0
        self._filename = filename or (tokens[0].file if tokens else "")

    # Reading

    def occurrences(self) -> Iterator[str]:
        """Step through the directive's occurrences, yielding its name as written."""
        while self.next():
            yield self.val

    def only_occurrence(self) -> Iterator[str]:
        """The same for a directive that a server block has once. Raises CorefileError at a second one."""
        if self.next():
            yield self.val
        if self.next():
            raise CorefileError("this plugin can only be used once per Server Block")

    def block(self) -> Iterator[str]:
        """Step through the options of the block that opens on this line, if one does."""
        while self.next_block():
            yield self.val

    def next(self) -> bool:
        """Read the next token, on whatever line; False at the end."""
        if self._cursor + 1 >= len(self._tokens):
            return False
        self._cursor += 1
        return True

    def next_arg(self) -> bool:
        """Read the next token if it is on this line."""
        return self._next_if(follows_on_line)

    def next_line(self) -> bool:
        """Read the next token if it begins a line."""
        return self._next_if(starts_line)

    def next_block(self) -> bool:
        """Open the block on this line, or go on in the open one; False where there is none, it is empty or it ends.

        A block opens only with a `{` on the same line, so `{` alone on the next line is not entered. Nested blocks are
        handed out as plain tokens, except that the first `}` ends the block.
        """
        if self._depth > 0:
            if not self.next():
                return False
            if self.val == "}":
                self._depth -= 1
                return False
            return True
        if not self.next_arg():
            return False
        if self.val != "{":
            self._cursor -= 1
            return False
        # An opened block needs a first option: `{ }` is as if it was not there.
        if not self.next() or self.val == "}":
            return False
        self._depth += 1
        return True

    def remaining_args(self) -> list[str]:
        """Read the arguments up to the end of the line or an opening brace, which is left unread.

        A closing brace on the same line is an argument like any other.
        """
        arguments = []
        while self.next_arg():
            if self.val == "{":
                self._cursor -= 1
                break
            arguments.append(self.val)
        return arguments

    def optional_arg(self) -> str | None:
        """The one argument that may follow; None where there is none. Raises CorefileError where there are more."""
        arguments = self.remaining_args()
        if len(arguments) > 1:
            raise self.arg_error()
        return arguments[0] if arguments else None

    # The current token

    @property
    def val(self) -> str:
        """The text of the current token, empty before the first."""
        return self._token.text

    @property
    def file(self) -> str:
        """The file the current token is cited by."""
        return self._token.file

    @property
    def line(self) -> int:
        """The line of the current token, 0 before the first."""
        return self._token.line

    # Errors, to be raised by the caller

    def error(self, text: str, *, hint: str = "") -> CorefileError:
        """The error that says `text` of the current token."""
        return parsing_error(self._token, text, hint=hint)

    def arg_error(self) -> CorefileError:
        """The error that the current token is one too many, or that one after it is missing."""
        return argument_error(self._token)

    def syntax_error(self, expected: str) -> CorefileError:
        """The error that the current token stands where `expected` should."""
        return syntax_error(self._token, expected)

    def unknown_property(self, known: Iterable[str] = ()) -> CorefileError:
        """The error that the current token is no option of the directive; `known` are those there are."""
        return self.error(f"unknown property '{self.val}'", hint=suggest(self.val, known))

    @property
    def _token(self) -> Token:
        if 0 <= self._cursor < len(self._tokens):
            return self._tokens[self._cursor]
        return Token(self._filename, 0, "")

    def _next_if(self, is_wanted: Callable[[Token, Token], bool]) -> bool:
        if self._cursor < 0:
            return self.next()
        if self._cursor + 1 >= len(self._tokens):
            return False
        return is_wanted(self._tokens[self._cursor], self._tokens[self._cursor + 1]) and self.next()
