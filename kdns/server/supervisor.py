"""The supervisor: owns every socket, starts the other processes, replaces those that end. It does no DNS.

Children are forked, not executed: they share the interpreter's pages with it, and a new one serves within
milliseconds. A fork must not happen inside a running event loop, so the loop is run until there is somebody to start,
left, and entered again; nothing is lost meanwhile, for it is a matter of a millisecond.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from kdns import log
from kdns.corefile import format_duration
from kdns.server.child import set_title
from kdns.server.control import Checked, Failed, NewTable, Serving
from kdns.server.endpoints import HttpEndpoints
from kdns.server.forking import fork_child
from kdns.server.heartbeat import BEAT_SECONDS
from kdns.server.instance import Check, Child, Feed, Role
from kdns.server.processes import Owner, Processes
from kdns.server.reloading import Reloader
from kdns.server.threads import Threads
from kdns.table.preload import Preload


@dataclass(slots=True)
class Supervisor:
    """Runs a configuration, and those that replace it, until a signal ends it."""

    processes: Processes
    http: HttpEndpoints
    on_started: Callable[[], None] = lambda: None
    on_ended: Callable[[], None] = lambda: None
    reloader: Reloader | None = None
    preload: Preload | None = None
    threads: Threads = field(default_factory=Threads)
    _failure: str | None = None
    _ending: asyncio.Task[None] | None = None

    def run(self) -> int:
        """Start everything and stay; the exit status."""
        set_title("kdns: supervisor")
        loop = asyncio.new_event_loop()
        self._watch_signals(loop)
        self.http.counters = self.processes.current.context.counters
        self.http.children = lambda: list(self.processes.children)
        self._load_image()
        loop.run_until_complete(self.http.start())
        self.on_started()
        tasks = [loop.create_task(self._watch())]
        if self.reloader is not None:
            tasks.append(loop.create_task(self.reloader.run(self)))
        while (missing := loop.run_until_complete(self._wait_fork())) is not None:
            if not self.processes.is_ending:  # the loop's last turn may have begun the end: who comes now is not told
                self._fork(*missing, loop)
        loop.run_until_complete(_cancel(tasks))
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
        current = self.processes.current
        state = current.context.state
        image = state.load(self.preload) if state is not None else None
        if self.preload is not None:
            self.preload.drop()
        if state is None or image is None:
            return
        self.processes.hand_out_table(current.feed, image.fd)
        self.http.imaged_at = time.monotonic() - image.age_seconds
        self.http.outdated_at = self.http.imaged_at + state.max_age_seconds
        age = format_duration(round(image.age_seconds))
        log.logger().info("serving from %s, %s old, until the cluster has been read", state.image, age)

    async def _wait_fork(self) -> tuple[Role, Owner] | None:
        """The next child to start; None once the service has ended."""
        while self._ending is None:
            delay, role, owner = self.processes.missing()
            delay = max(delay, self.threads.fork_delay())
            if role is not None and owner is not None and delay <= 0:
                return role, owner
            await self.processes.wait_notified(delay if role is not None else None)
        await self._ending
        return None

    def _fork(self, role: Role, owner: Owner, loop: asyncio.AbstractEventLoop) -> None:
        try:
            child = fork_child(role, owner, self.processes, self.http)
        except OSError as error:
            self.processes.note_no_fork(role, owner, error)
            return
        loop.add_reader(child.channel.fileno(), self._on_message, child, loop)
        self.processes.add(child)

    # Watching

    def _watch_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.add_signal_handler(signal.SIGCHLD, self._on_child_end, loop)
        loop.add_signal_handler(signal.SIGTERM, self._on_end_signal, loop, signal.SIGTERM)
        loop.add_signal_handler(signal.SIGINT, self._on_end_signal, loop, signal.SIGINT)
        loop.add_signal_handler(signal.SIGQUIT, self._quit, 0, "SIGQUIT: Quitting process immediately")
        loop.add_signal_handler(signal.SIGUSR1, self._on_reload_signal, signal.SIGUSR1)
        loop.add_signal_handler(signal.SIGHUP, self._on_reload_signal, signal.SIGHUP)
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)

    def _on_reload_signal(self, number: signal.Signals) -> None:
        if self.reloader is not None and self._ending is None:
            self.reloader.request(number.name)
            self.processes.notify()

    def _on_message(self, child: Child, loop: asyncio.AbstractEventLoop) -> None:
        try:
            while (received := child.channel.receive()) is not None:
                self._take_message(child, *received, loop)
        except EOFError:
            loop.remove_reader(child.channel.fileno())
        self.processes.notify()

    def _take_message(self, child: Child, message: object, fd: int | None, loop: asyncio.AbstractEventLoop) -> None:
        match message, child.owner:
            case NewTable(is_current=is_current), Feed() as feed if fd is not None:
                if feed is self.processes.current.feed and is_current:
                    self.http.outdated_at = None
                self.processes.hand_out_table(feed, fd)
            case NewTable(), Feed():
                log.logger().error("a table came without its file: no descriptor is free; the informer is replaced")
                os.kill(child.pid, signal.SIGKILL)
            case Serving(), _:
                child.is_serving = True
            case Failed(text), Feed() as feed:
                self._fail(feed, text, loop)
            case Failed(text), Check() as check:
                check.verdict = text
            case Checked(), Check() as check:
                check.verdict = ""

    def _fail(self, feed: Feed, text: str, loop: asyncio.AbstractEventLoop) -> None:
        """The informer cannot start: at first nor can the service; later it goes on with the table it has."""
        if feed is not self.processes.current.feed:
            feed.failure = text
        elif self.processes.has_synced_table():
            log.logger().error("%s; what was read before goes on being served", text)
        elif self._ending is None:
            self._failure = text
            self._begin_end(loop, lameduck_seconds=0.0)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            self.processes.look_after()
            self._judge_informer()

    def _judge_informer(self) -> None:
        is_lost = self.processes.current.feed.is_lost(time.monotonic())
        if is_lost and not self.http.informer_is_lost:
            log.logger().error("no informer stays alive: not ready; what was read before goes on being served")
        self.http.informer_is_lost = is_lost

    def _on_child_end(self, loop: asyncio.AbstractEventLoop) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            child = self.processes.children.get(pid)
            if child is not None:
                self._on_message(child, loop)  # its last words
                loop.remove_reader(child.channel.fileno())
                child.channel.close()
                self.processes.remove(child, status)

    # Ending

    def _on_end_signal(self, loop: asyncio.AbstractEventLoop, number: signal.Signals) -> None:
        if self._ending is not None:
            if number == signal.SIGINT:
                self._quit(2, "SIGINT: Force quit")
            return
        log.logger().info("%s: Shutting down servers then terminating", number.name)
        self._begin_end(loop, self.http.lameduck_seconds)

    def _begin_end(self, loop: asyncio.AbstractEventLoop, lameduck_seconds: float) -> None:
        if self.reloader is not None:
            self.reloader.stop()
        self.processes.is_ending = True
        self._ending = loop.create_task(self._end(lameduck_seconds))
        self.processes.notify()

    async def _end(self, lameduck_seconds: float) -> None:
        await self.http.close_ready()
        if lameduck_seconds:
            log.plugin_logger("health").info("Going into lameduck mode for %s", self.http.lameduck_text)
            await asyncio.sleep(lameduck_seconds)
        saves_table = (
            self.processes.current.context.state is not None
            and self.processes.has_synced_table()
            and self.http.outdated_at is None
        )
        await self.processes.end(saves_table)

    def _quit(self, status: int, text: str) -> None:
        """End at once; the children go with this process."""
        log.logger().info("%s", text)
        self.on_ended()
        sys.stdout.flush()
        os._exit(status)


async def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
