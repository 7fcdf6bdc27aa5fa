"""A plain client of the fake API server: no retries, nothing hidden."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from tests.fakes.apiserver import FakeApiServer

PATHS = {
    "Namespace": "/api/v1/namespaces",
    "Service": "/api/v1/services",
    "Pod": "/api/v1/pods",
    "EndpointSlice": "/apis/discovery.k8s.io/v1/endpointslices",
}
WATCH_LIST = {
    "sendInitialEvents": "true",
    "resourceVersionMatch": "NotOlderThan",
    "allowWatchBookmarks": "true",
}
TIMEOUT_SECONDS = 5.0


class Events:
    """The lines of an open watch."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.status = response.status
        self._response = response

    async def line(self) -> bytes:
        """The next line as it is; empty at the end of the stream."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            return await self._response.content.readline()

    async def next(self) -> tuple[str, Any]:
        """The next event: its type and object."""
        event = json.loads(await self.line())
        return event["type"], event["object"]

    async def names(self, count: int) -> list[tuple[str, str]]:
        """Type and name of the next events."""
        events = [await self.next() for _ in range(count)]
        return [(kind, found["metadata"].get("name", "")) for kind, found in events]

    async def is_silent(self, seconds: float = 0.15) -> bool:
        """Whether nothing comes for so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._response.content.readline()
        except TimeoutError:
            return True
        return False


class Client:
    """One session with a server."""

    def __init__(self, server: FakeApiServer, token: str = "") -> None:
        self._server = server
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        context = ssl.create_default_context(cafile=server.ca_file) if server.url.startswith("https") else True
        connector = aiohttp.TCPConnector(ssl=context, force_close=True)
        timeout = aiohttp.ClientTimeout(total=None)
        self.session = aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False)

    async def get(self, path: str, accept: str = "", **query: str) -> tuple[int, Any]:
        """Status and JSON of a request."""
        headers = {**self._headers, **({"Accept": accept} if accept else {})}
        async with self.session.get(self._server.url + path, params=query, headers=headers) as response:
            return response.status, json.loads(await response.read())

    async def list(self, kind: str, accept: str = "", **query: str) -> tuple[int, Any]:
        """Status and JSON of a list."""
        return await self.get(PATHS[kind], accept, **query)

    @asynccontextmanager
    async def watch(self, kind: str, **query: str) -> AsyncIterator[Events]:
        """An open watch."""
        parameters = {"watch": "true", **query}
        async with self.session.get(
            self._server.url + PATHS[kind], params=parameters, headers=self._headers
        ) as response:
            yield Events(response)


@asynccontextmanager
async def connected(server: FakeApiServer, token: str = "") -> AsyncIterator[Client]:
    """A client, closed afterwards."""
    client = Client(server, token)
    try:
        yield client
    finally:
        await client.session.close()
