"""`whoami`: the client's own address, port and transport."""

from __future__ import annotations

import dns.message
import pytest

from kdns.dns.reply import render
from kdns.plugins.plugin import Handler
from tests.fakes.directives import failing, refused, request, set_up

NOBODY: Handler = failing("no plugin stands behind whoami")


async def additional_of(name: str, client: tuple[str, int], stream: bool, rtype: str = "A") -> list[str]:
    asked = request(name, rtype, client, stream)
    reply = await set_up("whoami").serve(asked, NOBODY)
    parsed = dns.message.from_wire(render(asked.query, reply, stream=stream, chance=0))
    assert (parsed.rcode(), parsed.answer, parsed.authority) == (0, [], [])
    assert parsed.flags & dns.flags.AA
    return [record.to_text() for record in parsed.additional]


@pytest.mark.parametrize("rtype", ["A", "AAAA", "TXT", "ANY"])
async def test_any_question_gets_the_clients_address_and_port(rtype: str):
    found = await additional_of("some.name.test", ("192.0.2.7", 40053), False, rtype)
    assert found == ["some.name.test. 0 IN A 192.0.2.7", "_udp.some.name.test. 0 IN SRV 0 0 40053 ."]


async def test_over_ipv6_and_tcp():
    found = await additional_of("x.test", ("2001:db8::7", 65535), True)
    assert found == ["x.test. 0 IN AAAA 2001:db8::7", "_tcp.x.test. 0 IN SRV 0 0 65535 ."]


async def test_the_root_has_a_name_for_the_port_too():
    assert (await additional_of(".", ("192.0.2.7", 1), False))[1] == "_udp. 0 IN SRV 0 0 1 ."


async def test_a_name_too_long_for_another_label_gets_the_address_alone():
    name = ".".join(["a" * 62] * 4)
    assert await additional_of(name, ("192.0.2.7", 1), False) == [f"{name}. 0 IN A 192.0.2.7"]


def test_takes_no_argument():
    text = "Corefile:2 - Error during parsing: Wrong argument count or unexpected line ending after 'x'"
    assert refused("whoami x") == f"plugin/whoami: {text}"
    assert not set_up("whoami").transparent
