"""What the supervisor gives its children, without a supervisor."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from kdns.metrics import CounterTable, Registry
from kdns.plugins.plugin import Surroundings
from kdns.server.cache_memory import make_cache
from kdns.server.context import ServerContext, count_rows
from kdns.server.control import Channel
from kdns.server.sockets import bind_listener
from kdns.server.state import DEFAULT_MAX_AGE_SECONDS, StateFolder, open_state
from kdns.table.epochs import ReaderEpochs
from tests.fakes.directives import build
from tests.harness.places import free_port

T = TypeVar("T")


@contextmanager
def served_context(
    corefile: str, manifests: Path | str = "", workers: int = 1, state_dir: Path | None = None
) -> Iterator[ServerContext]:
    """A context with sockets on 127.0.0.1; a key without a port gets a free one."""
    surroundings = Surroundings(has_manifests=True, metrics=Registry(count_rows(workers)))
    built = build(corefile, surroundings, free_port())
    surroundings.cache.memory = make_cache(surroundings.cache.entries, workers, None)
    state: StateFolder | None = None
    if state_dir is not None:
        state = open_state(str(state_dir), DEFAULT_MAX_AGE_SECONDS, surroundings, str(manifests))
    sockets = tuple(bind_listener("127.0.0.1", listener.port, workers) for listener in built.listeners)
    try:
        yield ServerContext(
            resolver=built,
            sockets=sockets,
            workers=workers,
            counters=CounterTable(count_rows(workers)),
            epochs=ReaderEpochs(count_rows(workers)),
            manifests=str(manifests),
            state=state,
        )
    finally:
        for listener in sockets:
            listener.close()


@contextmanager
def channel_pair() -> Iterator[tuple[Channel, Channel]]:
    """The supervisor's end, and the child's."""
    ours, theirs = Channel.pair()
    try:
        yield ours, theirs
    finally:
        ours.close()
        theirs.close()


async def until(condition: Callable[[], T], what: str, timeout_seconds: float = 5.0) -> T:
    """The first true value of `condition`."""
    deadline = time.monotonic() + timeout_seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"after {timeout_seconds:g} s, still not: {what}"
        await asyncio.sleep(0.005)
    return value


async def http_get(port: int, path: str) -> tuple[int, str]:
    """(status, body) from 127.0.0.1; status 0 where nobody listens."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return 0, ""
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return int(head.split()[1]), body


def unused_tcp_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
