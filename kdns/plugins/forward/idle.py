"""Sockets to one upstream that are kept until another query needs them, the one used longest ago first."""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """How long and how many idle connections are kept; 0 of `max_age` and `max_idle` is no limit."""

    expire_seconds: float = 10.0
    max_age_seconds: float = 0.0
    max_idle: int = 0

    def has_expired(self, opened: float, used: float, now: float) -> bool:
        """Whether a connection is too old to be used again."""
        return now - used > self.expire_seconds or (0 < self.max_age_seconds < now - opened)


class Keepable(Protocol):
    """A socket with times on time.monotonic()'s clock."""

    socket: socket.socket
    opened: float
    used: float

    def close(self) -> None:
        """Be gone; idempotent."""
        ...


Kept = TypeVar("Kept", bound=Keepable)


class IdleSockets(Generic[Kept]):
    """What is kept, within limits."""

    def __init__(self, limits: PoolLimits) -> None:
        self._limits = limits
        self._sockets: deque[Kept] = deque()
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._sockets)

    def __iter__(self) -> Iterator[Kept]:
        return iter(self._sockets)

    def put(self, given: Kept, is_one_too_many: bool) -> None:
        """Keep a socket whose query is answered, or close it where there are enough."""
        given.used = time.monotonic()
        if self._is_closed or is_one_too_many:
            given.close()
        else:
            self._sockets.append(given)

    def take(self) -> Kept | None:
        """The socket that came back longest ago and is still good."""
        now = time.monotonic()
        while self._sockets:
            taken = self._sockets.popleft()
            if taken.socket.fileno() >= 0 and not self._limits.has_expired(taken.opened, taken.used, now):
                return taken
            taken.close()
        return None

    def take_any(self) -> Kept | None:
        """The socket that came back longest ago, however old it is."""
        return self._sockets.popleft() if self._sockets else None

    def forget(self, broken: Kept) -> None:
        """It is of no use any more, kept or not."""
        if broken in self._sockets:
            self._sockets.remove(broken)

    def close_expired(self) -> None:
        """Close what has been idle for too long."""
        now, sockets = time.monotonic(), self._sockets
        while sockets and self._limits.has_expired(sockets[0].opened, sockets[0].used, now):
            sockets.popleft().close()

    def close_all(self) -> None:
        """Close what is kept now."""
        while self._sockets:
            self._sockets.popleft().close()

    def close(self) -> None:
        """Close what is kept, and keep nothing from now on."""
        self._is_closed = True
        self.close_all()
