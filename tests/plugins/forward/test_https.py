"""Upstreams over HTTPS (RFC 8484): by HTTP/2 and HTTP/1.1, who they are, and what else they may say than an answer."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from kdns.plugins.forward import https
from tests.fakes.apiserver.certificates import Certificate
from tests.fakes.context import until
from tests.fakes.https_upstream import Answer, HttpReply, HttpSeen, HttpsServer, addressed
from tests.fakes.upstream import Upstream
from tests.plugins.forward.forwarding import Forwarding, Stopwatch, addresses, forwarding


@asynccontextmanager
async def asking(
    authority: Certificate,
    certificate: Certificate,
    *options: str,
    answer: Answer = addressed,
    protocols: tuple[str, ...] = ("h2",),
) -> AsyncIterator[tuple[Forwarding, HttpsServer, Upstream]]:
    """A `forward` to a server over HTTPS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)
    context.set_alpn_protocols(list(protocols))
    server = HttpsServer(answer)
    async with Upstream(on_stream=server.serve, tls=context) as upstream:
        lines = (f"forward . https://127.0.0.1:{upstream.port} {{", f"tls {authority.certificate}", *options, "}")
        async with forwarding(*lines) as forward:
            yield forward, server, upstream
        await until(lambda: not server.open, "connections are closed")


@pytest.mark.parametrize(("protocols", "version"), [(("h2", "http/1.1"), "2"), (("http/1.1",), "1.1")])
@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_queries_go_over_https(
    authority: Certificate, certificate: Certificate, protocols: tuple[str, ...], version: str, method: str
) -> None:
    async with asking(authority, certificate, f"doh_method {method}", protocols=protocols) as (forward, server, opened):
        for number in range(3):
            assert addresses(await forward.ask(f"n{number}.test"), f"n{number}.test") == ["192.0.2.1"]
        assert addresses(await forward.ask(stream=True)) == ["192.0.2.1"]
        assert {(seen.version, seen.method, seen.path.partition("?")[0]) for seen in server.seen} == {
            (version, method, "/dns-query")
        }
        assert {seen.query.wire[:2] for seen in server.seen} == {b"\0\0"}
        assert {seen.headers["accept"] for seen in server.seen} == {"application/dns-message"}
        assert opened.connections == 1
        to = f"127.0.0.1:{opened.port}"
        assert forward.total("coredns_forward_requests_total", to) == 4
        assert forward.total("coredns_forward_responses_total", to, "NOERROR") == 4


async def test_many_queries_share_a_connection(authority: Certificate, certificate: Certificate) -> None:
    async with asking(authority, certificate) as (forward, server, opened):
        replies = await asyncio.gather(*(forward.ask(f"n{number}.test") for number in range(100)))
        assert all(addresses(reply, f"n{number}.test") == ["192.0.2.1"] for number, reply in enumerate(replies))
        assert opened.connections == 1
        assert len(server.seen) == 100


async def test_an_upstream_must_be_who_it_is_said_to_be(authority: Certificate, certificate: Certificate) -> None:
    async with asking(authority, certificate, "tls_servername localhost") as (forward, _, _):
        assert addresses(await forward.ask()) == ["192.0.2.1"]
    async with asking(authority, certificate, "tls_servername other.test") as (forward, server, opened):
        text = await forward.failure()
        assert text.startswith(f'2 Post "https://127.0.0.1:{opened.port}/dns-query": tls: failed to verify certificate')
        assert server.seen == []


async def test_what_tls_says_while_reading_is_an_upstreams_failure(
    authority: Certificate, certificate: Certificate
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)
    context.load_verify_locations(authority.certificate)
    context.verify_mode = ssl.CERT_REQUIRED  # with TLS 1.3 a client hears that it has none when it reads
    async with Upstream(on_stream=HttpsServer().serve, tls=context) as upstream:
        lines = (f"forward . https://127.0.0.1:{upstream.port} {{", f"tls {authority.certificate}", "}")
        async with forwarding(*lines) as forward:
            assert (await forward.failure()).startswith('2 Post "https://127.0.0.1:')
        await until(lambda: len(asyncio.all_tasks()) == 1, "everything is closed")


def _forged(seen: HttpSeen) -> HttpReply:
    return HttpReply(seen.query.address().replace(b"\1a\4test", b"\1b\4test"))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda seen: HttpReply(b"", 503), "HTTP status 503"),
        (lambda seen: HttpReply(seen.query.address(), 302), "HTTP status 302"),
        (lambda seen: HttpReply(b"<html>", media_type="text/html"), "media type 'text/html'"),
        (lambda seen: HttpReply(b""), "0 octets, a header has 12"),
        (lambda seen: HttpReply(seen.query.address()[:-3]), "record data of 4 octets, 1 are left"),
        (_forged, "another question"),
        (lambda seen: HttpReply(bytes(65_536)), "more than 65535 octets"),
    ],
    ids=["error", "redirect", "page", "empty", "cut", "another", "large"],
)  # fmt: skip
@pytest.mark.parametrize("protocol", ["h2", "http/1.1"])
async def test_what_is_no_answer_is_not_believed(
    authority: Certificate, certificate: Certificate, answer: Answer, said: str, protocol: str
) -> None:
    async with asking(authority, certificate, answer=answer, protocols=(protocol,)) as (forward, server, _):
        assert said in await forward.failure()
        assert [seen.query.name for seen in server.seen].count("a.test.") == 2, "it is asked twice, as any upstream"


async def test_silence_ends_in_time(authority: Certificate, certificate: Certificate) -> None:
    never = asyncio.Event()

    async def silent(seen: HttpSeen) -> HttpReply:
        await never.wait()
        return HttpReply(b"")

    async with asking(authority, certificate, "read_timeout 100ms", "max_fails 0", answer=silent) as (forward, _, _):
        watch = Stopwatch()
        assert (await forward.failure()).endswith('/dns-query": i/o timeout')
        assert watch.seconds < 2


async def test_a_handshake_that_never_ends_costs_no_socket(
    authority: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(https, "STEP_SECONDS", 0.3)
    held: set[asyncio.StreamWriter] = set()

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.add(writer)
        await reader.read()
        held.discard(writer)

    async with Upstream(on_stream=mute) as upstream:
        lines = (f"forward . https://127.0.0.1:{upstream.port} {{", f"tls {authority.certificate}")
        async with forwarding(*lines, "read_timeout 100ms", "max_fails 0", "}") as forward:
            assert (await forward.failure()).endswith('/dns-query": i/o timeout')
            assert held
        await until(lambda: not held, "connections are closed")


async def test_a_connection_that_ends_is_opened_anew(authority: Certificate, certificate: Certificate) -> None:
    async with asking(authority, certificate) as (forward, server, opened):
        assert addresses(await forward.ask()) == ["192.0.2.1"]
        server.abort()
        await opened.stop()
        assert "connection refused" in await forward.failure("b.test")
        await opened.start()
        assert addresses(await forward.ask("c.test"), "c.test") == ["192.0.2.1"]


async def test_health_is_checked_over_https(authority: Certificate, certificate: Certificate) -> None:
    """The check is a POST whatever the method, and any reply will do."""
    is_checked = asyncio.Event()

    def answer(seen: HttpSeen) -> HttpReply:
        if seen.query.name == ".":
            is_checked.set()
            return HttpReply(seen.query.reply(rcode=5).to_wire())
        return HttpReply(b"", 500)

    options = ("health_check 10ms", "doh_method GET")
    async with asking(authority, certificate, *options, answer=answer) as (forward, server, _):
        assert "HTTP status 500" in await forward.failure()
        await asyncio.wait_for(is_checked.wait(), 10)
        assert next(seen.method for seen in server.seen if seen.query.name == ".") == "POST"
