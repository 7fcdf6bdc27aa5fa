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
from functools import partial
from hashlib import blake2b
from typing import NamedTuple

from kdns import corefile, log
from kdns.blocks import Block
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
from kdns.plugins.plugin import BlockSettings, Handler, Plugin, Request, Route, Setup, Surroundings
from kdns.routes import compiled_routes

# Directives that do not change what a name's answer is: a block may gain or lose them and keep its cache.
WITHOUT_ANSWERS = frozenset({
    "bufsize", "cache", "debug", "errors", "health", "loadbalance", "log", "loop", "multisocket", "pprof", "prometheus",
    "ready", "reload", "shed", "timeouts", "trace",
})  # fmt: skip
# Directives that CoreDNS has as no step of a chain, whatever they are here.
NOT_IN_CHAIN = {"bind", "debug", "health", "multisocket", "on", "pprof", "ready", "reload", "root", "timeouts", "tls"}
MAX_DEPTH = 8  # questions one query may cause inside the server: ExternalNames that lead to ExternalNames


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
        return compiled_routes(self.zones, self.label)


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
