"""A supervisor's children that exist on paper only, and tables for them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from kdns.hotpath.table_writer import TableWriter
from kdns.server.control import Message
from kdns.server.instance import Child, Feed, Instance, Role
from kdns.server.processes import Owner, Processes
from kdns.server.publisher import Publisher
from tests.fakes.context import served_context

CLUSTER = ". {\nkubernetes cluster.local\n}\n"


class FakeChannel:
    """A channel nobody listens at."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.is_broken = False

    def send(self, message: Message, fd: int | None = None) -> bool:
        """Note what is sent, unless nothing is taken in."""
        if self.is_broken:
            return False
        self.sent.append(message)
        return True

    def close(self) -> None:
        """Nothing to close."""


@contextmanager
def processes_of(corefile: str = CLUSTER, workers: int = 2) -> Iterator[Processes]:
    """Nobody yet, for a configuration with sockets of its own."""
    with served_context(corefile, workers=workers) as context:
        processes = Processes(Instance(context, Feed(context)))
        yield processes
        for feed in processes.feeds():
            feed.close()


def add(processes: Processes, role: Role, owner: Owner, pid: int | None = None) -> Child:
    """Start somebody on paper."""
    pid = pid or max(processes.children, default=1 << 24) + 1  # beyond any pid there is
    child = Child(pid, role, FakeChannel(), time.monotonic(), owner)  # type: ignore[arg-type]
    processes.add(child)
    return child


def sent(child: Child) -> list[Message]:
    """What a child on paper was sent."""
    assert isinstance(child.channel, FakeChannel)
    return child.channel.sent


def start_all(processes: Processes) -> list[Role]:
    """Start on paper whoever is missing; in which order."""
    started = []
    while True:
        delay, role, owner = processes.missing()
        if role is None or owner is None:
            return started
        assert delay <= 0
        started.append(role)
        add(processes, role, owner)


class Tables:
    """Generations for a feed, as its informer would send them."""

    def __init__(self, processes: Processes, feed: Feed | None = None) -> None:
        self._processes = processes
        self._feed = feed or processes.current.feed
        self._writers: list[TableWriter] = []

    def hand_over(self, is_synced: bool) -> None:
        """Hand the next one over."""
        views = self._feed.context.resolver.surroundings.views
        Publisher(views, self._writers.append).start()
        for index in range(len(views)):
            self._writers[-1].set_synced(index, is_synced)
        self._processes.hand_out_table(self._feed, os.dup(self._writers[-1].fd))
