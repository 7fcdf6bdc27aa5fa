"""Names that simple `rewrite` rules make cluster names: answered by the compiled path, in the slow path's octets."""

from __future__ import annotations

import os
import random
from functools import cache

import dns.message
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdns.cluster.objects import Endpoint, EndpointSlice, Namespace, Port, Service, ServiceType
from tests.fakes.clusters import event_of
from tests.fakes.served import Served, serve
from tests.harness.examples import examples

COREFILES = {
    "rules": """.:53 {
        rewrite continue ttl late.corp.test 7
        rewrite name exact web.short.test web.shop.svc.cluster.local
        rewrite name exact elsewhere.test not.in.any.zone.test
        rewrite name suffix .corp.test .shop.svc.cluster.local answer auto
        rewrite name suffix .plain.test .shop.svc.cluster.local
        rewrite name suffix .local.test .shop.svc.cluster.local
        rewrite name suffix .cluster.local.x .cluster.local
        rewrite name suffix .a.cluster.local .shop.svc.cluster.local answer auto
        rewrite name exact late.corp.test web.shop.svc.cluster.local
        kubernetes cluster.local in-addr.arpa {
            pods insecure
        }
        whoami
        ROTATES
    }
    b.corp.test {
        whoami
    }""",
    "hosts": """.:53 {
        rewrite name suffix .corp.test .shop.svc.cluster.local answer auto
        rewrite name exact web.short.test six.shop.svc.cluster.local
        hosts HOSTS {
            192.0.2.99 web.shop.svc.cluster.local db.corp.test
            fallthrough
        }
        kubernetes cluster.local
        ROTATES
    }""",
    "root": """cluster.local corp.test {
        rewrite name exact a.corp.test db.shop.svc.cluster.local
        rewrite name suffix .corp.test .svc.cluster.local answer auto
        bufsize 512
        kubernetes cluster.local
        template IN A shop2.svc.cluster.local {
            rcode NXDOMAIN
        }
        ROTATES
    }""",
}
SUFFIXES = (
    "short.test", "elsewhere.test", "corp.test", "shop.corp.test", "b.corp.test", "plain.test", "local.test",
    "a.cluster.local", "cluster.local.x", "shop.svc.cluster.local.x", "late.corp.test", "shop.svc.cluster.local",
)  # fmt: skip
SERVICES = ("web", "db", "one", "six", "alias", "out", "none", "late", "a")


@cache
def served(corefile: str, rotates: bool) -> Served:
    ports = (Port("http", "TCP", 80),)
    endpoints = tuple(Endpoint(bytes((10, 1, n >> 8, n & 255))) for n in range(300))
    endpoints6 = tuple(Endpoint(bytes(14) + bytes((n >> 8, n & 255))) for n in range(3))
    objects = (
        Namespace("shop"),
        Service("shop", "web", ServiceType.CLUSTER_IP, (b"\x0a\x60\x00\x01", bytes(15) + b"\1"), ports),
        Service("shop", "db", ServiceType.HEADLESS, (), ports),
        EndpointSlice.of("shop", "db-1", "db", ports, endpoints),
        Service("shop", "one", ServiceType.HEADLESS, (), ports),
        EndpointSlice.of("shop", "one-1", "one", ports, endpoints[:1]),
        Service("shop", "six", ServiceType.HEADLESS, (), ports),
        EndpointSlice.of("shop", "six-1", "six", ports, endpoints6),
        EndpointSlice.of("shop", "six-2", "six", ports, endpoints[:4]),
        Service("shop", "alias", ServiceType.EXTERNAL_NAME, external_name="db.shop.svc.cluster.local"),
        Service("shop", "out", ServiceType.EXTERNAL_NAME, external_name="example.org"),
    )
    text = COREFILES[corefile].replace("ROTATES", "loadbalance" if rotates else "")
    text = text.replace("HOSTS", os.devnull)
    return serve(text, [event_of(found) for found in objects])


def query(name: str, rtype: str = "A", **options: object) -> bytes:
    return dns.message.make_query(name, rtype, **options).to_wire()  # type: ignore[arg-type]


def spelled(text: str, seed: int) -> str:
    return "".join(random.Random(seed).choice((c.upper(), c)) for c in text) if seed else text


names_asked = st.tuples(
    st.lists(st.sampled_from(SERVICES), max_size=2), st.sampled_from(SUFFIXES), st.sampled_from((0, 0, 1, 2))
).map(lambda parts: spelled(".".join([*parts[0], parts[1]]), parts[2]))


@given(
    corefile=st.sampled_from(sorted(COREFILES)), rotates=st.booleans(), name=names_asked,
    rtype=st.sampled_from(("A", "A", "AAAA", "SRV", "TXT", "ANY", "CNAME", "DS", "AXFR")),
    payload=st.sampled_from((None, 512, 700, 1232)), stream=st.booleans(), chance=st.integers(0, 2**64 - 1),
)  # fmt: skip
@settings(max_examples=examples(1500), deadline=None)
def test_both_paths_answer_in_the_same_octets(corefile, rotates, name, rtype, payload, stream, chance):
    server = served(corefile, rotates)
    options = {} if payload is None else {"use_edns": 0, "payload": payload}
    message = query(name, rtype, **options)
    outcome, reply = server.fast(message, stream=stream, chance=chance)
    slow = server.slow(message, stream=stream, chance=chance)
    if outcome != "miss":
        assert reply == slow, outcome
    assert slow is not None
    assert dns.message.from_wire(message).is_response(dns.message.from_wire(slow, ignore_trailing=False))


@pytest.mark.parametrize(
    ("corefile", "name", "rtype", "owner", "count"),
    [
        ("rules", "web.short.test.", "A", "web.short.test.", 1),
        ("rules", "WEB.short.test.", "AAAA", "WEB.short.test.", 1),
        ("rules", "db.corp.test.", "A", "db.corp.test.", 300),
        ("rules", "six.corp.test.", "AAAA", "six.corp.test.", 3),
        ("rules", "db.plain.test.", "A", "db.shop.svc.cluster.local.", 300),
        ("rules", "one.plain.test.", "A", "one.shop.svc.cluster.local.", 1),
        ("rules", "web.a.cluster.local.", "A", "web.a.cluster.local.", 1),
        ("root", "a.corp.test.", "A", "a.corp.test.", 300),
        ("hosts", "six.corp.test.", "A", "six.corp.test.", 4),
        ("hosts", "web.short.test.", "A", "web.short.test.", 4),
    ],
)
def test_addresses_of_a_cluster_name_need_no_slow_path(corefile: str, name: str, rtype: str, owner: str, count: int):
    outcome, reply = served(corefile, True).fast(query(name, rtype), stream=True, chance=3)
    assert outcome == "answer"
    (rrset,) = dns.message.from_wire(reply).answer
    assert (rrset.name.to_text(), len(rrset)) == (owner, count)


@pytest.mark.parametrize(
    ("corefile", "name", "rtype"),
    [
        ("hosts", "web.corp.test.", "A"),  # another plugin knows what it becomes
        ("rules", "elsewhere.test.", "A"),  # becomes no name of the table
        ("rules", "none.corp.test.", "A"),  # there is no such Service
        ("rules", "web.corp.test.", "TXT"),  # not an address
        ("rules", "alias.corp.test.", "A"),  # a CNAME stands before the addresses
        ("rules", "corp.test.", "A"),  # a suffix is not among the names below it
        ("rules", "x.web.short.test.", "A"),  # an exact rule is for one name
        ("rules", "web.shop.svc.cluster.local.x.", "A"),  # names of Pods stand among those the suffix becomes
        ("root", "web.shop.corp.test.", "A"),  # and names of a template here
    ],
)
def test_what_is_not_simple_is_left_to_the_slow_path(corefile: str, name: str, rtype: str):
    assert served(corefile, True).fast(query(name, rtype))[0] == "miss"


@pytest.mark.parametrize("name", ["db.plain.test.", "db.corp.test."])
def test_addresses_begin_at_any_of_them_where_they_rotate(name: str):
    server = served("rules", True)
    firsts = set()
    for part in range(8):
        _, reply = server.fast(query(name), stream=True, chance=part << 61)
        firsts.add(dns.message.from_wire(reply).answer[0][0].to_text())
    assert len(firsts) == 8


@pytest.mark.parametrize("name", ["db.plain.test.", "db.corp.test."])
def test_an_answer_too_large_is_cut_at_whole_records(name: str):
    outcome, reply = served("rules", False).fast(query(name), chance=7)
    parsed = dns.message.from_wire(reply, ignore_trailing=False)
    assert outcome == "truncated"
    assert parsed.flags & dns.flags.TC
    assert 10 < len(parsed.answer[0]) < 32
