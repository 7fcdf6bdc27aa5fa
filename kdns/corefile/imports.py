"""What an `import` of files names: the paths a pattern meets, and the tokens they hold."""

from __future__ import annotations

import os
import re

from kdns.corefile.lexer import Token, decode, lex
from kdns.errors import CorefileError


def resolve_pattern(pattern: str, importing_file: str) -> str:
    """Make `pattern` absolute: it is relative to the folder of the file that imports, not to the working one."""
    if os.path.isabs(pattern):
        return pattern
    return os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(importing_file)), pattern))


def has_wildcards(pattern: str) -> bool:
    """Whether a pattern that meets nothing is a warning rather than an error."""
    return any(char in pattern for char in "*?[]")


def find_files(pattern: str) -> list[str]:
    """The paths an absolute `pattern` meets, sorted within each folder. Raises CorefileError for a broken pattern.

    Go's rules, which are not those of Python's glob: `*` meets names with a leading dot, `\\` escapes, `**` is unknown.
    """
    if not any(char in pattern for char in "*?[\\"):
        return [pattern] if os.path.lexists(pattern) else []
    folder, _, name = pattern.rpartition("/")
    wanted = re.compile(_name_expression(name), re.DOTALL)
    found = []
    for parent in find_files(folder or "/"):
        found += [os.path.join(parent, entry) for entry in _list_names(parent) if wanted.fullmatch(entry)]
    return found


def read_tokens(path: str) -> list[Token]:
    """The tokens of an imported file, cited by its absolute path. Raises CorefileError where it cannot be read."""
    try:
        if os.path.isdir(path):
            raise CorefileError(f"Could not import {path}: is a directory")
        with open(path, "rb") as file:
            raw = file.read()
    except OSError as error:
        reason = error.strerror or str(error)
        raise CorefileError(f"Could not import {path}: open {path}: {reason[:1].lower()}{reason[1:]}") from error
    return lex(decode(raw), os.path.abspath(path))


def _list_names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder), key=os.fsencode)
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return []


def _name_expression(name: str) -> str:
    """The regular expression for one path element; character classes never come here, the parser refuses them."""
    expression = []
    chars = iter(name)
    for char in chars:
        if char == "\\":
            char = next(chars, "")
            if not char:
                raise CorefileError("syntax error in pattern")
            expression.append(re.escape(char))
        elif char == "[":
            raise CorefileError("syntax error in pattern")
        else:
            expression.append({"*": "[^/]*", "?": "[^/]"}.get(char) or re.escape(char))
    return "".join(expression)
