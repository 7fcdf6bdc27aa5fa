"""Decides whether a DNS reply is right, from what an API server said and when.

A reply is right if it equals the record set made of some version of each object, each one current at some moment from
a second before the query to the reply. A version is current from when it was committed until its successor was told to
whoever follows the API, so that faults of the way there do not count as faults of the follower; with `by_commit`, until
its successor was committed.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import dns.exception
import dns.flags
import dns.message
import dns.rcode

from kdns.cluster.objects import Event
from kdns.cluster.store import Store
from kdns.cluster.view import View
from tests.cluster.resolution import RecordServer, Reply, line_of
from tests.fakes.apiserver.journal import Journal, Span
from tests.fakes.apiserver.relevance import Relevance, event_of, gone
from tests.fakes.apiserver.storage import Key
from tests.harness.parsed import sections_of

WINDOW_SECONDS = 1.0  # for which an answer may be old
MAX_COMBINATIONS = 20_000  # of versions tried for one reply
MAX_REMEMBERED = 50_000  # replies kept, about 1 KB each


class Verdict(NamedTuple):
    """Whether a reply is right, and if not, what is wrong with it."""

    is_right: bool
    reason: str = ""


class Oracle:
    """Judges the replies of a server with one view, following one API server."""

    def __init__(self, journal: Journal, view: View, upstream: Iterable[str] = (), by_commit: bool = False) -> None:
        self._journal = journal
        self._view = view
        self._upstream = tuple(upstream)
        self._by_commit = by_commit
        self._relevance = Relevance(view)
        self._remembered: dict[tuple[object, ...], Reply] = {}
        journal.observe(self._relevance.note)

    def judge(
        self, qname: str, qtype: str, reply: bytes | None, asked: float, replied: float, is_synced: bool = True
    ) -> Verdict:
        """Judge a reply. Times are of time.monotonic; `is_synced` is whether the server has been synced before.

        Raises ValueError for a name that no objects decide, and where too many versions are possible to try.
        """
        if reply is None:
            return Verdict(False, f"{qname} {qtype}: no reply")
        try:
            met = _read(reply)
        except (dns.exception.DNSException, ValueError) as error:
            return Verdict(False, f"{qname} {qtype}: the reply is malformed: {error!r}")
        if met is None:
            return Verdict(False, f"{qname} {qtype}: the reply is truncated: ask over TCP")
        if met.rcode == "SERVFAIL" and not is_synced:
            return Verdict(True)
        expected = Reply("", Counter(), Counter())
        for expected in self._expected(qname, qtype, asked - WINDOW_SECONDS, replied):
            if _agree(met, expected):
                return Verdict(True)
        return Verdict(False, f"{qname} {qtype}: met {_told(met)}, expected, among others, {_told(expected)}")

    def _expected(self, qname: str, qtype: str, since: float, until: float) -> Iterable[Reply]:
        """What might be answered, the newest state last."""
        keys = sorted(self._relevance.keys_of(qname))
        choices = [self._possible(key, since, until) for key in keys]
        count = math.prod(map(len, choices))
        if count > MAX_COMBINATIONS:
            raise ValueError(f"{qname} {qtype}: {count} states are possible, at most {MAX_COMBINATIONS} are tried")
        for chosen in itertools.product(*choices):
            identity = (qname, qtype, tuple([sequence for sequence, _ in chosen]), tuple(keys))
            if identity not in self._remembered:
                if len(self._remembered) >= MAX_REMEMBERED:
                    self._remembered.clear()
                self._remembered[identity] = self._answer(qname, qtype, [event for _, event in chosen])
            yield self._remembered[identity]

    def _possible(self, key: Key, since: float, until: float) -> list[tuple[int, Event]]:
        """The states an object may be believed to be in, with a number for each."""
        absent = (-1, gone(key))
        known = absent
        found: dict[int, Event] = {}
        for span in self._journal.spans(key, self._by_commit):
            states = [absent]
            if span.version is not None:
                event = event_of(span.version)
                # What cannot be read changes nothing for one who knows the object, and is not there for others.
                states = [known, absent] if event is None else [(span.version.sequence, event)]
            known = states[0]
            if _overlaps(span, since, until):
                found.update(states)
        return list(found.items()) or [absent]

    def _answer(self, qname: str, qtype: str, events: list[Event]) -> Reply:
        store = Store(self._view, lambda: 0.0)
        for event in events:
            store.apply(event)
        server = RecordServer(self._view, self._upstream)
        server.update(store.all_nodes())
        return server.ask(qname.lower(), qtype)


def _overlaps(span: Span, since: float, until: float) -> bool:
    return span.since <= until and (span.until is None or span.until >= since)


def _agree(met: Reply, expected: Reply) -> bool:
    # How many of the additional records fit is the message's business; none may be of another state.
    return (
        met.rcode == expected.rcode
        and met.answer == expected.answer
        and set(met.additional) <= set(expected.additional)
    )


def _read(reply: bytes) -> Reply | None:
    """The reply, or None where it is truncated."""
    message = dns.message.from_wire(reply)
    if message.flags & dns.flags.TC:
        return None
    sections = sections_of(reply)
    answer, additional = (Counter(map(line_of, part)) for part in (sections.answer, sections.additional))
    return Reply(dns.rcode.to_text(message.rcode()), answer, additional)


def _told(reply: Reply) -> str:
    return f"{reply.rcode} {sorted(reply.answer)}"
