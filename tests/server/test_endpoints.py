"""The HTTP endpoints of a Corefile: which there are, and what ready means."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from kdns.errors import StartError
from kdns.hotpath.table import Table
from kdns.hotpath.table_writer import TableWriter
from kdns.plugins.plugin import HealthSettings, Surroundings
from kdns.server.endpoints import HttpEndpoints
from kdns.server.publisher import Publisher
from tests.fakes.context import http_get, unused_tcp_port
from tests.fakes.http_endpoints import serving, surroundings_of

ROOT = Path(__file__).resolve().parents[2]


class Tables:
    """Generations of the table for the views of a Corefile, synced or not."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._writers: list[TableWriter] = []

    def show(self, *synced: bool) -> None:
        """Put up a new generation."""
        Publisher(self._surroundings.views, self._writers.append).start()
        for view, is_synced in enumerate(synced):
            self._writers[-1].set_synced(view, is_synced)
        self._surroundings.current_table.table = Table(self._writers[-1].fd)


async def test_without_directives_there_are_no_endpoints():
    async with serving(Surroundings()) as endpoints:
        assert endpoints.lameduck_seconds == 0.0


def test_aiohttp_is_imported_only_where_an_endpoint_is_asked_for():
    code = (
        "import sys, kdns.cli\n"
        "kdns.cli.HttpEndpoints(kdns.plugins.plugin.Surroundings()).bind()\n"
        "sys.exit('aiohttp' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=10).returncode == 0


async def test_a_process_is_ready_when_every_view_is_synced():
    port = unused_tcp_port()
    surroundings = surroundings_of(
        f"a.test {{\nready 127.0.0.1:{port}\nkubernetes\n}}\nb.test {{\nkubernetes {{\nttl 9\n}}\n}}\n"
    )
    tables = Tables(surroundings)
    async with serving(surroundings):
        assert await http_get(port, "/ready") == (503, "kubernetes")
        tables.show(True, False)
        assert await http_get(port, "/ready") == (503, "kubernetes")
        tables.show(True, True)
        assert await http_get(port, "/ready") == (200, "OK")
        tables.show(False, False)  # once ready, always ready
        assert await http_get(port, "/ready") == (200, "OK")


async def test_a_process_asked_continuously_can_lose_its_readiness():
    port, other = unused_tcp_port(), unused_tcp_port()
    surroundings = surroundings_of(
        f"a.test {{\nready 127.0.0.1:{port} {{\nmonitor continuously\n}}\nkubernetes\n}}\n"
        f"b.test {{\nready 127.0.0.1:{other}\n}}\n"
    )
    tables = Tables(surroundings)
    async with serving(surroundings):
        tables.show(True)
        assert [await http_get(at, "/ready") for at in (port, other)] == [(200, "OK")] * 2
        tables.show(False)
        assert await http_get(port, "/ready") == (503, "kubernetes")
        assert await http_get(other, "/ready") == (200, "OK")


async def test_without_a_cluster_a_process_is_ready_at_once():
    port = unused_tcp_port()
    async with serving(surroundings_of(f". {{\nready 127.0.0.1:{port}\nwhoami\n}}\n")):
        assert await http_get(port, "/ready") == (200, "OK")


async def test_ready_closes_before_health_does():
    ready, health = unused_tcp_port(), unused_tcp_port()
    surroundings = surroundings_of(f". {{\nready 127.0.0.1:{ready}\nhealth 127.0.0.1:{health}\n}}\n")
    async with serving(surroundings) as endpoints:
        await endpoints.close_ready()
        assert await http_get(ready, "/ready") == (0, "")
        assert await http_get(health, "/health") == (200, "OK")
        await endpoints.aclose()
        assert await http_get(health, "/health") == (0, "")


@pytest.mark.parametrize(
    ("lameducks", "seconds", "text"),
    [((), 0.0, "0s"), ((0.0,), 0.0, "0s"), ((5.0, 90.0), 90.0, "1m30s"), ((-3.0,), 0.0, "0s")],
)
def test_the_longest_lameduck_counts(lameducks: tuple[float, ...], seconds: float, text: str):
    surroundings = Surroundings(health=[HealthSettings(":1", lameduck) for lameduck in lameducks])
    endpoints = HttpEndpoints(surroundings)
    assert (endpoints.lameduck_seconds, endpoints.lameduck_text) == (seconds, text)


@pytest.mark.parametrize(("directive", "prefix"), [("health", ""), ("ready", "plugin/ready: ")])
def test_an_address_that_is_taken_is_said(directive: str, prefix: str):
    with socket.socket() as occupant:
        occupant.bind(("127.0.0.1", 0))
        occupant.listen()
        port = occupant.getsockname()[1]
        with pytest.raises(StartError) as caught:
            HttpEndpoints(surroundings_of(f". {{\n{directive} 127.0.0.1:{port}\n}}\n")).bind()
    assert str(caught.value) == f"{prefix}listen tcp 127.0.0.1:{port}: bind: address already in use"
