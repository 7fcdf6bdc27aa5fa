"""Recorded questions: a capture, a query log of CoreDNS or kdns, or a file of questions as dnsperf reads it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import dns.exception
import dns.name
import dns.rdatatype

from bench.capture import is_capture, read_capture
from bench.errors import BenchError
from bench.records import Question

LOOK_LINES = 1_000  # in which a log shows that it is one
# The common format of the `log` directive: ... - ID "TYPE CLASS NAME PROTOCOL SIZE DO BUFSIZE" RCODE ...
_LOG_LINE = re.compile(r' - \d+ "(\S+) IN (\S+) (?:udp|tcp|tls|https|grpc|quic) \d+ (?:true|false) \d+" ')


def read_recorded(path: Path) -> list[Question]:
    """The questions of a file, whatever kind it is; raises BenchError if it has none, or cannot be read."""
    try:
        octets = path.read_bytes()
    except OSError as error:
        raise BenchError(f"{path}: {error.strerror}; expected questions, a query log or a pcap file") from error
    try:
        questions = list(read_capture(octets) if is_capture(octets[:4]) else _read_text(octets))
    except BenchError as error:
        raise BenchError(f"{path}: {error}") from error
    if not questions:
        raise BenchError(f"{path}: there is no question in it")
    return questions


def _read_text(octets: bytes) -> Iterator[Question]:
    try:
        lines = octets.decode().splitlines()
    except UnicodeDecodeError as error:
        raise BenchError("neither text nor a pcap file; expected questions, a query log or a capture") from error
    if any(_LOG_LINE.search(line) for line in lines[:LOOK_LINES]):
        return read_log(lines)
    return read_questions(lines)


def read_log(lines: Iterable[str]) -> Iterator[Question]:
    """The questions of a query log in the common format; other lines are passed over."""
    for line in lines:
        match = _LOG_LINE.search(line)
        if match is not None and _is_question(match[2], match[1]):
            yield Question(match[2], match[1])


def read_questions(lines: Iterable[str]) -> Iterator[Question]:
    """The questions of a dnsperf file; raises BenchError with the line that is none."""
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith((";", "#")):
            continue
        if len(words) != 2 or not _is_question(*words):
            raise BenchError(f"line {number} of the questions: met {line.strip()!r}, expected a name and a type")
        yield Question(*words)


def _is_question(name: str, type_: str) -> bool:
    try:
        dns.rdatatype.from_text(type_)
        dns.name.from_text(name)
    except (dns.exception.DNSException, ValueError):
        return False
    return True
