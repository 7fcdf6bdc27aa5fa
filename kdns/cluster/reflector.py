"""The reflector: keeps what is known of one resource equal to what the API server has, whatever happens in between.

    nothing known --list, or a watch that begins with one--> version --watch--> version --watch--> ...
          ^                                                     |
          +---- too old, of another history, not believable ----+

Everything that is known is replaced by a list as a whole or not at all, and a version is passed on only after its
event. So at any moment to be cut off, killed or lied to, the worst that follows is to read something once more.
"""

from __future__ import annotations

import asyncio
import random as random_module
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from enum import Enum
from typing import Protocol

from kdns import log
from kdns.cluster import listing, watching
from kdns.cluster.api_errors import ApiError, ErrorKind
from kdns.cluster.backoff import Backoff, Pace
from kdns.cluster.outage import Outage
from kdns.cluster.replica import Listed, Replica
from kdns.cluster.view import Needs
from kdns.cluster.watchdog import Watchdog
from kdns.cluster.watching import Change, Key, WatchLine

LIST_SECONDS = 300.0  # until a list, or the first part of a watch, must be complete, however slow
SIDE_LIST_SECONDS = 10.0  # until the list of one object must be answered
WATCH_SECONDS = (300, 600)  # what a watch is asked to last, chosen at random (client-go: 5 to 10 minutes)
WATCH_GRACE_SECONDS = 30.0  # what it may last beyond that, before it is ended from here

NO_END_WARN_SECONDS = 10.0  # without a new object, until the end of a streamed list is missed
NO_END_SECONDS = 20.0  # until it is not expected any more: the server does not know what it was asked for
MAX_MISSED_ENDS = 2  # until lists are not asked for in this way again

HISTORY_SECONDS = 1.0  # after which a resumed watch is checked though it is silent
SHORT_WATCH_SECONDS = 1.0  # a watch that ends sooner, without anything new, is a failure (client-go)
MAX_FUTILE_WATCHES = 5  # failures in a row at one version, until a list is the way out

FLUSH_SECONDS = 0.01  # what changes may wait for others to come along

DOUBTED_OBJECTS = 100  # a list that drops more than half of more objects than this is read again
REPEAT_SECONDS = 60.0  # until a complaint is logged again


class Cause(Enum):
    """Why a list was needed; the value is the label metrics use."""

    START = "start"
    GONE = "gone"
    VERSION_TOO_LARGE = "version_too_large"
    REGRESSED = "regressed"
    CONFIRM = "confirm"
    FUTILE = "futile"  # the watch fails at its version again and again
    RESYNC = "resync"  # a comparison found too much that differs


class Lines(Protocol):
    """An open watch."""

    @property
    def oversize(self) -> int:
        """How many lines were too long, and left out."""

    async def read(self, *, is_whole: bool = False) -> list[bytes] | None:
        """The lines that came, maybe none, though hardly ever with `is_whole`; None at the end. May be cancelled."""

    def read_ready(self) -> list[bytes]:
        """The lines that are there already."""

    def abort(self) -> None:
        """End the connection; whoever reads gets an ApiError."""


class Client(listing.Getter, Protocol):
    """The part of an API client a reflector needs."""

    @property
    def url(self) -> str:
        """Where the server is."""

    def stream(self, path: str, parameters: Mapping[str, str]) -> AbstractAsyncContextManager[Lines]:
        """An open watch. Raises ApiError."""


class Reflector:
    """Follows one resource on behalf of its replica, which outlives it: a successor goes on from there."""

    def __init__(
        self,
        client: Client,
        replica: Replica,
        outage: Outage,
        clock: Callable[[], float],
        random: random_module.Random,
        list_seconds: float = LIST_SECONDS,
    ) -> None:
        self._client = client
        self._resource = replica.resource
        self._replica = replica
        self._tally = replica.tally
        self._outage = outage
        self._clock = clock
        self._random = random
        self._list_seconds = list_seconds
        self._backoff = Backoff(clock, random)
        self._list_pace = Pace(clock, random)
        self._log = log.plugin_logger("kubernetes")
        self._trouble, self._trouble_at = "", 0.0  # what was logged last
        self._is_troubled = False  # since then

        self._version = ""  # of what is known; empty: a list is needed
        self._cause = Cause.START  # of the list that is needed
        self._newest = ""  # the highest version seen in this history
        self._is_fresh = False  # the version is of a list just read: no history to check
        self._is_confirming = False
        self._missed_ends = 0  # of streamed lists
        self._futile_watches = 0  # in a row
        self._watched: Lines | None = None
        self._demand: Cause | None = None  # why everything is to be listed once the watch has ended

    @property
    def is_watching(self) -> bool:
        """Whether changes are being told of."""
        return self._watched is not None

    @property
    def newest(self) -> str:
        """The highest version seen in this history."""
        return self._newest

    def list_again(self, is_regressed: bool) -> None:
        """End the watch and list everything; `is_regressed` says that the server has gone back in time."""
        self._demand = Cause.REGRESSED if is_regressed else Cause.RESYNC
        if self._watched is not None:
            self._watched.abort()

    async def run(self) -> None:
        """Follow the resource until cancelled."""
        while True:
            await self._outage.wait_turn()
            try:
                await self._advance()
            except ApiError as error:
                await asyncio.sleep(self._react(error))

    # One step of following: each ends, by itself or by an error.

    async def _advance(self) -> None:
        if self._demand is not None:
            if self._demand is Cause.REGRESSED:
                self._replica.distrust()
            self._forget_version(self._demand)
            self._demand = None
        if self._version:
            await self._resume()
            return
        self._tally.relists[self._cause.value] += 1
        if self._missed_ends >= MAX_MISSED_ENDS or not await self._list_and_watch():
            await self._list()

    async def _list_and_watch(self) -> bool:
        """Watch from the beginning; whether the server can."""
        try:
            async with self._open({"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}) as stream:
                found = await self._read_initial(stream)
                if found is None:
                    self._missed_ends += 1
                    return False
                listed, version, rest = found
                self._replace(listed, version)
                await self._watch(stream, rest)
        except ApiError as error:
            if error.kind is not ErrorKind.INVALID or self._version:
                raise
            self._log.debug("%s: the server streams no lists: %s", self._resource.full_name, error)
            self._missed_ends = MAX_MISSED_ENDS
            return False
        return True

    async def _list(self) -> None:
        """List by pages."""
        listed: dict[Key, Listed] = {}

        def take(text: bytes) -> None:
            found = watching.identify(self._resource.kind, text)
            self._replica.collect(listed, found.key, found.stamp, text)

        version = await listing.list_all(self._client, self._resource, take, self._list_seconds)
        self._note_answer()
        self._replace(listed, version)
        self._is_fresh = True

    async def _resume(self) -> None:
        """Watch from the version that is known."""
        async with self._open({"resourceVersion": self._version}) as stream:
            lines: list[bytes] = []
            if not self._is_fresh:
                lines = await self._read_within(stream, HISTORY_SECONDS) or []
                await self._check_history(lines)
            self._is_fresh = False
            await self._watch(stream, lines)

    # What the steps are made of.

    @asynccontextmanager
    async def _open(self, parameters: Mapping[str, str]) -> AsyncIterator[Lines]:
        common = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(self._random.randint(*WATCH_SECONDS)),
        }
        every = {**self._resource.selection, **common, **parameters}
        async with self._client.stream(self._resource.path, every) as stream:
            self._note_answer()
            yield stream

    async def _read_initial(self, stream: Lines) -> tuple[dict[Key, Listed], str, list[bytes]] | None:
        """The objects, their version and the lines behind them; None where the list does not come to its end."""
        listed: dict[Key, Listed] = {}
        deadline = self._clock() + self._list_seconds
        progress_at = self._clock()
        is_warned = False
        needs = None if len(self._replica) else self._replica.needs  # most of what is known has not changed
        while True:
            read = await self._read_within(stream, NO_END_WARN_SECONDS / 2)
            lines, size = read or [], len(listed)
            for index, line in enumerate(lines):
                found = self._read_line(line, needs)
                if found.change is Change.INITIAL_END:
                    return listed, found.version, lines[index + 1 :]
                if found.change is Change.PUT:
                    self._replica.collect(listed, found.key, found.stamp, found.text, found.shape)
                elif found.change is Change.DELETE and found.key is not None:
                    listed.pop(found.key, None)
            now = self._clock()
            # Part of a line is progress, a whole one only if it is new: it may be a change in a list without an end.
            if read is not None and (not lines or len(listed) != size):
                progress_at = now
            if now - progress_at >= NO_END_SECONDS:
                return None
            if now >= deadline:
                raise ApiError(ErrorKind.TIMEOUT, f"the list was not complete after {self._list_seconds:g} s")
            if now - progress_at >= NO_END_WARN_SECONDS and not is_warned:
                is_warned = True
                self._log.warning("%s: the list does not come to its end", self._resource.full_name)

    async def _read_within(self, stream: Lines, seconds: float) -> list[bytes] | None:
        """The lines of one read; None where nothing came in time. An end is an error here."""
        try:
            async with asyncio.timeout(seconds):
                lines = await stream.read()
        except TimeoutError:
            return None
        self._tally.note_contact()
        if lines is None:
            raise ApiError(ErrorKind.SHORT_WATCH, "the watch ended before it told what it was opened for")
        return lines

    async def _check_history(self, lines: list[bytes]) -> None:
        """Make sure that the server has not gone back in time. Its watch would not tell: from a version that is in its
        future it is silent, and resumes when the versions in between have been given a second time.
        """
        for line in lines[:1]:
            self._read_line(line)  # an error is told at once
        version = await self._current_version()
        if listing.is_older(version, self._newest):
            raise ApiError(ErrorKind.REGRESSED, f"the server is at version {version}, after {self._newest}")
        self._note_progress()

    async def _current_version(self) -> str:
        version = await listing.current_version(self._client, self._resource, SIDE_LIST_SECONDS)
        if version == self._version:
            self._tally.note_contact()
        return version

    async def _watch(self, stream: Lines, lines: list[bytes]) -> None:
        """Apply what comes until the watch ends."""
        started_at, version = self._clock(), self._version

        def abort(reason: str) -> None:
            self._log.info("%s: watch ended: %s", self._resource.full_name, reason)
            stream.abort()

        watchdog = Watchdog(
            self._clock,
            lambda: self._version,
            self._current_version,
            abort,
            WATCH_SECONDS[1] + WATCH_GRACE_SECONDS,
        )
        guarding = asyncio.create_task(watchdog.run())
        guarding.add_done_callback(lambda _: stream.abort())  # without it the watch could die unseen
        self._watched = stream
        try:
            await self._apply_all(stream, lines, watchdog)
        except ApiError as error:
            # A connection that breaks is no news about the server; the next one tells.
            if error.kind is not ErrorKind.UNREACHABLE:
                raise
            self._tally.errors[error.kind.value] += 1
        finally:
            self._watched = None
            guarding.cancel()
            await asyncio.wait([guarding])
            if not guarding.cancelled():
                guarding.result()
            self._tally.malformed += stream.oversize
            self._replica.flush()
        is_short = version == self._version and self._clock() - started_at < SHORT_WATCH_SECONDS
        if is_short and self._demand is None:
            raise ApiError(ErrorKind.SHORT_WATCH, "the watch ended as soon as it was open")

    async def _apply_all(self, stream: Lines, lines: list[bytes] | None, watchdog: Watchdog) -> None:
        while lines is not None:
            flush_at = self._clock() + FLUSH_SECONDS
            is_burst = len(lines) > 1  # it goes on as one: a turn of the loop lets in what waits in the socket
            while lines:
                for line in lines:
                    self._apply(self._read_line(line, self._replica.needs))
                lines = []
                if is_burst:
                    await asyncio.sleep(0)
                    lines = stream.read_ready() if self._clock() < flush_at else []
            self._replica.flush()
            lines = await stream.read(is_whole=True)
            watchdog.note_heard()
            self._tally.note_contact()

    def _replace(self, listed: dict[Key, Listed], version: str) -> None:
        """Take over a complete list. Raises ApiError where it cannot be believed yet."""
        if listing.is_older(version, self._newest) and self._cause is not Cause.REGRESSED:
            raise ApiError(ErrorKind.REGRESSED, f"the server listed version {version}, after {self._newest}")
        missing, known = self._replica.count_missing(listed), len(self._replica)
        if known > DOUBTED_OBJECTS and missing * 2 > known and not self._is_confirming:
            self._is_confirming = True
            raise ApiError(ErrorKind.DOUBTED, f"a list lacks {missing} of {known} objects")
        self._is_confirming = False
        self._replica.replace(listed)
        self._version = self._newest = version
        self._futile_watches = 0
        self._note_progress()

    def _read_line(self, line: bytes, needs: Needs | None = None) -> WatchLine:
        try:
            return watching.read_line(self._resource.kind, line, needs)
        except ApiError:
            self._futile_watches += 1
            raise

    def _apply(self, line: WatchLine) -> None:
        """Take in a line of a watch; its version counts from then on."""
        self._replica.apply(line)
        if line.version and line.version != self._version:
            self._version = line.version
            self._futile_watches = 0
            if not listing.is_older(line.version, self._newest):
                self._newest = line.version

    # What is made of an answer, and of none.

    def _note_answer(self) -> None:
        self._tally.note_contact()
        self._tally.is_refused = False
        self._outage.note_answer()

    def _note_progress(self) -> None:
        """Note that what is known is, or soon will be, what the server has."""
        if self._is_troubled:
            self._is_troubled = False
            self._log.info("%s: followed again", self._resource.full_name)

    def _react(self, error: ApiError) -> float:
        """Decide what comes after an error; the seconds to wait first."""
        self._tally.errors[error.kind.value] += 1
        self._is_fresh = False
        if error.kind.is_outage:
            is_news = self._outage.note_failure(error.retry_after_seconds)
            if self._futile_watches >= MAX_FUTILE_WATCHES:
                self._forget_version(Cause.FUTILE)
            if is_news:
                self._complain(f"not followed for the moment: {error}; what is known goes on being served")
            return 0.0  # the outage has its own delays
        self._outage.note_answer()
        match error.kind:
            case ErrorKind.GONE | ErrorKind.VERSION_TOO_LARGE:
                self._forget_version(Cause(error.kind.value))
                return self._list_pace.next_delay()
            case ErrorKind.REGRESSED:
                self._log.warning("%s: %s; listing everything again", self._resource.full_name, error)
                self._replica.distrust()
                self._forget_version(Cause.REGRESSED)
                return self._list_pace.next_delay()
            case ErrorKind.DOUBTED:
                self._log.warning("%s: %s; listing again before they go", self._resource.full_name, error)
                if self._cause is not Cause.REGRESSED:
                    self._cause = Cause.CONFIRM
                return self._list_pace.next_delay()
            case ErrorKind.INVALID if self._version:
                self._forget_version(Cause.FUTILE)
        if error.kind.is_refusal:
            self._complain(self._refusal(error))
            self._replica.note_refusal()
        elif error.kind is not ErrorKind.SHORT_WATCH:
            self._complain(str(error))
        return self._backoff.next_delay()

    def _forget_version(self, cause: Cause) -> None:
        self._version, self._cause = "", cause

    def _complain(self, text: str) -> None:
        """Log trouble, the same no more than once a minute."""
        if text != self._trouble or self._clock() - self._trouble_at >= REPEAT_SECONDS:
            self._trouble, self._trouble_at, self._is_troubled = text, self._clock(), True
            self._log.warning("%s at %s: %s", self._resource.full_name, self._client.url, text)

    def _refusal(self, error: ApiError) -> str:
        name, dependents = self._resource.full_name, self._resource.dependents
        if error.kind is ErrorKind.UNAUTHORIZED:
            advice = "the credentials are not accepted: correct or renew them"
        elif error.kind is ErrorKind.NOT_FOUND:
            advice = f"the server does not know the resource: install the definition of {name}, or remove the option"
        else:
            advice = f"grant the verbs list and watch on {name}"
        held = "" if self._tally.is_synced else f"; until then {dependents} are held back"
        return f"list and watch are refused: {advice}{held} ({error})"
