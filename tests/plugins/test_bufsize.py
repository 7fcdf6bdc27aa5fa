"""`bufsize`: the size a query may ask for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kdns.dns.query import Edns
from kdns.dns.reply import Reply
from kdns.plugins.plugin import Request
from tests.fakes.directives import build, query, refused, request, set_up


async def size_behind(directive: str, size: int | None) -> int | None:
    """What the next plugin sees of a query that asks for so much."""
    seen: list[Request] = []

    async def look(asked: Request) -> Reply:
        seen.append(asked)
        return Reply()

    edns = None if size is None else Edns(size, 0, True, ((10, b"x"),))
    asked = replace(request(), query=query("a.test", edns=edns))
    await set_up(directive).serve(asked, look)
    found = seen[0].query.edns
    if found is None:
        return None
    assert (found.dnssec_ok, found.options) == (True, ((10, b"x"),))
    return found.payload_size


@pytest.mark.parametrize(
    ("directive", "asked", "seen"),
    [
        ("bufsize 700", 4096, 700),
        ("bufsize 700", 701, 700),
        ("bufsize 700", 512, 512),
        ("bufsize 700", None, None),
        ("bufsize", 4096, 1232),
        ("bufsize 4096", 65535, 4096),
        ("bufsize 512\nbufsize 4096", 2048, 512),
    ],
)
async def test_sizes_are_lowered_and_never_raised(directive: str, asked: int | None, seen: int | None):
    assert await size_behind(directive, asked) == seen


@pytest.mark.parametrize(("directive", "limit"), [("", 1232), ("bufsize 512", 512), ("bufsize 4096", 4096)])
def test_the_table_keeps_to_it(directive: str, limit: int):
    (listener,) = build(f"cluster.local {{\n{directive}\nkubernetes\n}}").listeners
    assert [(route.action, route.udp_limit) for route in listener.routes()] == [(1, limit)]
    block = listener.block_of(b"\x07cluster\x05local\0", 1)
    assert block is not None
    assert block.settings.udp_limit == limit


@pytest.mark.parametrize("word", ["511", "4097", "-1", "1k", "600 700"])
def test_other_sizes_are_refused(word: str):
    last = word.split()[-1]
    text = f"Corefile:2 - Error during parsing: Wrong argument count or unexpected line ending after '{last}'"
    assert refused(f"bufsize {word}") == f"plugin/bufsize: {text}"
