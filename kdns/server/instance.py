"""What the supervisor knows of those it has started: configurations at work, their tables, and processes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from kdns.hotpath.table import Table
from kdns.server.context import ServerContext
from kdns.server.control import Channel
from kdns.server.heartbeat import Heartbeat

QUICK_DEATH_SECONDS = 1.0  # a child that lived no longer failed to start
MIN_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 0.1, 5.0  # between tries to start such a child
LOST_TRIES, LOST_SECONDS = 3, 30.0  # so many informers ended within less each, and for so long: it cannot be restarted


class Role(Enum):
    """What a child is for; the value is its title."""

    WORKER = "kdns: spare"  # until it is given a number
    INFORMER = "kdns: informer"
    CHECKER = "kdns: checker"  # tries a Corefile


@dataclass(slots=True)
class Backoff:
    """When a child may be started again: at once, unless its like die as soon as they live."""

    not_before: float = 0.0
    pause: float = 0.0

    def note_death(self, lived_seconds: float, now: float) -> None:
        """Take the end of one into account."""
        if lived_seconds >= QUICK_DEATH_SECONDS:
            self.pause = 0.0
            return
        # The first quick death may be somebody's kill; only the next ones show that starting fails.
        self.not_before = now + self.pause
        self.pause = min(max(2 * self.pause, MIN_BACKOFF_SECONDS), MAX_BACKOFF_SECONDS)

    def note_no_fork(self, now: float) -> None:
        """Nobody could be forked."""
        self.note_death(0.0, now)
        self.not_before = now + max(self.pause, MIN_BACKOFF_SECONDS)


@dataclass(slots=True, eq=False)
class Feed:
    """An informer and the table it writes, which the instances that have its views share."""

    context: ServerContext  # of the last of them
    table: Table | None = None
    table_fd: int | None = None
    failure: str | None = None  # why the informer cannot start
    backoff: Backoff = field(default_factory=Backoff)
    deaths: int = 0  # of informers since one did its work
    down_since: float | None = None  # when the first of these was

    def take_table(self, fd: int) -> None:
        """Have another generation."""
        if self.table_fd is not None:
            os.close(self.table_fd)
        self.table_fd, self.table = fd, Table(fd)
        self.deaths, self.down_since = 0, None

    def is_synced(self, view: int) -> bool:
        """Whether the table knows all of a view."""
        return self.table is not None and self.table.is_synced(view)

    def note_death(self, lived_seconds: float, now: float) -> None:
        """An informer has ended."""
        self.backoff.note_death(lived_seconds, now)
        if lived_seconds >= LOST_SECONDS:
            self.deaths, self.down_since = 0, None
        self.deaths += 1
        if self.down_since is None:
            self.down_since = now

    def is_lost(self, now: float) -> bool:
        """Whether nobody keeps the table current, and starting somebody has been tried for long enough."""
        return self.down_since is not None and self.deaths >= LOST_TRIES and now - self.down_since >= LOST_SECONDS

    def close(self) -> None:
        """Let go of the table."""
        self.table = None
        if self.table_fd is not None:
            os.close(self.table_fd)
            self.table_fd = None


@dataclass(slots=True, eq=False)
class Instance:
    """A configuration at work, or about to be."""

    context: ServerContext
    feed: Feed
    wants_workers: bool = True
    backoff: Backoff = field(default_factory=Backoff)
    deaths: int = 0  # of its workers
    late: set[int] = field(default_factory=set)  # numbers whose worker was stuck: what waits for the next one is old

    def note_death(self, lived_seconds: float, now: float) -> None:
        """A worker has ended."""
        self.backoff.note_death(lived_seconds, now)
        self.deaths += 1


@dataclass(slots=True, eq=False)
class Check:
    """A Corefile to be tried in a process of its own, which may take long, or fall ill of it."""

    work: Callable[[], object]
    verdict: str | None = None  # None: it is not known yet; empty: it is good
    pid: int | None = None


@dataclass(slots=True, eq=False)
class Child:
    """A running child process, and what it belongs to: a worker to an instance, an informer to a feed."""

    pid: int
    role: Role
    channel: Channel
    started: float
    owner: Instance | Feed | Check
    row: int | None = None  # of the memory all processes share
    heartbeat: Heartbeat = field(default_factory=Heartbeat)
    number: int | None = None
    is_serving: bool = False
    is_ending: bool = False  # it was told to, or is about to be killed on purpose
    lacks_table: bool = False  # it could not be given the current one

    @property
    def name(self) -> str:
        """What the log calls it."""
        if self.role is not Role.WORKER:
            return str(self.role.value).removeprefix("kdns: ")
        return "spare" if self.number is None else f"worker {self.number}"
