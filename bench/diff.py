"""Do two servers answer the same? Every question goes to both, and their replies are compared, record by record.

What counts is rcode, AA, and each section as a set; order, letter case of owners and compression do not, nor TTLs
unless asked for. A reply that was cut is asked for again over TCP, from both.
"""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Self

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype

from bench.errors import BenchError
from bench.records import Question

BATCH = 64  # questions under way to one server
TIMEOUT_SECONDS = 2.0  # for a batch
TRIES = 3  # before a question counts as unanswered
EXAMPLES = 10  # differences that are shown
_SERIAL_AT = 2  # of an SOA record's words: a number of each server's own

Place = tuple[str, int]
Seen = tuple[object, ...]


@dataclass
class Differences:
    """What came of a comparison."""

    asked: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Questions that were answered differently."""
        return sum(self.kinds.values())

    def add(self, question: Question, one: Seen | None, other: Seen | None) -> None:
        """Note a question whose answers differ."""
        if one is None or other is None:
            kind = "only one answered"
        else:
            names = ("rcode", "AA", "answer", "authority", "additional")
            kind = next(name for name, first, second in zip(names, one, other, strict=True) if first != second)
        self.kinds[kind] += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(f"{question.name} {question.type}\n    {_show(one)}\n    {_show(other)}")


def compare_servers(
    one: Place,
    other: Place,
    questions: Iterable[Question],
    with_ttls: bool = False,
    on_progress: Callable[[int], None] = lambda asked: None,
) -> Differences:
    """Put every question to both servers. Raises BenchError where one does not answer at all."""
    found = Differences()
    source = iter(questions)
    with _Asker(one, with_ttls) as first, _Asker(other, with_ttls) as second:
        while batch := list(islice(source, BATCH)):
            replies = first.ask(batch), second.ask(batch)
            for asker, answered in zip((first, second), replies, strict=True):
                if found.asked == 0 and not any(answered):
                    host, port = asker.place
                    raise BenchError(f"{host}:{port} answers nothing; is a server running there?")
            for question, *seen in zip(batch, *replies, strict=True):
                if seen[0] != seen[1]:
                    found.add(question, *seen)
            found.asked += len(batch)
            on_progress(found.asked)
    return found


class _Asker:
    """One server, asked in batches over UDP."""

    def __init__(self, place: Place, with_ttls: bool) -> None:
        self.place = place
        self._with_ttls = with_ttls
        self._socket = socket.socket(socket.AF_INET6 if ":" in place[0] else socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect(place)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, batch: list[Question]) -> list[Seen | None]:
        """What the server answers to each question; None where it stays silent."""
        queries = [dns.message.make_query(question.name, question.type, use_edns=0) for question in batch]
        replies: dict[int, bytes] = {}
        for _ in range(TRIES):
            missing = [number for number in range(len(batch)) if number not in replies]
            if not missing:
                break
            self._exchange(queries, missing, replies)
        return [self._read(query, replies.get(number)) for number, query in enumerate(queries)]

    def _exchange(self, queries: list[dns.message.QueryMessage], missing: list[int], replies: dict[int, bytes]) -> None:
        for number in missing:
            queries[number].id = number
            try:
                self._socket.send(queries[number].to_wire())
            except ConnectionRefusedError:
                continue
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while len(replies) < len(queries) and (left := deadline - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                reply = self._socket.recv(65_536)
            except OSError:
                return
            if len(reply) >= 12:
                replies[int.from_bytes(reply[:2], "big")] = reply

    def _read(self, query: dns.message.QueryMessage, octets: bytes | None) -> Seen | None:
        if octets is None:
            return None
        try:
            reply = dns.message.from_wire(octets, ignore_trailing=False, raise_on_truncation=False)
            if reply.flags & dns.flags.TC:
                reply = dns.query.tcp(query, self.place[0], TIMEOUT_SECONDS, self.place[1])
        except (dns.exception.DNSException, OSError, EOFError) as error:
            return (f"no message: {type(error).__name__}", False, frozenset(), frozenset(), frozenset())
        sections = (frozenset(self._records(section)) for section in reply.sections[1:4])
        return (dns.rcode.to_text(reply.rcode()), bool(reply.flags & dns.flags.AA), *sections)

    def _records(self, section: list[dns.rrset.RRset]) -> Iterator[str]:
        for rrset in section:
            ttl = f" {rrset.ttl}" if self._with_ttls else ""
            head = f"{rrset.name.to_text().lower()}{ttl} {dns.rdatatype.to_text(rrset.rdtype)} "
            for rdata in rrset:
                text = rdata.to_text().lower()
                if rrset.rdtype == dns.rdatatype.SOA:
                    words = text.split()
                    words[_SERIAL_AT] = "SERIAL"
                    text = " ".join(words)
                yield head + text


def _show(seen: Seen | None) -> str:
    if seen is None:
        return "no answer"
    rcode, is_authoritative, *sections = seen
    shown = []
    for section in sections:
        assert isinstance(section, frozenset)
        records = sorted(section)
        more = f" and {len(records) - 3} more" if len(records) > 3 else ""
        shown.append("; ".join(records[:3]) + more or "-")
    return f"{rcode}{' aa' if is_authoritative else ''} | {' | '.join(shown)}"
