"""Constants as Go writes them."""

from __future__ import annotations

import re

from kdns.plugins.go_numbers import quoted

_ESCAPE = re.compile(
    r"\\(?:([abfnrtv\\'\"])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2})|(.?))", re.DOTALL
)
_SIMPLE = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", "'": "'", '"': '"'}


def parse_number(text: str) -> int | float:
    """A number. Raises ValueError with Go's text."""
    illegal = ValueError(f"illegal number syntax: {quoted(text)}")
    if text.endswith("i"):
        raise illegal
    digits = text.replace("_", "")
    sign = -1 if digits.startswith("-") else 1
    bare = digits.lstrip("+-")
    try:
        if bare[:2].lower() == "0x":
            if "." in bare or "p" in bare.lower():
                return sign * float.fromhex(bare)
            return sign * int(bare, 16)
        if bare[:2].lower() in ("0b", "0o"):
            return sign * int(bare, 0)
        if bare.isdigit():
            return sign * int(bare, 8 if bare[0] == "0" and len(bare) > 1 else 10)
        value = float(bare)
    except (ValueError, OverflowError) as error:
        raise illegal from error
    # A constant such as 1e3 is a whole number to Go.
    return sign * (int(value) if value.is_integer() and abs(value) < 2**53 and "." not in bare else value)


def parse_character(text: str) -> int:
    """A character constant is its code point. Raises ValueError with Go's text."""
    value = _unescape(text[1:-1], text, '"')
    if len(value) != 1:
        raise ValueError(f"malformed character constant: {text}")
    return ord(value)


def unquote(text: str) -> str:
    """What stands between quotation marks. Raises ValueError with Go's text."""
    return _unescape(text[1:-1], text, "'")


def _unescape(inner: str, whole: str, forbidden: str) -> str:
    """Escapes resolved; octets that make no UTF-8 together become surrogates."""

    def resolve(found: re.Match[str]) -> str:
        simple, octet, short, long, octal, other = found.groups()
        if simple is not None and simple != forbidden:
            return _SIMPLE[simple]
        if octet is not None or octal is not None:
            value = int(octet, 16) if octet is not None else int(octal, 8)
            return chr(value) if value < 0x80 else chr(0xDC00 + value)
        if other is None and simple is None:
            value = int(short or long, 16)
            if value <= 0x10FFFF and not 0xD800 <= value < 0xE000:
                return chr(value)
        raise ValueError("invalid syntax")

    return _ESCAPE.sub(resolve, inner).encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
