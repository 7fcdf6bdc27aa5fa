"""`reload`: how often the supervisor looks whether the Corefile has changed."""

from __future__ import annotations

from kdns.corefile import format_duration, parse_duration
from kdns.errors import CorefileError
from kdns.plugins.plugin import ReloadSettings, Setup

DEFAULT_INTERVAL_SECONDS, MIN_INTERVAL_SECONDS = 30.0, 2.0
DEFAULT_JITTER_SECONDS, MIN_JITTER_SECONDS = 15.0, 1.0  # or none at all


def setup(setup: Setup) -> None:
    """`reload [INTERVAL [JITTER]]`. It is for the whole process: of several the last one counts."""
    directive = setup.directive
    directive.next()  # of several lines in a block, which CoreDNS lets pass, the first
    arguments = directive.remaining_args()
    if len(arguments) > 2:
        raise directive.arg_error()
    interval, jitter = DEFAULT_INTERVAL_SECONDS, DEFAULT_JITTER_SECONDS
    if arguments:
        interval = parse_duration(arguments[0])
    if interval < MIN_INTERVAL_SECONDS:
        raise CorefileError(f"interval value must be greater or equal to {format_duration(MIN_INTERVAL_SECONDS)}")
    if len(arguments) > 1:
        jitter = parse_duration(arguments[1])
    if jitter != 0 and jitter < MIN_JITTER_SECONDS:
        raise CorefileError(f"jitter value must be greater or equal to {format_duration(MIN_JITTER_SECONDS)}")
    setup.surroundings.reload = ReloadSettings(interval, min(jitter, interval / 2))
