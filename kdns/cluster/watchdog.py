"""Finds out that a watch is dead though its connection looks alive.

A server sends a bookmark about once a minute, so half a minute of silence says nothing: the server is asked for its
version. Where it has not moved on there was nothing to say. Where it has, a bookmark is due; a watch that does not
even bring that within its minute is dead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from kdns.cluster.api_errors import ApiError

SILENCE_SECONDS = 30.0  # until the server is asked
BOOKMARK_SECONDS = 66.0  # a server's minute, and what it may be late


class Watchdog:
    """Guards one watch: `abort` is called with the reason when it is dead, or past its time."""

    def __init__(
        self,
        clock: Callable[[], float],
        known_version: Callable[[], str],
        current_version: Callable[[], Awaitable[str]],
        abort: Callable[[str], None],
        max_seconds: float,
    ) -> None:
        self._clock = clock
        self._known_version = known_version
        self._current_version = current_version
        self._abort = abort
        self._deadline = clock() + max_seconds
        self._heard_at = clock()

    def note_heard(self) -> None:
        """Note that something came."""
        self._heard_at = self._clock()

    async def run(self) -> None:
        """Watch over the watch until it is dead, or this is cancelled."""
        wait = SILENCE_SECONDS
        while True:
            await asyncio.sleep(max(0.0, min(wait, self._deadline - self._clock())))
            if self._clock() >= self._deadline:
                self._abort("it has lasted too long")
                return
            silence = self._clock() - self._heard_at
            if silence < SILENCE_SECONDS:
                wait = SILENCE_SECONDS - silence
                continue
            has_moved_on, reason = await self._ask()
            silence = self._clock() - self._heard_at
            if silence < SILENCE_SECONDS:  # it spoke while the server was asked
                wait = SILENCE_SECONDS - silence
            elif reason:
                self._abort(reason)
                return
            elif has_moved_on and silence >= BOOKMARK_SECONDS:
                self._abort(f"silent for {silence:.0f} s, though the server has moved on")
                return
            elif silence < BOOKMARK_SECONDS:
                wait = min(SILENCE_SECONDS, BOOKMARK_SECONDS - silence)
            else:
                wait = SILENCE_SECONDS

    async def _ask(self) -> tuple[bool, str]:
        """Whether the server has moved on from what the watch has told, and why it cannot be asked."""
        try:
            version = await self._current_version()
        except ApiError as error:
            return False, f"the server does not answer either: {error}" if error.kind.is_outage else ""
        return version != self._known_version(), ""
