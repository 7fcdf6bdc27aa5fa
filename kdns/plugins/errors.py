"""`errors`: logs why a query was not answered; equal reasons can be counted together."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field

from kdns import log
from kdns.corefile import format_duration, parse_duration
from kdns.dns import names
from kdns.dns.codes import type_text
from kdns.dns.reply import Reply
from kdns.errors import CorefileError, ServeError
from kdns.plugins.plugin import Handler, Request, Setup

LEVELS = ("warning", "error", "info", "debug")
MAX_PATTERN = 10_000  # characters of a regular expression, as CoreDNS allows

_LOG = log.plugin_logger("errors")


@dataclass(slots=True)
class Consolidation:
    """One `consolidate` line: errors a pattern meets are counted, and told of once a period."""

    period_seconds: float
    pattern: re.Pattern[str]
    level: str = "error"
    show_first: bool = False
    count: int = field(default=0, init=False)

    def note(self, text: str) -> bool:
        """Count an error; whether it opens a period."""
        self.count += 1
        if self.count > 1:
            return False
        if self.show_first:
            _write(self.level, text)
        return True

    def report(self) -> None:
        """Tell of the period that ends."""
        count, self.count = self.count, 0
        if count > 1 or (count == 1 and not self.show_first):
            period = format_duration(self.period_seconds)
            _write(self.level, f"{count} errors like '{self.pattern.pattern}' occurred in last {period}")


class Errors:
    """Logs the error the rest of the chain ends in."""

    transparent = True

    def __init__(self, consolidations: list[Consolidation]) -> None:
        self._consolidations = consolidations

    async def serve(self, request: Request, next_handler: Handler) -> Reply:
        """Hand on; an error is logged and goes on to the server, which answers for it."""
        try:
            return await next_handler(request)
        except ServeError as error:
            self._log(request, error)
            raise

    def _log(self, request: Request, error: ServeError) -> None:
        text = str(error)
        for consolidation in self._consolidations:
            if consolidation.pattern.search(text):
                if consolidation.note(text):
                    asyncio.get_running_loop().call_later(consolidation.period_seconds, consolidation.report)
                return
        query = request.query
        _LOG.error("%d %s %s: %s", error.rcode, names.to_text(query.qname), type_text(query.qtype), text)

    def flush(self) -> None:
        """Tell of the periods that are open; at shutdown."""
        for consolidation in self._consolidations:
            if consolidation.count:
                consolidation.report()


def setup(setup: Setup) -> Errors:
    """`errors [stdout] { stacktrace; consolidate DURATION REGEX [LEVEL] [show_first] }`, once per block."""
    directive = setup.directive
    consolidations: list[Consolidation] = []
    seen = False
    while directive.next():
        if seen:
            raise CorefileError("this plugin can only be used once per Server Block")
        seen = True
        arguments = directive.remaining_args()
        if len(arguments) > 1:
            raise directive.arg_error()
        if arguments and arguments[0] != "stdout":
            raise CorefileError(f"invalid log file: {arguments[0]}")
        while directive.next_block():
            match directive.val:
                case "consolidate":
                    consolidations.append(_parse_consolidate(setup))
                case "stacktrace":
                    if directive.remaining_args():
                        raise directive.arg_error()
                case unknown:
                    raise directive.syntax_error(f"Unknown field {unknown}")
    return Errors(consolidations)


def _parse_consolidate(setup: Setup) -> Consolidation:
    directive = setup.directive
    arguments = directive.remaining_args()
    if not 2 <= len(arguments) <= 4:
        raise directive.arg_error()
    try:
        period = parse_duration(arguments[0])
    except CorefileError as error:
        raise directive.error(str(error)) from error
    if len(arguments[1]) > MAX_PATTERN:
        raise directive.error(f"regex pattern too long: {len(arguments[1])} > {MAX_PATTERN}")
    try:
        pattern = re.compile(arguments[1])
    except re.error as error:
        raise directive.error(f"error parsing regexp {arguments[1]!r}: {error}") from error
    consolidation = Consolidation(period, pattern)
    options = arguments[2:]
    if options and options[0] != "show_first":
        if options[0] not in LEVELS:
            raise directive.error(f"unknown log level {options[0]!r} in consolidate option")
        consolidation.level = options.pop(0)
    if options:
        if options != ["show_first"]:
            raise directive.error(
                f"unknown option {options[-1]!r} in consolidate, expected show_first behind the level"
            )
        consolidation.show_first = True
    return consolidation


def _write(level: str, text: str) -> None:
    getattr(_LOG, level)("%s", text)
