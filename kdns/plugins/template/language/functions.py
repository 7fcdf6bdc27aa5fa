"""The functions a template can call: Go's own, and `parseInt`."""

from __future__ import annotations

import html
import urllib.parse
from collections.abc import Callable, Sequence

from kdns.plugins.go_numbers import parse_uint
from kdns.plugins.template.language.formatting import sprint, sprintf
from kdns.plugins.template.language.values import inner_text, is_true, type_name


class CallError(Exception):
    """A function cannot do with its arguments; the text is Go's."""


class ArgumentError(CallError):
    """A function was given arguments it does not take: too many, too few or of another type."""


def _len(value: object) -> int:
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogateescape"))
    if isinstance(value, (dict, list, tuple)):
        return len(value)
    raise CallError("len of nil pointer" if value is None else f"len of type {type_name(value)}")


def _index(item: object, *indexes: object) -> object:
    for index in indexes:
        match item:
            case dict():
                if not isinstance(index, str):
                    raise CallError(f"value has type {type_name(index)}; should be string")
                item = item.get(index, "")
            case list() | tuple() | str():
                octets = item.encode("utf-8", "surrogateescape") if isinstance(item, str) else item
                item = octets[_position(index, len(octets) - 1)]
            case None:
                raise CallError("index of untyped nil")
            case _:
                raise CallError(f"can't index item of type {type_name(item)}")
    return item


def _slice(item: object, *indexes: object) -> object:
    if len(indexes) > 3:
        raise CallError(f"too many slice indexes: {len(indexes)}")
    match item:
        case str():
            if len(indexes) == 3:
                raise CallError("cannot 3-index slice a string")
            octets = item.encode("utf-8", "surrogateescape")
            start, end = _bounds(indexes, len(octets))
            return octets[start:end].decode("utf-8", "surrogateescape")
        case list() | tuple():
            start, end = _bounds(indexes, len(item))
            return item[start:end]
        case None:
            raise CallError("slice of untyped nil")
    raise CallError(f"can't slice item of type {type_name(item)}")


def _bounds(indexes: Sequence[object], size: int) -> tuple[int, int]:
    places = [_position(index, size) for index in indexes]
    start = places[0] if places else 0
    end = places[1] if len(places) > 1 else size
    if start > end:
        raise CallError(f"invalid slice index: {start} > {end}")
    return start, end


def _position(index: object, most: int) -> int:
    if index is None:
        raise CallError("cannot index slice/array with nil")
    if not isinstance(index, int) or isinstance(index, bool):
        raise CallError(f"cannot index slice/array with type {type_name(index)}")
    if not 0 <= index <= most:
        raise CallError(f"index out of range: {index}")
    return index


def _kind(value: object) -> str:
    match value:
        case bool():
            return "bool"
        case int():
            return "int"
        case float():
            return "float"
        case str():
            return "string"
    raise CallError("invalid type for comparison")


def _equal(one: object, other: object) -> bool:
    if one is None or other is None:
        return one is other
    for value in (one, other):
        if isinstance(value, (dict, list, tuple)):
            raise CallError(f"non-comparable type {inner_text(value)}: {type_name(value)}")
    if _kind(one) != _kind(other):
        raise CallError(f"incompatible types for comparison: {type_name(one)} and {type_name(other)}")
    return one == other


def _eq(first: object, *others: object) -> bool:
    if not others:
        raise CallError("missing argument for comparison")
    return any(_equal(first, other) for other in others)


def _ne(one: object, other: object) -> bool:
    return not _equal(one, other)


def _lt(one: object, other: object) -> bool:
    if _kind(one) != _kind(other):
        raise CallError(f"incompatible types for comparison: {type_name(one)} and {type_name(other)}")
    if isinstance(one, bool):
        raise CallError("invalid type for comparison")
    return one < other  # type: ignore[operator,no-any-return]  # both are numbers or both are texts


def _le(one: object, other: object) -> bool:
    return _lt(one, other) or _equal(one, other)


def _gt(one: object, other: object) -> bool:
    return not _le(one, other)


def _ge(one: object, other: object) -> bool:
    return not _lt(one, other)


def _parse_int(text: object, base: object, bits: object) -> int:
    for place, (value, wanted) in enumerate(((text, str), (base, int), (bits, int))):
        if not isinstance(value, wanted) or isinstance(value, bool):
            raise ArgumentError(
                f"wrong type for value; expected {'int' if place else 'string'}; got {type_name(value)}"
            )  # fmt: skip
    try:
        return parse_uint(str(text), int(base), int(bits))  # type: ignore[call-overload]
    except ValueError as error:
        raise CallError(str(error)) from error


def _html(*values: object) -> str:
    return html.escape(sprint(values)).replace("&quot;", "&#34;").replace("&#x27;", "&#39;")


def _urlquery(*values: object) -> str:
    return urllib.parse.quote_plus(sprint(values))


ANY_NUMBER = -1

# Each function and how many arguments it takes: at least the first number, at most the second.
FUNCTIONS: dict[str, tuple[Callable[..., object], int, int]] = {
    "eq": (_eq, 1, ANY_NUMBER),
    "ge": (_ge, 2, 2),
    "gt": (_gt, 2, 2),
    "html": (_html, 0, ANY_NUMBER),
    "index": (_index, 1, ANY_NUMBER),
    "le": (_le, 2, 2),
    "len": (_len, 1, 1),
    "lt": (_lt, 2, 2),
    "ne": (_ne, 2, 2),
    "not": (lambda value: not is_true(value), 1, 1),
    "parseInt": (_parse_int, 3, 3),
    "print": (lambda *values: sprint(values), 0, ANY_NUMBER),
    "printf": (lambda layout, *values: sprintf(layout, values), 1, ANY_NUMBER),
    "println": (lambda *values: " ".join(map(inner_text, values)) + "\n", 0, ANY_NUMBER),
    "slice": (_slice, 1, ANY_NUMBER),
    "urlquery": (_urlquery, 0, ANY_NUMBER),
}
# Functions that look at no more arguments than they need.
LAZY = {"and": True, "or": False}
NAMES = frozenset((*FUNCTIONS, *LAZY))
