"""`bufsize`: how large replies over UDP may be, to clients and from upstream servers alike."""

from __future__ import annotations

import re
from dataclasses import replace

from kdns.dns.reply import Reply
from kdns.plugins.plugin import Handler, Request, Route, Setup

DEFAULT_SIZE = 1232  # octets (DNS flag day 2020), as CoreDNS
MIN_SIZE, MAX_SIZE = 512, 4096  # octets (RFC 6891, 6.2.3 and 6.2.5)

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")


class Bufsize:
    """Lowers the size a query asks for; a query without EDNS asks for nothing."""

    transparent = True

    def __init__(self, size: int) -> None:
        self._size = size

    async def serve(self, request: Request, next_handler: Handler) -> Reply:
        """Hand on a query that asks for no more than the limit."""
        edns = request.query.edns
        if edns is not None and edns.payload_size > self._size:
            lowered = replace(request.query, edns=replace(edns, payload_size=self._size))
            request = replace(request, query=lowered)
        return await next_handler(request)

    def adapt_route(self, route: Route) -> Route:
        """The compiled path keeps to the same limit."""
        return route._replace(udp_limit=self._size)


def setup(setup: Setup) -> Bufsize:
    """`bufsize [SIZE]`; of several lines the first counts."""
    directive = setup.directive
    directive.next()
    arguments = directive.remaining_args()
    size = DEFAULT_SIZE
    if arguments:
        size = int(arguments[0]) if _INTEGER.fullmatch(arguments[0]) else 0
        if len(arguments) > 1 or not MIN_SIZE <= size <= MAX_SIZE:
            raise directive.arg_error()
    setup.block.udp_limit = size
    return Bufsize(size)
