"""`cancel`: gives up on a query after a while."""

from __future__ import annotations

import asyncio

from kdns.corefile import parse_duration
from kdns.dns.codes import Rcode
from kdns.dns.reply import Reply
from kdns.errors import CorefileError, ServeError
from kdns.plugins.plugin import Handler, Request, Setup

DEFAULT_SECONDS = 5.001  # as CoreDNS: a moment longer than most clients wait


class Cancel:
    """Limits the time the rest of the chain may take."""

    transparent = True  # what the compiled path answers takes no time

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def serve(self, request: Request, next_handler: Handler) -> Reply:
        """Hand on; what takes too long is a server failure."""
        try:
            async with asyncio.timeout(self._seconds) as timeout:
                return await next_handler(request)
        except TimeoutError as error:
            if not timeout.expired():
                raise
            raise ServeError("context deadline exceeded", Rcode.SERVFAIL) from error


def setup(setup: Setup) -> Cancel:
    """`cancel [DURATION]`; of several lines the last counts."""
    directive = setup.directive
    seconds = DEFAULT_SECONDS
    for _ in directive.occurrences():
        arguments = directive.remaining_args()
        if len(arguments) > 1:
            raise directive.arg_error()
        seconds = _parse_seconds(arguments[0]) if arguments else DEFAULT_SECONDS
    return Cancel(seconds)


def _parse_seconds(text: str) -> float:
    try:
        seconds = parse_duration(text)
    except CorefileError as error:
        raise CorefileError(f'invalid duration: "{text}"') from error
    if seconds <= 0:
        raise CorefileError(f'invalid negative duration: "{text}"')
    return seconds
