"""An API server as a reflector sees it, in memory: no sockets, and time only as the test lets it pass."""

from __future__ import annotations

import asyncio
import json
import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from kdns.cluster.api_errors import ApiError, ErrorKind
from kdns.cluster.lines import LineSplitter
from kdns.cluster.objects import Event, Kind
from kdns.cluster.outage import Outage
from kdns.cluster.reflector import Reflector
from kdns.cluster.replica import Replica
from kdns.cluster.resources import Resource
from tests.fakes.clock import HeldLoop, run_held

NAMESPACES = Resource(Kind.NAMESPACE, "namespaces")
UNREACHABLE = ApiError(ErrorKind.UNREACHABLE, "connection refused")


class Request(NamedTuple):
    at: float
    verb: str  # watch-list, watch, list, side (a list of one object)
    parameters: dict[str, str]


class ModelStream:
    """An open watch: what the test sends, until it ends or breaks."""

    def __init__(self) -> None:
        self.oversize = 0
        self.is_aborted = False
        self._splitter = LineSplitter()
        self._pieces: deque[bytes | ApiError | None] = deque()
        self._came = asyncio.Event()

    def send(self, octets: bytes) -> None:
        self._push(octets)

    def end(self) -> None:
        self._push(None)

    def break_off(self) -> None:
        self._push(ApiError(ErrorKind.UNREACHABLE, "the watch broke"))

    async def read(self, *, is_whole: bool = False) -> list[bytes] | None:
        while not self._pieces:
            self._came.clear()
            await self._came.wait()
        if isinstance(self._pieces[0], bytes):
            return self._take_ready()
        ending = self._pieces.popleft()
        if isinstance(ending, ApiError):
            raise ending
        return None

    def read_ready(self) -> list[bytes]:
        return self._take_ready()

    def _take_ready(self) -> list[bytes]:
        lines: list[bytes] = []
        while self._pieces and isinstance(self._pieces[0], bytes):
            lines += self._splitter.feed(self._pieces.popleft())  # type: ignore[arg-type]
        return lines

    def abort(self) -> None:
        if not self.is_aborted:
            self.is_aborted = True
            self.break_off()

    def _push(self, piece: bytes | ApiError | None) -> None:
        self._pieces.append(piece)
        self._came.set()


class ModelApi:
    """Namespaces with versions. Faults are put into `failures`, by verb, to be met one after the other."""

    url = "https://api.test"

    def __init__(self, clock: Callable[[], float]) -> None:
        self.version = 10
        self.objects: dict[str, dict[str, Any]] = {}
        self.history: list[tuple[int, bytes]] = []
        self.compacted = 0
        self.requests: list[Request] = []
        self.streams: list[ModelStream] = []  # every one that was opened
        self.failures: dict[str, deque[ApiError]] = {"watch-list": deque(), "watch": deque(), "list": deque()}
        self.failures["side"] = deque()
        self.steady_failure: ApiError | None = None  # of every request
        self.streams_lists = True
        self.sends_end = True
        self.cut: Callable[[bytes], list[bytes]] = lambda octets: [octets]
        self._clock = clock

    def put(self, name: str, **metadata: Any) -> None:
        self.version += 1
        is_new = name not in self.objects
        self.objects[name] = namespace(name, self.version, **metadata)
        self._tell("ADDED" if is_new else "MODIFIED", self.objects[name])

    def delete(self, name: str) -> None:
        self.version += 1
        self._tell("DELETED", namespace_of(self.objects.pop(name), self.version))

    def restore(self, version: int, names: Mapping[str, int]) -> None:
        """Go back to another history: these objects at these versions."""
        self.version = version
        self.objects = {name: namespace(name, at) for name, at in names.items()}
        self.history.clear()
        self.compacted = version
        for stream in self.streams:
            stream.break_off()

    def compact(self) -> None:
        self.compacted = self.version
        self.history.clear()

    def bookmark(self, **annotations: str) -> bytes:
        return watch_line("BOOKMARK", {"metadata": {"resourceVersion": str(self.version), "annotations": annotations}})

    def counted(self, *verbs: str) -> int:
        return sum(request.verb in verbs for request in self.requests)

    async def get(self, path: str, parameters: Mapping[str, str], timeout_seconds: float) -> bytes:
        verb = "side" if parameters.get("limit") == "1" else "list"
        self._note(verb, parameters)
        items = sorted(self.objects.values(), key=lambda found: str(found["metadata"]["name"]))
        start, limit = int(parameters.get("continue", 0)), int(parameters.get("limit", 10**6))
        metadata = {"resourceVersion": str(self.version)}
        if start + limit < len(items):
            metadata["continue"] = str(start + limit)
        return json.dumps(
            {"kind": "NamespaceList", "metadata": metadata, "items": items[start : start + limit]}
        ).encode()

    @asynccontextmanager
    async def stream(self, path: str, parameters: Mapping[str, str]) -> AsyncIterator[ModelStream]:
        is_list = "sendInitialEvents" in parameters
        self._note("watch-list" if is_list else "watch", parameters)
        if is_list and not self.streams_lists:
            raise ApiError(ErrorKind.INVALID, "HTTP 422: sendInitialEvents is forbidden")
        octets = b""
        if is_list:
            octets = b"".join(watch_line("ADDED", found) for found in self.objects.values())
            if self.sends_end:
                octets += self.bookmark(**{"k8s.io/initial-events-end": "true"})
        else:
            since = int(parameters["resourceVersion"])
            if since < self.compacted:
                raise ApiError(ErrorKind.GONE, "HTTP 410: too old resource version")
            octets = b"".join(line for version, line in self.history if version > since)
        stream = ModelStream()
        for piece in self.cut(octets) if octets else ():
            stream.send(piece)
        self.streams.append(stream)
        try:
            yield stream
        finally:
            stream.abort()
            self.streams.remove(stream)

    def _note(self, verb: str, parameters: Mapping[str, str]) -> None:
        self.requests.append(Request(self._clock(), verb, dict(parameters)))
        if self.steady_failure is not None:
            raise self.steady_failure
        if self.failures[verb]:
            raise self.failures[verb].popleft()

    def _tell(self, kind: str, found: dict[str, Any]) -> None:
        line = watch_line(kind, found)
        self.history.append((self.version, line))
        for stream in self.streams:
            for piece in self.cut(line):
                stream.send(piece)


class Followed:
    """A reflector on a model, and what it has told."""

    def __init__(self, loop: HeldLoop) -> None:
        self.loop = loop
        self.api = ModelApi(loop.time)
        self.random = random.Random(7)
        self.batches: list[list[Event]] = []
        self.names: set[str] = set()
        self.times_listed = 0
        self.outage = Outage(loop.time, self.random)
        self.replica = Replica(NAMESPACES, loop.time, self._on_events, self._on_listed)
        self._task: asyncio.Task[None] | None = None

    @property
    def events(self) -> list[Event]:
        return [event for batch in self.batches for event in batch]

    @property
    def relists(self) -> dict[str, int]:
        return dict(self.replica.tally.relists)

    @property
    def errors(self) -> dict[str, int]:
        return dict(self.replica.tally.errors)

    async def start(self, list_seconds: float = 300.0) -> None:
        reflector = Reflector(self.api, self.replica, self.outage, self.loop.time, self.random, list_seconds)
        self._task = asyncio.create_task(reflector.run())
        await self.settle()

    async def settle(self) -> None:
        """Let everything happen that needs no time."""
        for _ in range(60):
            await asyncio.sleep(0)
        if self._task is not None and self._task.done():
            self._task.result()

    async def pass_time(self, seconds: float, step: float = 0.5) -> None:
        """Let time pass in steps, and everything happen that falls due."""
        for _ in range(round(seconds / step)):
            await self.loop.advance(step)
            await self.settle()

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            if not self._task.cancelled():
                self._task.result()

    def _on_events(self, events: list[Event]) -> None:
        self.batches.append(events)
        for event in events:
            (self.names.discard if event.object is None else self.names.add)(event.name)

    def _on_listed(self) -> None:
        self.times_listed += 1


def follow(test: Callable[[Followed], Coroutine[Any, Any, None]]) -> None:
    """Run a test with a reflector that has not been started."""

    async def main(loop: HeldLoop) -> None:
        followed = Followed(loop)
        try:
            await test(followed)
        finally:
            await followed.stop()

    run_held(main)


def namespace(name: str, version: int, **metadata: Any) -> dict[str, Any]:
    return {"kind": "Namespace", "metadata": {"name": name, "resourceVersion": str(version), **metadata}}


def namespace_of(found: dict[str, Any], version: int) -> dict[str, Any]:
    return {**found, "metadata": {**found["metadata"], "resourceVersion": str(version)}}


def watch_line(kind: str, found: Any) -> bytes:
    return json.dumps({"type": kind, "object": found}).encode() + b"\n"


def error_line(**status: Any) -> bytes:
    return watch_line("ERROR", {"kind": "Status", **status})
