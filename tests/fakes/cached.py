"""A Corefile with `cache` before a plugin whose replies a test makes: both paths, one memory, a clock that is held."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

from kdns import resolver
from kdns.corefile import parse
from kdns.dns.reply import Reply
from kdns.hotpath.answer import Responder
from kdns.hotpath.cache import AnswerCache
from kdns.metrics import OUTCOMES
from kdns.plugins import ORDER
from kdns.plugins.plugin import Handler, Request, Setup, Surroundings

CLIENT = ("192.0.2.1", 4242)
START = 1_000_000  # ms
SIZE = 1 << 20  # octets

Answer = Callable[[Request], Reply | Awaitable[Reply]]


@dataclass(slots=True)
class Scripted:
    """The plugin at the end, in place of the directive `erratic`: answers by a function, and keeps what was asked."""

    answer: Answer
    asked: list[Request] = field(default_factory=list)
    transparent: bool = False

    async def serve(self, request: Request, next_handler: Handler) -> Reply:
        """Answer."""
        return await self.serve_last(request)

    async def serve_last(self, request: Request) -> Reply:
        """Answer, as the handler at the end of a chain."""
        self.asked.append(request)
        reply = self.answer(request)
        return reply if isinstance(reply, Reply) else await reply


class CachedServer:
    """One listener; `clock` moves time."""

    def __init__(self, corefile: str, answer: Answer, memory: AnswerCache | None = None) -> None:
        self.upstream = Scripted(answer)
        self.memory = AnswerCache(1, SIZE) if memory is None else memory
        self.now = START
        self.memory.hold_clock(self.now)
        self.surroundings = Surroundings(has_manifests=True)
        self.surroundings.cache.memory = self.memory

        def setup(_: Setup) -> Any:
            return self.upstream

        with patch.dict(resolver.SETUPS, {"erratic": setup}):
            self.resolver = resolver.build(parse(corefile, "Corefile", ORDER, {}), self.surroundings, 53)
        self.listener = self.resolver.listeners[0]
        self.responder = Responder(
            self.listener.routes(), cache=self.memory, numbers=self.surroundings.metrics.row
        )  # fmt: skip

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += round(1000 * seconds)
        self.memory.hold_clock(self.now)

    def fast(self, message: bytes, *, stream: bool = False, chance: int = 0) -> tuple[str, bytes | None]:
        """(outcome, reply) of the compiled path."""
        outcome, reply = self.responder.respond_once(message, stream=stream, chance=chance)
        return OUTCOMES[outcome], reply

    async def slow(self, message: bytes, *, stream: bool = False, chance: int = 0) -> bytes | None:
        """The reply of the slow path."""
        return await self.resolver.answer(self.listener, message, CLIENT, stream=stream, chance=chance)

    async def ask(self, message: bytes, *, stream: bool = False, chance: int = 0) -> bytes | None:
        """The reply a client gets."""
        outcome, reply = self.fast(message, stream=stream, chance=chance)
        return await self.slow(message, stream=stream, chance=chance) if outcome == "miss" else reply

    def total(self, metric: str, *labels: str) -> float:
        """The value of a metric of `cache` for this listener's root zone."""
        return self.surroundings.metrics.families[f"coredns_cache_{metric}"].total((self.listener.label, *labels))


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that waits for nothing."""
    return asyncio.run(work)
