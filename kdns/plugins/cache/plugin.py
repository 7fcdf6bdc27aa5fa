"""Serving with a cache: hits, misses, entries renewed before they expire, and entries served after."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Protocol, runtime_checkable

from kdns import log
from kdns.dns import names
from kdns.dns.codes import Rcode, RRClass, RRType
from kdns.dns.query import Query
from kdns.dns.reply import Reply
from kdns.errors import KdnsError
from kdns.plugins.cache.flights import Flights
from kdns.plugins.cache.meters import CacheMeters
from kdns.plugins.cache.options import Options
from kdns.plugins.cache.store import Entry, Key, Store, key_of
from kdns.plugins.cache.verdict import judge
from kdns.plugins.plugin import CachePolicy, Handler, Plugin, Request

MAX_REFRESHES = 1000  # entries of a block a worker renews at a time; others are renewed when they are asked for again
COUNT_SECONDS = 1.0  # between two looks at how many entries there are
MAX_RECHECKS = 10_000  # failures remembered; the oldest is forgotten first

_LOG = log.plugin_logger("cache")


@runtime_checkable
class DecidingPlugin(Protocol):
    """A plugin that knows, without asking anybody, whether a name is its own."""

    def decides(self, query: Query) -> bool:
        """Whether it answers this, and nobody behind it."""
        ...


class Cache:
    """Keeps what the plugins behind it answer, but for what stands in the response table."""

    # Its effect on a reply from the table is on TTLs alone, and the table has them as they come out here.
    transparent = True

    def __init__(
        self, options: Options, store: Store, meters: CacheMeters, time_of_day: Callable[[], float] = time.time
    ) -> None:
        self._options = options
        self._store = store
        self._meters = meters
        self._time_of_day = time_of_day
        self._servers: set[str] = set()  # the listeners the compiled path answers at
        self._deciding: list[DecidingPlugin] = []
        self._flights: Flights[Key, Reply] = Flights()
        self._refreshes: set[asyncio.Task[Reply | None]] = set()
        self._not_before: dict[Key, int] = {}  # ms; after a failure nobody is asked again before that

    @property
    def zones(self) -> tuple[bytes, ...]:
        """The zones whose names are kept."""
        return self._options.zones

    def connect(self, plugins: Mapping[str, Plugin]) -> None:
        """Find the plugins whose answers stand in the table."""
        self._deciding = [plugin for plugin in plugins.values() if isinstance(plugin, DecidingPlugin)]

    def policy(self, server: str) -> CachePolicy:
        """How the compiled path answers from this cache, and where it counts that."""
        prefetch = self._options.prefetch
        self._servers.add(server)
        return CachePolicy(
            self._store.number,
            self._options.keeps_ttl,
            self._options.stale.seconds > 0,
            prefetch.uses,
            round(1000 * prefetch.gap_seconds),
            prefetch.percent,
            self._meters.places(server),
        )

    @property
    def cuts(self) -> tuple[bytes, ...]:
        """Zones whose names are not kept."""
        return (*self._options.success.disabled, *self._options.denial.disabled)

    def rules(self) -> tuple[int, int, int, int, int] | None:
        """What becomes of TTLs, for who keeps replies himself: the least and the greatest of answers, of denials, and
        that of SERVFAIL; None where more is to be decided."""
        options = self._options
        if options.stale.seconds:
            return None
        success, denial = options.success, options.denial
        return success.min_ttl, success.max_ttl, denial.min_ttl, denial.max_ttl, int(options.servfail_seconds)

    async def run(self) -> None:
        """Own the renewals: they end with the service. Entries are counted now and then: others keep some as well."""
        try:
            while True:
                await asyncio.sleep(COUNT_SECONDS)
                for server in self._servers:
                    self._meters.note_entries(server, self._store.counts())
        finally:
            for task in self._refreshes:
                task.cancel()

    async def serve(self, request: Request, next_handler: Handler) -> Reply:
        """Answer from the cache, or hand on and keep the reply."""
        query = request.query
        if (
            query.qclass != RRClass.IN
            or query.qtype in (RRType.AXFR, RRType.IXFR)
            or names.longest_zone(query.qname, self._options.zones) is None
        ):
            return await next_handler(request)
        if any(plugin.decides(query) for plugin in self._deciding):
            reply = await next_handler(request)
            self._meters.count_lookup(request.server, is_denial=not reply.body.answers)
            return self._settle(None, request, reply)
        key, now = key_of(query), self._store.now()
        entry = self._store.find(key, now)
        self._meters.count_lookup(request.server, None if entry is None else entry.is_denial)
        if entry is None:
            reply = await self._ask(key, request, next_handler)
            return _for_client(query, reply)
        if entry.left(now) > 0:
            return self._hit(key, entry, now, request, next_handler)
        return await self._stale(key, entry, now, request, next_handler)

    def _hit(self, key: Key, entry: Entry, now: int, request: Request, next_handler: Handler) -> Reply:
        left, prefetch = entry.left(now), self._options.prefetch
        self._store.note_use(key, entry)
        if prefetch.uses:
            uses = self._store.count_use(key, entry, prefetch.gap_seconds)
            if uses >= prefetch.uses and left <= prefetch.threshold(entry.ttl):
                self._refresh(key, request, next_handler, keeps_failures=True)
        return entry.reply(request.query, entry.ttl if self._options.keeps_ttl else left)

    async def _stale(self, key: Key, entry: Entry, now: int, request: Request, next_handler: Handler) -> Reply:
        """An entry that has expired, but may be served yet."""
        stale = self._options.stale
        may_ask = now >= self._not_before.get(key, 0)
        if stale.verify and may_ask:
            reply = await self._verify(key, request, next_handler)
            if reply is not None:
                return _for_client(request.query, reply)
        elif may_ask:
            self._refresh(key, request, next_handler, keeps_failures=False)
        self._store.note_use(key, entry)
        self._meters.count_stale(request.server)
        return entry.reply(request.query, entry.ttl if self._options.keeps_ttl else stale.ttl)

    async def _verify(self, key: Key, request: Request, next_handler: Handler) -> Reply | None:
        """A fresh reply in place of an expired one, if one comes in time."""
        timeout = self._options.stale.timeout_seconds
        if not timeout:
            return await self._renewed(key, request, next_handler)
        task = self._spawn(self._renewed(key, request, next_handler))
        if task is None:
            return None
        await asyncio.wait((task,), timeout=timeout)
        return task.result() if task.done() and not task.cancelled() else None

    def _refresh(self, key: Key, request: Request, next_handler: Handler, *, keeps_failures: bool) -> None:
        """Renew an entry while its old reply goes out, unless that is being done."""
        if key in self._flights:
            return
        renewal = (
            self._renew(key, request, next_handler) if keeps_failures else self._renewed(key, request, next_handler)
        )
        if self._spawn(renewal) is not None:
            self._meters.count_prefetch(request.server)

    def _spawn(self, renewal: Coroutine[None, None, Reply | None]) -> asyncio.Task[Reply | None] | None:
        if len(self._refreshes) >= MAX_REFRESHES:
            renewal.close()
            return None
        task = asyncio.get_running_loop().create_task(renewal)
        self._refreshes.add(task)
        task.add_done_callback(self._on_refreshed)
        return task

    def _on_refreshed(self, task: asyncio.Task[Reply | None]) -> None:
        self._refreshes.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _LOG.error("an entry was not renewed: %r", error)

    async def _renew(self, key: Key, request: Request, next_handler: Handler) -> Reply | None:
        """Ask, and keep whatever may be kept."""
        try:
            return await self._ask(key, request, next_handler)
        except KdnsError:
            return None  # the entry holds on for as long as it may

    async def _renewed(self, key: Key, request: Request, next_handler: Handler) -> Reply | None:
        """A reply that may take an expired one's place (RFC 8767, 4); after another one nobody asks for a while."""
        try:
            reply: Reply | None = await self._ask(key, request, next_handler, keeps_failures=False)
        except KdnsError:
            reply = None
        if reply is not None and self._is_better(request.query, reply):
            self._not_before.pop(key, None)
            return reply
        if self._options.stale.recheck_seconds:
            if len(self._not_before) >= MAX_RECHECKS:
                del self._not_before[next(iter(self._not_before))]
            self._not_before[key] = self._store.now() + round(1000 * self._options.stale.recheck_seconds)
        return None

    def _is_better(self, query: Query, reply: Reply) -> bool:
        """Whether a fresh reply counts for more than an entry that has expired."""
        verdict = judge(query, reply, self._options, self._time_of_day())
        if verdict is None or not verdict.is_sound:
            return False
        return verdict.answers or not self._options.stale.prefer_positive

    async def _ask(self, key: Key, request: Request, next_handler: Handler, *, keeps_failures: bool = True) -> Reply:
        """The reply of the plugins behind, with its TTLs made one, kept if it may be."""

        async def ask() -> Reply:
            reply = await next_handler(replace(request, query=_with_authentic_data(request.query)))
            is_failure = reply.rcode in (Rcode.SERVFAIL, Rcode.NOTIMP)
            return self._settle(None if is_failure and not keeps_failures else key, request, reply)

        return await self._flights.ask(key, ask)

    def _settle(self, key: Key | None, request: Request, reply: Reply) -> Reply:
        """The reply as clients get it; kept under the key, where there is one."""
        verdict = judge(request.query, reply, self._options, self._time_of_day())
        if verdict is None:
            return reply
        if key is not None and verdict.is_kept:
            self._store.put(key, reply, verdict)
            self._meters.note_entries(request.server, self._store.counts())
        return replace(reply, body=verdict.body)


def _with_authentic_data(query: Query) -> Query:
    """The query with AD set: whoever is asked tells whether the answer was validated (RFC 6840, 5.7)."""
    if query.authentic_data:
        return query
    head = query.head[:3] + bytes((query.head[3] | 0x20,)) + query.head[4:]
    return Query(head, query.name, query.qname, query.qtype, query.qclass, query.edns)


def _for_client(query: Query, reply: Reply) -> Reply:
    """The reply without AD, where the client does not want to know (RFC 6840, 5.8)."""
    if not reply.authentic_data or query.authentic_data or (query.edns is not None and query.edns.dnssec_ok):
        return reply
    return replace(reply, authentic_data=False)
