"""The `resolver` option: who looks host names up at setup."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence

import dns.message
import pytest

from kdns.plugins.forward import lookup
from tests.fakes.directives import refused, set_up
from tests.fakes.nameserver import FakeNameServer
from tests.fakes.stub_resolver import StubResolver

RECORDS = ("dns.test. 60 IN CNAME real.test.", "real.test. 60 IN A 192.0.2.1", "real.test. 60 IN AAAA 2001:db8::1")


def lying(wire: bytes, transport: str) -> Sequence[bytes]:
    """Another question's answer first, then the right one."""
    wrong = dns.message.make_response(dns.message.make_query("evil.test", "A"))
    wrong.id = dns.message.from_wire(wire).id
    return [b"short", wrong.to_wire(), *StubResolver(RECORDS)(wire, transport)]


def test_the_resolver_listed_is_asked() -> None:
    with FakeNameServer(StubResolver(RECORDS)) as resolver, FakeNameServer(lying) as liar:
        for port in (resolver.port, liar.port):
            plugin = set_up(f"forward . dns.test:5300 {{\nresolver 127.0.0.1:{port}\n}}")
            assert [upstream.address for upstream in plugin.upstreams] == ["192.0.2.1:5300", "[2001:db8::1]:5300"]


def test_the_next_resolver_is_asked_where_one_does_not_know() -> None:
    with FakeNameServer(StubResolver(())) as ignorant, FakeNameServer(StubResolver(RECORDS)) as knowing:
        plugin = set_up(f"forward . dns.test {{\nresolver 127.0.0.1:{ignorant.port} 127.0.0.1:{knowing.port}\n}}")
        assert len(plugin.upstreams) == 2


def test_a_resolver_that_only_lies_ends_the_start_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "TIMEOUT_SECONDS", 0.2)

    def chatter(wire: bytes, transport: str) -> Iterator[bytes]:
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and not is_done.is_set():
            yield wire[:2] + b"no answer"

    is_done = threading.Event()
    with FakeNameServer(chatter) as liar:  # type: ignore[arg-type]
        started = time.monotonic()
        text = refused(f"forward . dns.test {{\nresolver 127.0.0.1:{liar.port}\n}}")
        is_done.set()
        assert time.monotonic() - started < 3
    assert text.endswith(": i/o timeout")


def test_a_name_nobody_knows_ends_the_start() -> None:
    with FakeNameServer(StubResolver(())) as ignorant:
        text = refused(f"forward . dns.test {{\nresolver 127.0.0.1:{ignorant.port}\n}}")
    assert text == 'plugin/forward: failed to resolve "dns.test": no addresses found for "dns.test"'
    text = refused("forward . dns.test {\nresolver elsewhere.test\n}")
    assert text == 'plugin/forward: failed to resolve "dns.test": resolver: "elsewhere.test" is no IP address'
