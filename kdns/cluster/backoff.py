"""How long to wait before the next try."""

from __future__ import annotations

import random as random_module
from collections.abc import Callable

# Most outages of an API server are its restart: a follower that tries about once a second is back with it. Later
# tries get rarer, so that a thousand followers are no burden to a server that struggles.
FIRST_DELAY_SECONDS = 1.0
STEADY_SECONDS = 60.0  # how long delays stay at the first one
MAX_DELAY_SECONDS = 30.0
JITTER = 0.5  # of the delay, added at random: followers that failed together do not come back together
RESET_SECONDS = 120.0  # without a failure, until the next one counts as the first

MIN_RELIST_INTERVAL_SECONDS = (1.0, 2.0)  # chosen in between at random


class Backoff:
    """Delays between tries: the first for a minute, then doubling."""

    def __init__(self, clock: Callable[[], float], random: random_module.Random) -> None:
        self._clock = clock
        self._random = random
        self._first_failure = self._last_failure = float("-inf")
        self._base = FIRST_DELAY_SECONDS

    def next_delay(self) -> float:
        """Seconds to wait after a failure that was met just now."""
        now = self._clock()
        if now - self._last_failure > RESET_SECONDS:
            self._first_failure, self._base = now, FIRST_DELAY_SECONDS
        self._last_failure = now
        if now - self._first_failure >= STEADY_SECONDS:
            self._base = min(self._base * 2, MAX_DELAY_SECONDS)
        return self._base * (1 + JITTER * self._random.random())


class Pace:
    """Keeps lists apart that follow no failure: the first at once, none sooner than a second or two after the last."""

    def __init__(self, clock: Callable[[], float], random: random_module.Random) -> None:
        self._clock = clock
        self._random = random
        self._not_before = float("-inf")

    def next_delay(self) -> float:
        """Seconds to wait until the next one, which is counted."""
        now = self._clock()
        delay = max(0.0, self._not_before - now)
        self._not_before = now + delay + self._random.uniform(*MIN_RELIST_INTERVAL_SECONDS)
        return delay
