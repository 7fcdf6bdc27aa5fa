"""Values of a template: what they are to Go, whether they count as true, and how they are written."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

MAX_PLAIN = 6  # the exponent from which on a number is written with it, as fmt's %v


class Struct:
    """A value with fields and methods."""

    __slots__ = ()
    go_type = "struct {}"  # its type's name, for error messages

    def field(self, name: str) -> object:
        """A field, or a Method. Raises KeyError where there is none."""
        raise KeyError(name)


@dataclass(frozen=True, slots=True)
class Method:
    """A method of a struct that takes so many arguments, all of them texts."""

    call: Callable[..., object]
    arity: int


def type_name(value: object) -> str:
    """What Go calls a value's type."""
    match value:
        case None:
            return "nil"
        case bool():
            return "bool"
        case int():
            return "int"
        case float():
            return "float64"
        case str():
            return "string"
        case dict():
            return "map[string]string"
        case list() | tuple():
            return "[]string"
    return value.go_type if isinstance(value, Struct) else type(value).__name__


def is_true(value: object) -> bool:
    """Whether `if` takes a value as true: it is not the empty one of its type."""
    return value is not None and (isinstance(value, Struct) or bool(value))


def text_of(value: object) -> str:
    """A value as `{{.}}` writes it."""
    if isinstance(value, str):
        return value
    return "<no value>" if value is None else inner_text(value)


def inner_text(value: object) -> str:
    """A value as fmt's %v writes it."""
    match value:
        case None:
            return "<nil>"
        case bool():
            return "true" if value else "false"
        case float():
            return _float_text(value)
        case list() | tuple():
            return "[" + " ".join(map(inner_text, value)) + "]"
        case dict():
            return "map[" + " ".join(f"{key}:{inner_text(value[key])}" for key in sorted(value)) + "]"
    return str(value)


def _float_text(value: float) -> str:
    """The shortest text that reads as the number; with an exponent below -4 and from MAX_PLAIN on."""
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if math.isnan(value):
        return "NaN"
    exact = Decimal(repr(value)).normalize()
    size = exact.adjusted()
    if -4 <= size < MAX_PLAIN:
        return f"{exact:f}"
    mantissa, _, exponent = f"{exact:e}".partition("e")
    return f"{mantissa}e{int(exponent):+03d}"
