"""Durations as Go writes them: `300ms`, `5s`, `1m30s`, `1.5h`."""

from __future__ import annotations

import re

from kdns.errors import CorefileError

MAX_NANOSECONDS = (1 << 63) - 1  # Go keeps a duration in a signed 64-bit integer

_UNITS = {  # in nanoseconds
    "ns": 1,
    "us": 1_000,
    "\u00b5s": 1_000,  # micro sign
    "\u03bcs": 1_000,  # Greek letter mu
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_PART = re.compile(r"([0-9]*)(?:\.([0-9]*))?([^.0-9]*)")


def parse_duration(text: str) -> float:
    """The seconds that `text` means, negative ones too. Raises CorefileError in Go's words."""
    return _parse_nanoseconds(text) / 1_000_000_000


def format_duration(seconds: float) -> str:
    """Write a duration as Go prints it: `5s`, `1m30s`, `300ms`, `1h0m0s`."""
    nanoseconds = round(seconds * 1_000_000_000)
    sign = "-" if nanoseconds < 0 else ""
    nanoseconds = abs(nanoseconds)
    if nanoseconds == 0:
        return "0s"
    for unit, digits in (("ns", 0), ("\u00b5s", 3), ("ms", 6)):
        if nanoseconds < 10 ** (digits + 3):
            return sign + _format_decimal(nanoseconds, digits) + unit
    minutes, nanoseconds = divmod(nanoseconds, 60_000_000_000)
    hours, minutes = divmod(minutes, 60)
    text = _format_decimal(nanoseconds, 9) + "s"
    if hours:
        return f"{sign}{hours}h{minutes}m{text}"
    return f"{sign}{minutes}m{text}" if minutes else sign + text


def _parse_nanoseconds(text: str) -> int:
    is_negative = text.startswith("-")
    rest = text[1:] if text[:1] in ("-", "+") else text
    if rest == "0":  # the only number that needs no unit
        return 0
    total = 0
    at = 0
    while at < len(rest) or at == 0:
        part = _PART.match(rest, at)
        assert part is not None  # the pattern meets the empty string
        whole, fraction, unit = part.groups()
        if not whole and not fraction:
            raise _error("invalid duration", text)
        amount = _whole_number(whole)
        if amount > 1 << 63:
            raise _error("invalid duration", text)
        if not unit:
            raise _error("missing unit in duration", text)
        if unit not in _UNITS:
            raise _error(f"unknown unit {_quote(unit)} in duration", text)
        total += amount * _UNITS[unit] + _fraction_of(_UNITS[unit], fraction or "")
        if total > 1 << 63:
            raise _error("invalid duration", text)
        at = part.end()
    if total > MAX_NANOSECONDS + is_negative:
        raise _error("invalid duration", text)
    return -total if is_negative else total


def _whole_number(digits: str) -> int:
    """The number, or one beyond every limit where it is too long to be worth converting."""
    digits = digits.lstrip("0")
    return int(digits or "0") if len(digits) < 20 else 1 << 64


def _fraction_of(unit: int, digits: str) -> int:
    """The part of `unit` that the digits after a point stand for, in floating point as Go does it."""
    value = 0
    scale = 1.0
    for digit in digits:
        # Digits beyond 63 bits do not count.
        if value > MAX_NANOSECONDS // 10 or value * 10 + int(digit) > 1 << 63:
            break
        value = value * 10 + int(digit)
        scale *= 10
    return int(float(value) * (unit / scale))


def _format_decimal(value: int, digits: int) -> str:
    """Write `value` / 10**`digits` without zeros at the end."""
    whole, fraction = divmod(value, 10**digits)
    return f"{whole}.{fraction:0{digits}}".rstrip("0") if fraction else str(whole)


def _error(problem: str, text: str) -> CorefileError:
    return CorefileError(f"time: {problem} {_quote(text)}")


def _quote(text: str) -> str:
    """Go's quoting in errors of its time package: octets outside printable ASCII in hexadecimal."""
    quoted = []
    for octet in text.encode("utf-8", "surrogateescape"):
        if octet in b'"\\':
            quoted.append("\\" + chr(octet))
        else:
            quoted.append(chr(octet) if 0x20 <= octet < 0x80 else f"\\x{octet:02x}")
    return '"' + "".join(quoted) + '"'
