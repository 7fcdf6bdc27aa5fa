"""Numbers as Go's strconv reads them, and its complaints."""

from __future__ import annotations

import re

_PREFIXES = {"0x": 16, "0o": 8, "0b": 2}
# Base 0: an underscore stands between two digits, or behind a prefix.
_UNDERSCORES = re.compile(r"(0[xXoObB]_?)?[0-9a-fA-F]+(_[0-9a-fA-F]+)*")


def parse_uint(text: str, base: int, bits: int) -> int:
    """strconv.ParseUint: base 0 goes by the prefix, 0 bits are 64. Raises ValueError with its text."""
    complaint = f"strconv.ParseUint: parsing {quoted(text)}: "
    if base != 0 and not 2 <= base <= 36:
        raise ValueError(f"{complaint}invalid base {base}")
    if not 0 <= bits <= 64:
        raise ValueError(f"{complaint}invalid bit size {bits}")
    digits = text
    if base == 0:
        base = _PREFIXES.get(text[:2].lower(), 8 if text[:1] == "0" and len(text) > 1 else 10)
        if "_" in text and not _UNDERSCORES.fullmatch(text):
            raise ValueError(f"{complaint}invalid syntax")
        digits = (text[2:] if text[:2].lower() in _PREFIXES else text).replace("_", "")
    if not digits.isascii() or not digits.isalnum():
        raise ValueError(f"{complaint}invalid syntax")
    try:
        value = int(digits, base)
    except ValueError as error:
        raise ValueError(f"{complaint}invalid syntax") from error
    if value >> (bits or 64):
        raise ValueError(f"{complaint}value out of range")
    return value


def quoted(text: str) -> str:
    """A text as Go's %q writes it."""
    return '"' + "".join(_escaped(character) for character in text) + '"'


_ESCAPES = {"\\": "\\\\", '"': '\\"', "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t",
            "\v": "\\v"}  # fmt: skip


def _escaped(character: str) -> str:
    known = _ESCAPES.get(character)
    if known is not None:
        return known
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # an octet that was no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if character.isprintable():
        return character
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
