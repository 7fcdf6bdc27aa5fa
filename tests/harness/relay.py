"""Leads TCP connections from the network namespace of a place to a server on the machine's own loopback."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

from tests.harness.places import Place

_CHUNK = 1 << 18  # octets


class Relay:
    """Listens in a place on the port that the server has outside of it."""

    def __init__(self, place: Place, port: int, address: str = "127.0.0.1") -> None:
        self._target = (address, port)
        self._listener = place.run(lambda: socket.create_server((address, port)))
        self._connections: set[asyncio.Task[None]] = set()
        self._is_running = threading.Event()
        # A thread has the network of whoever starts it: connections are made outside.
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="relay", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._is_running.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join()

    async def _run(self) -> None:
        self._loop, self._ending = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._serve, sock=self._listener)
        self._is_running.set()
        await self._ending.wait()
        server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        with suppress(OSError, asyncio.CancelledError):
            upstream = await asyncio.open_connection(*self._target)
            await asyncio.gather(_copy(reader, upstream[1]), _copy(upstream[0], writer))
        writer.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(_CHUNK):
            writer.write(chunk)
            await writer.drain()
    finally:
        writer.transport.abort()
