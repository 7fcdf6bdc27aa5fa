"""`rewrite edns0`: the options of the question the chain is asked; the client sees nothing of it."""

from __future__ import annotations

from dataclasses import replace

import dns.edns
import pytest

from kdns.dns.query import Edns
from kdns.plugins.plugin import Request
from tests.fakes.asking import Asker
from tests.fakes.directives import request
from tests.plugins.rewrite.test_names import Backend, rewrite

LOCAL = 0xFFEE
OTHER = (10, b"12345678")


async def options(rule: str, edns: Edns | None, client: str = "192.0.2.1", stream: bool = False) -> Edns | None:
    """The OPT record of what the chain is asked."""
    backend = Backend()
    asked = request("A.test", "AAAA", client=(client, 4242), stream=stream)
    asked = replace(
        asked, query=asked.query.with_edns(edns), local=("2001:db8::53" if ":" in client else "192.0.2.53", 53)
    )
    await rewrite(rule).serve(asked, backend)
    return backend.asked[0].query.edns


def opt(*found: tuple[int, bytes]) -> Edns:
    return Edns(1232, 0, False, found)


@pytest.mark.parametrize(
    ("action", "before", "after"),
    [
        ("set", opt(), opt((LOCAL, b"new"))),
        ("set", opt((LOCAL, b"old"), OTHER), opt((LOCAL, b"new"), OTHER)),
        ("append", opt(OTHER), opt(OTHER, (LOCAL, b"new"))),
        ("append", opt((LOCAL, b"old")), opt((LOCAL, b"old"))),
        ("replace", opt((LOCAL, b"old")), opt((LOCAL, b"new"))),
        ("replace", opt(OTHER), opt(OTHER)),
        ("set", None, Edns(4096, 0, False, ((LOCAL, b"new"),))),
        ("replace", None, None),
    ],
)
async def test_actions(action: str, before: Edns | None, after: Edns | None):
    assert await options(f"edns0 local {action} 0xffee new", before) == after


async def test_unset_removes_every_option_of_a_code():
    before = opt((LOCAL, b"1"), OTHER, (LOCAL, b"2"), (3, b""), (8, b""))
    assert await options("edns0 local unset 65518", before) == opt(OTHER, (3, b""), (8, b""))
    assert await options("edns0 nsid unset", before) == opt((LOCAL, b"1"), OTHER, (LOCAL, b"2"), (8, b""))
    assert await options("edns0 subnet unset", before) == opt((LOCAL, b"1"), OTHER, (LOCAL, b"2"), (3, b""))
    assert await options("edns0 nsid unset", None) is None


async def test_flags_and_size_of_the_clients_record_stay():
    before = Edns(512, 0, True, ())
    assert await options("edns0 nsid set", before) == Edns(512, 0, True, ((3, b""),))


@pytest.mark.parametrize(
    ("data", "octets"),
    [
        ("abcd", b"abcd"),
        ("0x61626364", b"abcd"),
        ("0x", b""),
        ("{qname}", b"a.test."),
        ("{qtype}", b"\0\x1c"),
        ("{client_ip}", b"\xc0\0\2\1"),
        ("{client_port}", b"\x10\x92"),
        ("{protocol}", b"udp"),
        ("{server_ip}", b"\xc0\0\2\x35"),
        ("{server_port}", b"\0\x35"),
    ],
)
async def test_data(data: str, octets: bytes):
    assert await options(f"edns0 local set 0xffee {data}", None) == Edns(4096, 0, False, ((LOCAL, octets),))


async def test_metadata_that_nobody_provides_changes_nothing():
    assert await options("edns0 local set 0xffee {some/label}", None) is None


async def test_variables_of_ipv6_over_tcp():
    edns = await options("edns0 local set 0xffee {client_ip}", None, "2001:db8::1%eth0", stream=True)
    assert edns is not None
    assert edns.options == ((LOCAL, bytes.fromhex("20010db8000000000000000000000001")),)
    edns = await options("edns0 local set 0xffee {protocol}", None, stream=True)
    assert edns is not None
    assert edns.options == ((LOCAL, b"tcp"),)


@pytest.mark.parametrize(
    ("bits", "client", "data"),
    [
        ("24 56", "192.0.2.77", "0001180" + "0c00002"),
        ("20 56", "192.0.255.77", "0001140" + "0c000f0"),
        ("0 0", "192.0.2.77", "00010000"),
        ("32 128", "192.0.2.77", "00012000c000024d"),
        ("24 56", "2001:db8:1:2345::1", "0002380020010db8000123"),
        ("24 128", "2001:db8::1", "0002800020010db8000000000000000000000001"),
    ],
)
async def test_the_clients_network(bits: str, client: str, data: str):
    assert await options(f"edns0 subnet set {bits}", opt(), client) == opt((8, bytes.fromhex(data)))


async def test_the_client_sees_none_of_it():
    asker = Asker(
        '. {\n rewrite edns0 local set 0xffee abcd\n template IN A {\n answer "{{ .Name }} A 192.0.2.1"\n }\n}'
    )
    assert (await asker.ask("a.test.")).edns == -1
    reply = await asker.ask("a.test.", options=(dns.edns.GenericOption(LOCAL, b"mine"),))
    assert (reply.edns, list(reply.options)) == (0, [])


async def test_the_question_itself_is_not_changed():
    asked = request("a.test")
    await rewrite("edns0 nsid set").serve(asked, Backend())
    assert isinstance(asked, Request)
    assert asked.query.edns is None
