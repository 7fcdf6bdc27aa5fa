"""The limits an operator sets to requests: so many a second, so many at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

DEFAULT_BURST = 10  # requests, where only the rate is given (client-go)


class Throttle:
    """A token bucket and a bound on what is under way; a limit of 0 is none. A watch is under way until it is open."""

    def __init__(self, qps: float, burst: int, max_inflight: int, clock: Callable[[], float]) -> None:
        self._qps = qps
        self._burst = float(burst or DEFAULT_BURST)
        self._tokens = self._burst
        self._clock = clock
        self._filled_at = clock()
        self._places = asyncio.Semaphore(max_inflight) if max_inflight else None

    @property
    def is_limited(self) -> bool:
        """Whether there is any limit."""
        return bool(self._qps) or self._places is not None

    @asynccontextmanager
    async def admitted(self) -> AsyncIterator[None]:
        """Wait for a turn; the block is the time the request counts as under way."""
        if self._qps:
            delay = self._take_token()
            if delay > 0:
                await asyncio.sleep(delay)
        if self._places is None:
            yield
            return
        async with self._places:
            yield

    def _take_token(self) -> float:
        """Take the next token, which may have yet to come; seconds until it does."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._qps) - 1
        self._filled_at = now
        return max(0.0, -self._tokens / self._qps)
