"""`forward` and `cache` before name servers of other makers, asked by dig and by dnspython."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import dns.flags
import dns.message
import dns.rcode
import pytest

from tests.e2e.forwarding import Client, forward_block
from tests.e2e.forwarding import serving as serving_kdns
from tests.harness.exchange import TCP, TRANSPORTS, Peer, ask
from tests.harness.resolvers import MANY, RESOLVERS, is_installed, serving
from tests.harness.waiting import wait_until

TYPES = [
    ("www.real.test.", "A"), ("www.real.test.", "AAAA"), ("alias.real.test.", "A"), ("alias.real.test.", "CNAME"),
    ("text.real.test.", "TXT"), ("mail.real.test.", "MX"), ("_http._tcp.real.test.", "SRV"),
]  # fmt: skip

HAS_SOA = ("knotd", "named", "unbound")  # dnsmasq says nothing in the authority section


@dataclass(slots=True)
class Site:
    """The server in front, and the one behind."""

    name: str
    client: Client
    behind: Peer

    def direct(self, name: str, rtype: str, transport: str = TCP, **options: object) -> dns.message.Message:
        """What the server behind says itself."""
        wire = ask(self.behind, dns.message.make_query(name, rtype, **options).to_wire(), transport)  # type: ignore[arg-type]
        assert wire is not None
        return dns.message.from_wire(wire)


@pytest.fixture(scope="module", params=list(RESOLVERS))
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    name = str(request.param)
    if not is_installed(name):
        pytest.skip(f"{name} is not installed")
    folder = tmp_path_factory.mktemp(name)
    with serving(name, folder / "behind") as behind:
        block = forward_block(behind.port, before=("errors", "cache"))
        tcp = forward_block(behind.port, zone="tcp.real.test", options=("force_tcp",))
        with serving_kdns(folder, block + tcp) as client:
            yield Site(name, client, behind)
            client.assert_well()


def data(reply: dns.message.Message) -> set[str]:
    """Names, types and data of the answers, without order and TTL."""
    return {f"{rrset.name} {rrset.rdtype} {one}" for rrset in reply.answer for one in rrset}


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(("name", "rtype"), TYPES)
def test_answers_are_those_of_the_server_behind(site: Site, name: str, rtype: str, transport: str) -> None:
    expected = site.direct(name, rtype)
    assert expected.answer
    for _ in range(2):  # from there, and kept
        reply = site.client.ask(name, rtype, transport)
        assert reply.rcode() == dns.rcode.NOERROR
        assert data(reply) == data(expected)


def test_ttls_count_down_and_are_those_of_the_server_behind(site: Site) -> None:
    (first,) = site.client.ask("www.real.test.", "AAAA").answer
    assert 0 < first.ttl <= 300
    wait_until(lambda: site.client.ask("www.real.test.", "AAAA").answer[0].ttl < first.ttl, "a second has passed")
    (later,) = site.client.ask("www.real.test.", "AAAA").answer
    assert first.ttl - 10 < later.ttl < first.ttl


@pytest.mark.parametrize(("name", "rtype", "rcode"), [("none", "A", "NXDOMAIN"), ("www", "MX", "NOERROR")])
def test_what_is_not_there_comes_with_its_soa(site: Site, name: str, rtype: str, rcode: str) -> None:
    owner = f"{name}.real.test."
    expected = site.direct(owner, rtype)
    for _ in range(2):
        reply = site.client.ask(owner, rtype)
        assert dns.rcode.to_text(reply.rcode()) == rcode
        assert not reply.answer
        assert [rrset.to_rdataset() for rrset in reply.authority] == [
            rrset.to_rdataset() for rrset in expected.authority
        ]
    if site.name in HAS_SOA:
        assert [rrset.rdtype for rrset in reply.authority] == [dns.rdatatype.SOA]


def test_a_large_answer_is_truncated_over_udp_and_whole_over_tcp(site: Site) -> None:
    assert site.client.ask("many.real.test.").flags & dns.flags.TC
    for transport, name in ((TCP, "many.real.test."), (TCP, "many.real.test.")):
        assert len(site.client.says(name, transport=transport).split()) == MANY
    assert site.client.ask("many.real.test.").flags & dns.flags.TC


def test_dig_follows_truncation_and_sees_all(site: Site) -> None:
    peer = site.client.server.peer()
    command = ("dig", f"@{peer.address}", "-p", str(peer.port), "many.real.test.", "A", "+short", "+tries=1")
    out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout
    assert len([line for line in out.splitlines() if line.startswith("10.0.")]) == MANY


@pytest.mark.parametrize("option", ["+dnssec", "+cdflag", "+adflag", "+nsid", "+noedns", "+bufsize=512", "+tcp"])
def test_dig_is_content_whatever_it_asks_with(site: Site, option: str) -> None:
    peer = site.client.server.peer()
    command = ("dig", f"@{peer.address}", "-p", str(peer.port), "www.real.test.", "A", option, "+tries=1")
    for _ in range(2):
        out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout
        assert "status: NOERROR" in out
        assert "192.0.2.1" in out
        # Only a resolver offers recursion, and two of these are none.
        warnings = [line for line in out.splitlines() if "WARNING" in line or "malformed" in line.lower()]
        assert set(warnings) <= {";; WARNING: recursion requested but not available"}


def test_signatures_go_to_those_who_ask_for_them_and_to_nobody_else(site: Site) -> None:
    if site.name != "knotd":
        pytest.skip(f"{site.name} serves no signatures of a zone that is not signed")
    expected = site.direct("signed.real.test.", "A", want_dnssec=True)
    for _ in range(2):
        signed = site.client.ask("signed.real.test.", want_dnssec=True)
        assert data(signed) == data(expected)
        plain = site.client.ask("signed.real.test.")
        assert {rrset.rdtype for rrset in plain.answer} == {dns.rdatatype.A}
