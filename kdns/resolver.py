"""From a Corefile's server blocks to answers: the slow path, which is also the compiled path's reference.

A listener has a zone table; the longest zone that holds a name owns it, its errors included. Each block is a chain of
plugins in the fixed order of `plugins.ORDER`, whatever the order in the file.
"""

from __future__ import annotations

import random
import traceback
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial

from kdns import corefile, log
from kdns.corefile import Dispenser, ServerBlock, ServerKey
from kdns.corefile.complaints import one_line
from kdns.dns import names
from kdns.dns.codes import Rcode, RRType
from kdns.dns.query import Verdict, parse_query
from kdns.dns.reply import OWN_UDP_PAYLOAD, Reply, refusal, render, render_header_only
from kdns.errors import CorefileError, Dropped, ServeError
from kdns.plugins import ORDER, SETUPS
from kdns.plugins.plugin import MISS, REFUSE, BlockSettings, Handler, Plugin, Request, Route, Setup, Surroundings

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
                elif names.is_below(zone, cut.suffix) and _is_deepest(cut.suffix, zone, block):
                    routes[zone] = cut._replace(suffix=zone)
        return sorted(routes.values(), key=lambda route: len(route.suffix), reverse=True)


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
            reply = refusal(Rcode.REFUSED)
        else:
            request = Request(query, client, stream, partial(_resolve, listener), local, listener.label)
            try:
                reply = await _resolve(listener, request)
            except Dropped:
                return None
            block = listener.block_of(query.qname, query.qtype)
            own_limit = OWN_UDP_PAYLOAD if block is None else block.settings.udp_limit
        chance = random.getrandbits(64) if chance is None else chance
        return render(query, reply, stream=stream, chance=chance, own_limit=own_limit)

    def _plugins(self) -> list[Plugin]:
        blocks = {id(block): block for listener in self.listeners for block in listener.zones.values()}
        return [plugin for block in blocks.values() for _, plugin in block.plugins]


def build(blocks: Sequence[ServerBlock], surroundings: Surroundings, default_port: int) -> Resolver:
    """Set up every directive of every block, directive by directive in the fixed order. Raises CorefileError."""
    keys = [corefile.parse_keys(block.keys, default_port) for block in blocks]
    chains = [_set_up(block, block_keys, surroundings) for block, block_keys in zip(blocks, keys, strict=True)]
    corefile.check_overlaps(
        corefile.Listener(tuple(block_keys), tuple(chain.settings.addresses) or ("",))
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
                listener.zones[key.zone] = chain
                listener.keys.append(key)
    return Resolver(tuple(listeners.values()), surroundings)


def _set_up(block: ServerBlock, keys: Sequence[ServerKey], surroundings: Surroundings) -> Block:
    zones = tuple(key.zone for key in keys)
    settings = BlockSettings()
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
        return refusal(Rcode.REFUSED)
    try:
        return await block.handler(request)
    except ServeError as error:
        return refusal(error.rcode)
    except Dropped:
        raise
    except Exception as error:
        culprit = _raised_in(block, error)
        log.logger().error('Recovered from panic in server: "dns://:%d" %s%r', listener.port, culprit, error)
        return refusal(Rcode.SERVFAIL)


def _raised_in(block: Block, error: Exception) -> str:
    """`plugin/NAME: ` of the innermost plugin an error went through; nothing where it went through none."""
    names_of = {id(plugin): f"plugin/{name}: " for name, plugin in block.plugins}
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    found = [names_of[id(frame.f_locals.get("self"))] for frame in frames if id(frame.f_locals.get("self")) in names_of]
    return found[-1] if found else ""


def _table_routes(block: Block) -> list[Route]:
    """The routes of the block's table plugin, if only transparent plugins stand before it."""
    rotates = False
    for name, plugin in block.plugins:
        table_routes = getattr(plugin, "routes", None)
        if table_routes is not None:
            return [route._replace(rotates=rotates) for route in table_routes()]
        if not plugin.transparent:
            return []
        rotates = rotates or name == "loadbalance"
    return []


def _is_deepest(suffix: bytes, zone: bytes, block: Block) -> bool:
    """Whether `suffix` is the longest of the block's table suffixes that hold `zone`."""
    return names.longest_zone(zone, tuple(route.suffix for route in _table_routes(block))) == suffix
