"""`multisocket`: how many sockets share an address. Here each worker has its own anyway: the number is only checked."""

from __future__ import annotations

import re

from kdns.errors import CorefileError
from kdns.plugins.plugin import Setup

MAX_SOCKETS = 1024

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")


def setup(setup: Setup) -> None:
    """`multisocket [NUMBER]`, once per block."""
    directive = setup.directive
    directive.next()
    arguments = directive.remaining_args()
    if len(arguments) > 1 or directive.next():
        raise directive.arg_error()
    if not arguments:
        return
    if not _INTEGER.fullmatch(arguments[0]):
        raise CorefileError(f'invalid num sockets: strconv.Atoi: parsing "{arguments[0]}": invalid syntax')
    number = int(arguments[0])
    if number < 1:
        raise CorefileError(f"num sockets can not be zero or negative: {number}")
    if number > MAX_SOCKETS:
        raise CorefileError(f"num sockets exceeds maximum ({MAX_SOCKETS}): {number}")
