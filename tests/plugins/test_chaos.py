"""`chaos`: who answers, in class CH."""

from __future__ import annotations

import socket
import struct
from dataclasses import replace

import dns.message
import pytest

from kdns import COREDNS_VERSION
from kdns.dns.query import Query
from kdns.dns.reply import render
from kdns.plugins.plugin import Handler
from tests.fakes.directives import build, failing, query, request, set_up

CH, HS = 3, 4


def asking(name: str, rtype: str = "TXT", qclass: int = CH) -> Query:
    asked = query(name, rtype)
    return replace(asked, head=asked.head[:-2] + struct.pack("!H", qclass), qclass=qclass)


async def texts(
    directive: str, name: str, rtype: str = "TXT", qclass: int = CH, handler: Handler | None = None
) -> list[str]:
    asked = replace(request(), query=asking(name, rtype, qclass))
    reply = await set_up(directive).serve(asked, handler or failing("asked the next plugin"))
    assert not reply.authoritative
    parsed = dns.message.from_wire(render(asked.query, reply, stream=False, chance=0))
    assert [rrset.rdclass for rrset in parsed.answer] in ([], [CH])
    assert [rrset.ttl for rrset in parsed.answer] in ([], [0])
    return [record.strings[0].decode() for rrset in parsed.answer for record in rrset]


@pytest.mark.parametrize("name", ["version.bind", "version.server", "VERSION.Bind"])
async def test_the_version_is_the_first_word(name: str):
    assert await texts("chaos mine me", name) == ["mine"]


async def test_without_a_word_the_version_is_that_of_coredns():
    assert await texts("chaos", "version.bind") == [f"CoreDNS-{COREDNS_VERSION}"]


async def test_the_authors_are_the_other_words_once_each():
    assert sorted(await texts('chaos v "Some One" two@test two@test', "authors.bind")) == ["Some One", "two@test"]
    assert await texts("chaos v", "authors.bind") == []


@pytest.mark.parametrize("name", ["hostname.bind", "id.server"])
async def test_the_host_has_a_name(name: str):
    assert await texts("chaos", name) == [socket.gethostname()]


async def test_a_text_is_cut_where_it_is_too_long():
    assert await texts(f"chaos {'v' * 300}", "version.bind") == ["v" * 255]


@pytest.mark.parametrize(
    ("name", "rtype", "qclass"),
    [("version.bind", "A", CH), ("version.bind", "TXT", 1), ("version.bind", "TXT", HS), ("other.bind", "TXT", CH)],
)
async def test_other_questions_pass(name: str, rtype: str, qclass: int):
    with pytest.raises(Exception, match="asked the next plugin"):
        await texts("chaos", name, rtype, qclass)


async def test_the_first_line_of_less_than_two_words_counts():
    assert await texts("chaos a b\nchaos c\nchaos d", "version.bind") == ["c"]
    assert await texts("chaos a b\nchaos c d", "version.bind") == ["c"]


def test_its_listener_takes_other_classes():
    (listener,) = build(". {\nchaos\n}\nother.test {\nwhoami\n}").listeners
    assert listener.takes_other_classes
    assert set_up("chaos").transparent
    assert not build(". {\nwhoami\n}").listeners[0].takes_other_classes
