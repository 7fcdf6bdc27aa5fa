"""The health endpoint asks itself, as CoreDNS's does: how long its own answer takes is a sign of how loaded it is."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable

from kdns.corefile import format_duration
from kdns.log import plugin_logger
from kdns.metrics import Registry

POLL_SECONDS = 1.0  # between requests; CoreDNS's
TIMEOUT_SECONDS = 3.0  # of a request; CoreDNS's
SLOW_SECONDS = 1.0  # a request that took longer is told of; CoreDNS's
BUCKETS = (0.00025, 0.0025, 0.025, 0.25, 2.5)  # seconds; CoreDNS's slim ones

DURATION = "coredns_health_request_duration_seconds"
DURATION_HELP = "Time the health endpoint took to answer itself."
FAILURES = "coredns_health_request_failures_total"
FAILURES_HELP = "How often the health endpoint did not answer itself."

_LOG = plugin_logger("health")


class HealthPoll:
    """Asks an endpoint for /health, again and again. `address` is what its directive says."""

    def __init__(
        self, listener: socket.socket, address: str, metrics: Registry, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._listener = listener
        self._url = f"http://{address}/health"
        self._clock = clock
        self._durations = metrics.histogram(DURATION, DURATION_HELP, BUCKETS)
        self._failures = metrics.counter(FAILURES, FAILURES_HELP)

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            await self.ask_once()

    async def ask_once(self) -> None:
        """Ask, and note how long it took."""
        started = self._clock()
        failure = ""
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await _get(self._listener.getsockname()[:2])
        except TimeoutError:
            failure = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        except EOFError:
            failure = "EOF"
        except OSError as error:
            failure = os.strerror(error.errno or 0).lower()
        seconds = self._clock() - started
        self._durations.observe(seconds)
        if failure:
            self._failures.add()
            _LOG.warning('Local health request to "%s" failed: Get "%s": %s', self._url, self._url, failure)
        elif seconds > SLOW_SECONDS:
            _LOG.warning('Local health request to "%s" took more than 1s: %s', self._url, format_duration(seconds))


async def _get(address: tuple[str, int]) -> None:
    """One request; its answer's first octets will do. Raises OSError, or EOFError where there are none."""
    host, port = address
    # A wildcard listens on IPv4 too, and that is there wherever IPv6 is.
    reader, writer = await asyncio.open_connection("127.0.0.1" if host in ("0.0.0.0", "::") else host, port)  # noqa: S104 - compared with
    try:
        writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        await reader.readexactly(len(b"HTTP/1.1"))
    finally:
        writer.transport.abort()
