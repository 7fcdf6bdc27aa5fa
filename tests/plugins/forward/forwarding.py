"""A `forward` set up from a Corefile's lines, and questions to it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import dns.message

from kdns.dns import names
from kdns.dns.query import Edns, Query, parse_query
from kdns.dns.records import read_answers
from kdns.dns.reply import Reply
from kdns.errors import ServeError
from kdns.metrics import Registry
from kdns.plugins.forward import Forward
from kdns.plugins.plugin import Request, Surroundings
from tests.fakes.directives import CLIENT, query, set_up


@dataclass(slots=True)
class Forwarding:
    """The directive, and what it counts."""

    plugin: Forward
    metrics: Registry

    async def ask(
        self, name: str = "a.test", rtype: str = "A", stream: bool = False, edns: Edns | None = None
    ) -> Reply:
        """The reply to a question."""
        return await self.ask_query(query(name, rtype, edns), stream)

    async def ask_query(self, asked: Query, stream: bool = False) -> Reply:
        """The reply to a query."""

        async def resolve(_: Request) -> Reply:
            raise AssertionError("asked the server another question")

        return await self.plugin.serve(Request(asked, CLIENT, stream, resolve), no_next)

    async def failure(self, name: str = "a.test", stream: bool = False) -> str:
        """The error a question ends in, behind its rcode."""
        try:
            reply = await self.ask(name, stream=stream)
        except ServeError as error:
            return f"{error.rcode} {error}"
        raise AssertionError(f"answered: {reply}")

    def total(self, name: str, *labels: str) -> float:
        """The value of a counter."""
        return self.metrics.families[name].total(labels)


async def no_next(_: Request) -> Reply:
    """The end of a chain."""
    raise ServeError("plugin/forward: no next plugin found", 2)


@asynccontextmanager
async def forwarding(*lines: str) -> AsyncIterator[Forwarding]:
    """The directive written in these lines, ready to serve."""
    surroundings = Surroundings(has_manifests=True)
    plugin = set_up("\n".join(lines), surroundings)
    try:
        yield Forwarding(plugin, surroundings.metrics)
    finally:
        plugin.close()


def addresses(reply: Reply, name: str = "a.test", rtype: str = "A") -> list[str]:
    """The addresses in a reply's answers."""
    return [names.address_text(record.rdata) for record in read_answers(query(name, rtype).head, reply.body)]


@dataclass(slots=True)
class Stopwatch:
    """Seconds since it was made."""

    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """How long it runs."""
        return time.monotonic() - self.started


def edns_query(name: str, rtype: str = "A", **options: object) -> Query:
    """A query as dnspython writes it."""
    _, parsed = parse_query(dns.message.make_query(name, rtype, **options).to_wire())  # type: ignore[arg-type]
    assert parsed is not None
    return parsed
