"""`minimal`: successful replies go out with their answers alone."""

from __future__ import annotations

import time
from dataclasses import replace

from kdns.dns.classify import ResponseType, classify
from kdns.dns.compression import Body
from kdns.dns.reply import Reply, record_end
from kdns.plugins.plugin import Handler, Request, Route, Setup


class Minimal:
    """Takes authority and additional section off replies that have an answer, or nothing to say at all."""

    # On a route that misses what has additional records. Success from the table has no authority section, and denial
    # keeps its own; of what it answers, SRV and NS records alone bring addresses along.
    transparent = True

    async def serve(self, request: Request, next_handler: Handler) -> Reply:
        """Hand on, and cut the reply if it is a success."""
        reply = await next_handler(request)
        body = reply.body
        if not body.authorities and not body.additionals:
            return reply
        if classify(request.query, reply, time.time()) is not ResponseType.NOERROR:
            return reply
        return replace(reply, body=_answers_of(body))

    def adapt_route(self, route: Route) -> Route:
        """The compiled path must leave replies with additional records to this plugin."""
        return route._replace(additional_is_miss=True)


def setup(setup: Setup) -> Minimal:
    """`minimal`, no arguments."""
    directive = setup.directive
    for _ in directive.occurrences():
        if directive.next_arg():
            raise directive.arg_error()
    return Minimal()


def _answers_of(body: Body) -> Body:
    """The answer section alone: what follows it is never pointed to by it."""
    end = 0
    for _ in range(body.answers):
        end = record_end(body.octets, end)
    return body._replace(octets=body.octets[:end], authorities=0, additionals=0)
