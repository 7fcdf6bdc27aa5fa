"""Log lines in CoreDNS's shape: `[LEVEL] text` on standard output, plugins with a `plugin/NAME: ` prefix."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

_LOGGER = logging.getLogger("kdns")


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


def configure(debug: bool = False) -> None:
    """Send the log to standard output, line by line; `debug` shows debug lines too."""
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    handler = logging.StreamHandler(sys.stdout)
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
