"""`header`: flags of queries and replies."""

from __future__ import annotations

import dns.flags
import dns.message
import pytest

from kdns.dns.reply import Reply, render
from kdns.plugins.plugin import Request
from tests.fakes.directives import refused, request, set_up


async def flags(*rules: str) -> tuple[str, bool]:
    """The flags of the reply, and RD of the query the next plugin saw. Without rules: QR AA RD, and RD."""
    seen: list[Request] = []

    async def answer(asked: Request) -> Reply:
        seen.append(asked)
        return Reply()

    body = "\n".join(rules)
    asked = request()
    reply = await set_up(f"header {{\n{body}\n}}").serve(asked, answer)
    parsed = dns.message.from_wire(render(asked.query, reply, stream=False, chance=0))
    return dns.flags.to_text(parsed.flags), seen[0].query.recursion_desired


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (["response set ra"], ("QR AA RD RA", True)),
        (["response clear aa rd"], ("QR", True)),
        (["clear aa", "set ra"], ("QR RD RA", True)),
        (["RESPONSE Set RA"], ("QR AA RD RA", True)),
        (["query clear rd"], ("QR AA", False)),
        (["query clear rd", "response set rd"], ("QR AA RD", False)),
        (["response set ra", "response clear ra"], ("QR AA RD", True)),
    ],
)
async def test_rules_change_flags(rules: list[str], expected: tuple[str, bool]):
    assert await flags(*rules) == expected


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("reply set aa", "setting up rule: invalid selector=reply should be query or response"),
        ("response", "setting up rule: no flag action provided"),
        ("response set", "setting up rule: invalid length for flags, at least one should be provided"),
        ("response unset aa", "setting up rule: unknown flag action=unset, should be set or clear"),
        ("response set tc", "setting up rule: unknown/unsupported flag=tc"),
    ],
)
def test_mistakes_are_refused_in_coredns_words(rule: str, text: str):
    assert refused(f"header {{\n{rule}\n}}") == f"plugin/header: {text}"


def test_a_header_without_rules_is_refused():
    text = "Wrong argument count or unexpected line ending after 'header'"
    assert refused("header") == f"plugin/header: Corefile:2 - Error during parsing: {text}"
