"""`errors`: logs why a query was not answered; equal reasons can be counted together."""

from __future__ import annotations

import asyncio
import re
import traceback
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

    def note(self) -> bool:
        """Count an error; whether it opens a period."""
        self.count += 1
        return self.count == 1

    def report(self) -> None:
        """Tell of the period that ends."""
        count, self.count = self.count, 0
        if count > 1 or (count == 1 and not self.show_first):
            period = format_duration(self.period_seconds)
            _write(self.level, f"{count} errors like '{self.pattern.pattern}' occurred in last {period}")


class Errors:
    """Logs the error the rest of the chain ends in."""

    transparent = True

    def __init__(self, consolidations: list[Consolidation], stacktrace: bool = False) -> None:
        self._consolidations = consolidations
        self._stacktrace = stacktrace

    async def serve(self, request: Request, next_handler: Handler) -> Reply:
        """Hand on; an error is logged and goes on to the server, which answers for it."""
        try:
            return await next_handler(request)
        except ServeError as error:
            self._log(request, error)
            raise
        except Exception:
            if self._stacktrace:
                _LOG.error("%s", traceback.format_exc().rstrip())
            raise

    def _log(self, request: Request, error: ServeError) -> None:
        """One line, unless a consolidation counts the error instead: the first whose pattern it meets."""
        text, level = str(error), "error"
        for consolidation in self._consolidations:
            if consolidation.pattern.search(text):
                opens_period = consolidation.note()
                if opens_period:
                    asyncio.get_running_loop().call_later(consolidation.period_seconds, consolidation.report)
                if not opens_period or not consolidation.show_first:
                    return
                level = consolidation.level
                break
        query = request.query
        _write(level, f"{error.rcode} {names.to_text(query.qname)} {type_text(query.qtype)}: {text}")

    def flush(self) -> None:
        """Tell of the periods that are open; at shutdown."""
        for consolidation in self._consolidations:
            if consolidation.count:
                consolidation.report()


def setup(setup: Setup) -> Errors:
    """`errors [stdout] { stacktrace; consolidate DURATION REGEX [LEVEL] [show_first] }`, once per block."""
    directive = setup.directive
    consolidations: list[Consolidation] = []
    seen = stacktrace = False
    while directive.next():
        if seen:
            raise CorefileError("this plugin can only be used once per Server Block")
        seen = True
        arguments = directive.remaining_args()
        if len(arguments) > 1:
            raise directive.arg_error()
        if arguments and arguments[0] != "stdout":
            raise directive.error(f"invalid log file: {arguments[0]}")
        while directive.next_block():
            match directive.val:
                case "consolidate":
                    consolidations.append(_parse_consolidate(setup))
                case "stacktrace":
                    stacktrace = True
                case unknown:
                    raise directive.syntax_error(f"Unknown field {unknown}")
    return Errors(consolidations, stacktrace)


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
        raise directive.error(f"error parsing regexp: {error}: `{arguments[1]}`") from error
    level, show_first = "", False
    for option in arguments[2:]:
        if option == "show_first":
            show_first = True
        elif option not in LEVELS:
            raise directive.error(f"unknown option in consolidate: {option}")
        elif level:
            raise directive.error("multiple log levels specified in consolidate")
        elif show_first:
            raise directive.error("log level must come before show_first in consolidate")
        else:
            level = option
    return Consolidation(period, pattern, level or "error", show_first)


def _write(level: str, text: str) -> None:
    getattr(_LOG, level)("%s", text)
