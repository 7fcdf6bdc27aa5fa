"""The records of a zone file (RFC 1035, 5.1), with `$ORIGIN` and `$TTL` (RFC 2308, 4)."""

from __future__ import annotations

from collections.abc import Iterator

from kdns.dns.codes import RRClass, RRType, class_text
from kdns.dns.rrset import Record
from kdns.errors import FormatError, KdnsError
from kdns.plugins.record_data import Word, parse_header, parse_name, parse_rdata, parse_seconds, split_words

MAX_ENTRY_LINES = 10_000  # of one record: a parenthesis nobody closed is told of where it stands
# What a signed zone has for its validators: kdns does not sign its answers. 51: NSEC3PARAM.
SIGNATURES = frozenset({RRType.RRSIG, RRType.NSEC, RRType.NSEC3, 51})

_BLANK = (" ", "\t")


class ZoneSyntaxError(KdnsError):
    """A line of a zone file that is no record; says which."""


def parse_zone_text(text: str, origin: bytes, filename: str) -> Iterator[Record]:
    """The records in their order, SIGNATURES without their data. Raises ZoneSyntaxError with file and line."""
    reader = _Reader(origin)
    for line, is_indented, words in _entries(text, filename):
        try:
            record = reader.read(words, is_indented)
        except FormatError as error:
            raise ZoneSyntaxError(f"{filename}:{line} - {error}") from error
        if record is not None:
            yield record


def _entries(text: str, filename: str) -> Iterator[tuple[int, bool, list[Word]]]:
    """(line, whether it begins with blanks, words) of every entry: a line, or more of them in parentheses."""
    first, is_indented, depth = 0, False, 0
    words: list[Word] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not depth:
            first, is_indented, words = number, line.startswith(_BLANK), []
        elif number - first > MAX_ENTRY_LINES:
            break
        try:
            more, depth = split_words(line, depth)
        except FormatError as error:
            raise ZoneSyntaxError(f"{filename}:{number} - {error}") from error
        words = words + more if words else more
        if words and not depth:
            yield first, is_indented, words
    if depth:
        raise ZoneSyntaxError(f"{filename}:{first} - unbalanced brace")


class _Reader:
    """What a record leaves to the lines before it: origin, owner, TTL."""

    def __init__(self, origin: bytes) -> None:
        self._origin = origin
        self._owner: bytes | None = None
        self._default_ttl: int | None = None  # $TTL
        self._last_ttl: int | None = None

    def read(self, words: list[Word], is_indented: bool) -> Record | None:
        """The record of an entry, None of a control entry. Raises FormatError."""
        if words[0].text.startswith("$") and not words[0].is_quoted and not is_indented:
            self._control(words)
            return None
        if not is_indented:
            self._owner = parse_name(words[0], self._origin)
            words = words[1:]
        if self._owner is None:
            raise FormatError("no owner, and no record before it")
        ttl, rclass, rtype, data = parse_header(words)
        if rclass not in (None, RRClass.IN):
            raise FormatError(f"class {class_text(rclass)}, expected IN")
        rdata = b"" if rtype in SIGNATURES else parse_rdata(rtype, data, self._origin)
        return Record(self._owner, rtype, self._ttl(ttl, rtype, rdata), rdata)

    def _ttl(self, written: int | None, rtype: int, rdata: bytes) -> int:
        if written is not None:
            self._last_ttl = written
            return written
        if self._default_ttl is not None:
            return self._default_ttl
        if self._last_ttl is None and rtype == RRType.SOA:
            self._last_ttl = int.from_bytes(rdata[-4:], "big")  # its last number was once the TTL of such records
        if self._last_ttl is None:
            raise FormatError("no TTL, no $TTL, and no record before it")
        return self._last_ttl

    def _control(self, words: list[Word]) -> None:
        control, arguments = words[0].text.upper(), words[1:]
        if control not in ("$ORIGIN", "$TTL"):
            raise FormatError(f"{words[0].text} is not available in kdns, only $ORIGIN and $TTL are")
        if len(arguments) != 1:
            raise FormatError(f"{control} with {len(arguments)} words, expected 1")
        if control == "$ORIGIN":
            self._origin = parse_name(arguments[0], self._origin)
        else:
            self._default_ttl = parse_seconds(arguments[0])
