"""What is logged while a test looks."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from kdns import log


@contextmanager
def collected(level: int = logging.INFO) -> Iterator[list[str]]:
    """Lines `[LEVEL] text` as they come, in place of any output."""
    lines: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(f"[{record.levelname}] {record.getMessage()}")

    logger = log.logger()
    before = logger.handlers[:], logger.propagate, logger.level
    logger.handlers[:], logger.propagate = [Collector()], False
    logger.setLevel(level)
    try:
        yield lines
    finally:
        logger.handlers[:], logger.propagate = before[0], before[1]
        logger.setLevel(before[2])
