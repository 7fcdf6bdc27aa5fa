"""Environment variables in a Corefile: `{$NAME}`, and `{%NAME%}` as Windows has it."""

from __future__ import annotations

from collections.abc import Mapping

from kdns.errors import CorefileError

MAX_SUBSTITUTIONS = 1000  # in one token; a value that names its own variable would go on for ever
MAX_EXPANDED_SIZE = 1 << 20  # characters of one token; the size limit of a ConfigMap


def expand_environment(text: str, environ: Mapping[str, str]) -> str:
    """Put the values of `environ` in place of the references in `text`; a variable that is not set is empty.

    The result is one token still, whatever blanks the value holds. A reference within a value is expanded too.
    Raises CorefileError, without a position, where the expansion does not end.
    """
    text = _expand(text, "{%", "%}", environ)
    return _expand(text, "{$", "}", environ)


def _expand(text: str, opening: str, closing: str, environ: Mapping[str, str]) -> str:
    for _ in range(MAX_SUBSTITUTIONS):
        start = text.find(opening)
        end = text.find(closing, start) if start >= 0 else -1
        # An open reference, or one without a name, ends the search: later ones in the same token stay as they are.
        if end <= start + len(opening):
            return text
        name = text[start + len(opening) : end]
        reference = text[start : end + len(closing)]
        value = environ.get(name, "")
        if len(text) + text.count(reference) * len(value) > MAX_EXPANDED_SIZE:
            break
        text = text.replace(reference, value)
    raise CorefileError("Environment variables expand without end, one may refer to itself")
