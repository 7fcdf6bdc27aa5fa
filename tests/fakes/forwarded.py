"""A Corefile with `forward`, served over UDP by the compiled path and the slow one, in the test's own loop."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

from kdns import resolver
from kdns.corefile import parse
from kdns.hotpath.answer import Responder
from kdns.hotpath.cache import AnswerCache
from kdns.hotpath.forward import Engine
from kdns.hotpath.meter import Meters
from kdns.hotpath.udp import UdpSocket, address_of
from kdns.metrics import OUTCOMES
from kdns.plugins import ORDER
from kdns.plugins.plugin import Route, Surroundings

SIZE = 1 << 20  # octets of the cache
WAIT_SECONDS = 10.0  # for a reply; a busy machine takes its time


@dataclass(slots=True)
class ForwardingServer:
    """One listener at a loopback address."""

    corefile: str
    is_compiled: bool = True  # otherwise the slow path does everything
    slow: list[bytes] = field(default_factory=list)  # what it was asked
    memory: AnswerCache = field(default_factory=lambda: AnswerCache(1, SIZE))
    surroundings: Surroundings = field(default_factory=lambda: Surroundings(has_manifests=True))
    counters: bytearray = field(default_factory=lambda: bytearray(8 * len(OUTCOMES)))
    address: tuple[str, int] = ("", 0)
    engines: list[Engine] = field(default_factory=list)
    routes: list[Route] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[ForwardingServer]:
        """Serve."""
        self.surroundings.cache.memory = self.memory
        built = resolver.build(parse(self.corefile, "Corefile", ORDER, {}), self.surroundings, 53)
        listener, registry = built.listeners[0], self.surroundings.metrics
        meters = Meters(registry.meters.row(0)) if self.surroundings.prometheus else None
        self.routes = listener.routes()
        responder = Responder(
            self.routes, cache=self.memory, numbers=registry.row, counters=self.counters, meters=meters
        )  # fmt: skip
        self.engines = list(responder.engines)  # type: ignore[arg-type]
        bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        bound.setblocking(False)
        bound.bind(("127.0.0.1", 0))
        self.address = bound.getsockname()
        server = UdpSocket(bound.fileno(), responder, False)

        async def answer(message: bytes, peer: bytes, control: bytes) -> None:
            self.slow.append(message)
            reply = await built.answer(listener, message, address_of(peer), stream=False)
            if reply is not None:
                server.send(reply, peer, control)

        def start(message: bytes, peer: bytes, control: bytes) -> None:
            task = asyncio.ensure_future(answer(message, peer, control))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        def on_readable() -> None:
            for missed in server.receive() or ():
                start(*missed)

        if self.is_compiled:
            server.use_engines(start)
        loop = asyncio.get_running_loop()
        background = [asyncio.ensure_future(run()) for run in built.background()]
        await asyncio.sleep(0)
        loop.add_reader(bound.fileno(), on_readable)
        try:
            yield self
        finally:
            loop.remove_reader(bound.fileno())
            for task in (*background, *self._tasks):
                task.cancel()
            await asyncio.gather(*background, *self._tasks, return_exceptions=True)
            bound.close()

    async def ask(self, message: bytes, replies: int = 1) -> list[bytes]:
        """What a client gets for a message."""
        return await self.ask_all([message], replies)

    async def ask_all(self, messages: Sequence[bytes], replies: int | None = None) -> list[bytes]:
        """What comes to one client that sends all these at once."""
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.setblocking(False)
            client.connect(self.address)
            for message in messages:
                client.send(message)
            receive = partial(loop.sock_recv, client, 65_535)
            return [
                await asyncio.wait_for(receive(), WAIT_SECONDS)
                for _ in range(len(messages) if replies is None else replies)
            ]

    async def wait_for(self, clients: int) -> None:
        """Return once so many clients have been heard: they wait for an upstream, or the slow path has them, or they
        were turned down.
        """
        deadline, engine = time.monotonic() + WAIT_SECONDS, self.engines[0]
        while len(self.slow) + engine.waiting + self.turned_down < clients:
            assert time.monotonic() < deadline, f"{len(self.slow)} and {engine.waiting} of {clients}"
            await asyncio.sleep(0.001)

    @property
    def turned_down(self) -> int:
        """Queries the compiled path gave no answer to, and told so."""
        return sum(engine.refused + engine.overloaded + engine.unanswered for engine in self.engines)

    def outcomes(self) -> dict[str, int]:
        """How often each outcome was counted."""
        numbers = memoryview(self.counters).cast("Q")
        return {name: count for name, count in zip(OUTCOMES, numbers, strict=True) if count}

    def total(self, name: str, *labels: str) -> float:
        """The value of a counter."""
        return self.surroundings.metrics.families[name].total(labels)
