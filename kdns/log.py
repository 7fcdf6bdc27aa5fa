"""Log lines in CoreDNS's shape: `[LEVEL] text` on standard output, plugins with a `plugin/NAME: ` prefix."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import MutableMapping
from typing import Any

MAX_WRITE = 4096  # octets; so much goes into a pipe whole (PIPE_BUF), whoever else writes there
MAX_WAITING = 64  # lines of one turn of the event loop that wait for its end

_LOGGER = logging.getLogger("kdns")
_waiting: list[str] = []


class _LevelFormatter(logging.Formatter):
    """Formats a record as `[LEVEL] text`, one line whatever the text holds."""

    _NAMES = {logging.CRITICAL: "FATAL"}

    def format(self, record: logging.LogRecord) -> str:
        level = self._NAMES.get(record.levelno, record.levelname)
        # A Corefile token or a client's name may hold newlines: one event stays one line.
        text = record.getMessage().replace("\r", "\\r").replace("\n", "\\n")
        return f"[{level}] {text}"


class _PluginAdapter(logging.LoggerAdapter[logging.Logger]):
    """Prefixes each message with the plugin's name."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        assert self.extra is not None
        return f"plugin/{self.extra['plugin']}: {msg}", kwargs


class _Handler(logging.StreamHandler[Any]):
    """Writes events, behind the lines that wait already."""

    def emit(self, record: logging.LogRecord) -> None:
        flush()
        super().emit(record)


def configure(debug: bool = False) -> None:
    """Send the log to standard output, line by line; `debug` shows debug lines too."""
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    handler = _Handler(sys.stdout)
    handler.setFormatter(_LevelFormatter())
    _LOGGER.handlers[:] = [handler]
    _LOGGER.propagate = False
    _LOGGER.setLevel(logging.DEBUG if debug else logging.INFO)


def logger() -> logging.Logger:
    """The log of the server itself."""
    return _LOGGER


def plugin_logger(name: str) -> logging.LoggerAdapter[logging.Logger]:
    """The log of the plugin `name`."""
    return _PluginAdapter(_LOGGER, {"plugin": name})


def write_soon(text: str) -> None:
    """Log one line of information at the end of this turn of the event loop, with the others of that turn.

    For what happens with every query: there is no more to it than `[INFO] text`.
    """
    if not _waiting:
        asyncio.get_running_loop().call_soon(flush)
    _waiting.append(f"[INFO] {text}\n")
    if len(_waiting) >= MAX_WAITING:
        flush()


def flush() -> None:
    """Write the lines that wait, as many at once as stay whole among other processes' lines."""
    if not _waiting:
        return
    octets = "".join(_waiting).encode("utf-8", "backslashreplace")
    _waiting.clear()
    while octets:
        end = len(octets)
        if end > MAX_WRITE:
            end = octets.rfind(b"\n", 0, MAX_WRITE) + 1 or octets.index(b"\n") + 1
        sys.stdout.buffer.write(octets[:end])
        sys.stdout.buffer.flush()
        octets = octets[end:]
