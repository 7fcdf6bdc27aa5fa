"""Equal questions at the same time cost one: the first asks, the others wait for what it gets.

Besides the load: asking the same many times over would let whoever forges replies hit any of them (the birthday
attack).
"""

from __future__ import annotations

import asyncio

from kdns.dns.reply import Reply
from kdns.errors import ServeError, UpstreamError

MAX_WAITERS = 1000  # for one question

Key = tuple[bytes, bool]


class Abandoned(Exception):
    """Who asked was cancelled: somebody else must."""


class Flights:
    """The questions under way, and who waits for each."""

    def __init__(self) -> None:
        self._waiters: dict[Key, list[asyncio.Future[Reply]]] = {}

    def join(self, key: Key) -> asyncio.Future[Reply] | None:
        """What will come of a question under way: a reply, ServeError or Abandoned.

        None where nobody asks it: the caller does so now, and tells of it by `land` or `fail`. Raises UpstreamError
        where too many wait.
        """
        waiters = self._waiters.get(key)
        if waiters is None:
            self._waiters[key] = []
            return None
        if len(waiters) >= MAX_WAITERS:
            raise UpstreamError(f"more than {MAX_WAITERS} wait for the same answer")
        waiter: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        waiters.append(waiter)
        return waiter

    def land(self, key: Key, reply: Reply) -> None:
        """The question is answered."""
        for waiter in self._waiters.pop(key):
            if not waiter.done():
                waiter.set_result(reply)

    def fail(self, key: Key, error: BaseException) -> None:
        """The question is not answered."""
        for waiter in self._waiters.pop(key):
            if not waiter.done():
                # Each gets its own: an exception's traceback grows with whoever raises it.
                waiter.set_exception(
                    ServeError(str(error), error.rcode) if isinstance(error, ServeError) else Abandoned()
                )
