"""`nsid`: which server answers."""

from __future__ import annotations

import socket
from dataclasses import replace

import dns.message
import pytest

from kdns.dns.query import Edns
from kdns.dns.reply import render
from tests.fakes.directives import answering, build, query, refused, request, set_up

NSID, COOKIE = 3, 10


async def option(directive: str, edns: Edns | None) -> bytes | None:
    asked = replace(request(), query=query("a.test", edns=edns))
    reply = await set_up(directive).serve(asked, answering())
    parsed = dns.message.from_wire(render(asked.query, reply, stream=False, chance=0))
    found = [one.to_wire() for one in parsed.options if one.otype == NSID]
    assert bool(parsed.ednsflags & dns.flags.DO) is bool(found)
    return found[0] if found else None


@pytest.mark.parametrize(
    ("directive", "data"), [("nsid me", b"me"), ("nsid of two", b"of two"), ("nsid", socket.gethostname().encode())]
)
async def test_who_asks_learns_the_name(directive: str, data: bytes):
    assert await option(directive, Edns(1232, 0, False, ((NSID, b""), (COOKIE, bytes(8))))) == data


@pytest.mark.parametrize("edns", [None, Edns(1232, 0, False), Edns(1232, 0, False, ((COOKIE, bytes(8)),))])
async def test_who_does_not_ask_does_not(edns: Edns | None):
    assert await option("nsid me", edns) is None


def test_the_table_leaves_such_queries_to_it():
    (listener,) = build("cluster.local {\nnsid\nkubernetes\n}").listeners
    assert [(route.action, route.nsid_is_miss) for route in listener.routes()] == [(1, True)]


def test_once_in_a_block_only():
    assert refused("nsid\nnsid") == "plugin/nsid: this plugin can only be used once per Server Block"
