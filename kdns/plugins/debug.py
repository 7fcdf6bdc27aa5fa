"""`debug`: lines of level DEBUG are logged, too.

CoreDNS ends on errors in plugins then; here the client gets SERVFAIL as always.
"""

from __future__ import annotations

import logging

from kdns import log
from kdns.plugins.plugin import Setup


def setup(setup: Setup) -> None:
    """`debug`, no arguments."""
    directive = setup.directive
    for _ in directive.occurrences():
        if directive.next_arg():
            raise directive.arg_error()
    log.logger().setLevel(logging.DEBUG)
