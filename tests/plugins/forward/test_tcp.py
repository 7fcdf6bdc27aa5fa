"""Queries over TCP and TLS: connections kept, closed, broken, and half of everything."""

from __future__ import annotations

import asyncio
import functools
import ssl
import struct
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.fakes.apiserver.certificates import (
    Certificate,
    make_client_certificate,
)
from tests.fakes.context import until
from tests.fakes.upstream import Seen, Upstream
from tests.harness.exchange import TCP, frame
from tests.plugins.forward.forwarding import Stopwatch, addresses, forwarding

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter


def large(seen: Seen) -> Sequence[bytes]:
    """As many addresses as a message holds."""
    lines = [f"{seen.name} 60 IN A 10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(4090)]
    return [seen.reply(*lines).to_wire(max_size=65535)]


async def test_connections_are_used_again_one_query_at_a_time() -> None:
    async with (
        Upstream() as upstream,
        forwarding(f"forward . 127.0.0.1:{upstream.port}") as forward,
    ):
        for number in range(5):
            assert addresses(await forward.ask(f"n{number}.test", stream=True), f"n{number}.test") == ["192.0.2.1"]
        assert upstream.connections == 1
        await asyncio.gather(*(forward.ask(f"m{number}.test", stream=True) for number in range(4)))
        assert upstream.connections == 4
        to = f"127.0.0.1:{upstream.port}"
        assert forward.total("coredns_proxy_conn_cache_misses_total", "forward", to, "tcp") == 4
        assert forward.total("coredns_proxy_conn_cache_hits_total", "forward", to, "tcp") == 5


async def test_force_tcp_is_for_queries_over_udp_too() -> None:
    async with (
        Upstream() as upstream,
        forwarding(f"forward . 127.0.0.1:{upstream.port} {{", "force_tcp", "prefer_udp", "}") as forward,
    ):
        await forward.ask()
        assert [seen.transport for seen in upstream.seen] == [TCP]


async def test_the_largest_answer_comes_whole() -> None:
    async with (
        Upstream(large) as upstream,
        forwarding(f"forward . 127.0.0.1:{upstream.port}") as forward,
    ):
        reply = await forward.ask(stream=True)
        assert reply.body.answers == 4090
        assert len(reply.body.octets) == 4090 * 16


async def test_an_answer_may_come_octet_by_octet() -> None:
    async def trickle(reader: Reader, writer: Writer) -> None:
        seen = await upstream.read_query(reader, writer)
        for octet in frame(seen.address()):
            writer.write(bytes((octet,)))
            await writer.drain()
            await asyncio.sleep(0)

    async with (
        Upstream(on_stream=trickle) as upstream,
        forwarding(f"forward . 127.0.0.1:{upstream.port}") as forward,
    ):
        assert addresses(await forward.ask(stream=True)) == ["192.0.2.1"]


async def test_kept_connections_the_upstream_closed_cost_the_client_nothing() -> None:
    async with (
        Upstream() as upstream,
        forwarding(f"forward . 127.0.0.1:{upstream.port}") as forward,
    ):
        await asyncio.gather(*(forward.ask(f"n{number}.test", stream=True) for number in range(5)))
        upstream.close_streams()
        await asyncio.sleep(0)
        for number in range(5):
            assert addresses(await forward.ask(f"m{number}.test", stream=True), f"m{number}.test") == ["192.0.2.1"]
        assert upstream.count(name=".") == 0  # no check: nothing was wrong


async def test_a_kept_connection_that_is_closed_on_the_next_query_is_replaced() -> None:
    async def once(reader: Reader, writer: Writer) -> None:
        writer.write(frame((await upstream.read_query(reader, writer)).address()))
        await upstream.read_query(reader, writer)  # and hang up

    async with (
        Upstream(on_stream=once) as upstream,
        forwarding(f"forward . 127.0.0.1:{upstream.port}") as forward,
    ):
        for number in range(4):
            assert addresses(await forward.ask(f"n{number}.test", stream=True), f"n{number}.test") == ["192.0.2.1"]


async def test_kept_connections_that_fail_count_as_packets() -> None:
    """Upstreams that read a query and hang up, whatever connection it came over."""
    is_well = True

    async def serve(upstream: Upstream, reader: Reader, writer: Writer) -> None:
        while True:
            seen = await upstream.read_query(reader, writer)
            if not is_well and seen.name != ".":
                return
            writer.write(frame(seen.address()))

    async with AsyncExitStack() as opened:
        upstreams = [await opened.enter_async_context(Upstream()) for _ in range(3)]
        for upstream in upstreams:
            upstream.on_stream = functools.partial(serve, upstream)
        to = " ".join(f"127.0.0.1:{upstream.port}" for upstream in upstreams)
        forward = await opened.enter_async_context(forwarding(f"forward . {to} {{", "policy round_robin", "}"))
        await asyncio.gather(*(forward.ask(f"n{number}.test", stream=True) for number in range(9)))
        is_well = False
        await forward.failure("last.test", stream=True)
        assert sum(upstream.count(name="last.test.") for upstream in upstreams) <= 3


async def test_max_age_ends_connections_that_are_never_idle_for_long() -> None:
    async with (
        Upstream() as upstream,
        forwarding(f"forward . 127.0.0.1:{upstream.port} {{", "expire 20ms", "max_age 30ms", "}") as forward,
    ):
        watch = Stopwatch()
        while watch.seconds < 0.1:
            await forward.ask(stream=True)
            await asyncio.sleep(0.005)
        assert 2 <= upstream.connections <= 6


async def test_expired_connections_are_not_used_again() -> None:
    async with (
        Upstream() as upstream,
        forwarding(f"forward . 127.0.0.1:{upstream.port} {{", "expire 0s", "}") as forward,
    ):
        for _ in range(3):
            await forward.ask(stream=True)
        assert upstream.connections == 3


HALVES = {
    "nothing": (0, "EOF"),
    "half a length": (1, "unexpected EOF"),
    "half a message": (20, "unexpected EOF"),
}


@pytest.mark.parametrize("kind", HALVES)
async def test_an_upstream_that_hangs_up_is_left(kind: str) -> None:
    sent, text = HALVES[kind]

    async def hang_up(reader: Reader, writer: Writer) -> None:
        seen = await upstream.read_query(reader, writer)
        writer.write(frame(seen.address())[:sent])

    async with (
        Upstream(on_stream=hang_up) as upstream,
        forwarding(f"forward . 127.0.0.1:{upstream.port}") as forward,
    ):
        assert await forward.failure(stream=True) == f"2 {text}"
        assert upstream.count() <= 3


async def test_a_reset_is_told_of() -> None:
    async def reset(reader: Reader, writer: Writer) -> None:
        await upstream.read_query(reader, writer)
        opened = writer.get_extra_info("socket")
        opened.setsockopt(1, 13, struct.pack("ii", 1, 0))  # SOL_SOCKET, SO_LINGER: close by RST
        writer.transport.abort()

    async with (
        Upstream(on_stream=reset) as upstream,
        forwarding(f"forward . 127.0.0.1:{upstream.port}") as forward,
    ):
        text = await forward.failure(stream=True)
        assert text.startswith("2 read tcp 127.0.0.1:")
        assert text.endswith(f"->127.0.0.1:{upstream.port}: read: connection reset by peer")


async def test_connections_that_are_refused_are_told_of_and_cost_no_packet() -> None:
    async with Upstream() as gone:
        pass
    async with (
        Upstream() as upstream,
        forwarding(
            f"forward . {' '.join(f'127.0.0.{n}:{gone.port}' for n in range(1, 6))} 127.0.0.1:{upstream.port} {{",
            "policy sequential",
            "}",
        ) as forward,
    ):
        assert addresses(await forward.ask(stream=True)) == ["192.0.2.1"]
    async with forwarding(f"forward . 127.0.0.1:{gone.port}") as forward:
        assert await forward.failure(stream=True) == f"2 dial tcp 127.0.0.1:{gone.port}: connect: connection refused"


async def test_an_upstream_that_accepts_and_says_nothing_is_left_in_time() -> None:
    async def wait(reader: Reader, writer: Writer) -> None:
        await reader.read()

    async with (
        Upstream(on_stream=wait) as mute,
        Upstream(host="127.0.0.2") as upstream,
        forwarding(
            f"forward . 127.0.0.1:{mute.port} 127.0.0.2:{upstream.port} {{",
            "policy sequential",
            "read_timeout 100ms",
            "}",
        ) as forward,
    ):
        watch = Stopwatch()
        assert addresses(await forward.ask(stream=True)) == ["192.0.2.1"]
        assert watch.seconds < 1


async def test_answers_to_other_questions_are_skipped() -> None:
    def answer(seen: Seen) -> Sequence[bytes]:
        wrong = bytearray(seen.address("203.0.113.66"))
        wrong[0] ^= 0xFF
        return [bytes(wrong), seen.address()]

    async with (
        Upstream(answer) as upstream,
        forwarding(f"forward . 127.0.0.1:{upstream.port}") as forward,
    ):
        assert addresses(await forward.ask(stream=True)) == ["192.0.2.1"]


async def test_what_comes_unasked_ends_the_connection() -> None:
    async with (
        Upstream(lambda seen: [seen.address(), seen.address("203.0.113.66")]) as upstream,
        forwarding(f"forward . 127.0.0.1:{upstream.port}") as forward,
    ):
        for number in range(3):
            assert addresses(await forward.ask(f"n{number}.test", stream=True), f"n{number}.test") == ["192.0.2.1"]
        await until(lambda: upstream.connections == 3, "three connections")


# TLS


def context_of(certificate: Certificate) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)
    return context


async def test_tls_upstreams_prove_who_they_are(authority: Certificate, certificate: Certificate) -> None:
    asked_for: list[str | None] = []
    context = context_of(certificate)
    context.sni_callback = lambda opened, name, context: asked_for.append(name)
    async with Upstream(tls=context) as upstream:
        for name in ("tls_servername localhost", "max_fails 2"):
            async with forwarding(
                f"forward . tls://127.0.0.1:{upstream.port} {{", f"tls {authority.certificate}", name, "}"
            ) as forward:
                for number in range(3):
                    assert (await forward.ask(f"n{number}.test")).body.answers == 1
                to = f"127.0.0.1:{upstream.port}"
                assert forward.total("coredns_proxy_conn_cache_misses_total", "forward", to, "tcp-tls") == 1
                assert forward.total("coredns_proxy_conn_cache_hits_total", "forward", to, "tcp-tls") == 2
    assert asked_for == ["localhost", None]
    assert upstream.connections == 2


async def test_the_server_name_may_stand_with_the_address(authority: Certificate, certificate: Certificate) -> None:
    async with (
        Upstream(tls=context_of(certificate)) as upstream,
        forwarding(
            f"forward . tls://127.0.0.1%localhost:{upstream.port} {{", f"tls {authority.certificate}", "}"
        ) as good,
        forwarding(
            f"forward . tls://127.0.0.1%other.test:{upstream.port} {{", f"tls {authority.certificate}", "}"
        ) as bad,
    ):
        assert addresses(await good.ask()) == ["192.0.2.1"]
        text = await bad.failure()
        assert text.startswith("2 tls: failed to verify certificate: x509: ")
        assert "other.test" in text


async def test_an_authority_that_is_not_known_is_not_believed(certificate: Certificate) -> None:
    async with (
        Upstream(tls=context_of(certificate)) as upstream,
        forwarding(f"forward . tls://127.0.0.1:{upstream.port}") as forward,
    ):
        assert (await forward.failure()).startswith("2 tls: failed to verify certificate: x509: ")


async def test_clients_prove_who_they_are(authority: Certificate, certificate: Certificate, tmp_path: Path) -> None:
    client = make_client_certificate(tmp_path, authority, "kdns")
    context = context_of(certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.certificate)
    files = f"{client.certificate} {client.key} {authority.certificate}"
    async with (
        Upstream(tls=context) as upstream,
        forwarding(f"forward . tls://127.0.0.1:{upstream.port} {{", f"tls {files}", "}") as known,
    ):
        assert addresses(await known.ask()) == ["192.0.2.1"]


async def test_an_upstream_that_speaks_no_tls_is_told_of() -> None:
    async def speak(reader: Reader, writer: Writer) -> None:
        writer.write(b"\0\x0chello dear client")
        await reader.read()

    async with (
        Upstream(on_stream=speak) as upstream,
        forwarding(f"forward . tls://127.0.0.1:{upstream.port}") as forward,
    ):
        assert (await forward.failure()).startswith("2 tls: ")
