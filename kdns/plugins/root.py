"""`root`: the folder where relative paths of its server block begin."""

from __future__ import annotations

import os
from pathlib import Path

from kdns import log
from kdns.plugins.plugin import Setup

_LOG = log.plugin_logger("root")


def setup(setup: Setup) -> None:
    """`root PATH`; of several lines the last counts. The folder may appear later."""
    directive = setup.directive
    for _ in directive.occurrences():
        if not directive.next_arg():
            raise directive.arg_error()
        setup.block.folder = directive.val
    try:
        Path(setup.block.folder).stat()
    except FileNotFoundError:
        _LOG.warning("Root path does not exist: %s", setup.block.folder)
    except OSError as error:
        reason = f"stat {setup.block.folder}: {os.strerror(error.errno or 0).lower()}"
        raise directive.error(f"unable to access root path '{setup.block.folder}': {reason}") from error
