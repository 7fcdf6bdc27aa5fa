"""The entries of one server block in the answer cache, and which of two counts."""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

from kdns.dns.codes import Rcode
from kdns.dns.compression import Body
from kdns.dns.query import Query
from kdns.dns.reply import Reply
from kdns.hotpath.cache import AnswerCache
from kdns.hotpath.sections import with_ttl
from kdns.plugins.cache.options import Options
from kdns.plugins.cache.verdict import ANSWERS, AUTHENTIC, RECURSION, Verdict
from kdns.plugins.plugin import CurrentCache

DNSSEC_OK, CHECKING_DISABLED = 1, 2  # of a key; KEY_ flags of hotpath/cache.pxd

Key = tuple[bytes, int, int]  # name, type, flags


def key_of(query: Query) -> Key:
    """What an entry is found by, class IN understood."""
    flags = DNSSEC_OK if query.edns is not None and query.edns.dnssec_ok else 0
    return query.qname, query.qtype, flags | (CHECKING_DISABLED if query.checking_disabled else 0)


class Entry(NamedTuple):
    """A reply that was kept."""

    is_denial: bool
    kind: int
    ttl: int  # seconds, when it was kept
    stored: int  # ms of the cache's clock
    body: Body

    @property
    def rcode(self) -> int:
        """The response code."""
        return self.kind >> 4

    @property
    def is_failure(self) -> bool:
        """Whether it tells of a server's trouble, and not of the name."""
        return self.rcode in (Rcode.SERVFAIL, Rcode.NOTIMP)

    @property
    def answers(self) -> bool:
        """Whether it holds what was asked for."""
        return bool(self.kind & ANSWERS)

    def left(self, now: int) -> int:
        """The whole seconds it holds yet; 0 and less: it has expired."""
        return self.ttl - max(now - self.stored, 0) // 1000

    def reply(self, query: Query, ttl: int) -> Reply:
        """The reply, all its TTLs being `ttl`."""
        body = self.body
        count = body.answers + body.authorities + body.additionals
        wants_authentic = query.authentic_data or (query.edns is not None and query.edns.dnssec_ok)
        return Reply(
            self.rcode,
            body._replace(octets=with_ttl(body.octets, count, ttl)),
            authoritative=True,
            recursion_available=bool(self.kind & RECURSION),
            authentic_data=wants_authentic and bool(self.kind & AUTHENTIC),
            writer="cache",
        )


class Store:
    """What `cache` of one server block keeps: in a memory all stores share, under a number of its own."""

    def __init__(self, identity: bytes, options: Options, current: CurrentCache) -> None:
        self.number = int.from_bytes(blake2b(identity, digest_size=8, person=b"answer cache").digest(), "big") or 1
        self._stale = options.stale
        self._current = current

    @property
    def memory(self) -> AnswerCache:
        """The memory; there is one as soon as the service starts."""
        memory = self._current.memory
        assert memory is not None
        return memory

    def now(self) -> int:
        """The clock entries are timed by, in ms."""
        return self.memory.now()

    def find(self, key: Key, now: int) -> Entry | None:
        """The entry that answers a question, if it holds yet or may be served stale."""
        denial, answer = (
            None if kept is None else Entry(is_denial, kept[0], kept[1], kept[2], Body(*kept[3:]))
            for is_denial, kept in zip((True, False), self.memory.get(self.number, *key), strict=True)
        )
        if denial is not None and not self._is_servable(denial, now):
            denial = None
        if answer is not None and not self._is_servable(answer, now):
            answer = None
        if denial is None or answer is None:
            return denial or answer
        if denial.is_failure or (self._stale.seconds and self._stale.prefer_positive and answer.answers):
            return answer
        return denial

    def put(self, key: Key, reply: Reply, verdict: Verdict) -> None:
        """Keep a reply."""
        kind = (
            reply.rcode << 4
            | (RECURSION if reply.recursion_available else 0)
            | (AUTHENTIC if reply.authentic_data else 0)
            | (ANSWERS if verdict.answers else 0)
        )
        self.memory.put(self.number, *key, verdict.is_denial, kind, verdict.ttl, verdict.body, verdict.whole_size)

    def note_use(self, key: Key, entry: Entry) -> None:
        """Let an entry that was used outlive those that were not."""
        self.memory.mark(self.number, *key, entry.is_denial)

    def count_use(self, key: Key, entry: Entry, gap_seconds: float) -> int:
        """How often an entry was used, this time too, without a pause longer than the gap."""
        return self.memory.count_use(self.number, *key, entry.is_denial, round(1000 * gap_seconds))

    def counts(self) -> tuple[int, int, int, int]:
        """Of this process's part: answers, denials, answers and denials that made room for others."""
        return self.memory.counts(self.number)

    def _is_servable(self, entry: Entry, now: int) -> bool:
        left = entry.left(now)
        return left > 0 or -left < int(self._stale.seconds)
