"""/metrics over HTTP: what it shows, in which form, and what becomes of a place that cannot be had."""

from __future__ import annotations

import asyncio
import gzip
import logging
import os
import socket
import ssl
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from kdns.hotpath.table import Table
from kdns.hotpath.table_writer import TableWriter
from kdns.server import http
from kdns.server.endpoints import HttpEndpoints
from kdns.server.publisher import Publisher
from tests.fakes.context import http_get, until, unused_tcp_port
from tests.fakes.http_endpoints import serving, surroundings_of


async def ask(port: int, **headers: str) -> tuple[dict[str, str], bytes]:
    """The headers and the body of /metrics."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    sent = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    writer.write(f"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{sent}\r\n".encode())
    async with asyncio.timeout(5):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    status, *lines = head.decode().split("\r\n")
    assert status == "HTTP/1.1 200 OK"
    return {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}, body


async def test_everything_the_service_knows_is_shown():
    port, health = unused_tcp_port(), unused_tcp_port()
    surroundings = surroundings_of(
        f"a.test {{\nprometheus 127.0.0.1:{port}\nhealth 127.0.0.1:{health}\nkubernetes\nerrors\n}}\n"
    )
    async with serving(surroundings) as endpoints:
        writers: list[TableWriter] = []
        Publisher(surroundings.views, writers.append).start()
        surroundings.current_table.table = Table(writers[-1].fd)
        endpoints.outdated_at = endpoints.imaged_at = 0.0
        status, text = await http_get(port, "/metrics")
        assert status == 200
        assert await http_get(port, "/other") == (404, "404 page not found\n")
    lines = text.splitlines()
    for line in (
        'coredns_plugin_enabled{name="kubernetes",server="dns://:53",view="",zone="a.test."} 1',
        "coredns_panics_total 0",
        "coredns_forward_healthcheck_broken_total 0",
        "coredns_health_request_failures_total 0",
        'coredns_health_request_duration_seconds_bucket{le="0.0025"} 0',
        'kdns_messages_total{outcome="answer"} 0',
        "kdns_table_unsynced_views 1",
    ):
        assert line in lines, line
    for name in ("kdns_table_entries", "kdns_image_age_seconds", "process_cpu_seconds_total", "process_open_fds"):
        assert any(line.startswith(f"{name} ") for line in lines), name


async def test_blocks_share_an_endpoint_and_each_address_has_one():
    one, other = unused_tcp_port(), unused_tcp_port()
    ports = {"a": one, "b": one, "c": other}
    directives = [f"{zone}.test {{\nprometheus 127.0.0.1:{port}\nwhoami\n}}\n" for zone, port in ports.items()]
    async with serving(surroundings_of("".join(directives))):
        texts = [(await http_get(port, "/metrics"))[1] for port in (one, other)]
    for text in texts:
        assert text.count('coredns_plugin_enabled{name="whoami"') == 3


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        (
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1",
            "text/plain; version=0.0.4; charset=utf-8",
        ),
        ("application/openmetrics-text", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
    ],
)
async def test_a_client_gets_plain_text_unless_it_takes_only_open_metrics(accept: str, content_type: str) -> None:
    port = unused_tcp_port()
    async with serving(surroundings_of(f". {{\nprometheus 127.0.0.1:{port}\n}}\n")):
        headers, body = await ask(port, Accept=accept)
    assert headers["content-type"] == content_type
    assert body.endswith(b"# EOF\n") == content_type.startswith("application/openmetrics")


@pytest.mark.parametrize(
    ("accepted", "is_compressed"),
    [("gzip", True), ("deflate, gzip;q=1.0", True), ("*", True), ("", False), ("br", False), ("gzip;q=0, br", False)],
)
async def test_a_client_that_takes_gzip_gets_it(accepted: str, is_compressed: bool) -> None:
    port = unused_tcp_port()
    async with serving(surroundings_of(f". {{\nprometheus 127.0.0.1:{port}\n}}\n")):
        headers, body = await ask(port, Accept_Encoding=accepted)
    assert headers.get("content-encoding") == ("gzip" if is_compressed else None)
    assert b"coredns_build_info" in (gzip.decompress(body) if is_compressed else body)


async def test_an_address_that_is_taken_is_logged_and_done_without(caplog: pytest.LogCaptureFixture) -> None:
    health = unused_tcp_port()
    with socket.socket() as occupant:
        occupant.bind(("127.0.0.1", 0))
        occupant.listen()
        port = occupant.getsockname()[1]
        corefile = f". {{\nprometheus 127.0.0.1:{port}\nhealth 127.0.0.1:{health}\n}}\n"
        with caplog.at_level(logging.ERROR, logger="kdns"):
            async with serving(surroundings_of(corefile)):
                assert await http_get(health, "/health") == (200, "OK")
    assert [record.getMessage() for record in caplog.records] == [
        f"plugin/prometheus: Failed to start metrics handler: listen tcp 127.0.0.1:{port}: bind: address already in use"
    ]


def certify(folder: Path) -> ssl.SSLContext:
    """Put a new certificate for 127.0.0.1 into a folder, with its key; who trusts in nothing else."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-keyout", "tls.key", "-out", "tls.crt", "-subj", "/CN=metrics", "-addext", "subjectAltName=IP:127.0.0.1"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    return ssl.create_default_context(cafile=str(folder / "tls.crt"))


async def first_line(port: int, trusting: ssl.SSLContext) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    async with asyncio.timeout(5):
        line = await reader.readline()
    writer.transport.abort()
    return line


async def test_metrics_are_shown_over_tls_where_a_web_config_says_so_and_certificates_are_replaced(
    tmp_path: Path,
) -> None:
    (tmp_path / "web.yaml").write_text("tls_server_config: {cert_file: tls.crt, key_file: tls.key}\n")
    trusting = certify(tmp_path)
    port = unused_tcp_port()
    async with serving(surroundings_of(f". {{\nprometheus 127.0.0.1:{port} {{\ntls {tmp_path}/web.yaml\n}}\n}}\n")):
        assert await first_line(port, trusting) == b"HTTP/1.1 200 OK\r\n"
        trusting_new = certify(tmp_path)
        assert await first_line(port, trusting_new) == b"HTTP/1.1 200 OK\r\n"
        with pytest.raises(ssl.SSLCertVerificationError):
            await first_line(port, trusting)
        (tmp_path / "tls.key").write_text("half of")
        assert await first_line(port, trusting_new) == b"HTTP/1.1 200 OK\r\n"


async def test_a_certificate_that_cannot_be_used_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "web.yaml").write_text("tls_server_config: {cert_file: tls.crt, key_file: tls.key}\n")
    port = unused_tcp_port()
    async with serving(surroundings_of(f". {{\nprometheus 127.0.0.1:{port} {{\ntls {tmp_path}/web.yaml\n}}\n}}\n")):
        assert await http_get(port, "/metrics") == (0, "")
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("plugin/prometheus: Failed to start metrics handler: ")


# Connections


async def test_connections_beyond_the_limit_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_CONNECTIONS", 3)
    port = unused_tcp_port()
    async with serving(surroundings_of(f". {{\nprometheus 127.0.0.1:{port}\n}}\n")):
        opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        for _, writer in opened:
            writer.write(b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n")
        for reader, _ in opened:
            assert (await reader.readline()) == b"HTTP/1.1 404 Not Found\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with suppress(ConnectionResetError):
            async with asyncio.timeout(5):
                assert await reader.read() == b""
        opened[0][1].transport.abort()
        writer.transport.abort()

        status = 0
        async with asyncio.timeout(5):
            while status != 404:  # the end of the first one has to be seen
                with suppress(ConnectionResetError, IndexError):
                    status, _ = await http_get(port, "/none")
        for _, writer in opened:
            writer.transport.abort()


async def test_a_forked_child_keeps_no_connection_open():
    port = unused_tcp_port()
    async with serving(surroundings_of(f". {{\nprometheus 127.0.0.1:{port}\n}}\n")) as endpoints:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readline()) == b"HTTP/1.1 404 Not Found\r\n"
        with socket.create_server(("127.0.0.1", 0)) as dns_listener:
            assert _inherited_by_a_child(endpoints) == {dns_listener.fileno()}
        # Nothing of this process has changed.
        assert (await http_get(port, "/none"))[0] == 404
        writer.transport.abort()
        await until(lambda: writer.transport.is_closing(), "the connection ends")


def _inherited_by_a_child(endpoints: HttpEndpoints) -> set[int]:
    """The Internet sockets a forked child has after close_inherited()."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        endpoints.close_inherited()
        left = [fd for fd in map(int, os.listdir("/proc/self/fd")) if _is_inet(fd)]
        os.write(theirs, " ".join(map(str, left)).encode())
        os._exit(0)
    os.close(theirs)
    assert os.waitpid(child, 0)[1] == 0
    with os.fdopen(ours) as report:
        return set(map(int, report.read().split()))


def _is_inet(fd: int) -> bool:
    try:
        with socket.socket(fileno=os.dup(fd)) as duplicate:
            return duplicate.family in (socket.AF_INET, socket.AF_INET6)
    except OSError:
        return False
