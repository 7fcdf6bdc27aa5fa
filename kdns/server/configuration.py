"""From a Corefile's text to a configuration that is ready to be served, at a start and at a reload alike.

Nothing here touches what serves meanwhile: `set_up` makes everything new but for the memory that outlives
configurations, and sockets are bound in a step of their own, `with_sockets`.
"""

from __future__ import annotations

import hashlib
import os
import sys
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from kdns import log, resolver
from kdns.cluster.access import DEFAULT_RESYNC_SECONDS
from kdns.corefile import decode, default_corefile, parse, reload_hash
from kdns.errors import CorefileError, StartError
from kdns.metrics import CounterTable, Registry
from kdns.plugins import ORDER, SETUPS
from kdns.plugins.plugin import Surroundings
from kdns.server.addresses import interface_addresses, local_addresses
from kdns.server.cache_memory import make_cache
from kdns.server.context import Corefile, ServerContext, count_rows
from kdns.server.sockets import ListenerSockets, bind_listeners
from kdns.server.state import check_folder, open_state
from kdns.table.epochs import ReaderEpochs

STDIN = "stdin"  # as the Corefile's path: it is read from standard input, once


@dataclass(frozen=True)
class Arguments:
    """What the command line says of the service; it stays the same over reloads."""

    conf: str  # the Corefile's path; empty: ./Corefile, or the built-in one
    port: int
    workers: int
    manifests: str | None
    state_dir: str | None
    state_max_age_seconds: float
    cache_size_bytes: int | None = None  # None: what the Corefile's capacities ask for
    resync_seconds: float = DEFAULT_RESYNC_SECONDS

    @property
    def corefile_name(self) -> str:
        """What errors cite."""
        return self.conf or "Corefile"

    def read_corefile(self, *, must_exist: bool = False) -> str:
        """The Corefile's text; empty where none is named and none is there, unless it must. Raises StartError."""
        try:
            if self.conf == STDIN:
                return self._standard_input
            if self.conf or must_exist or Path("Corefile").exists():
                return decode(Path(self.corefile_name).read_bytes())
        except OSError as error:
            verb = "read" if isinstance(error, IsADirectoryError) else "open"
            reason = os.strerror(error.errno or 0).lower()
            raise StartError(f"{verb} {self.corefile_name}: {reason}") from error
        return ""

    @cached_property
    def _standard_input(self) -> str:
        return decode(sys.stdin.buffer.read())


def parse_corefile(text: str, arguments: Arguments, *, is_known: bool = True, warns: bool = True) -> Corefile:
    """The blocks of a Corefile; without `is_known` its directives need not be any. Raises CorefileError."""
    name, warn = arguments.corefile_name, log.logger().warning if warns else _ignore
    known = ORDER if is_known else None
    blocks = parse(text, name, known, os.environ, warn)
    digest = reload_hash(blocks, name)
    if not blocks:
        blocks = parse(default_corefile(arguments.port, SETUPS), name, known, os.environ, warn)
    return Corefile(name, tuple(blocks), digest)


def fingerprint_of(text: str, arguments: Arguments) -> str:
    """What tells a Corefile from another one, its imports included, even where it cannot be parsed."""
    try:
        return parse_corefile(text, arguments, is_known=False, warns=False).digest
    except CorefileError as error:
        return f"{error}\n{hashlib.sha512(text.encode('utf-8', 'surrogateescape')).hexdigest()}"


def set_up(corefile: Corefile, arguments: Arguments, former: ServerContext | None = None) -> ServerContext:
    """Set every directive up, beside the configuration that serves, if one does. Raises KdnsError. Binds nothing."""
    rows = count_rows(arguments.workers)
    surroundings = Surroundings(
        local_addresses=local_addresses(),
        has_manifests=arguments.manifests is not None,
        environ=dict(os.environ),
        interfaces=interface_addresses(),
        metrics=Registry(rows) if former is None else former.resolver.surroundings.metrics,
    )
    built = resolver.build(corefile.blocks, surroundings, arguments.port)
    cache = surroundings.cache
    # Its size is settled when it is made: a reload keeps the memory, and what is in it.
    cache.memory = None if former is None else former.resolver.surroundings.cache.memory
    if cache.memory is None:
        cache.memory = make_cache(cache.entries, arguments.workers, arguments.cache_size_bytes)
    state = None
    if arguments.state_dir is not None:
        state = open_state(arguments.state_dir, arguments.state_max_age_seconds, surroundings, arguments.manifests)
    return ServerContext(
        resolver=built,
        sockets=(),
        workers=arguments.workers,
        counters=CounterTable(rows) if former is None else former.counters,
        epochs=ReaderEpochs(rows) if former is None else former.epochs,
        manifests=arguments.manifests,
        state=state,
        corefile=corefile,
        resync_seconds=arguments.resync_seconds,
    )


def with_sockets(context: ServerContext, former: ServerContext | None = None) -> ServerContext:
    """The same with its sockets, those of `former` where it had the place. Raises StartError; all or none are bound."""
    places = [(listener.host, listener.port) for listener in context.resolver.listeners]
    kept = {} if former is None else sockets_by_place(former)
    return replace(context, sockets=bind_listeners(places, context.workers, kept))


def close_sockets(context: ServerContext, still_used: ServerContext | None) -> None:
    """Close the sockets of `context`, in this process, but for those the other one has too."""
    used = set() if still_used is None else {id(sockets) for sockets in still_used.sockets}
    for sockets in context.sockets:
        if id(sockets) not in used:
            sockets.close()


def start_up(arguments: Arguments) -> tuple[ServerContext, str]:
    """The configuration of a start, with its sockets, and the fingerprint of the Corefile. Raises KdnsError.

    Where the Corefile is refused, the last one that was served stands in, if --state-dir has kept it: a service that
    would have gone on after a reload that failed goes on after a restart, too.
    """
    try:
        text = arguments.read_corefile()
    except StartError as error:
        raise StartError(f"loading Caddyfile via flag: {error}") from error
    try:
        context = set_up(parse_corefile(text, arguments), arguments)
    except CorefileError as error:
        from kdns.server.last_corefile import load_corefile  # msgspec, 20 ms that only this start needs

        last = None if arguments.state_dir is None else load_corefile(check_folder(arguments.state_dir))
        if last is None:
            raise
        log.logger().error("%s", error)
        log.logger().error(
            "%s is NOT in use: the last good one is served instead, from %s", arguments.corefile_name, last.path
        )
        context = set_up(last.corefile, arguments)
    return with_sockets(context), fingerprint_of(text, arguments)


def sockets_by_place(context: ServerContext) -> dict[tuple[str, int], ListenerSockets]:
    """The sockets of each place, a host and a port."""
    listeners = context.resolver.listeners
    return {
        (listener.host, listener.port): sockets for listener, sockets in zip(listeners, context.sockets, strict=True)
    }


def _ignore(_text: str) -> None:
    """Nobody wants to know it again."""
