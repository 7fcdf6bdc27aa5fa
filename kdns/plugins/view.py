"""`view`: a server block for some queries only. Without an expression it takes every query, as in CoreDNS."""

from __future__ import annotations

from kdns.plugins.plugin import Setup


def setup(setup: Setup) -> None:
    """`view NAME { }`, once per block; another block may then have the same zones, and the first one answers."""
    directive = setup.directive
    for _ in directive.only_occurrence():
        if len(directive.remaining_args()) != 1:
            raise directive.arg_error()
        for option in directive.block():
            if option == "expr":
                raise directive.error("the expressions of 'view' are not available in kdns")
            raise directive.error(f"unknown property '{option}'")
    setup.block.is_filtered = True
