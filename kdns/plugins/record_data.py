"""The words of zone files (RFC 1035, 5.1), and the data of a record out of them.

Names without a final dot are below an origin; where all names are whole, that is the root. The types zones are made of
are read here; the others are left to dnslib.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from socket import AF_INET, AF_INET6, inet_pton
from typing import NamedTuple

import dnslib  # type: ignore[import-untyped]

from kdns.dns import names
from kdns.dns.codes import RRType, class_number, type_number, type_text
from kdns.errors import FormatError
from kdns.plugins.go_numbers import quoted

MAX_STRING = 255  # octets of a character string (RFC 1035, 3.3)
MAX_RDATA = 65535  # octets

_URI = 256  # RFC 7553
_CAA = 257  # RFC 8659
_SPF = 99  # RFC 7208
_MADE_OF_TEXTS = (RRType.TXT, RRType.HINFO, _SPF)
_TTL = re.compile(r"(?:[0-9]+[smhdwSMHDW]?)+")
_TTL_PART = re.compile(r"([0-9]+)([smhdw]?)")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}  # seconds
_PLAIN = re.compile(r"[^\"();\\\n\r]*").fullmatch
_WORD = re.compile(r'[ \t\n\r]+|;[^\n]*|[()]|"((?:[^"\\]|\\.)*)"|((?:[^ \t\n\r;()"\\]|\\.)+)', re.DOTALL)
_WHOLE = re.compile(r"(?:[^\\]|\\.)*\.", re.DOTALL).fullmatch  # ends in a dot that is not escaped
_ESCAPE = re.compile(rb"\\([0-9]{3}|.)", re.DOTALL)


class Word(NamedTuple):
    """A word as it is written, without the quotation marks."""

    text: str
    is_quoted: bool = False


class Header(NamedTuple):
    """What stands between a record's owner and its data; None is what is left out."""

    ttl: int | None  # seconds
    rclass: int | None
    rtype: int
    data: Sequence[Word]


def split_words(text: str, depth: int = 0) -> tuple[list[Word], int]:
    """(words, how many parentheses are open behind them): quoted words whole, comments and parentheses left out.

    Ends with the first line that holds a word and leaves no parenthesis open. Raises FormatError.
    """
    if _PLAIN(text):
        return [Word(word) for word in text.split()], depth
    words, at = [], 0
    while at < len(text):
        found = _WORD.match(text, at)
        if found is None:
            raise FormatError(f"unterminated text: {quoted(text[at:])}")
        if found[1] is not None:
            words.append(Word(found[1], is_quoted=True))
        elif found[2] is not None:
            words.append(Word(found[2]))
        elif found[0] in "()":
            depth += 1 if found[0] == "(" else -1
            if depth < 0:
                raise FormatError("extra closing brace")
        elif "\n" in found[0] and not depth and words:
            break  # one record
        at = found.end()
    return words, depth


def parse_header(words: Sequence[Word]) -> Header:
    """The words behind a record's owner: TTL and class may be missing, and come in either order. Raises FormatError."""
    ttl: int | None = None
    rclass: int | None = None
    for place, word in enumerate(words):
        upper = word.text.upper()
        if rclass is None and (rclass := class_number(upper)) is not None:
            continue
        rtype = type_number(upper)
        if rtype is None and upper.startswith("TYPE") and upper[4:].isdecimal() and int(upper[4:]) < 2**16:
            rtype = int(upper[4:])
        if rtype is not None:
            return Header(ttl, rclass, rtype, words[place + 1 :])
        if ttl is not None or not _TTL.fullmatch(word.text):
            raise FormatError(f"not a TTL: {quoted(word.text)}")
        ttl = parse_seconds(word)
    raise FormatError("no type")


def parse_rdata(rtype: int, words: Sequence[Word], origin: bytes = names.ROOT) -> bytes:
    """The data of a record of a type. Raises FormatError."""
    rdata = _rdata(rtype, words, origin)
    if len(rdata) > MAX_RDATA:
        raise FormatError(f"{len(rdata)} octets of data, expected at most {MAX_RDATA}")
    return rdata


def _rdata(rtype: int, words: Sequence[Word], origin: bytes) -> bytes:
    if words and words[0].text == "\\#":
        return _unknown(words[1:])
    parse = _PARSERS.get(rtype)
    if parse is not None:
        return parse(words, origin)
    if rtype in _MADE_OF_TEXTS:
        if not words:
            raise FormatError("no text")
        return b"".join(_strings(word) for word in words)
    return _by_dnslib(rtype, words, origin)


def _exactly(count: int, words: Sequence[Word]) -> Sequence[Word]:
    if len(words) != count:
        raise FormatError(f"{len(words)} words of data, expected {count}")
    return words


def _a(words: Sequence[Word], origin: bytes) -> bytes:
    return _address(_exactly(1, words)[0], AF_INET)


def _aaaa(words: Sequence[Word], origin: bytes) -> bytes:
    return _address(_exactly(1, words)[0], AF_INET6)


def _address(word: Word, family: int) -> bytes:
    try:
        return inet_pton(family, word.text)
    except (OSError, ValueError) as error:
        raise FormatError(f"bad address {quoted(word.text)}") from error


def _one_name(words: Sequence[Word], origin: bytes) -> bytes:
    return parse_name(_exactly(1, words)[0], origin)


def _mx(words: Sequence[Word], origin: bytes) -> bytes:
    preference, exchange = _exactly(2, words)
    return struct.pack("!H", _number(preference, 16)) + parse_name(exchange, origin)


def _srv(words: Sequence[Word], origin: bytes) -> bytes:
    *numbers, target = _exactly(4, words)
    return struct.pack("!HHH", *[_number(word, 16) for word in numbers]) + parse_name(target, origin)


def _soa(words: Sequence[Word], origin: bytes) -> bytes:
    mname, rname, serial, *times = _exactly(7, words)
    numbers = struct.pack("!IIIII", _number(serial, 32), *map(parse_seconds, times))
    return parse_name(mname, origin) + parse_name(rname, origin) + numbers


def _caa(words: Sequence[Word], origin: bytes) -> bytes:
    flags, tag, value = _exactly(3, words)
    octets = _octets(tag)
    if not 0 < len(octets) <= MAX_STRING:
        raise FormatError(f"bad tag {quoted(tag.text)}")
    return bytes([_number(flags, 8), len(octets)]) + octets + _octets(value)


def _naptr(words: Sequence[Word], origin: bytes) -> bytes:
    order, preference, *texts, replacement = _exactly(6, words)
    fixed = struct.pack("!HH", _number(order, 16), _number(preference, 16))
    return fixed + b"".join(_string(word) for word in texts) + parse_name(replacement, origin)


def _uri(words: Sequence[Word], origin: bytes) -> bytes:
    priority, weight, target = _exactly(3, words)
    return struct.pack("!HH", _number(priority, 16), _number(weight, 16)) + _octets(target)


_PARSERS: dict[int, Callable[[Sequence[Word], bytes], bytes]] = {
    RRType.A: _a,
    RRType.AAAA: _aaaa,
    RRType.CNAME: _one_name,
    RRType.DNAME: _one_name,
    RRType.NS: _one_name,
    RRType.PTR: _one_name,
    RRType.MX: _mx,
    RRType.SRV: _srv,
    RRType.SOA: _soa,
    RRType.NAPTR: _naptr,
    _URI: _uri,
    _CAA: _caa,
}


def _unknown(words: Sequence[Word]) -> bytes:
    r"""`\# 4 0A000001`: data of any type (RFC 3597, 5)."""
    if not words:
        raise FormatError("no length")
    size = _number(words[0], 16)
    try:
        data = bytes.fromhex("".join(word.text for word in words[1:]))
    except ValueError as error:
        raise FormatError("data is not hexadecimal") from error
    if len(data) != size:
        raise FormatError(f"{len(data)} octets of data, expected {size}")
    return data


def _by_dnslib(rtype: int, words: Sequence[Word], origin: bytes) -> bytes:
    """The data of a type that dnslib knows."""
    mnemonic = "HTTPS" if rtype == RRType.SVCB else type_text(rtype)  # the same data (RFC 9460, 9)
    kind = dnslib.RDMAP.get(mnemonic)
    if kind is None:
        raise FormatError(f"data of type {rtype} can only be given as \\# LENGTH HEX")
    buffer = dnslib.DNSBuffer()
    try:
        kind.fromZone([_unescaped(word.text) for word in words], dnslib.DNSLabel(names.labels_of(origin))).pack(buffer)
    except Exception as error:  # whatever it raises, the line was no record
        raise FormatError(f"bad data: {error}") from error
    return bytes(buffer.data)


def parse_name(word: Word, origin: bytes = names.ROOT) -> bytes:
    """A name, lower-cased; `@` is the origin, and what has no final dot is below it. Raises FormatError."""
    text = word.text
    if text in ("@", ""):
        return origin
    name = names.from_text(text)
    if origin == names.ROOT or (text[-1] == "." and ("\\" not in text or _WHOLE(text))):
        return name
    if len(name) - 1 + len(origin) > names.MAX_NAME:
        raise FormatError(f"name of {len(name) - 1 + len(origin)} octets, expected at most {names.MAX_NAME}")
    return name[:-1] + origin


def _number(word: Word, bits: int) -> int:
    text = word.text
    if not text.isascii() or not text.isdecimal() or int(text) >> bits:
        raise FormatError(f"bad number {quoted(text)}")
    return int(text)


def parse_seconds(word: Word) -> int:
    """Seconds, or `1h30m`. Raises FormatError."""
    text = word.text.lower()
    if not _TTL.fullmatch(text) or len(text) > MAX_STRING:
        raise FormatError(f"bad time {quoted(text)}")
    seconds = sum(int(number) * _UNITS[unit] for number, unit in _TTL_PART.findall(text))
    if seconds >> 32:
        raise FormatError(f"bad time {quoted(text)}")
    return seconds


def _octets(word: Word) -> bytes:
    r"""A word with `\"` and `\032` resolved."""
    octets = word.text.encode("utf-8", "surrogateescape")
    return octets if b"\\" not in octets else _ESCAPE.sub(_unescape, octets)


def _unescape(found: re.Match[bytes]) -> bytes:
    part = found[1]
    if len(part) < 3:
        return part
    if int(part) > MAX_STRING:
        raise FormatError(f"bad escape \\{part.decode()}")
    return bytes([int(part)])


def _unescaped(text: str) -> str:
    return _octets(Word(text)).decode("utf-8", "surrogateescape")


def _string(word: Word) -> bytes:
    octets = _octets(word)
    if len(octets) > MAX_STRING:
        raise FormatError(f"text of {len(octets)} octets, expected at most {MAX_STRING}")
    return bytes([len(octets)]) + octets


def _strings(word: Word) -> bytes:
    """A text as so many character strings as it needs."""
    octets = _octets(word)
    parts = [octets[at : at + MAX_STRING] for at in range(0, len(octets), MAX_STRING)] or [b""]
    return b"".join(bytes([len(part)]) + part for part in parts)
