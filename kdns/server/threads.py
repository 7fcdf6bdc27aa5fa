"""Threads of the supervisor, for what may wait for a disk: its loop serves signals, health and children meanwhile.

A child forked while a thread works would inherit whatever lock that thread holds, and nobody to release it. So forks
wait for threads, which costs nothing but a spare that comes later; they do not wait for a thread that hangs, which
sits in a system call and holds none.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from typing import TypeVar, cast

from kdns.corefile import format_duration
from kdns.errors import StartError

PATIENCE_SECONDS = 5.0  # so long a fork waits for a thread

T = TypeVar("T")


class Threads:
    """Runs functions in threads that nobody waits for at the end."""

    def __init__(self) -> None:
        self._since: dict[object, float] = {}

    async def run(self, function: Callable[[], T], what: str, timeout_seconds: float) -> T:
        """The result of a function; StartError where it takes too long, and then it is left to itself."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def work() -> None:
            result: T | None = None
            failure: BaseException | None = None
            try:
                result = function()
            except BaseException as error:  # it is raised where it is waited for
                failure = error
            finally:
                self._since.pop(done, None)
                with contextlib.suppress(RuntimeError):  # the loop has been closed: the service has ended
                    loop.call_soon_threadsafe(finish, result, failure)

        def finish(result: T | None, failure: BaseException | None) -> None:
            if done.done():
                return
            if failure is None:
                done.set_result(cast(T, result))
            else:
                done.set_exception(failure)

        self._since[done] = time.monotonic()
        threading.Thread(target=work, name="kdns", daemon=True).start()
        try:
            async with asyncio.timeout(timeout_seconds):
                return await done
        except TimeoutError:
            raise StartError(f"{what} takes longer than {format_duration(timeout_seconds)}") from None

    def fork_delay(self) -> float:
        """How long a fork should wait, unless a thread is done before; 0: none works."""
        now = time.monotonic()
        return max((since + PATIENCE_SECONDS - now for since in list(self._since.values())), default=0.0)
