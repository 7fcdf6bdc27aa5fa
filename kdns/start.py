"""Where the process begins."""

from __future__ import annotations

import sys

from kdns.table.preload import Preload


def main() -> int:
    """Run kdns; the exit status."""
    preload = Preload.of(sys.argv[1:])
    # Not before what can be done meanwhile is under way: importing takes a tenth of a second.
    from kdns.cli import main as run

    return run(preload=preload)
