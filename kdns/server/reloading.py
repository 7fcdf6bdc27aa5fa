"""Reloading: another Corefile takes over without a query lost, or the one that serves goes on.

1. The Corefile is tried in a process of its own, and then set up beside the one that serves (`check.py`, `threads.py`).
2. Where its views of clusters are others, an informer of its own fills a table of its own. Views the current
   configuration answers from must be complete in it; until they are, the current one goes on.
3. Its sockets are bound: those of places that stay are the same sockets, with what waits in them.
4. Its workers are forked and begin, beside the ones there are: for a moment both read the same sockets.
5. Only when they all serve do the former workers stop reading, and finish what they have.

Whatever fails before step 5 leaves nothing behind. There are never more than two configurations with processes: the
next reload waits until the former one's have ended.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from kdns import log
from kdns.cluster.view import View
from kdns.dns import names
from kdns.errors import CorefileError, KdnsError, StartError
from kdns.metrics import Registry
from kdns.plugins.plugin import ReloadSettings
from kdns.server.configuration import Arguments, close_sockets, fingerprint_of, parse_corefile, set_up, with_sockets
from kdns.server.context import ServerContext
from kdns.server.instance import Feed, Instance

if TYPE_CHECKING:
    from pathlib import Path

    from kdns.server.context import Corefile
    from kdns.server.supervisor import Supervisor

SET_UP_SECONDS = 60.0  # for reading a Corefile and setting it up
SERVING_SECONDS = 10.0  # for all workers of a configuration to begin
MAX_DEATHS = 3  # of workers of a configuration that begins
SETTLE_SECONDS = 0.2  # a changed file is read again after it: somebody may be in the middle of writing it
NEWER_SECONDS = 5.0  # between looks for a newer Corefile while one waits for its cluster and has no `reload`

_LOG = log.plugin_logger("reload")

T = TypeVar("T")


class Superseded(KdnsError):
    """A newer Corefile is there before one has taken over."""


class Reloader:
    """Notices signals and changes of the Corefile, and changes over. `tried`: the fingerprint of the one at start."""

    def __init__(self, arguments: Arguments, tried: str, metrics: Registry) -> None:
        self._arguments = arguments
        self._tried = tried
        self._found: str | None = None  # the text of a Corefile that is to be loaded
        self._requested: list[str] = []  # names of signals
        self._interval: float | None = None
        self._task: asyncio.Task[None] | None = None
        self._told = ""
        self._failed = metrics.counter(
            "coredns_reload_failed_total", "Counter of the number of failed reload attempts."
        )  # fmt: skip
        self._failed.add(0)
        self._version = metrics.gauge(
            "coredns_reload_version_info",
            "A metric with a constant '1' value labeled by hash, and value which type of hash generated.",
            ("hash", "value"),
        )

    def request(self, signal_name: str) -> None:
        """Reload as soon as possible; what is asked for while a reload is under way becomes one more."""
        self._requested.append(signal_name)

    def stop(self) -> None:
        """Reload no more; a candidate is given up."""
        if self._task is not None:
            self._task.cancel()

    async def run(self, supervisor: Supervisor) -> None:
        """Look for reasons to reload, and do it, until cancelled."""
        self._task = asyncio.current_task()
        self._supervisor, self._processes = supervisor, supervisor.processes
        await self._processes.wait_until(lambda: self._all_serve(self._processes.current), SERVING_SECONDS)
        await self._keep(self._processes.current.context)
        self._draw_interval()
        while True:
            await self._wait_reason()
            signals, self._requested = self._requested, []
            text, self._found = self._found, None
            try:
                if signals:
                    await self._reload_on_signal(signals[-1])
                elif text is not None:
                    await self._reload_on_change(text)
            except Exception as error:
                # A fault of ours must not be the end of all reloads.
                self._failed.add()
                log.logger().error("Restart failed: %s: %s", type(error).__name__, error)
            await self._processes.wait_former_ended()

    # Reasons

    async def _wait_reason(self) -> None:
        while not self._requested and self._found is None:
            if not await self._processes.wait_until(lambda: bool(self._requested), self._interval):
                await self._look()

    async def _look(self) -> None:
        """Read the Corefile, and note it where it is another one than the last that was tried."""
        try:
            text, fingerprint = await self._in_thread(self._read)
            if fingerprint == self._tried:
                return
            await asyncio.sleep(SETTLE_SECONDS)
            if (text, fingerprint) != await self._in_thread(self._read):
                return
        except KdnsError as error:
            self._tell(str(error))
            return
        self._told, self._tried = "", fingerprint
        try:
            parse_corefile(text, self._arguments, is_known=False, warns=False)
        except CorefileError as error:
            _LOG.warning("Corefile parse failed: %s", error)
            return
        self._found = text

    def _read(self) -> tuple[str, str]:
        text = self._arguments.read_corefile(must_exist=True)
        return text, fingerprint_of(text, self._arguments)

    def _tell(self, trouble: str) -> None:
        if trouble != self._told:
            self._told = trouble
            _LOG.warning("%s; the Corefile that serves goes on", trouble)

    def _draw_interval(self) -> None:
        settings = self._settings()
        self._interval = None
        if settings is not None:
            half = settings.jitter_seconds / 2
            self._interval = settings.interval_seconds + random.uniform(-half, half)  # noqa: S311 - not a secret

    def _settings(self) -> ReloadSettings | None:
        return self._processes.current.context.resolver.surroundings.reload

    # What is done, and said

    async def _reload_on_signal(self, name: str) -> None:
        log.logger().info("%s: Reloading", name)
        try:
            text, self._tried = await self._in_thread(self._read)
        except KdnsError as error:
            self._failed.add()
            log.logger().error("%s: loading updated Caddyfile: %s", name, error)
            return
        if (failure := await self._restart(text)) is not None:
            log.logger().error("%s: starting with listener file descriptors: %s", name, failure)

    async def _reload_on_change(self, text: str) -> None:
        if (failure := await self._restart(text)) is not None:
            _LOG.error("Corefile changed but reload failed: starting with listener file descriptors: %s", failure)

    async def _restart(self, text: str) -> KdnsError | None:
        """Change over to another Corefile; what was wrong with it, if anything."""
        log.logger().info("Reloading")
        former = self._processes.current.context
        try:
            await self._change_over(text)
        except Superseded as newer:
            log.logger().info("%s", newer)
            return None
        except KdnsError as error:
            self._failed.add()
            log.logger().error("Restart failed: %s", error)
            return error
        context = self._processes.current.context
        self._version.remove(("sha512", former.corefile.digest))
        self._version.set(1, ("sha512", context.corefile.digest))
        if self._settings() is not None:
            _LOG.info("Running configuration SHA512 = %s", context.corefile.digest)
        log.logger().info("Reloading complete")
        self._draw_interval()
        await self._keep(context)
        return None

    async def _keep(self, context: ServerContext) -> None:
        """Keep the Corefile that serves for a start whose Corefile is refused."""
        if context.state is None:
            return
        try:
            await self._in_thread(partial(_keep_corefile, context.state.folder, context.corefile))
        except (OSError, UnicodeError, StartError) as error:
            log.logger().warning("the Corefile cannot be kept in %s: %s", context.state.folder, error)

    # Changing over

    async def _change_over(self, text: str) -> None:
        processes, http, former = self._processes, self._supervisor.http, self._processes.current.context
        work = partial(self._configure, text, former)
        if problem := await processes.try_out(work, SET_UP_SECONDS):
            raise CorefileError(problem)
        context = await self._in_thread(work)
        bound = http.bind_for(context.resolver.surroundings)
        candidate = Instance(context, self._feed_for(context), wants_workers=False)
        context.resolver.surroundings.current_table.table = candidate.feed.table
        processes.candidate = candidate
        try:
            await self._wait_table(candidate)
            candidate.context = with_sockets(context, former)
            candidate.wants_workers = True
            await self._wait_serving(candidate)
        except BaseException:
            bound.close()
            processes.give_up(candidate)
            close_sockets(candidate.context, former)
            raise
        if candidate.feed is not processes.current.feed:
            http.outdated_at = None
        processes.change_over(candidate)
        close_sockets(former, candidate.context)
        await http.change_over(bound)

    def _configure(self, text: str, former: ServerContext) -> ServerContext:
        return set_up(parse_corefile(text, self._arguments), self._arguments, former)

    def _feed_for(self, context: ServerContext) -> Feed:
        """The current feed where views, their numbers and where they come from are the same; else one of its own."""
        old, new = self._processes.current.context.resolver.surroundings, context.resolver.surroundings
        if (old.views, old.accesses) == (new.views, new.accesses):
            return self._processes.current.feed
        return Feed(context)

    async def _wait_table(self, candidate: Instance) -> None:
        """Wait until a feed of the candidate's own knows as much as the current configuration, at least.

        What is served from a complete table goes on being served from one, however long the cluster takes to be read;
        for views that are new the time is limited, as at a start.
        """
        processes, feed = self._processes, candidate.feed
        surroundings = candidate.context.resolver.surroundings
        if feed is processes.current.feed or not surroundings.views:
            return
        processes.notify()  # an informer is missing
        every = range(len(surroundings.views))
        needed = [index for index in every if self._is_answered(surroundings.views[index])]
        patience = max(access.startup_timeout_seconds for access in surroundings.accesses)
        if not await processes.wait_until(partial(_is_known, feed, every), patience) and not _is_known(feed, needed):
            log.plugin_logger("kubernetes").warning(
                "the new configuration waits until the cluster has been read for it; the one before goes on"
            )
            while not _is_known(feed, needed):
                await self._wait_newer(partial(_is_known, feed, needed))
        if feed.failure is not None:
            raise StartError(feed.failure)

    async def _wait_newer(self, is_done: Callable[[], bool]) -> None:
        """Wait for something, or look whether there is a newer Corefile. Raises Superseded."""
        period = self._interval or NEWER_SECONDS
        if not await self._processes.wait_until(lambda: is_done() or bool(self._requested), period):
            await self._look()
        if not is_done() and (self._requested or self._found is not None):
            raise Superseded("the new configuration is given up for a newer one")

    def _is_answered(self, view: View) -> bool:
        """Whether the current configuration answers names of a view's zones from a complete table."""
        current = self._processes.current
        return any(
            current.feed.is_synced(index) and _overlap(view.zones, other.zones)
            for index, other in enumerate(current.context.resolver.surroundings.views)
        )

    async def _wait_serving(self, candidate: Instance) -> None:
        self._processes.notify()  # workers are missing
        await self._processes.wait_until(
            lambda: self._all_serve(candidate) or candidate.deaths >= MAX_DEATHS, SERVING_SECONDS
        )
        if not self._all_serve(candidate):
            raise StartError(f"its workers do not begin: {candidate.deaths} ended")

    def _all_serve(self, instance: Instance) -> bool:
        serving = {child.number for child in self._processes.of(instance) if child.is_serving}
        return serving.issuperset(range(instance.context.workers))

    async def _in_thread(self, function: Callable[[], T]) -> T:
        try:
            return await self._supervisor.threads.run(function, "setting the configuration up", SET_UP_SECONDS)
        finally:
            self._processes.notify()  # forks have waited for it


def _is_known(feed: Feed, views: Iterable[int]) -> bool:
    return feed.failure is not None or all(map(feed.is_synced, views))


def _overlap(zones: Iterable[bytes], others: Iterable[bytes]) -> bool:
    others = tuple(others)
    return any(names.is_below(one, other) or names.is_below(other, one) for one in zones for other in others)


def _keep_corefile(folder: Path, corefile: Corefile) -> None:
    from kdns.server.last_corefile import save_corefile  # msgspec, 20 ms: by now everybody serves

    save_corefile(folder, corefile)
