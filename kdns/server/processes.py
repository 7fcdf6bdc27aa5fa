"""The supervisor's children: who is missing, what they are given, and what is made of their end.

At any time one configuration is at work, the *current* instance. While a reload changes over there are two more at the
most: the candidate, whose workers begin beside the current ones, and the former, whose workers finish what they have.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from kdns import log
from kdns.corefile import format_duration
from kdns.server.control import NewTable, Serve, Stop
from kdns.server.heartbeat import INFORMER_SILENCE_SECONDS, WORKER_SILENCE_SECONDS, processor_seconds
from kdns.server.instance import Check, Child, Feed, Instance, Role

DRAIN_SECONDS = 5.0  # what is under way at the end may take so long, as CoreDNS gives its servers
KILL_GRACE_SECONDS = 1.0  # beyond it a child that does not end is killed

Owner = Instance | Feed | Check


@dataclass(slots=True)
class Processes:
    """The children that live, and the instances they belong to."""

    current: Instance
    candidate: Instance | None = None
    former: Instance | None = None
    check: Check | None = None
    children: dict[int, Child] = field(default_factory=dict)
    is_ending: bool = False  # nobody is replaced any more
    _waiters: set[asyncio.Future[None]] = field(default_factory=set)

    # Waiting for them

    async def wait_until(self, condition: Callable[[], bool], timeout_seconds: float | None) -> bool:
        """Wait until something that happens makes a condition true; False where it takes too long."""
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while not condition():
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return False
            await self.wait_notified(left)
        return True

    async def wait_notified(self, timeout_seconds: float | None) -> None:
        """Wait until something happens, but not longer."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await asyncio.wait([waiter], timeout=timeout_seconds)
        finally:
            self._waiters.discard(waiter)

    def notify(self) -> None:
        """Something has happened: have those that wait look again."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    # Who there is

    def instances(self) -> list[Instance]:
        """Those whose workers are started and replaced."""
        return [self.current] if self.candidate is None else [self.current, self.candidate]

    def feeds(self) -> list[Feed]:
        """Those whose informers are."""
        return list({id(instance.feed): instance.feed for instance in self.instances()}.values())

    def of(self, owner: Owner) -> list[Child]:
        """The children of an instance, a feed or a check."""
        return [child for child in self.children.values() if child.owner is owner]

    def missing(self) -> tuple[float, Role | None, Owner | None]:
        """(for how long nobody may be started, as what, for whom) of who is missing and may be started first."""
        now = time.monotonic()
        found: list[tuple[float, Role, Owner]] = [
            (instance.backoff.not_before - now, Role.WORKER, instance)
            for instance in self.instances()
            if instance.wants_workers and len(self.of(instance)) < instance.context.workers + 1
        ]
        found += (
            (feed.backoff.not_before - now, Role.INFORMER, feed)
            for feed in self.feeds()
            if feed.context.resolver.surroundings.views and not self.of(feed)
        )
        if self.check is not None and self.check.pid is None:
            found.append((0.0, Role.CHECKER, self.check))
        return min(found, key=lambda entry: entry[0], default=(0.0, None, None))

    def add(self, child: Child) -> None:
        """Somebody was started."""
        self.children[child.pid] = child
        if isinstance(child.owner, Check):
            child.owner.pid = child.pid
        self.assign_numbers()
        self.notify()

    def note_no_fork(self, role: Role, owner: Owner, error: OSError) -> None:
        """Descriptors, processes or memory are short: those who run go on, and the next try comes later."""
        log.logger().error("%s cannot be started: %s; trying again", role.value, error.strerror)
        if isinstance(owner, Check):
            owner.verdict = f"no process for it: {error.strerror}"
            self.notify()
        else:
            owner.backoff.note_no_fork(time.monotonic())

    # What they are given

    def assign_numbers(self) -> None:
        """Give each number without a worker to the spare of its instance."""
        for instance in self.instances():
            workers = self.of(instance)
            taken = {child.number for child in workers}
            free = [number for number in range(instance.context.workers) if number not in taken]
            spares = [child for child in workers if child.number is None]
            for number, child in zip(free, spares, strict=False):
                if child.channel.send(Serve(number, number in instance.late)):
                    child.number = number
                    instance.late.discard(number)

    def hand_out_table(self, feed: Feed, fd: int) -> None:
        """Give a generation to the workers of a feed, and keep it for later ones."""
        if feed not in self.feeds():  # the last word of an informer that was given up
            os.close(fd)
            return
        feed.take_table(fd)
        for instance in self.instances():
            if instance.feed is feed:
                instance.context.resolver.surroundings.current_table.table = feed.table
        for child in self.children.values():
            self._give_table(child, feed)

    def _give_table(self, child: Child, feed: Feed) -> None:
        if isinstance(child.owner, Instance) and child.owner.feed is feed and feed.table is not None:
            message = NewTable(int(feed.table.statistics()["generation"]))
            child.lacks_table = not child.channel.send(message, feed.table_fd)

    def has_synced_table(self) -> bool:
        """Whether the current instance has a table that knows all of the cluster."""
        views = self.current.context.resolver.surroundings.views
        return self.current.feed.table is not None and all(map(self.current.feed.is_synced, range(len(views))))

    # How they are

    def look_after(self) -> None:
        """Kill who lives and does not work, and do what could not be done at once. To be called in BEAT_SECONDS."""
        for child in list(self.children.values()):
            limit = {Role.WORKER: WORKER_SILENCE_SECONDS, Role.INFORMER: INFORMER_SILENCE_SECONDS}.get(child.role)
            if limit is not None and child.heartbeat.look(processor_seconds(child.pid)) >= limit:
                self._kill_stuck(child, limit)
            elif child.lacks_table and isinstance(child.owner, Instance):
                self._give_table(child, child.owner.feed)
        self.assign_numbers()

    def _kill_stuck(self, child: Child, silence_seconds: float) -> None:
        silence = format_duration(silence_seconds)
        log.logger().error("%s (pid %d) has not moved for %s; it is killed", child.name, child.pid, silence)
        if isinstance(child.owner, Instance) and child.number is not None:
            child.owner.late.add(child.number)
        os.kill(child.pid, signal.SIGKILL)

    def remove(self, child: Child, status: int) -> None:
        """Somebody has ended."""
        del self.children[child.pid]
        context = self.current.context
        if child.row is not None:
            context.epochs.end_batch(child.row)
            context.resolver.surroundings.metrics.release_row(child.row)
        if isinstance(child.owner, Check):
            if child.owner.verdict is None:
                child.owner.verdict = f"who tried it ended, {describe_status(status)}"
        elif not self.is_ending and not child.is_ending:
            self._note_death(child, child.owner, status)
        self.assign_numbers()
        self.notify()

    def _note_death(self, child: Child, owner: Instance | Feed, status: int) -> None:
        now = time.monotonic()
        owner.note_death(now - child.started, now)
        self.current.context.resolver.surroundings.metrics.counter(
            "kdns_process_restarts_total", "Processes that ended unasked, and were replaced.", ("role",)
        ).add(1, (child.role.name.lower(),))
        log.logger().error("%s (pid %d) ended, %s; it is replaced", child.name, child.pid, describe_status(status))

    # Changing over

    async def try_out(self, work: Callable[[], object], timeout_seconds: float) -> str:
        """What is wrong with the Corefile that `work` sets up, in a process of its own; empty: nothing."""
        check = self.check = Check(work)
        self.notify()
        try:
            if not await self.wait_until(lambda: check.verdict is not None, timeout_seconds):
                return f"the configuration was not set up within {format_duration(timeout_seconds)}"
            assert check.verdict is not None
            return check.verdict
        finally:
            self.check = None
            for child in self.of(check):
                self.kill(child)

    def change_over(self, candidate: Instance) -> None:
        """Make the candidate the current instance; the workers of the one before finish what they have."""
        former, self.current, self.candidate = self.current, candidate, None
        candidate.feed.context = candidate.context
        still = {id(sockets) for sockets in candidate.context.sockets}
        gone = tuple(at for at, sockets in enumerate(former.context.sockets) if id(sockets) not in still)
        self._leave(former, Stop(DRAIN_SECONDS, gone))

    def give_up(self, candidate: Instance) -> None:
        """Leave the current instance as it is, and nothing of the candidate."""
        self.candidate = None
        self._leave(candidate, None)

    def _leave(self, instance: Instance, stop: Stop | None) -> None:
        self.former = instance
        for child in self.of(instance):
            if stop is None:
                self.kill(child)
            else:
                child.is_ending = True
                child.channel.send(stop)
        instance.context.resolver.surroundings.current_table.table = None
        if instance.feed is not self.current.feed:
            for child in self.of(instance.feed):
                self.kill(child)  # it has nothing to finish; its last image would be of a table nobody wants
            instance.feed.close()

    async def wait_former_ended(self) -> None:
        """Wait until no process of the former instance is left; those that are too slow are killed."""
        if self.former is None:
            return
        if not await self.wait_until(self._has_former_ended, DRAIN_SECONDS + KILL_GRACE_SECONDS):
            for child in self.children.values():
                if child.is_ending:
                    self.kill(child)
            await self.wait_until(self._has_former_ended, None)  # only the kernel is left to wait for
        self.former = None

    def _has_former_ended(self) -> bool:
        return not any(child.is_ending for child in self.children.values())

    # Ending

    async def end(self, saves_table: bool) -> None:
        """Have everybody end: workers when they are done, the informer when it has saved the table."""
        for child in self.children.values():
            if isinstance(child.owner, Instance) or (child.owner is self.current.feed and saves_table):
                child.channel.send(Stop(DRAIN_SECONDS))
            else:
                self.kill(child)  # it has nothing to finish, and may be stuck in a read
        if not await self.wait_until(lambda: not self.children, DRAIN_SECONDS + KILL_GRACE_SECONDS):
            for child in self.children.values():
                self.kill(child)

    def kill(self, child: Child) -> None:
        """End somebody who is not missed."""
        child.is_ending = True
        os.kill(child.pid, signal.SIGKILL)


def describe_status(status: int) -> str:
    """How a process ended, by what waitpid says."""
    if os.WIFSIGNALED(status):
        return f"killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"exit status {os.WEXITSTATUS(status)}"
