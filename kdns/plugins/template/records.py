"""Resource records out of the lines of a zone file (RFC 1035, 5.1), one at a time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from kdns.dns import names
from kdns.dns.codes import RRClass
from kdns.dns.rrset import Record
from kdns.errors import FormatError, KdnsError
from kdns.plugins.go_numbers import quoted
from kdns.plugins.record_data import Word, parse_header, parse_name, parse_rdata, split_words

DEFAULT_TTL = 3600  # seconds, of a line that gives none, as CoreDNS's library
CACHED_LINES = 1024  # templates often give the same few records

_PLAIN_OWNER = re.compile(r"[^\"();\\\s@]+").fullmatch


class RecordSyntaxError(KdnsError):
    """A line that is no resource record."""


class ClassedRecord(NamedTuple):
    """A record and its class, which is not always IN."""

    record: Record
    rclass: int


_ROOT_WORD = Word(".")


def parse_record(line: str) -> ClassedRecord:
    """The record of a line. Names without a final dot are whole all the same. Raises RecordSyntaxError."""
    owner, space, rest = line.partition(" ")
    try:
        if not space or not _PLAIN_OWNER(owner):
            return _parse([_ROOT_WORD, *_words(line)] if line[:1].isspace() else _words(line))
        rtype, ttl, rclass, rdata = _parse_rest(rest)
        return ClassedRecord(Record(names.from_text(owner), rtype, ttl, rdata), rclass)
    except FormatError as error:
        raise RecordSyntaxError(f"dns: {error}: {quoted(line)}") from error


@lru_cache(CACHED_LINES)
def _parse_rest(text: str) -> tuple[int, int, int, bytes]:
    """(type, TTL, class, data) of what follows an owner. Often the owner alone changes from record to record."""
    made = _parse([_ROOT_WORD, *_words(text)])
    record = made.record
    return record.rtype, record.ttl, made.rclass, record.rdata


def _parse(words: Sequence[Word]) -> ClassedRecord:
    if not words:
        raise FormatError("no record")
    owner = parse_name(words[0])
    ttl, rclass, rtype, data = parse_header(words[1:])
    record = Record(owner, rtype, DEFAULT_TTL if ttl is None else ttl, parse_rdata(rtype, data))
    return ClassedRecord(record, RRClass.IN if rclass is None else rclass)


def _words(line: str) -> list[Word]:
    """The words of the first record in a text."""
    words, depth = split_words(line)
    if depth:
        raise FormatError("unbalanced brace")
    return words
