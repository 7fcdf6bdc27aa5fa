"""What the supervisor prepares and every forked child finds in its memory.

**Rows.** Counters, epochs and metrics lie in memory that all processes share, a row for each process that may write,
and no row ever has two writers. A child gets a row when it is forked, whatever its role, and the row is free again once
the supervisor has seen the child's end (`Registry.take_row`, `release_row`). There are rows for two configurations,
for while a reload changes over the workers of both live; no third one is begun before all processes of the first
have ended.

**What stays with a worker's number**, its arena of the answer cache, is kept over reloads, and so two workers have it
for a while. Its own lock keeps them apart: who does not get it does not write (hotpath/cache.pyx).
"""

from __future__ import annotations

from dataclasses import dataclass

from kdns.cluster.access import DEFAULT_RESYNC_SECONDS
from kdns.corefile import ServerBlock
from kdns.metrics import CounterTable
from kdns.resolver import Resolver
from kdns.server.sockets import ListenerSockets
from kdns.server.state import StateFolder
from kdns.table.epochs import ReaderEpochs

CONFIGURATIONS = 2  # whose processes live at a time


@dataclass(frozen=True, slots=True)
class Corefile:
    """A Corefile as parsed, and what tells it from others."""

    name: str  # what errors cite
    blocks: tuple[ServerBlock, ...]
    digest: str  # as the `reload` directive shows it


@dataclass(frozen=True, slots=True)
class ServerContext:
    """A checked configuration, and the sockets and memory it is served with."""

    resolver: Resolver
    sockets: tuple[ListenerSockets, ...]  # one for each of resolver.listeners; none before they are bound
    workers: int
    counters: CounterTable  # by row
    epochs: ReaderEpochs  # by row
    manifests: str | None  # where objects come from: a path, or `-`; None: API servers
    state: StateFolder | None = None  # where the table is kept for the next start
    corefile: Corefile = Corefile("Corefile", (), "")
    resync_seconds: float = DEFAULT_RESYNC_SECONDS  # between comparisons with the API server; 0: none


def count_rows(workers: int) -> int:
    """How many rows a service needs: the supervisor's, and for each configuration its workers, spare and informer."""
    return 1 + CONFIGURATIONS * (workers + 2)
