"""`nsid`: tells clients who ask for it which server answers (RFC 5001)."""

from __future__ import annotations

import socket
from dataclasses import replace

from kdns.dns.codes import EdnsOption
from kdns.dns.reply import Reply
from kdns.plugins.plugin import Handler, Request, Route, Setup


class Nsid:
    """Adds this server's name to replies where the query asks for it."""

    transparent = True  # on a route that misses queries with the option

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def serve(self, request: Request, next_handler: Handler) -> Reply:
        """Hand on, and sign the reply."""
        reply = await next_handler(request)
        edns = request.query.edns
        if edns is None or all(code != EdnsOption.NSID for code, _ in edns.options):
            return reply
        others = tuple(option for option in reply.options if option[0] != EdnsOption.NSID)
        # DO comes with it, as CoreDNS has it.
        return replace(reply, options=(*others, (int(EdnsOption.NSID), self._data)), forces_opt=True)

    def adapt_route(self, route: Route) -> Route:
        """The compiled path must leave queries with the option to this plugin."""
        return route._replace(nsid_is_miss=True)


def setup(setup: Setup) -> Nsid:
    """`nsid [DATA...]`, the host's name where there is none; once per block."""
    directive = setup.directive
    arguments: list[str] = []
    for _ in directive.only_occurrence():
        arguments = directive.remaining_args()
    return Nsid((" ".join(arguments) or socket.gethostname()).encode("utf-8", "surrogateescape"))
