"""Values as Go's fmt writes them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from kdns.plugins.go_numbers import quoted
from kdns.plugins.template.language.values import inner_text, type_name

MAX_WIDTH = 1000  # characters; a record's text needs no more, and a template must not fill the memory

_VERB = re.compile(r"%([-+# 0]*)(\d+)?(?:\.(\d*))?(.)?", re.DOTALL)


def sprint(values: Sequence[object]) -> str:
    """fmt.Sprint: a space between two values neither of which is a text."""
    parts: list[str] = []
    for place, value in enumerate(values):
        if place and not isinstance(value, str) and not isinstance(values[place - 1], str):
            parts.append(" ")
        parts.append(inner_text(value))
    return "".join(parts)


def sprintf(layout: object, values: Sequence[object]) -> str:
    """fmt.Sprintf with the verbs records use: %v %s %q %d %b %o %x %X %c %t %e %f %g, flags, width and precision."""
    left = list(values)

    def write(found: re.Match[str]) -> str:
        flags, width, precision, verb = found.groups()
        if verb is None:
            return "%!(NOVERB)"
        if verb == "%":
            return "%"
        if not left:
            return f"%!{verb}(MISSING)"
        value = left.pop(0)
        digits = None if precision is None else min(int(precision or 0), MAX_WIDTH)
        text = _written(verb, value, flags, digits)
        if text is None:
            return f"%!{verb}({type_name(value)}={inner_text(value)})"
        return _padded(text, flags, min(int(width or 0), MAX_WIDTH), isinstance(value, (int, float)))

    text = _VERB.sub(write, str(layout))
    if left:
        text += f"%!(EXTRA {', '.join(f'{type_name(value)}={inner_text(value)}' for value in left)})"
    return text


def _padded(text: str, flags: str, width: int, is_number: bool) -> str:
    if "-" in flags:
        return text.ljust(width)
    if "0" in flags:
        sign = text[:1] if is_number and text[:1] in tuple("+-") else ""
        return sign + text[len(sign) :].rjust(width - len(sign), "0")
    return text.rjust(width)


def _written(verb: str, value: object, flags: str, precision: int | None) -> str | None:
    """A value as a verb writes it; None where the verb is not for it."""
    if verb == "v":
        return inner_text(value)
    if isinstance(value, (list, tuple)):
        parts = [_written(verb, element, flags, precision) for element in value]
        return None if None in parts else "[" + " ".join(map(str, parts)) + "]"
    if isinstance(value, bool):
        return inner_text(value) if verb == "t" else None
    if isinstance(value, int):
        make = _INTEGERS.get(verb)
        return None if make is None else _signed(make(value), flags, value)
    if isinstance(value, float):
        places = "" if precision is None and verb in "gG" else f".{6 if precision is None else precision}"
        if verb not in ("e", "E", "f", "F", "g", "G"):
            return None
        return _signed(
            inner_text(value) if verb in "gG" and precision is None else f"{value:{places}{verb}}", flags, value
        )
    if isinstance(value, str):
        if verb in ("s", "q"):
            cut = value if precision is None else value[:precision]
            return cut if verb == "s" else quoted(cut)
        if verb in ("x", "X"):
            octets = value.encode("utf-8", "surrogateescape").hex()
            return octets if verb == "x" else octets.upper()
    return None


_INTEGERS: dict[str, Callable[[int], str]] = {
    "b": lambda value: f"{value:b}",
    "c": lambda value: chr(value) if 0 <= value <= 0x10FFFF else "\ufffd",
    "d": str,
    "o": lambda value: f"{value:o}",
    "q": lambda value: f"'{chr(value)}'" if 0 <= value <= 0x10FFFF else "'\ufffd'",
    "x": lambda value: f"{value:x}",
    "X": lambda value: f"{value:X}",
}


def _signed(text: str, flags: str, value: float) -> str:
    if value < 0:
        return text
    return "+" + text if "+" in flags else " " + text if " " in flags else text
