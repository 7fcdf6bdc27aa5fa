"""How much memory the answer cache may take, and making it: once, before any worker is forked."""

from __future__ import annotations

import re

from kdns.errors import StartError
from kdns.hotpath.cache import MIN_ARENA_BYTES, AnswerCache

ENTRY_BYTES = 256  # octets an entry is reckoned at, with its part of the index: most answers are smaller
MIN_DEFAULT = 4 << 20  # octets
MAX_DEFAULT = 256 << 20  # octets; more is taken only where --cache-size says so
MAX_SIZE = 1 << 40  # octets; far beyond what one pod is given
UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}

_SIZE = re.compile(r"([0-9]{1,15})(?:([kmg])(?:i?b)?)?", re.IGNORECASE)


def parse_size(text: str) -> int:
    """The octets of `64M`, `64MiB`, `65536k`. Raises ValueError."""
    match = _SIZE.fullmatch(text)
    size = int(match[1]) * UNITS[(match[2] or "").lower()] if match is not None else 0
    if not 0 < size <= MAX_SIZE:
        raise ValueError(f"size {text!r}, expected octets such as 64M, 512k or 1G, at most {MAX_SIZE >> 30}G")
    return size


def make_cache(entries: int, workers: int, size_bytes: int | None) -> AnswerCache | None:
    """The memory of the answer cache; None where no `cache` directive asks for entries. Raises StartError."""
    if not entries:
        return None
    least = workers * MIN_ARENA_BYTES
    if size_bytes is None:
        size_bytes = max(least, MIN_DEFAULT, min(MAX_DEFAULT, entries * ENTRY_BYTES))
    if size_bytes < least:
        raise StartError(f"--cache-size of {size_bytes} octets, {workers} workers need at least {least}")
    try:
        return AnswerCache(workers, size_bytes)
    except MemoryError as error:
        raise StartError(f"no memory for an answer cache of {size_bytes} octets; --cache-size sets less") from error
