"""What one client's query may cost."""

from __future__ import annotations

import time
from dataclasses import dataclass

MAX_PACKETS = 3  # to upstreams for one query, whatever comes back: nobody is to multiply traffic through this server
TOTAL_SECONDS = (
    4.9  # for all attempts: a stub resolver gives up after 5 s, and should hear before that what became of it
)


@dataclass(slots=True)
class Budget:
    """Time and packets that are left."""

    deadline: float  # on time.monotonic()'s clock
    attempt_seconds: float  # an upstream that has not answered after so long is left
    packets: int = MAX_PACKETS

    def spend_packet(self) -> float:
        """Take a packet out; when its answer must be there."""
        self.packets -= 1
        return min(time.monotonic() + self.attempt_seconds, self.deadline)

    def refund_packet(self) -> None:
        """It was not sent after all."""
        self.packets += 1

    @property
    def is_spent(self) -> bool:
        """Nothing more may be tried."""
        return self.packets <= 0 or time.monotonic() >= self.deadline


def new_budget(read_timeout: float, started: float | None = None, spent: int = 0) -> Budget:
    """For a query that comes in now, or came in at `started` and has cost so many packets already.

    Who allows an upstream more than the usual time means it.
    """
    begin = time.monotonic() if started is None else started
    return Budget(begin + max(TOTAL_SECONDS, read_timeout), read_timeout, MAX_PACKETS - spent)
