"""The supervisor: owns every socket, starts the other processes, replaces those that end. It does no DNS.

Children are forked, not executed: they share the interpreter's pages with it, and a new one serves within
milliseconds. A fork must not happen inside a running event loop, so the loop is run until there is somebody to start,
left, and entered again; nothing is lost meanwhile, for it is a matter of a millisecond.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from kdns import log
from kdns.corefile import format_duration
from kdns.hotpath.table import Table
from kdns.server.child import run_child, set_title
from kdns.server.context import ServerContext
from kdns.server.control import Channel, Failed, NewTable, Serve, Stop
from kdns.server.endpoints import HttpEndpoints
from kdns.server.informer import informer_main
from kdns.server.worker import worker_main

DRAIN_SECONDS = 5.0  # what is under way at the end may take so long, as CoreDNS gives its servers
KILL_GRACE_SECONDS = 1.0  # beyond it a child that does not end is killed
QUICK_DEATH_SECONDS = 1.0  # a child that lived no longer failed to start
MIN_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 0.1, 5.0  # between tries to start such a child


class Role(Enum):
    """What a child is for; the value is its title."""

    WORKER = "kdns: spare"  # until it is given a number
    INFORMER = "kdns: informer"


@dataclass(slots=True)
class Child:
    """A running child process."""

    pid: int
    role: Role
    channel: Channel
    started: float
    number: int | None = None


@dataclass(slots=True)
class _Backoff:
    """When a child of a role may be started again: at once, unless its like die as soon as they live."""

    not_before: float = 0.0
    pause: float = 0.0

    def note_death(self, lived_seconds: float, now: float) -> None:
        if lived_seconds >= QUICK_DEATH_SECONDS:
            self.pause = 0.0
            return
        # The first quick death may be somebody's kill; only the next ones show that starting fails.
        self.not_before = now + self.pause
        self.pause = min(max(2 * self.pause, MIN_BACKOFF_SECONDS), MAX_BACKOFF_SECONDS)


@dataclass(slots=True)
class Supervisor:
    """Runs a configuration until a signal ends it."""

    context: ServerContext
    http: HttpEndpoints
    on_started: Callable[[], None]
    on_ended: Callable[[], None] = lambda: None
    _children: dict[int, Child] = field(default_factory=dict)
    _backoff: dict[Role, _Backoff] = field(default_factory=lambda: {role: _Backoff() for role in Role})
    _table_fd: int | None = None
    _failure: str | None = None
    _ending: asyncio.Task[None] | None = None
    _fork_wanted: asyncio.Event = field(default_factory=asyncio.Event)

    def run(self) -> int:
        """Start everything and stay; the exit status."""
        set_title("kdns: supervisor")
        loop = asyncio.new_event_loop()
        self._watch_signals(loop)
        self._load_image()
        loop.run_until_complete(self.http.start())
        self.on_started()
        while (role := loop.run_until_complete(self._wait_fork())) is not None:
            self._fork(role, loop)
        loop.run_until_complete(self.http.aclose())
        loop.close()
        self.on_ended()
        if self._failure is not None:
            print(self._failure, file=sys.stderr)  # noqa: T201 - a start that fails says why, bare, as CoreDNS does
            return 1
        return 0

    # Starting

    def _load_image(self) -> None:
        """Begin with the table a former process has left, where there is one that is good."""
        state = self.context.state
        if state is None or (image := state.load()) is None:
            return
        self._hand_out_table(image.fd)
        self.http.outdated_at = time.monotonic() + state.max_age_seconds - image.age_seconds
        age = format_duration(round(image.age_seconds))
        log.logger().info("serving from %s, %s old, until the cluster has been read", state.image, age)

    async def _wait_fork(self) -> Role | None:
        """The next child to start; None once the service has ended."""
        while True:
            if self._ending is not None:
                await self._ending
                return None
            role, delay = self._next_role()
            if role is not None and delay <= 0:
                return role
            self._fork_wanted.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._fork_wanted.wait(), delay if role is not None else None)

    def _next_role(self) -> tuple[Role | None, float]:
        """Who is missing, and for how long nobody may be started in that role."""
        roles = [child.role for child in self._children.values()]
        missing = []
        if roles.count(Role.WORKER) < self.context.workers + 1:
            missing.append(Role.WORKER)
        if Role.INFORMER not in roles and self.context.resolver.surroundings.views:
            missing.append(Role.INFORMER)
        now = time.monotonic()
        delays = sorted(((self._backoff[role].not_before - now, role) for role in missing), key=lambda pair: pair[0])
        return (delays[0][1], delays[0][0]) if delays else (None, 0.0)

    def _fork(self, role: Role, loop: asyncio.AbstractEventLoop) -> None:
        try:
            ours, theirs = Channel.pair()
        except OSError as error:
            self._note_no_fork(role, error)
            return
        supervisor_pid = os.getpid()
        sys.stdout.flush()
        try:
            pid = os.fork()
        except OSError as error:
            ours.close()
            theirs.close()
            self._note_no_fork(role, error)
            return
        if pid == 0:
            ours.close()
            self.http.close_inherited()
            for sibling in self._children.values():
                sibling.channel.close()
            if role is Role.INFORMER:
                has_table = self._has_synced_table()
                self._forget_table()
                # Not uvloop: beside aiohttp, a connection that fails while it is being made may close another's
                # descriptor there, and watches break for no reason.
                run_child(
                    role.value,
                    supervisor_pid,
                    informer_main(self.context, theirs, has_table),
                    asyncio.new_event_loop,
                )
            run_child(role.value, supervisor_pid, worker_main(self.context, theirs, self._table_fd))
        theirs.close()
        child = Child(pid, role, ours, time.monotonic())
        self._children[pid] = child
        loop.add_reader(ours.fileno(), self._on_message, child, loop)
        self._assign_numbers()

    def _note_no_fork(self, role: Role, error: OSError) -> None:
        """Descriptors, processes or memory are short: those who run go on, and the next try comes later."""
        log.logger().error("%s cannot be started: %s; trying again", role.value, error.strerror)
        now = time.monotonic()
        self._backoff[role].note_death(0.0, now)
        self._backoff[role].not_before = now + max(self._backoff[role].pause, MIN_BACKOFF_SECONDS)

    def _forget_table(self) -> None:
        """Let go of the current generation, in a child that reads none: its memory would stay as long as the child."""
        self.context.resolver.surroundings.current_table.table = None
        if self._table_fd is not None:
            os.close(self._table_fd)

    def _assign_numbers(self) -> None:
        """Give each number without a worker to the spare."""
        workers = [child for child in self._children.values() if child.role is Role.WORKER]
        taken = {child.number for child in workers}
        free = [number for number in range(self.context.workers) if number not in taken]
        spares = [child for child in workers if child.number is None]
        for number, child in zip(free, spares, strict=False):
            if child.channel.send(Serve(number)):
                child.number = number

    # Watching

    def _watch_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.add_signal_handler(signal.SIGCHLD, self._on_child_end, loop)
        loop.add_signal_handler(signal.SIGTERM, self._on_end_signal, loop, signal.SIGTERM)
        loop.add_signal_handler(signal.SIGINT, self._on_end_signal, loop, signal.SIGINT)
        loop.add_signal_handler(signal.SIGQUIT, self._quit, 0, "SIGQUIT: Quitting process immediately")
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        loop.add_signal_handler(
            signal.SIGUSR1, log.logger().warning, "SIGUSR1: the Corefile is read at start only; restart to change it"
        )  # fmt: skip

    def _on_message(self, child: Child, loop: asyncio.AbstractEventLoop) -> None:
        try:
            while (received := child.channel.receive()) is not None:
                match received:
                    case NewTable(), int(fd):
                        self._hand_out_table(fd)
                    case NewTable(), None:
                        log.logger().error(
                            "a table came without its file: no descriptor is free; the informer is replaced"
                        )
                        os.kill(child.pid, signal.SIGKILL)
                    case Failed(text), _:
                        self._fail(text, loop)
        except EOFError:
            loop.remove_reader(child.channel.fileno())

    def _fail(self, text: str, loop: asyncio.AbstractEventLoop) -> None:
        """The informer cannot start: at first nor can the service; later it goes on with the table it has."""
        if self._has_synced_table():
            log.logger().error("%s; what was read before goes on being served", text)
        elif self._ending is None:
            self._failure = text
            self._begin_end(loop, lameduck_seconds=0.0)

    def _hand_out_table(self, fd: int) -> None:
        if self._table_fd is not None:
            os.close(self._table_fd)
        self._table_fd = fd
        self.http.outdated_at = None
        table = Table(fd)
        self.context.resolver.surroundings.current_table.table = table
        for child in self._children.values():
            if child.role is Role.WORKER:
                child.channel.send(NewTable(int(table.statistics()["generation"])), fd)

    def _has_synced_table(self) -> bool:
        surroundings = self.context.resolver.surroundings
        table = surroundings.current_table.table
        return table is not None and all(table.is_synced(index) for index in range(len(surroundings.views)))

    def _on_child_end(self, loop: asyncio.AbstractEventLoop) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            child = self._children.pop(pid, None)
            if child is not None:
                loop.remove_reader(child.channel.fileno())
                child.channel.close()
                self._note_end(child, status)
        self._assign_numbers()
        self._fork_wanted.set()

    def _note_end(self, child: Child, status: int) -> None:
        if self._ending is not None:
            return
        now = time.monotonic()
        self._backoff[child.role].note_death(now - child.started, now)
        who = (
            "informer" if child.role is Role.INFORMER else "spare" if child.number is None else f"worker {child.number}"
        )
        log.logger().error("%s (pid %d) ended, %s; it is replaced", who, child.pid, _describe_status(status))

    # Ending

    def _on_end_signal(self, loop: asyncio.AbstractEventLoop, number: signal.Signals) -> None:
        if self._ending is not None:
            if number == signal.SIGINT:
                self._quit(2, "SIGINT: Force quit")
            return
        log.logger().info("%s: Shutting down servers then terminating", number.name)
        self._begin_end(loop, self.http.lameduck_seconds)

    def _begin_end(self, loop: asyncio.AbstractEventLoop, lameduck_seconds: float) -> None:
        self._ending = loop.create_task(self._end(lameduck_seconds))
        self._fork_wanted.set()

    async def _end(self, lameduck_seconds: float) -> None:
        await self.http.close_ready()
        if lameduck_seconds:
            log.plugin_logger("health").info("Going into lameduck mode for %s", self.http.lameduck_text)
            await asyncio.sleep(lameduck_seconds)
        saves_table = (
            self.context.state is not None and self._has_synced_table() and self.http.outdated_at is None
        )  # fmt: skip
        for child in self._children.values():
            if child.role is Role.INFORMER and not saves_table:
                os.kill(child.pid, signal.SIGKILL)  # it has nothing to finish, and may be stuck in a read
            else:
                child.channel.send(Stop(DRAIN_SECONDS))
        deadline = time.monotonic() + DRAIN_SECONDS + KILL_GRACE_SECONDS
        while self._children and time.monotonic() < deadline:
            self._fork_wanted.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._fork_wanted.wait(), deadline - time.monotonic())
        for child in self._children.values():
            os.kill(child.pid, signal.SIGKILL)

    def _quit(self, status: int, text: str) -> None:
        """End at once; the children go with this process."""
        log.logger().info("%s", text)
        self.on_ended()
        sys.stdout.flush()
        os._exit(status)


def _describe_status(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"exit status {os.WEXITSTATUS(status)}"
