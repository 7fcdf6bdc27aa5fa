"""The health endpoint's questions to itself."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator

import pytest

from kdns.metrics import Registry
from kdns.server import health_poll
from kdns.server.health_poll import HealthPoll
from kdns.server.http import HealthEndpoint, bind_http
from tests.fakes.context import until
from tests.fakes.loops import on_each_loop


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with bind_http("127.0.0.1:0") as bound:
        yield bound


def totals(metrics: Registry) -> tuple[float, float]:
    """(requests, failures)."""
    read = metrics.read()
    durations = read[health_poll.DURATION].get((), [0.0])
    return sum(durations[:-1]), read[health_poll.FAILURES].get((), [0.0])[0]


@on_each_loop
async def test_an_endpoint_asks_itself_while_it_is_served(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health_poll, "POLL_SECONDS", 0.01)
    metrics = Registry()
    endpoint = HealthEndpoint(listener, HealthPoll(listener, "127.0.0.1:0", metrics))
    await endpoint.start()
    await until(lambda: totals(metrics)[0] >= 3, "it has asked three times")
    await endpoint.aclose()
    assert totals(metrics)[1] == 0


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
async def test_a_wildcard_is_asked_on_loopback():
    metrics = Registry()
    with bind_http(":0") as bound:
        endpoint = HealthEndpoint(bound)
        await endpoint.start()
        await HealthPoll(bound, ":0", metrics).ask_once()
        await endpoint.aclose()
    assert totals(metrics) == (1, 0)


async def test_an_answer_that_takes_too_long_is_a_failure(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The kernel takes the connection; nobody answers."""
    monkeypatch.setattr(health_poll, "TIMEOUT_SECONDS", 0.01)
    metrics = Registry()
    with caplog.at_level(logging.WARNING, logger="kdns"):
        await HealthPoll(listener, ":8080", metrics).ask_once()
    assert totals(metrics) == (1, 1)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith('plugin/health: Local health request to "http://:8080/health" failed: Get ')


async def test_a_connection_that_is_refused_or_cut_is_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Registry()
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # nobody listens
        await HealthPoll(silent, ":1", metrics).ask_once()

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server:
        await HealthPoll(server.sockets[0], ":1", metrics).ask_once()  # type: ignore[arg-type]
    assert totals(metrics) == (2, 2)
    texts = [record.getMessage().rpartition(": ")[2] for record in caplog.records]
    assert texts[0] == "connection refused"
    assert texts[1] in ("EOF", "connection reset by peer")


async def test_an_answer_that_takes_long_is_told_of(listener: socket.socket, caplog: pytest.LogCaptureFixture) -> None:
    times = iter((5.0, 6.5))
    metrics = Registry()
    endpoint = HealthEndpoint(listener)
    await endpoint.start()
    with caplog.at_level(logging.WARNING, logger="kdns"):
        await HealthPoll(listener, ":8080", metrics, lambda: next(times)).ask_once()
    await endpoint.aclose()
    assert totals(metrics) == (1, 0)
    assert [record.getMessage() for record in caplog.records] == [
        'plugin/health: Local health request to "http://:8080/health" took more than 1s: 1.5s'
    ]
