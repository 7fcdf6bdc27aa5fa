"""The scripted resolver does what its script says, and remembers what it was asked."""

from __future__ import annotations

import asyncio
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import pytest

from tests.fakes.scripted_resolver import ScriptedResolver
from tests.fakes.upstream import Seen
from tests.harness.exchange import TCP, UDP

RECORDS = ["www.a.test. 60 IN CNAME web.a.test.", "web.a.test. 30 IN A 192.0.2.1", "web.a.test. 30 IN A 192.0.2.2"]


def ask(
    resolver: ScriptedResolver, name: str, rtype: str = "A", transport: str = UDP, **edns: Any
) -> dns.message.Message | None:
    query = dns.message.make_query(name, rtype, **edns)
    replies = asyncio.run(_replies(resolver, Seen(transport, query.to_wire(), ("192.0.2.53", 4000))))
    return dns.message.from_wire(replies[0], one_rr_per_rrset=True) if replies else None


async def _replies(resolver: ScriptedResolver, seen: Seen) -> Any:
    return await resolver(seen)


def told(resolver: ScriptedResolver, name: str, **options: Any) -> tuple[str, list[str]]:
    reply = ask(resolver, name, **options)
    assert reply is not None
    return dns.rcode.to_text(reply.rcode()), [str(rrset) for rrset in reply.answer]


def test_aliases_are_followed() -> None:
    assert told(ScriptedResolver({"records": RECORDS}), "www.a.test.") == ("NOERROR", RECORDS)


def test_negative_answers_have_an_soa() -> None:
    resolver = ScriptedResolver({"records": RECORDS})
    for name, rtype, rcode in (("none.a.test.", "A", "NXDOMAIN"), ("web.a.test.", "AAAA", "NOERROR")):
        reply = ask(resolver, name, rtype)
        assert reply is not None
        assert dns.rcode.to_text(reply.rcode()) == rcode
        assert reply.authority[0].name.to_text() == "a.test."


def test_behaviours_follow_each_other_and_the_last_stays() -> None:
    script = {"a.test.": [{"rcode": "SERVFAIL"}, {"rcode": "REFUSED"}]}
    resolver = ScriptedResolver({"script": script})
    assert [told(resolver, "a.test.")[0] for _ in range(3)] == ["SERVFAIL", "REFUSED", "REFUSED"]


def test_the_nearest_script_counts() -> None:
    script = {
        "*": {"rcode": "SERVFAIL"},
        "a.test.": {"rcode": "REFUSED"},
        "a.test. TXT": {"answer": ["a.test. 1 IN TXT x"]},
    }
    resolver = ScriptedResolver({"script": script})
    assert told(resolver, "b.test.")[0] == "SERVFAIL"
    assert told(resolver, "A.test.")[0] == "REFUSED"
    assert told(resolver, "a.test.", rtype="TXT")[1] == ['a.test. 1 IN TXT "x"']


def test_truncation_is_for_udp() -> None:
    resolver = ScriptedResolver({"records": RECORDS, "script": {"web.a.test.": {"tc": True, "keep": 1}}})
    assert told(resolver, "web.a.test.") == ("NOERROR", RECORDS[1:2])
    assert told(resolver, "web.a.test.", transport=TCP) == ("NOERROR", RECORDS[1:])


def test_mute_resolver_says_nothing_and_still_counts() -> None:
    resolver = ScriptedResolver({"mute": True})
    assert ask(resolver, "a.test.") is None
    assert resolver.seen({"name": "a.test."}) == 1


def test_queries_are_counted_by_what_they_are_since_the_mark() -> None:
    resolver = ScriptedResolver({"records": RECORDS})
    ask(resolver, "web.a.test.")
    resolver.mark()
    ask(resolver, "WEB.a.test.", transport=TCP, use_edns=0, payload=700, ednsflags=dns.flags.DO)
    assert resolver.seen({"name": "web.a.test.", "proto": "tcp", "bufsize": 700, "do": True, "src": "192.0.2.53"}) == 1
    assert resolver.seen({"below": "a.test.", "type": ["A", "AAAA"]}) == 1
    assert resolver.seen({"proto": "udp"}) == 0


@pytest.mark.parametrize("spec", [{"recods": []}, {"script": {"a.": {"rkode": "REFUSED"}}}])
def test_unknown_words_are_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="unknown keys"):
        ScriptedResolver(spec)
