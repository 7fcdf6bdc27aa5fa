"""`local`: names of the host itself."""

from __future__ import annotations

import pytest

from kdns.dns import names
from kdns.dns.codes import type_text
from kdns.dns.records import read_sections
from kdns.plugins.plugin import Surroundings
from tests.fakes.directives import answering, refused, request, set_up


async def ask(name: str, rtype: str, directive: str = "local", surroundings: Surroundings | None = None) -> str:
    """The records of the reply, or who is asked else."""
    asked = request(name, rtype)
    reply = await set_up(directive, surroundings).serve(asked, answering())
    if reply.writer != "local":
        return "next"
    assert not reply.authoritative
    found = read_sections(asked.query.head, reply.body)
    records = [
        f"{names.to_text(record.owner)} {type_text(record.rtype)}" for record in [*found.answers, *found.authorities]
    ]
    assert all(record.ttl == 604800 for record in [*found.answers, *found.authorities])
    return f"{reply.rcode} {len(found.answers)} {' '.join(records)}"


@pytest.mark.parametrize(
    ("name", "rtype", "expected"),
    [
        ("localhost", "A", "0 1 localhost. A"),
        ("localhost", "AAAA", "0 1 localhost. AAAA"),
        ("localhost", "SOA", "0 1 localhost. SOA"),
        ("localhost", "NS", "0 1 localhost. NS"),
        ("localhost", "TXT", "0 0 localhost. SOA"),
        ("a.localhost", "A", "0 1 a.localhost. A"),
        ("localhost.cluster.local", "A", "0 1 localhost.cluster.local. A"),
        ("localhost.cluster.local", "MX", "0 0 localhost.cluster.local. SOA"),
        ("127.in-addr.arpa", "A", "0 0 127.in-addr.arpa. SOA"),
        ("127.in-addr.arpa", "NS", "0 1 127.in-addr.arpa. NS"),
        ("1.0.0.127.in-addr.arpa", "PTR", "0 1 1.0.0.127.in-addr.arpa. PTR"),
        ("1.0.0.127.in-addr.arpa", "A", "0 0 127.in-addr.arpa. SOA"),
        ("2.0.0.127.in-addr.arpa", "PTR", "3 0 127.in-addr.arpa. SOA"),
        ("1.255.in-addr.arpa", "PTR", "3 0 255.in-addr.arpa. SOA"),
        ("a.0.in-addr.arpa", "A", "3 0 0.in-addr.arpa. SOA"),
        ("a.test", "A", "next"),
        ("mylocalhost", "A", "next"),
        ("1.1.10.in-addr.arpa", "PTR", "next"),
    ],
)
async def test_names_of_the_host_go_nowhere_else(name: str, rtype: str, expected: str):
    assert await ask(name, rtype) == expected


async def test_the_prefix_may_be_off_and_is_counted_when_on():
    off = "local {\nlocalhost_prefix off\n}"
    assert await ask("localhost.cluster.local", "A", off) == "next"
    assert await ask("localhost", "A", off) == "0 1 localhost. A"
    surroundings = Surroundings()
    await ask("localhost.a.test", "A", surroundings=surroundings)
    await ask("localhost", "A", surroundings=surroundings)
    assert surroundings.metrics.families["coredns_local_localhost_requests_total"].total() == 1


def test_mistakes_are_refused():
    start = "plugin/local: Corefile"
    assert refused("local x").startswith(f"{start}:2 - Error during parsing: Wrong argument count")
    assert refused("local {\nother on\n}").startswith(f"{start}:3 - Error during parsing: unknown property 'other'")
    expected = "plugin/local: Corefile:3 - Error during parsing: localhost_prefix expects 'on' or 'off', got \"maybe\""
    assert refused("local {\nlocalhost_prefix maybe\n}") == expected
