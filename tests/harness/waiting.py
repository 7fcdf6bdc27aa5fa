"""Waiting for a condition with a deadline, instead of sleeping and hoping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

POLL_SECONDS = 0.01

T = TypeVar("T")


def wait_until(condition: Callable[[], T], what: str | Callable[[], str], timeout_seconds: float = 5.0) -> T:
    """Return the first true value of `condition`; fail with `what` was waited for when the deadline has passed."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            text = what if isinstance(what, str) else what()
            raise AssertionError(f"after {timeout_seconds:g} s, still not: {text}")
        time.sleep(POLL_SECONDS)
