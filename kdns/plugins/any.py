"""`any`: answers questions for all types at once with a word on why not (RFC 8482)."""

from __future__ import annotations

from kdns.dns.codes import RRType
from kdns.dns.compression import write_body
from kdns.dns.reply import Reply
from kdns.dns.rrset import Record
from kdns.plugins.plugin import Handler, Request, Route, Setup

TTL = 8482  # seconds; the RFC's number, as CoreDNS

_TEXTS = (b"ANY obsoleted", b"See RFC 8482")  # CPU and OS of the HINFO record
_RDATA = b"".join(bytes([len(text)]) + text for text in _TEXTS)


class Any:
    """Answers type ANY with one HINFO record, and hands on everything else."""

    transparent = True  # on a route that misses type ANY

    async def serve(self, request: Request, next_handler: Handler) -> Reply:
        """Answer type ANY."""
        query = request.query
        if query.qtype != RRType.ANY:
            return await next_handler(request)
        body = write_body(query.name, [Record(query.name, RRType.HINFO, TTL, _RDATA)])
        return Reply(body=body, authoritative=False, writer="any")

    def adapt_route(self, route: Route) -> Route:
        """The compiled path must leave type ANY to this plugin."""
        return route._replace(any_is_miss=True)


def setup(setup: Setup) -> Any:
    """`any`, no arguments."""
    directive = setup.directive
    for _ in directive.occurrences():
        if directive.next_arg():
            raise directive.arg_error()
    return Any()
