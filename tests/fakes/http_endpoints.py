"""The endpoints of a Corefile, served in the test's own loop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kdns.plugins.plugin import Surroundings
from kdns.server.endpoints import HttpEndpoints
from tests.fakes.directives import build


def surroundings_of(corefile: str) -> Surroundings:
    """What the directives of a Corefile ask for."""
    surroundings = Surroundings(has_manifests=True)
    build(corefile, surroundings)
    return surroundings


@asynccontextmanager
async def serving(surroundings: Surroundings) -> AsyncIterator[HttpEndpoints]:
    """Bound and started."""
    endpoints = HttpEndpoints(surroundings)
    endpoints.bind()
    await endpoints.start()
    try:
        yield endpoints
    finally:
        await endpoints.aclose()
