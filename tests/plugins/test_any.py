"""`any`: questions for all types at once."""

from __future__ import annotations

import pytest

from kdns.dns.codes import RRType
from tests.fakes.directives import answering, answers_of, build, failing, refused, request, set_up


@pytest.mark.parametrize("name", ["a.test", ".", "A.Test"])
async def test_type_any_gets_one_word_on_why_not(name: str):
    asked = request(name, "ANY")
    reply = await set_up("any").serve(asked, failing("not asked"))
    (record,) = answers_of(asked, reply)
    assert record == (asked.query.name, RRType.HINFO, 8482, b"\x0dANY obsoleted\x0cSee RFC 8482")
    assert (reply.rcode, reply.authoritative, reply.writer) == (0, False, "any")


async def test_other_types_pass():
    handed_on = answering()
    assert await set_up("any").serve(request("a.test", "A"), handed_on) == await handed_on(request())


def test_the_table_leaves_type_any_to_it():
    (listener,) = build("cluster.local {\nany\nkubernetes\n}").listeners
    assert [(route.action, route.any_is_miss) for route in listener.routes()] == [(1, True)]


def test_takes_no_argument():
    text = "Corefile:2 - Error during parsing: Wrong argument count or unexpected line ending after 'thing'"
    assert refused("any thing") == f"plugin/any: {text}"
