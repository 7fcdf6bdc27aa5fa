"""Equal questions at the same time are asked once: the others wait for the first one's answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from kdns.dns.codes import Rcode
from kdns.errors import KdnsError, ServeError

MAX_WAITING = 1000  # who wait for one answer; more are refused

K = TypeVar("K")
T = TypeVar("T")


class Flights(Generic[K, T]):
    """What is being asked, and who waits for it."""

    def __init__(self) -> None:
        self._waiting: dict[K, list[asyncio.Future[T | Exception | None]]] = {}

    def __contains__(self, key: K) -> bool:
        return key in self._waiting

    async def ask(self, key: K, ask: Callable[[], Awaitable[T]]) -> T:
        """What `ask` gives, or what an equal question already asked gives. Raises what it raises."""
        while (waiting := self._waiting.get(key)) is not None:
            if len(waiting) >= MAX_WAITING:
                raise ServeError(f"more than {MAX_WAITING} equal queries wait for an answer", Rcode.SERVFAIL)
            future: asyncio.Future[T | Exception | None] = asyncio.get_running_loop().create_future()
            waiting.append(future)
            outcome = await future
            if isinstance(outcome, Exception):
                raise _copy(outcome)
            if outcome is not None:
                return outcome
            # Who asked went away: somebody else asks.
        self._waiting[key] = []
        settled: T | Exception | None = None
        try:
            settled = found = await ask()
        except Exception as error:
            settled = error
            raise
        finally:
            for future in self._waiting.pop(key):
                if not future.done():
                    future.set_result(settled)
        return found


def _copy(error: Exception) -> Exception:
    """An error to raise once more: a raised one grows with each frame it passes."""
    if type(error) is ServeError:
        return ServeError(str(error), error.rcode)
    if isinstance(error, KdnsError):
        return error.with_traceback(None)
    return ServeError("the query this one waited for failed", Rcode.SERVFAIL)
