"""One occurrence of `forward`: which names it takes, and whom it asks for them."""

from __future__ import annotations

import random
from collections.abc import Sequence

from kdns import log
from kdns.dns import names
from kdns.dns.codes import Rcode, RRClass, RRType
from kdns.dns.query import HEADER_SIZE, Query
from kdns.dns.reply import Reply
from kdns.errors import CorefileError, ServeError, UpstreamError
from kdns.plugins.forward.addresses import MAX_UPSTREAMS, HostName, ResolvConf, Target, expand
from kdns.plugins.forward.budget import new_budget
from kdns.plugins.forward.compiled import Compiled, Rules
from kdns.plugins.forward.deadlines import Deadlines
from kdns.plugins.forward.flights import Abandoned, Flights
from kdns.plugins.forward.idle import PoolLimits
from kdns.plugins.forward.lookup import look_up
from kdns.plugins.forward.meters import Meters, UpstreamMeters
from kdns.plugins.forward.options import Options, check_server_name, tls_context
from kdns.plugins.forward.policy import POLICIES
from kdns.plugins.forward.question import render_query
from kdns.plugins.forward.shared import SharedState
from kdns.plugins.forward.udp import full_pool
from kdns.plugins.forward.upstream import HealthCheck, Transport, Upstream

MAX_ATTEMPTS = 2 * MAX_UPSTREAMS  # where the Corefile says that there is no limit
_NO_CLASSES = frozenset({0, RRClass.NONE, RRClass.ANY})  # a question in one of these has no answer anywhere
_NO_TYPES = frozenset({RRType.IXFR, RRType.AXFR})  # their answers are many messages; half a zone would look like one

_LOG = log.plugin_logger("forward")


class Forwarder:
    """Names of a zone go to upstreams. Set up before the workers are forked; each then has its own connections."""

    def __init__(self, options: Options, meters: Meters) -> None:
        self.zone = options.zone
        self.next_rcodes = options.next_rcodes
        self.next_on_nodata = options.next_on_nodata
        self._is_last = True
        self._options = options
        self._meters = meters
        self._shared = SharedState()
        self._deadlines = Deadlines()
        self._flights = Flights()
        self._limit = options.max_concurrent
        self._order = POLICIES[options.policy]
        self._check = HealthCheck(
            options.check_seconds, options.check_recursion, options.check_domain, options.max_fails
        )
        self._known: dict[Target, Upstream] = {}
        self.upstreams: Sequence[Upstream] = ()
        self.compiled: Compiled | None = None  # where the compiled path asks for what is plain
        host_names = [entry.name for entry in options.entries if isinstance(entry, HostName)]
        self._addresses = {name: look_up(name, options.resolvers) for name in host_names}
        self._use(self._expand())

    def takes(self, qname: bytes) -> bool:
        """Whether a name is for this one: in its zone, and not excepted."""
        zone = self.zone
        if zone != names.ROOT and not names.is_below(qname, zone):
            return False
        excepted = self._options.excepted
        return not excepted or qname == zone or not any(names.is_below(qname, other) for other in excepted)

    def takes_all(self, suffix: bytes) -> bool:
        """Whether every name of a suffix is for this one."""
        is_here = names.is_below(suffix, self.zone)
        return is_here and not any(names.is_below(suffix, other) for other in self._options.excepted)

    async def answer(self, query: Query, stream: bool) -> Reply:
        """What an upstream says. Raises ServeError."""
        if query.qclass in _NO_CLASSES or query.qtype in _NO_TYPES:
            raise ServeError("", Rcode.REFUSED)
        if not self._limit:
            return await self._share(query, stream)
        if not self._shared.enter(self._limit):
            self._meters.max_concurrent_rejects.add()
            raise ServeError(f"concurrent queries exceeded maximum {self._options.max_concurrent_text}", Rcode.REFUSED)
        try:
            return await self._share(query, stream)
        finally:
            self._shared.leave()

    # The compiled path

    def compile(self, rules: Rules | None, *, is_last: bool) -> Compiled | None:
        """The compiled path's hand in this, where it can have one; the same at each call.

        `rules` are those of the `cache` before it; behind one that is not the last others may answer as well.
        """
        options = self._options
        if options.force_tcp or options.max_idle_conns or any(target.scheme != "dns" for target in self._known):
            return None
        self._is_last = is_last
        if self.compiled is None:
            hands_back_empty = options.next_on_nodata and not is_last
            self.compiled = Compiled(self, options, self._meters, self._shared, rules, hands_back_empty)
        return self.compiled

    def passes(self, rcode: int) -> bool:
        """Whether replies with a code go to the client whoever sent them."""
        if rcode in self._options.failover_rcodes and len(self.upstreams) > 1:
            return False
        return self._is_last or rcode not in self.next_rcodes

    @property
    def max_attempts(self) -> int:
        """How often a question may be asked, as far as the Corefile says."""
        allowed = self._options.max_connect_attempts
        if allowed is None:
            return 2 * len(self.upstreams)
        return allowed or MAX_ATTEMPTS

    @property
    def cuts(self) -> Sequence[bytes]:
        """The zones from which on names are treated in another way."""
        return (self.zone, *self._options.excepted)

    # Asking

    async def _share(self, query: Query, stream: bool) -> Reply:
        """What an upstream says to a query, or is about to say to one that is equal."""
        message = render_query(query)
        is_lower = query.name == query.qname
        key = message if is_lower else render_query(query.with_question(query.qname, query.qtype)), stream
        while (waiter := self._flights.join(key)) is not None:
            try:
                return await waiter
            except Abandoned:
                continue
        try:
            reply = await self._ask(message, query.head[HEADER_SIZE:], stream)
        except BaseException as error:
            self._flights.fail(key, error)
            raise
        self._flights.land(key, reply)
        if self.compiled is not None and not stream:
            self.compiled.forget_spent(query.head[HEADER_SIZE:])
        return reply

    async def _ask(self, message: bytes, question: bytes, stream: bool) -> Reply:
        """Upstream after upstream, until one answers or the budget is spent. Raises UpstreamError."""
        options = self._options
        candidates = self._candidates()
        budget = new_budget(options.read_timeout_seconds)
        failure: UpstreamError | None = None
        last_reply: Reply | None = None
        attempts, begun, over_tcp = self.max_attempts, 0, False
        spent = None if self.compiled is None or stream else self.compiled.take_spent(question)
        if spent is not None:
            budget = new_budget(options.read_timeout_seconds, spent.started, spent.packets)
            failure = UpstreamError(spent.failure) if spent.failure else None
            # Who was asked comes after those who were not, unless it answered and that is to be read here.
            over_tcp = spent.over_tcp
            is_first = over_tcp or not (spent.failure or options.failover_rcodes)
            begun = 0 if is_first else spent.packets
            if not spent.failure:
                attempts = max(attempts, begun + 1)
            asked = spent.upstreams[-1:] if is_first else spent.upstreams
            candidates = sorted(candidates, key=lambda upstream: (upstream in asked) != is_first)
        for attempt in range(begun, attempts):
            if budget.is_spent:
                break
            upstream = candidates[(attempt - begun) % len(candidates)]
            try:
                reply = await upstream.exchange(message, question, stream, budget, over_tcp=over_tcp)
            except UpstreamError as error:
                failure = error
                upstream.note_failure()
                continue
            if reply.rcode not in options.failover_rcodes:
                return reply
            last_reply = reply
            if attempt + 1 >= len(candidates):
                break  # each was asked
        if last_reply is not None:
            return last_reply
        raise failure or UpstreamError("no healthy proxies")

    def _candidates(self) -> Sequence[Upstream]:
        """Whom to ask, in this order: those in doubt behind the others, those down not at all. Raises UpstreamError."""
        upstreams = self.upstreams
        if len(upstreams) > 1:
            upstreams = self._order(upstreams, self._shared.draw)
        for upstream in upstreams:
            if not upstream.is_well:
                break
        else:
            return upstreams
        upstreams = [upstream for upstream in upstreams if not upstream.is_out]
        if not upstreams:
            raise UpstreamError("no healthy proxies")
        for upstream in upstreams:
            upstream.resume_checks()
        standing = [upstream for upstream in upstreams if not upstream.is_down]
        if standing:
            return sorted(standing, key=lambda upstream: not upstream.is_well)
        # With all of them down it is more likely that the checks fail than that nobody is left.
        self._meters.healthcheck_broken.add()
        if self._options.fails_fast:
            raise UpstreamError("no healthy proxies")
        return [random.choice(upstreams)]  # noqa: S311 - load is spread

    # Following the files

    def follow_files(self) -> None:
        """Read the resolv.conf files again; where they say something new, go by it."""
        if not any(isinstance(entry, ResolvConf) for entry in self._options.entries):
            return
        try:
            targets = self._expand()
            if targets == list(self._known):
                return
            self._use(targets)
        except CorefileError as error:
            if self._shared.is_news(str(error)):
                _LOG.warning("%s; the upstreams known so far stay", error)
            return
        text = ", ".join(upstream.address for upstream in self.upstreams)
        if self._shared.is_news(text):
            _LOG.info("upstreams of %s are now %s", names.to_text(self.zone), text)

    def claim(self) -> None:
        """Begin to serve in this process."""
        self._shared.claim_cell()
        if self.compiled is not None:
            self.compiled.start()

    def close_expired(self) -> None:
        """Close connections that have been idle for too long."""
        for upstream in self.upstreams:
            upstream.close_expired()
        if self.compiled is not None:
            self.compiled.look_after()

    def close(self) -> None:
        """Check nobody's health any more, and keep no connections."""
        if self.compiled is not None:
            self.compiled.close()
        for upstream in self.upstreams:
            upstream.close()

    def _expand(self) -> list[Target]:
        return expand(self._options.entries, self._addresses.__getitem__)

    def _use(self, targets: Sequence[Target]) -> None:
        """Ask these from now on; those known already keep their connections and what is known of them."""
        known = {target: self._known.get(target) or self._make(target, len(targets)) for target in targets}
        gone = [upstream for target, upstream in self._known.items() if target not in known]
        self._known = known
        self.upstreams = tuple(known.values())
        for upstream in gone:
            upstream.close()
        if self.compiled is not None:
            self.compiled.follow()

    def _make(self, target: Target, count: int) -> Upstream:
        options = self._options
        tls, server_name, doh_method = None, None, ""
        if target.scheme != "dns":
            server_name = target.server_name or options.tls_servername or target.host
            check_server_name(server_name)
        if target.scheme == "tls":
            tls = options.tls = options.tls or tls_context([])
        elif target.scheme == "https":
            tls, doh_method = tls_context(options.tls_files), options.doh_method  # its own: HTTP offers protocols
        transport = Transport(
            force_tcp=options.force_tcp,
            prefer_udp=options.prefer_udp,
            tls=tls,
            server_name=server_name,
            doh_method=doh_method,
            source=options.source,
            limits=PoolLimits(options.expire_seconds, options.max_age_seconds, options.max_idle_conns),
            udp_sockets=full_pool(count),
        )
        try:
            address = target.sockaddr()
        except OSError as error:
            raise CorefileError(f"{target}: {error.strerror}") from error
        meters = UpstreamMeters(self._meters, str(target).partition("://")[2])
        return Upstream(address, transport, self._check, self._shared.place(str(target)), meters, self._deadlines)
