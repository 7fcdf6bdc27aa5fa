"""From a Corefile's server blocks to answers: the slow path, which is also the compiled path's reference.

A listener has a zone table; the longest zone that holds a name owns it, its errors included. Each block is a chain of
plugins in the fixed order of `plugins.ORDER`, whatever the order in the file.
"""

from __future__ import annotations

import random
import traceback
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from hashlib import blake2b
from typing import Any, NamedTuple

from kdns import corefile, log
from kdns.corefile import Dispenser, ServerBlock, ServerKey
from kdns.corefile.complaints import one_line
from kdns.dns import names
from kdns.dns.codes import Rcode, RRType
from kdns.dns.compression import Body
from kdns.dns.query import Query, Verdict, parse_query
from kdns.dns.reply import OWN_UDP_PAYLOAD, Reply, refusal, render, render_header_only
from kdns.errors import CorefileError, Dropped, ServeError
from kdns.plugins import ORDER, SETUPS
from kdns.plugins.metering import UnservedQueries
from kdns.plugins.plugin import (
    MISS,
    REFUSE,
    REWRITE,
    BlockSettings,
    Forwarding,
    Handler,
    NameRewrite,
    Plugin,
    Request,
    Route,
    Setup,
    Surroundings,
)

# Directives that do not change what a name's answer is: a block may gain or lose them and keep its cache.
WITHOUT_ANSWERS = frozenset({
    "bufsize", "cache", "debug", "errors", "health", "loadbalance", "log", "loop", "multisocket", "pprof", "prometheus",
    "ready", "reload", "shed", "timeouts", "trace",
})  # fmt: skip
# Directives that CoreDNS has as no step of a chain, whatever they are here.
NOT_IN_CHAIN = {"bind", "debug", "health", "multisocket", "on", "pprof", "ready", "reload", "root", "timeouts", "tls"}
# Directives for whose blocks the compiled path forwards nothing: they time what the plugins behind them take.
UNFORWARDED = frozenset({"cancel"})
MAX_PAYLOAD = 65_535  # octets over UDP that a client can ask for
MAX_DEPTH = 8  # questions one query may cause inside the server: ExternalNames that lead to ExternalNames


@dataclass(frozen=True, slots=True)
class Block:
    """A server block: its chain, outermost plugin first, and the handler that runs it."""

    plugins: tuple[tuple[str, Plugin], ...]
    handler: Handler | None  # None: no directive of it serves, every name is refused
    settings: BlockSettings = field(default_factory=BlockSettings)


@dataclass(slots=True)
class Listener:
    """A place to listen at, and who owns which zone there."""

    transport: str
    host: str  # empty: every address
    port: int
    zones: dict[bytes, Block] = field(default_factory=dict)
    keys: list[ServerKey] = field(default_factory=list)
    unserved: UnservedQueries | None = None  # counts what no block serves; None: no block has `prometheus`

    @property
    def label(self) -> str:
        """What metrics and log lines call it: `dns://:53`, `dns://[::1]:53`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.transport}://{host}:{self.port}"

    @property
    def takes_other_classes(self) -> bool:
        """Whether a block of it has to do with classes but IN."""
        return any(block.settings.takes_other_classes for block in self.zones.values())

    @property
    def zone_texts(self) -> list[str]:
        """What the start tells of it: the zones in order, each behind the warning about its spelling, if any."""
        found = []
        for key in sorted(self.keys, key=lambda key: key.zone_text):
            if warning := corefile.syntax_warning(key):
                found.append(warning)
            found.append(f"{key.zone_text}:{key.port}" + (f" on {self.host}" if self.host else ""))
        return found

    def block_of(self, qname: bytes, qtype: int) -> Block | None:
        """The block that owns a name: of the longest zone; for DS of the shortest, but for the root."""
        holding = [zone for zone in names.parents(qname) if zone in self.zones]
        if not holding:
            return None
        if qtype == RRType.DS:
            above_root = [zone for zone in holding if zone != names.ROOT]
            return self.zones[above_root[-1] if above_root else names.ROOT]
        return self.zones[holding[0]]

    def routes(self) -> list[Route]:
        """What the compiled path needs to know, most specific suffix first."""
        routes: dict[bytes, Route] = {}
        for zone, block in self.zones.items():
            routes[zone] = Route(zone, REFUSE if block.handler is None else MISS)
            for cut in _table_routes(block):
                if names.longest_zone(cut.suffix, tuple(self.zones)) == zone:
                    routes[cut.suffix] = cut
                elif (
                    cut.action != REWRITE and names.is_below(zone, cut.suffix) and _is_deepest(cut.suffix, zone, block)
                ):
                    routes[zone] = cut._replace(suffix=zone)
        for zone, block in self.zones.items():
            self._add_cache(routes, zone, block)
        for zone, block in self.zones.items():
            self._add_forwarding(routes, zone, block)
        slowed = (
            route._replace(action=MISS, cache=None, forwarding=None) if route.is_slow else route
            for route in routes.values()
        )
        metered = (route._replace(meter=self._meter_of(route.suffix)) for route in slowed)
        return sorted(metered, key=lambda route: len(route.suffix), reverse=True)

    def _add_cache(self, routes: dict[bytes, Route], zone: bytes, block: Block) -> None:
        """Let the routes of a zone lead to its answer cache, if only transparent plugins stand before that."""
        cache, adapt, touched = _before(block, "cache")
        if cache is None:
            return
        zones, policy = cache.zones, cache.policy(self.label)
        for suffix in touched:
            if names.longest_zone(suffix, tuple(self.zones)) == zone:
                routes.setdefault(suffix, Route(suffix, MISS))
        for inner in zones:
            if inner not in routes and names.longest_zone(inner, tuple(self.zones)) == zone:
                outer = names.longest_zone(inner, tuple(routes))
                assert outer is not None
                routes[inner] = routes[outer]._replace(suffix=inner)
        for suffix, route in routes.items():
            if names.longest_zone(suffix, tuple(self.zones)) != zone or names.longest_zone(suffix, zones) is None:
                continue
            if names.longest_zone(suffix, touched) is not None:
                continue
            if route.action == MISS:
                route = adapt(route)
            else:
                route = routes[suffix] = route._replace(cache_counters=policy.counters[:3])
                if not route.nxdomain_is_miss:
                    continue
            routes[suffix] = route if route.computes else route._replace(cache=policy)

    def _add_forwarding(self, routes: dict[bytes, Route], zone: bytes, block: Block) -> None:
        """Let the routes of a zone lead to `forward`, where the compiled path can do all that the chain does before."""
        plugins = dict(block.plugins)
        forward, adapt, touched = _before(block, "forward")
        cache = plugins.get("cache")
        if forward is None or not UNFORWARDED.isdisjoint(plugins):
            return
        rules = None if cache is None else cache.rules()  # type: ignore[attr-defined]
        if cache is not None and rules is None:
            return
        tables = [route.suffix for plugin in plugins.values() if hasattr(plugin, "routes") for route in plugin.routes()]
        disabled = () if cache is None else cache.cuts  # type: ignore[attr-defined]
        others = (*touched, *tables, *disabled)
        for inner in (*forward.cuts, *others):
            outer = names.longest_zone(inner, tuple(routes))
            if (
                inner not in routes
                and outer is not None
                and routes[outer].action == MISS
                and names.longest_zone(inner, tuple(self.zones)) == zone
            ):
                routes[inner] = routes[outer]._replace(suffix=inner)
        for suffix, route in routes.items():
            if names.longest_zone(suffix, tuple(self.zones)) != zone or names.longest_zone(suffix, others) is not None:
                continue
            made = adapt(route)
            if made.action != MISS or made.is_slow or made.computes or made.additional_is_miss or made.error_is_miss:
                continue
            if (engine := forward.engine_of(suffix, rules)) is not None:
                limit = block.settings.udp_limit
                payload = limit if "bufsize" in plugins else MAX_PAYLOAD
                routes[suffix] = route._replace(
                    forwarding=Forwarding(engine, limit, payload, made.rotates, made.detours)
                )  # fmt: skip

    def _meter_of(self, suffix: bytes) -> int:
        """What counts the queries below a suffix; see Route."""
        zone = names.longest_zone(suffix, tuple(self.zones))
        assert zone is not None
        meters = [meter for _, plugin in self.zones[zone].plugins if (meter := getattr(plugin, "meter_of", None))]
        return meters[0](self.label, zone) if meters else 0


@dataclass(frozen=True, slots=True)
class Resolver:
    """Everything a Corefile says, checked and ready to serve."""

    listeners: tuple[Listener, ...]
    surroundings: Surroundings

    def background(self) -> list[Callable[[], Coroutine[None, None, None]]]:
        """The work plugins do beside serving; each call makes a task's coroutine."""
        runs = [getattr(plugin, "run", None) for plugin in self._plugins()]
        return [run for run in runs if run is not None]

    def flush(self) -> None:
        """Have plugins tell what they have kept back so far; for the end of the service."""
        for plugin in self._plugins():
            if (flush := getattr(plugin, "flush", None)) is not None:
                flush()

    async def answer(
        self,
        listener: Listener,
        message: bytes,
        client: tuple[str, int],
        *,
        stream: bool,
        local: tuple[str, int] = ("", 0),
        chance: int | None = None,
    ) -> bytes | None:
        """The reply to a message, or None where there must be none. Raises nothing a client could cause."""
        replied = await self._reply(listener, message, client, stream=stream, local=local)
        if not isinstance(replied, _Replied):
            return replied
        chance = random.getrandbits(64) if chance is None else chance
        return render(replied.query, replied.reply, stream=stream, chance=chance, own_limit=replied.own_limit)

    async def answer_stream(
        self, listener: Listener, message: bytes, client: tuple[str, int], *, local: tuple[str, int] = ("", 0)
    ) -> bytes | AsyncGenerator[bytes, None] | None:
        """The reply to a message that came over TCP, or the messages a zone transfer has; otherwise as `answer`."""
        replied = await self._reply(listener, message, client, stream=True, local=local)
        if not isinstance(replied, _Replied):
            return replied
        if replied.reply.more is not None:
            return _messages(replied.query, replied.reply, replied.reply.more)
        return render(replied.query, replied.reply, stream=True, chance=random.getrandbits(64))

    async def _reply(
        self, listener: Listener, message: bytes, client: tuple[str, int], *, stream: bool, local: tuple[str, int]
    ) -> _Replied | bytes | None:
        """What to answer, as octets where it is nothing to be rendered; None: nothing."""
        verdict, query = parse_query(message)
        if verdict in (Verdict.DROP_SHORT, Verdict.DROP_RESPONSE):
            return None
        if verdict in (Verdict.NOTIMP, Verdict.FORMERR):
            return render_header_only(message, Rcode.NOTIMP if verdict == Verdict.NOTIMP else Rcode.FORMERR)
        assert query is not None
        own_limit = OWN_UDP_PAYLOAD
        if verdict == Verdict.BADVERS:
            reply = refusal(Rcode.BADVERS)
        elif verdict == Verdict.OTHER_CLASS and not listener.takes_other_classes:
            reply = _refuse(listener, Request(query, client, stream, partial(_resolve, listener)))
        else:
            request = Request(query, client, stream, partial(_resolve, listener), local, listener.label)
            try:
                reply = await _resolve(listener, request)
            except Dropped:
                return None
            block = listener.block_of(query.qname, query.qtype)
            own_limit = OWN_UDP_PAYLOAD if block is None else block.settings.udp_limit
        return _Replied(query, reply, own_limit)

    def _plugins(self) -> list[Plugin]:
        blocks = {id(block): block for listener in self.listeners for block in listener.zones.values()}
        return [plugin for block in blocks.values() for _, plugin in block.plugins]


class _Replied(NamedTuple):
    """A reply to be rendered."""

    query: Query
    reply: Reply
    own_limit: int  # octets over UDP


async def _messages(query: Query, reply: Reply, more: AsyncGenerator[Body, None]) -> AsyncGenerator[bytes, None]:
    """All messages of a reply."""
    async with aclosing(more):
        yield render(query, reply, stream=True, chance=0)
        async for body in more:
            yield render(query, replace(reply, body=body), stream=True, chance=0)


def build(blocks: Sequence[ServerBlock], surroundings: Surroundings, default_port: int) -> Resolver:
    """Set up every directive of every block, directive by directive in the fixed order. Raises CorefileError."""
    keys = [corefile.parse_keys(block.keys, default_port) for block in blocks]
    chains = [_set_up(block, block_keys, surroundings) for block, block_keys in zip(blocks, keys, strict=True)]
    corefile.check_overlaps(
        corefile.Listener(tuple(block_keys), tuple(chain.settings.addresses) or ("",), chain.settings.is_filtered)
        for block_keys, chain in zip(keys, chains, strict=True)
    )
    listeners: dict[tuple[str, str, int], Listener] = {}
    for block_keys, chain in zip(keys, chains, strict=True):
        for key in block_keys:
            if key.transport != "dns":
                raise CorefileError(f"{key} - only dns:// is served; remove the key or its scheme")
            for host in chain.settings.addresses or [""]:
                place = (key.transport, host, key.port)
                listener = listeners.setdefault(place, Listener(*place))
                listener.zones.setdefault(key.zone, chain)  # where a `view` lets two have it, the first answers
                listener.keys.append(key)
    for listener in listeners.values():
        for zone, block in listener.zones.items():
            for _, plugin in block.plugins:
                if (note_listener := getattr(plugin, "note_listener", None)) is not None:
                    note_listener(listener.label, zone)
            if any(name == "prometheus" for name, _ in block.plugins):
                steps = (name for name, _ in block.plugins if name not in NOT_IN_CHAIN)
                surroundings.enabled += ((listener.label, names.to_text(zone), name) for name in steps)
        if surroundings.prometheus:
            listener.unserved = UnservedQueries(surroundings.metrics, listener.label)
    return Resolver(tuple(listeners.values()), surroundings)


def _set_up(block: ServerBlock, keys: Sequence[ServerKey], surroundings: Surroundings) -> Block:
    zones = tuple(key.zone for key in keys)
    settings = BlockSettings(identity=_identity(block))
    plugins: list[tuple[str, Plugin]] = []
    for name in ORDER:
        tokens = block.directives.get(name)
        if tokens is None:
            continue
        setup = SETUPS.get(name)
        if setup is None:
            raise CorefileError(
                f"{tokens[0].file}:{tokens[0].line} - the directive '{name}' is not available in kdns yet; "
                "`kdns -plugins` lists those that are"
            )
        try:
            plugin = setup(Setup(Dispenser(tokens), zones, surroundings, settings))
        except CorefileError as error:
            raise CorefileError(one_line(f"plugin/{name}: {error}"), hint=error.hint) from error
        if plugin is not None:
            plugins.append((name, plugin))
    for name, plugin in plugins:
        if (connect := getattr(plugin, "connect", None)) is not None:
            try:
                connect(dict(plugins))
            except CorefileError as error:
                raise CorefileError(one_line(f"plugin/{name}: {error}"), hint=error.hint) from error
    return Block(tuple(plugins), _chain(plugins) if plugins else None, settings)


def _identity(block: ServerBlock) -> bytes:
    """What tells a block from those that might answer otherwise: its keys, and the words that decide its answers."""
    digest = blake2b(digest_size=16)
    for words in (block.keys, *(_words(block, name) for name in ORDER if name not in WITHOUT_ANSWERS)):
        for word in words:
            octets = word.encode("utf-8", "surrogateescape")
            digest.update(len(octets).to_bytes(4, "big") + octets)
        digest.update(b"\xff\xff\xff\xff")
    return digest.digest()


def _words(block: ServerBlock, directive: str) -> list[str]:
    return [token.text for token in block.directives.get(directive, ())]


def _chain(plugins: Sequence[tuple[str, Plugin]]) -> Handler:
    """The handler that runs plugins in order; behind the last one there is no answer."""

    async def end(request: Request) -> Reply:
        raise ServeError(f"plugin/{plugins[-1][0]}: no next plugin found", Rcode.SERVFAIL)

    handler: Handler = end
    for _, plugin in reversed(plugins):
        handler = partial(plugin.serve, next_handler=handler)
    return handler


async def _resolve(listener: Listener, request: Request) -> Reply:
    """Answer a request through the block that owns its name."""
    if request.depth > MAX_DEPTH:
        return refusal(Rcode.SERVFAIL)
    block = listener.block_of(request.query.qname, request.query.qtype)
    if block is None or block.handler is None:
        return _refuse(listener, request)
    try:
        return await block.handler(request)
    except ServeError as error:
        return refusal(error.rcode)
    except Dropped:
        raise
    except Exception as error:
        culprit = _raised_in(block, error)
        log.logger().error('Recovered from panic in server: "dns://:%d" %s%r', listener.port, culprit, error)
        if listener.unserved is not None:
            listener.unserved.count_panic(request)
        return refusal(Rcode.SERVFAIL)


def _refuse(listener: Listener, request: Request) -> Reply:
    """Answer what no block serves."""
    if listener.unserved is not None:
        listener.unserved.count_refused(request)
    return refusal(Rcode.REFUSED)


def _raised_in(block: Block, error: Exception) -> str:
    """`plugin/NAME: ` of the innermost plugin an error went through; nothing where it went through none."""
    names_of = {id(plugin): f"plugin/{name}: " for name, plugin in block.plugins}
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    found = [names_of[id(frame.f_locals.get("self"))] for frame in frames if id(frame.f_locals.get("self")) in names_of]
    return found[-1] if found else ""


def _table_routes(block: Block) -> list[Route]:
    """The routes of the block's table plugins, as far as only transparent plugins, or such, stand before them.

    Of two of them the first decides all names of its zones.
    """
    routes: list[Route] = []
    for name, plugin in block.plugins:
        if (table_routes := getattr(plugin, "routes", None)) is not None:
            found, adapt, touched = _before(block, name)
            taken = tuple(route.suffix for route in routes)
            free = [route for route in table_routes() if names.longest_zone(route.suffix, taken) is None]
            if found is not None:
                # What stands before `rewrite` sees the client's name, what stands behind it the other one.
                adapted = [adapt(route) for route in free]
                rewritten = [adapt(route) for route in _rewritten(block, name, adapted, taken)]
                routes += _without([*adapted, *rewritten], touched)
    return routes


def _rewritten(block: Block, directive: str, table: Sequence[Route], taken: tuple[bytes, ...]) -> list[Route]:
    """The routes of names that become names of a table plugin, and of no other plugin, where that is simple."""
    made: list[Route] = []
    others = list(taken)
    rewriting: Sequence[NameRewrite] = ()
    for name, plugin in block.plugins:
        if name == directive:
            break
        if (rewrites := getattr(plugin, "rewrites", None)) is not None:
            rewriting = rewrites()
        elif (touches := getattr(plugin, "touches", None)) is not None:
            others += touches() or ()
    suffixes = tuple(route.suffix for route in table)
    for rewrite in rewriting:
        zone = names.longest_zone(rewrite.becomes, suffixes)
        below = () if rewrite.is_exact else (*suffixes, *others)
        if zone is None or names.longest_zone(rewrite.becomes, tuple(others)) is not None:
            continue
        if any(suffix != zone and names.is_below(suffix, rewrite.becomes) for suffix in below):
            continue  # names below what the suffix becomes are treated in different ways
        inner = next(route for route in table if route.suffix == zone)
        made.append(inner._replace(suffix=rewrite.suffix, action=REWRITE, rewrite=rewrite))
    return made


def _without(routes: Sequence[Route], touched: tuple[bytes, ...]) -> list[Route]:
    """Routes with the names below some suffixes left to the slow path, but for those that are rewritten there."""
    rewritten = {route.suffix: route for route in routes if route.action == REWRITE}
    suffixes = tuple(route.suffix for route in routes)
    left = [route for route in routes if names.longest_zone(route.suffix, touched) is None]
    cut = {suffix for suffix in touched if names.longest_zone(suffix, suffixes) is not None}
    cut |= {suffix for suffix in suffixes if names.longest_zone(suffix, touched) is not None}
    return left + [rewritten.get(suffix) or Route(suffix, MISS) for suffix in sorted(cut)]


def _before(block: Block, directive: str) -> tuple[Any, Callable[[Route], Route], tuple[bytes, ...]]:
    """The plugin of a directive, or None where one before it is in the way; what those make of its routes; the
    suffixes of the names that one of those may treat in ways of its own."""
    adapts: list[Callable[[Route], Route]] = []
    touched: list[bytes] = []
    rotates = False

    def adapt(route: Route) -> Route:
        return reduce(lambda made, change: change(made), adapts, route._replace(rotates=rotates))

    for name, plugin in block.plugins:
        if name == directive:
            return plugin, adapt, tuple(touched)
        if not plugin.transparent and getattr(plugin, "routes", None) is None:
            touches = getattr(plugin, "touches", None)
            suffixes = None if touches is None else touches()
            if suffixes is None:
                break
            touched += suffixes
        rotates = rotates or name == "loadbalance"
        if (adapt_route := getattr(plugin, "adapt_route", None)) is not None:
            adapts.append(adapt_route)
    return None, adapt, ()


def _is_deepest(suffix: bytes, zone: bytes, block: Block) -> bool:
    """Whether `suffix` is the longest of the block's table suffixes that hold `zone`."""
    return names.longest_zone(zone, tuple(route.suffix for route in _table_routes(block))) == suffix
