"""Where the process begins."""

from __future__ import annotations

import os
import sys

from kdns.table.preload import Preload


def main() -> int:
    """Run kdns; the exit status."""
    _open_standard_streams()  # before anything else is opened
    preload = Preload.of(sys.argv[1:])
    # Not before what can be done meanwhile is under way: importing takes a tenth of a second.
    from kdns.cli import main as run

    return run(preload=preload)


def _open_standard_streams() -> None:
    """Put something on descriptors 0 to 2 that were closed: the next socket would become standard output."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)
    for name, fd, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(fd, mode, closefd=False))
