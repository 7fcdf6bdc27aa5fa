"""`forward`: other servers answer for the names of a zone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from kdns.dns.reply import Reply
from kdns.dns.walker import is_empty
from kdns.hotpath.forward import Engine
from kdns.plugins.forward.compiled import Rules
from kdns.plugins.forward.forwarder import Forwarder
from kdns.plugins.forward.meters import Meters
from kdns.plugins.forward.options import parse_options
from kdns.plugins.forward.upstream import Upstream
from kdns.plugins.plugin import Handler, Request, Setup

LOOK_SECONDS = 1.0  # between two looks at files and idle connections; a file is read only as often as this


class Forward:
    """All `forward` lines of a server block, in their order: the first that takes a name answers for it."""

    transparent = True

    def __init__(self, forwarders: Sequence[Forwarder]) -> None:
        self._forwarders = forwarders

    @property
    def upstreams(self) -> Sequence[Upstream]:
        """Everybody who may be asked."""
        return [upstream for forwarder in self._forwarders for upstream in forwarder.upstreams]

    @property
    def cuts(self) -> Sequence[bytes]:
        """The zones from which on names are treated in another way."""
        return [zone for forwarder in self._forwarders for zone in forwarder.cuts]

    def engine_of(self, suffix: bytes, rules: Rules | None) -> Engine | None:
        """What asks for the names below a suffix on the compiled path, where all are treated alike; None: nothing does.

        `rules` are those of the `cache` before this.
        """
        for index, forwarder in enumerate(self._forwarders):
            if forwarder.takes_all(suffix):
                compiled = forwarder.compile(rules, is_last=index + 1 == len(self._forwarders))
                return None if compiled is None else compiled.engine
        return None

    async def serve(self, request: Request, next_handler: Handler) -> Reply:
        """Ask an upstream, or hand names on that are for none."""
        query = request.query
        forwarders = self._forwarders
        for index, forwarder in enumerate(forwarders):
            if not forwarder.takes(query.qname):
                continue
            reply = await forwarder.answer(query, request.stream)
            wants_next = reply.rcode in forwarder.next_rcodes or (forwarder.next_on_nodata and is_empty(reply))
            if not wants_next or index + 1 == len(forwarders):
                return reply
        return await next_handler(request)

    async def run(self) -> None:
        """Follow files, and close what nobody uses, until cancelled."""
        for forwarder in self._forwarders:
            forwarder.claim()
        try:
            while True:
                # At once: a worker that takes over from a dead one knows the files as they were at setup.
                for forwarder in self._forwarders:
                    forwarder.follow_files()
                    forwarder.close_expired()
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            self.close()

    def close(self) -> None:
        """Keep no connections but those a query is on its way over, and check nobody's health any more."""
        for forwarder in self._forwarders:
            forwarder.close()


def setup(setup: Setup) -> Forward:
    """`forward FROM TO... { OPTION... }`, any number of times in a block."""
    setup.block.takes_other_classes = True
    meters = Meters(setup.surroundings.metrics)
    directive = setup.directive
    return Forward(
        [Forwarder(parse_options(directive, setup.block.folder), meters) for _ in directive.occurrences()]
    )  # fmt: skip
