"""`errors`: logs why a query was not answered; equal reasons can be counted together."""

from __future__ import annotations

import asyncio
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kdns import log
from kdns.corefile import format_duration, parse_duration
from kdns.dns import names
from kdns.dns.codes import type_text
from kdns.dns.reply import Reply
from kdns.errors import CorefileError, ServeError
from kdns.plugins.consolidation import LATE_SECONDS, Period, SharedCounts
from kdns.plugins.plugin import Handler, Request, Setup

if TYPE_CHECKING:
    from kdns.plugins.pattern import Pattern

LEVELS = ("warning", "error", "info", "debug")

_LOG = log.plugin_logger("errors")


@dataclass(slots=True)
class Consolidation:
    """One `consolidate` line: errors a pattern meets are counted, by all workers, and told of once a period."""

    period_seconds: float
    pattern: Pattern
    level: str = "error"
    show_first: bool = False
    _counts: SharedCounts = field(init=False)
    _number: int = field(init=False)  # of the pattern, in those counts
    _watched: int = field(default=0, init=False)  # the last period this process looks after

    def count_in(self, counts: SharedCounts, number: int) -> None:
        """Count there from now on, under this number."""
        self._counts, self._number = counts, number

    def note(self) -> bool:
        """Count an error; whether it opens a period."""
        period = self._counts.add(self._number, self.period_seconds)
        opens = period.errors == 1
        self._watch(period, 0.0 if opens else LATE_SECONDS)
        return opens

    def watch_open(self) -> None:
        """See to it that a period others have opened is told of, also if all of them die."""
        period = self._counts.open_period(self._number)
        if period is not None:
            self._watch(period, LATE_SECONDS)

    def report_open(self) -> None:
        """Tell of a period that is open now, and end it."""
        period = self._counts.open_period(self._number)
        if period is not None:
            self._report(period.number)

    def _watch(self, period: Period, late_seconds: float) -> None:
        if period.number != self._watched:
            self._watched = period.number
            asyncio.get_running_loop().call_at(period.end + late_seconds, self._report, period.number)

    def _report(self, number: int) -> None:
        """Tell of a period, unless somebody did."""
        count = self._counts.close(self._number, number)
        if count > 1 or (count == 1 and not self.show_first):
            period = format_duration(self.period_seconds)
            _write(self.level, f"{count} errors like '{self.pattern.text}' occurred in last {period}")


class Errors:
    """Logs the error the rest of the chain ends in."""

    transparent = True

    def __init__(self, consolidations: list[Consolidation], stacktrace: bool = False) -> None:
        self._consolidations = consolidations
        self._stacktrace = stacktrace
        if consolidations:
            counts = SharedCounts(len(consolidations))
            for number, consolidation in enumerate(consolidations):
                consolidation.count_in(counts, number)

    async def run(self) -> None:
        """Take over the periods of a worker that died, when this one begins."""
        for consolidation in self._consolidations:
            consolidation.watch_open()

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
        """One line, unless a consolidation counts the error instead: the first whose pattern it meets.

        An rcode without a reason is no line.
        """
        text, level = str(error), "error"
        if not text:
            return
        for consolidation in self._consolidations:
            if consolidation.pattern.is_in(text):
                opens_period = consolidation.note()
                if not opens_period or not consolidation.show_first:
                    return
                level = consolidation.level
                break
        query = request.query
        _write(level, f"{error.rcode} {names.to_text(query.qname)} {type_text(query.qtype)}: {text}")

    def flush(self) -> None:
        """Tell of the periods that are open; at shutdown."""
        for consolidation in self._consolidations:
            consolidation.report_open()


def setup(setup: Setup) -> Errors:
    """`errors [stdout] { stacktrace; consolidate DURATION REGEX [LEVEL] [show_first] }`, once per block."""
    directive = setup.directive
    consolidations: list[Consolidation] = []
    stacktrace = False
    for _ in directive.only_occurrence():
        if (file := directive.optional_arg()) not in (None, "stdout"):
            raise directive.error(f"invalid log file: {file}")
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
    from kdns.plugins.pattern import Pattern, PatternError  # RE2, which takes longer to load than all the rest here

    try:
        pattern = Pattern(arguments[1])
    except PatternError as error:
        raise directive.error(str(error)) from error
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
