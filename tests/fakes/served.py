"""A Corefile served without processes and sockets: the compiled path and the slow path over one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kdns import resolver
from kdns.cluster.objects import Event
from kdns.cluster.resources import OF_KIND
from kdns.cluster.store import Store
from kdns.cluster.unlisted import Unlisted
from kdns.corefile import parse
from kdns.hotpath.answer import Responder
from kdns.hotpath.cache import MIN_ARENA_BYTES, AnswerCache
from kdns.hotpath.table import Table
from kdns.metrics import OUTCOMES
from kdns.plugins import ORDER
from kdns.plugins.plugin import Surroundings
from kdns.server.publisher import Publisher
from kdns.table.builder import TableBuilder

CLIENT = ("192.0.2.1", 4242)


@dataclass(slots=True)
class Served:
    """One listener's compiled path and slow path."""

    resolver: resolver.Resolver
    responder: Responder
    builder: TableBuilder
    stores: Sequence[Store]

    def fast(self, message: bytes, *, stream: bool = False, chance: int = 0) -> tuple[str, bytes | None]:
        """(outcome, reply) of the compiled path."""
        outcome, reply = self.responder.respond_once(message, stream=stream, chance=chance)
        return OUTCOMES[outcome], reply

    def slow(self, message: bytes, *, stream: bool = False, chance: int = 0) -> bytes | None:
        """The reply of the slow path."""
        answer = self.resolver.answer(self.resolver.listeners[0], message, CLIENT, stream=stream, chance=chance)
        try:
            answer.send(None)
        except StopIteration as stop:
            return stop.value
        raise AssertionError("nothing in these chains waits")

    def any(self, message: bytes, *, stream: bool = False, chance: int = 0) -> bytes | None:
        """The reply a client gets."""
        outcome, reply = self.fast(message, stream=stream, chance=chance)
        return self.slow(message, stream=stream, chance=chance) if outcome == "miss" else reply


def serve(
    corefile: str,
    events: Sequence[Event],
    local_addresses: tuple[bytes, ...] = (b"\x0a\x01\x01\x01",),
    unlisted: Unlisted = Unlisted.NOTHING,
) -> Served:
    """Build everything a worker would answer with, where some kinds of objects have not been listed."""
    surroundings = Surroundings(local_addresses, has_manifests=True)
    built = resolver.build(parse(corefile, "Corefile", ORDER, {}), surroundings, 53)
    publisher = Publisher(surroundings.views, lambda table: None, clock=lambda: 1_700_000_000.0)
    for index in range(len(surroundings.views)):
        publisher.apply(index, [event for event in events if not OF_KIND[event.kind] & unlisted])
    publisher.sync(range(len(surroundings.views)), unlisted)
    table = Table(publisher.builder.table.fd)
    surroundings.current_table.table = table
    if surroundings.cache.entries:
        surroundings.cache.memory = AnswerCache(1, MIN_ARENA_BYTES)
        surroundings.cache.memory.hold_clock(1_000_000)  # both paths are asked at the same time
    responder = Responder(built.listeners[0].routes(), cache=surroundings.cache.memory)
    responder.set_table(table)
    return Served(built, responder, publisher.builder, publisher.stores)
