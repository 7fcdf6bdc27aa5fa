"""What the supervisor prepares and every forked child finds in its memory."""

from __future__ import annotations

from dataclasses import dataclass

from kdns.metrics import CounterTable
from kdns.resolver import Resolver
from kdns.server.sockets import ListenerSockets
from kdns.server.state import StateFolder
from kdns.table.epochs import ReaderEpochs


@dataclass(frozen=True, slots=True)
class ServerContext:
    """A checked configuration, and the sockets and memory it is served with."""

    resolver: Resolver
    sockets: tuple[ListenerSockets, ...]  # one for each of resolver.listeners
    workers: int
    counters: CounterTable  # a row for each worker number
    epochs: ReaderEpochs  # likewise, and one more row for who saves the table
    manifests: str | None  # where objects come from: a path, or `-`; None: API servers
    state: StateFolder | None = None  # where the table is kept for the next start
