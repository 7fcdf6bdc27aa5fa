"""Corefile tokens to server blocks: keys, directives, snippets, imports, environment variables.

The parser keeps two stacks, the tokens behind the cursor and those ahead. An `import` takes its two tokens off the one
and puts what it stands for on the other, so a file that imports a thousand others costs no more than their tokens;
splicing into one list, as the grammar is usually described, copies the rest of the Corefile at every import.

Blocks come out as they are written: which keys are valid is asked by `keys`, what arguments mean by each directive's
setup, through a `Dispenser`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

from kdns.corefile import imports
from kdns.corefile.complaints import argument_error, one_line, parsing_error, suggest, syntax_error
from kdns.corefile.environment import expand_environment
from kdns.corefile.lexer import Token, follows_on_line, lex, starts_line
from kdns.errors import CorefileError

MAX_SNIPPET_EXPANSIONS = 10_000  # `import NAME` carried out in one Corefile (CoreDNS)
MAX_FILE_EXPANSIONS = 100_000  # `import PATTERN` carried out in one Corefile (CoreDNS)
MAX_TOKENS = 1_000_000  # brought in by imports; a file that imports itself fills memory before it meets the limit above


@dataclass(frozen=True, slots=True)
class ServerBlock:
    """Keys as written, after environment variables, and for each directive the tokens of all its lines in order.

    A directive's tokens begin with its name as written; `file` and `line` are where the first key stands.
    """

    keys: tuple[str, ...]
    directives: dict[str, tuple[Token, ...]]
    file: str
    line: int


def parse(
    text: str,
    filename: str,
    known: Collection[str] | None,
    environ: Mapping[str, str],
    warn: Callable[[str], None] = lambda _text: None,
) -> list[ServerBlock]:
    """Parse a Corefile; `filename` is what errors cite and imports are relative to.

    `known` holds the names of the directives there are (None: take any), `warn` is told of patterns that met no file.
    Without a server block the list is empty: the caller decides on the default. Raises CorefileError.
    """
    return _Parser(lex(text, filename), filename, known, environ, warn).parse_blocks()


def default_corefile(port: int, known: Collection[str]) -> str:
    """The Corefile that stands for an empty one: every name on `port` is answered with who asked, and logged."""
    directives = [name for name in ("whoami", "log") if name in known]
    return "\n".join([f".:{port} {{", *directives, "}", ""])


class _Parser:
    """One run over one Corefile. `_behind[-1]` is the current token; `_ahead` is reversed."""

    def __init__(
        self,
        tokens: list[Token],
        filename: str,
        known: Collection[str] | None,
        environ: Mapping[str, str],
        warn: Callable[[str], None],
    ) -> None:
        self._behind: list[Token] = []
        self._ahead = tokens[::-1]
        self._nothing = Token(filename, 0, "")
        self._known = known
        self._environ = environ
        self._warn = warn
        self._snippets: dict[str, list[Token]] = {}
        self._files: dict[str, list[Token]] = {}
        self._snippet_expansions = 0
        self._file_expansions = 0
        self._imported_tokens = 0

    def parse_blocks(self) -> list[ServerBlock]:
        blocks = []
        while self._advance():
            block = self._parse_block()
            if block is not None:
                blocks.append(block)
        return blocks

    # The cursor

    @property
    def _current(self) -> Token:
        return self._behind[-1] if self._behind else self._nothing

    def _advance(self) -> bool:
        if not self._ahead:
            return False
        self._behind.append(self._ahead.pop())
        return True

    def _step_back(self) -> None:
        self._ahead.append(self._behind.pop())

    def _advance_on_line(self) -> bool:
        return bool(self._ahead) and follows_on_line(self._current, self._ahead[-1]) and self._advance()

    def _at_line_start(self) -> bool:
        return len(self._behind) < 2 or starts_line(self._behind[-2], self._behind[-1])

    def _expand(self, text: str) -> str:
        try:
            return expand_environment(text, self._environ)
        except CorefileError as error:
            raise parsing_error(self._current, str(error)) from error

    # Blocks

    def _parse_block(self) -> ServerBlock | None:
        """The block whose first key is the current token; None for a snippet, or for braces without a key."""
        keys, has_body = self._parse_keys()
        texts = tuple(text for _, text in keys)
        if has_body and len(texts) == 1 and texts[0].startswith("(") and texts[0].endswith(")"):
            self._define_snippet(texts[0][1:-1])
            return None
        directives = self._parse_body() if has_body else {}
        if not keys:
            return None
        first = keys[0][0]
        return ServerBlock(texts, {name: tuple(tokens) for name, tokens in directives.items()}, first.file, first.line)

    def _parse_keys(self) -> tuple[list[tuple[Token, str]], bool]:
        """The keys of a block, and whether anything follows them."""
        keys: list[tuple[Token, str]] = []
        expects_another = False
        while True:
            text = self._expand(self._current.text)
            if text == "import" and self._at_line_start():
                self._import()
                if self._advance():
                    continue
                if expects_another:
                    raise parsing_error(self._nothing, "Unexpected EOF")
                return keys, False
            if text == "{":
                if expects_another:
                    found = f"but had '{text}' - check for extra comma"
                    raise parsing_error(self._current, f"Expected another address {found}")
                return keys, True
            if text:  # `""` is no key
                expects_another = text.endswith(",")
                keys.append((self._current, text[:-1] if expects_another else text))
            if not self._advance():
                if expects_another:
                    raise parsing_error(self._current, "Unexpected EOF")
                return keys, False
            if not expects_another and self._at_line_start():
                return keys, True

    def _parse_body(self) -> dict[str, list[Token]]:
        """The directives between the braces; to the end of the file where there are none."""
        directives: dict[str, list[Token]] = {}
        has_braces = self._current.text == "{"
        if not has_braces:
            self._step_back()
        while self._advance() and self._current.text != "}":
            if self._current.text == "import":
                self._import()
            else:
                self._parse_directive(directives)
        # Asked of the last token, not of whether the body ended: a block in a directive that swallowed this block's
        # brace has the file end in `}` as well, and such files start.
        if has_braces and self._current.text != "}":
            raise syntax_error(self._current, "}")
        return directives

    def _parse_directive(self, directives: dict[str, list[Token]]) -> None:
        """Add the current directive's tokens to those of its name: the rest of the line, and blocks opened on it."""
        name = self._expand(self._current.text)
        if self._known is not None and name not in self._known:
            hint = suggest(name, self._known)
            raise parsing_error(self._current, f"Unknown directive '{name}'", hint=hint)
        tokens = directives.setdefault(name, [])
        tokens.append(self._current)
        depth = 0
        while self._advance():
            text = self._current.text
            if text == "{":  # on a line of its own as well, although no setup will enter that block
                depth += 1
            elif depth == 0 and self._at_line_start():
                self._step_back()
                break
            elif text == "}":
                if depth == 0:
                    raise parsing_error(self._current, "Unexpected '}' because no matching opening brace")
                depth -= 1
            elif text == "import" and self._at_line_start():
                self._import()
                continue
            self._behind[-1] = replace(self._current, text=self._expand(text))
            tokens.append(self._current)
        if depth:
            raise parsing_error(self._current, "Unexpected EOF")

    # Snippets and imports

    def _define_snippet(self, name: str) -> None:
        """Keep the tokens between the braces that begin here under `name`."""
        if name in self._snippets:
            raise parsing_error(self._current, f"redeclaration of previously declared snippet {name}")
        if self._current.text != "{":
            raise syntax_error(self._current, "{")
        tokens: list[Token] = []
        depth = 1
        while self._advance():
            depth += {"{": 1, "}": -1}.get(self._current.text, 0)
            if depth == 0:
                break
            tokens.append(self._current)
        else:
            raise syntax_error(self._current, "}")
        for at, (word, argument) in enumerate(pairwise(tokens)):
            starts = at == 0 or (tokens[at - 1].file, tokens[at - 1].line) != (word.file, word.line)
            if word.text == "import" and starts and self._expand(argument.text) == name:
                raise self._too_deep("snippet")
        self._snippets[name] = tokens

    def _import(self) -> None:
        """Take the current `import` and its argument back, and put what they name ahead of the cursor."""
        if not self._advance_on_line():
            raise argument_error(self._current)
        pattern = self._expand(self._current.text)
        if not pattern:
            raise parsing_error(self._current, "Import requires a non-empty filepath")
        if self._advance_on_line():
            raise parsing_error(self._current, "Import takes only one argument (glob pattern or file)")
        tokens = self._import_snippet(pattern) if pattern in self._snippets else self._import_files(pattern)
        self._imported_tokens += len(tokens)
        if self._imported_tokens > MAX_TOKENS:
            raise parsing_error(self._current, f"Imports bring in more than {MAX_TOKENS} tokens, is there a cycle?")
        del self._behind[-2:]
        self._ahead.extend(reversed(tokens))

    def _import_snippet(self, name: str) -> list[Token]:
        if self._snippet_expansions >= MAX_SNIPPET_EXPANSIONS:
            raise self._too_deep("snippet")
        self._snippet_expansions += 1
        return self._snippets[name]

    def _import_files(self, pattern: str) -> list[Token]:
        if self._file_expansions >= MAX_FILE_EXPANSIONS:
            raise self._too_deep("file")
        self._file_expansions += 1
        resolved = imports.resolve_pattern(pattern, self._current.file)
        if resolved.count("*") > 1 or resolved.count("?") > 1 or ("[" in resolved and "]" in resolved):
            text = f"Glob pattern may only contain one wildcard (*), but has others: {resolved}"
            raise parsing_error(self._current, text)
        try:
            paths = imports.find_files(resolved)
        except CorefileError as error:
            raise parsing_error(self._current, f"Failed to use import pattern {pattern}: {error}") from error
        if not paths:
            if not imports.has_wildcards(resolved):
                raise parsing_error(self._current, f"File to import not found: {pattern}")
            self._warn(one_line(f"No files matching import glob pattern: {pattern}"))
        return [token for path in paths for token in self._read_file(path)]

    def _read_file(self, path: str) -> list[Token]:
        if path not in self._files:
            try:
                self._files[path] = imports.read_tokens(path)
            except CorefileError as error:
                raise parsing_error(self._current, str(error)) from error
        return self._files[path]

    def _too_deep(self, kind: str) -> CorefileError:
        # CoreDNS names the snippets' limit for files too.
        return parsing_error(self._current, f"maximum {kind} import depth ({MAX_SNIPPET_EXPANSIONS}) exceeded")
