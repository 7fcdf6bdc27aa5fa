"""`timeouts`: how long a TCP connection may take to do what, and how much it may ask."""

from __future__ import annotations

import re

from kdns.corefile import Dispenser, format_duration, parse_duration
from kdns.errors import CorefileError
from kdns.plugins.plugin import Setup

MIN_SECONDS, MAX_SECONDS = 1.0, 86_400.0
UNLIMITED = -1  # queries of a connection

_INTEGER = re.compile(r"[+-]?[0-9]{1,9}")


def setup(setup: Setup) -> None:
    """`timeouts { read DURATION; write DURATION; idle DURATION; maxtcpqueries NUMBER }`; numbers are of seconds."""
    directive, stream = setup.directive, setup.block.stream
    for _ in directive.occurrences():
        if directive.remaining_args():
            raise directive.arg_error()
        is_empty = True
        for option in directive.block():
            is_empty = False
            match option:
                case "read":
                    stream.read_seconds = _parse_seconds(directive)
                case "write":
                    stream.write_seconds = _parse_seconds(directive)
                case "idle":
                    stream.idle_seconds = _parse_seconds(directive)
                case "maxtcpqueries" | "max_queries":
                    stream.max_queries = _parse_max_queries(directive)
                case unknown:
                    raise directive.error(f"unknown option: '{unknown}'")
        if is_empty:
            raise directive.error("timeouts block with no timeouts specified")


def _parse_seconds(directive: Dispenser) -> float:
    arguments = directive.remaining_args()
    if len(arguments) != 1:
        raise directive.arg_error()
    text = arguments[0]
    try:
        seconds = parse_duration(f"{text}s" if _INTEGER.fullmatch(text) else text)
    except CorefileError as error:
        raise directive.error(f"failed to parse duration '{text}'") from error
    if not MIN_SECONDS <= seconds <= MAX_SECONDS:
        shown = format_duration(seconds)
        raise directive.error(f"timeout provided '{shown}' needs to be between 1 second and 24 hours")
    return seconds


def _parse_max_queries(directive: Dispenser) -> int | None:
    """How many queries a connection may ask; None: any number."""
    arguments = directive.remaining_args()
    if len(arguments) != 1:
        raise directive.arg_error()
    if not _INTEGER.fullmatch(arguments[0]):
        raise directive.error(f'strconv.Atoi: parsing "{arguments[0]}": invalid syntax')
    number = int(arguments[0])
    if number < UNLIMITED:
        raise directive.error(f"maxtcpqueries of {number}, expected {UNLIMITED} for any number, or more")
    return number if number > 0 else None
