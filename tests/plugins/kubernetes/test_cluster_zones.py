"""The names of a cluster on the slow path: what no table of names holds, and what is said before there is one.

Every question is asked of both paths: what the compiled one answers must be the same octets.
"""

from __future__ import annotations

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.cluster.objects import (
    Endpoint,
    EndpointSlice,
    Namespace,
    Pod,
    Port,
    Service,
    ServiceImport,
    ServiceType,
)
from kdns.dns.reply import Reply
from kdns.errors import ServeError
from kdns.plugins.plugin import Request, Surroundings
from tests.fakes.clusters import event_of
from tests.fakes.directives import CLIENT, build, request
from tests.fakes.logs import collected
from tests.fakes.served import Served, serve
from tests.fakes.unsynced import serve_unsynced

HTTP = (Port("http", "TCP", 80), Port("dns", "UDP", 53))
ENDPOINTS = (Endpoint(b"\x0a\1\1\1", "a", zone="eu-1a"), Endpoint(b"\x0a\1\1\2", "b"))
OBJECTS = (
    Namespace("shop"),
    Service("shop", "web", ServiceType.CLUSTER_IP, (b"\x0a\x60\0\1",), HTTP),
    Service("shop", "db", ServiceType.HEADLESS, (), HTTP),
    EndpointSlice.of("shop", "s1", "db", HTTP, ENDPOINTS),
    Service("shop", "bare", ServiceType.HEADLESS, (), HTTP),
    Pod("shop", "p1", b"\x0a\1\1\7"),
    Pod("shop", "p2", bytes.fromhex("fd00000000000000000000000000000a")),
    ServiceImport("shop", "far", True, (), HTTP),
    EndpointSlice.of(
        "shop", "s2", "", HTTP, (Endpoint(b"\x0a\2\2\2", "a"),), service_import="far", source_cluster="c1"
    ),
)
SOA = "cluster.local. 5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local."


def cluster(*options: str, zones: str = "cluster.local in-addr.arpa", behind: str = "", before: str = "") -> Served:
    directive = f"kubernetes {zones} {{\n" + "\n".join(("ttl 5", *options)) + "\n}"
    return serve(f".:53 {{\n{before}\n{directive}\n{behind}\n}}\n", [event_of(found) for found in OBJECTS])


def ask(served: Served, name: str, rtype: str = "A", *, payload: int | None = None) -> dns.message.Message:
    """The reply of the slow path; the compiled one gives the same or leaves it to it."""
    message = dns.message.make_query(name, rtype, use_edns=payload is not None, payload=payload or 0)
    wire = message.to_wire()
    reply = served.slow(wire)
    assert reply is not None
    outcome, fast = served.fast(wire)
    assert outcome == "miss" or fast == reply
    return dns.message.from_wire(reply, ignore_trailing=False)


def said(reply: dns.message.Message) -> str:
    """`NODATA`, `NXDOMAIN` and the like, or the data of the answers."""
    if reply.answer:
        return " ".join(sorted(record.to_text() for rrset in reply.answer for record in rrset))
    if reply.rcode() != dns.rcode.NOERROR:
        return dns.rcode.to_text(reply.rcode())
    assert reply.authority
    return "NODATA"


def check(served: Served, expected: dict[str, str]) -> None:
    """Ask `name TYPE` for each, and compare."""
    found = {question: said(ask(served, *question.split())) for question in expected}
    assert found == expected


# Other spellings


def test_port_names_are_found_without_their_underscores():
    check(cluster(), {
        "_http._tcp.web.shop.svc.cluster.local A": "10.96.0.1",
        "http._tcp.web.shop.svc.cluster.local A": "10.96.0.1",
        "_http.tcp.web.shop.svc.cluster.local A": "10.96.0.1",
        "http.tcp.web.shop.svc.cluster.local A": "10.96.0.1",
        "HTTP.tcp.web.shop.svc.cluster.local SRV": "0 100 80 web.shop.svc.cluster.local.",
        "__http._tcp.web.shop.svc.cluster.local A": "NXDOMAIN",
        "http._udp.web.shop.svc.cluster.local A": "NXDOMAIN",
        "dns.udp.db.shop.svc.cluster.local A": "10.1.1.1 10.1.1.2",
        "http.tcp.bare.shop.svc.cluster.local A": "NXDOMAIN",
        "http.tcp.none.shop.svc.cluster.local A": "NXDOMAIN",
        "x.http.tcp.web.shop.svc.cluster.local A": "NXDOMAIN",
    })  # fmt: skip


def test_an_underscore_alone_is_any_port_or_protocol():
    both = "0 50 53 web.shop.svc.cluster.local. 0 50 80 web.shop.svc.cluster.local."
    check(cluster(), {
        "_._.web.shop.svc.cluster.local SRV": both,
        "_._tcp.web.shop.svc.cluster.local SRV": "0 100 80 web.shop.svc.cluster.local.",
        "_http._.web.shop.svc.cluster.local SRV": "0 100 80 web.shop.svc.cluster.local.",
        "http._.web.shop.svc.cluster.local SRV": "0 100 80 web.shop.svc.cluster.local.",
        "_.udp.web.shop.svc.cluster.local SRV": "0 100 53 web.shop.svc.cluster.local.",
        "_._sctp.web.shop.svc.cluster.local SRV": "NXDOMAIN",
    })  # fmt: skip


def test_a_label_too_long_for_an_underscore_is_no_port():
    longest = "x" * 63
    check(cluster(), {f"{longest}._tcp.web.shop.svc.cluster.local A": "NXDOMAIN"})


def test_names_of_port_names_above_have_no_data():
    check(cluster(), {"_tcp.web.shop.svc.cluster.local A": "NODATA", "tcp.web.shop.svc.cluster.local A": "NXDOMAIN"})


def test_the_reply_speaks_of_the_name_that_was_asked():
    reply = ask(cluster(), "Http.tcp.WEB.shop.svc.cluster.local", "SRV")
    assert reply.answer[0].name.to_text() == "Http.tcp.WEB.shop.svc.cluster.local."
    assert reply.answer[0].ttl == 5
    assert [rrset.to_text() for rrset in reply.additional] == ["web.shop.svc.cluster.local. 5 IN A 10.96.0.1"]


# Multicluster


def test_in_a_multicluster_zone_two_labels_without_underscore_are_endpoint_and_cluster():
    served = cluster("multicluster clusterset.local", zones="cluster.local clusterset.local")
    check(served, {
        "far.shop.svc.clusterset.local A": "10.2.2.2",
        "a.c1.far.shop.svc.clusterset.local A": "10.2.2.2",
        "a.far.shop.svc.clusterset.local A": "NXDOMAIN",
        "_http._tcp.far.shop.svc.clusterset.local A": "10.2.2.2",
        "_http.tcp.far.shop.svc.clusterset.local A": "10.2.2.2",
        "http._tcp.far.shop.svc.clusterset.local A": "10.2.2.2",
        "http.tcp.far.shop.svc.clusterset.local A": "NXDOMAIN",
        "far.shop.svc.cluster.local A": "NXDOMAIN",
        "web.shop.svc.clusterset.local A": "NXDOMAIN",
    })  # fmt: skip


# Topology zones


def test_a_topology_zone_may_be_any_text_of_any_length():
    check(cluster("zonal"), {
        "eu-1a.pin._zone.db.shop.svc.cluster.local A": "10.1.1.1",
        "EU-1A.pin._zone.db.shop.svc.cluster.local A": "10.1.1.1",
        "eu.1a.pin._zone.db.shop.svc.cluster.local A": "NODATA",
        "a.b.c.d.pin._zone.db.shop.svc.cluster.local A": "NODATA",
        "a.b.c.d.prefer._zone.db.shop.svc.cluster.local A": "10.1.1.1 10.1.1.2",
        "eu-1a.prefer._zone.db.shop.svc.cluster.local A": "10.1.1.1",
        "nowhere.prefer._zone.db.shop.svc.cluster.local AAAA": "NODATA",
        "eu-1a.pin._zone.web.shop.svc.cluster.local A": "NXDOMAIN",
        "eu-1a.near._zone.db.shop.svc.cluster.local A": "NXDOMAIN",
        "eu-1a._zone.db.shop.svc.cluster.local A": "NXDOMAIN",
    })  # fmt: skip


def test_without_the_option_there_are_no_topology_zones():
    check(cluster(), {"eu-1a.pin._zone.db.shop.svc.cluster.local A": "NXDOMAIN"})


# Pods

PODS = {
    "10-1-1-7.shop.pod.cluster.local A",
    "10-1-1-8.shop.pod.cluster.local A",
    "10-1-1-7.none.pod.cluster.local A",
    "fd00--a.shop.pod.cluster.local AAAA",
}


def test_without_the_option_there_are_no_pods():
    check(cluster(), {
        **dict.fromkeys(PODS, "NXDOMAIN"),
        "pod.cluster.local A": "NODATA",
        "shop.pod.cluster.local A": "NXDOMAIN",
    })  # fmt: skip


def test_insecure_pods_are_whatever_their_name_says():
    check(cluster("pods insecure"), {
        "10-1-1-7.shop.pod.cluster.local A": "10.1.1.7",
        "10-1-1-7.shop.pod.cluster.local AAAA": "NODATA",
        "10-1-1-7.shop.pod.cluster.local TXT": "NODATA",
        "203-0-113-9.SHOP.pod.cluster.local A": "203.0.113.9",
        "fd00--a.shop.pod.cluster.local AAAA": "fd00::a",
        "FD00-0--A.shop.pod.cluster.local AAAA": "fd00::a",
        "--ffff-10-1-1-7.shop.pod.cluster.local AAAA": "::ffff:10:1:1:7",
        "--ffff-a01-107.shop.pod.cluster.local A": "10.1.1.7",
        "10-1-1-07.shop.pod.cluster.local A": "NXDOMAIN",
        "10-1-1.shop.pod.cluster.local A": "NXDOMAIN",
        "10-1-1-256.shop.pod.cluster.local A": "NXDOMAIN",
        "web.shop.pod.cluster.local A": "NXDOMAIN",
        "10-1-1-7.none.pod.cluster.local A": "NXDOMAIN",
        "10-1-1-7.pod.cluster.local A": "NXDOMAIN",
        "shop.pod.cluster.local A": "NODATA",
        "pod.cluster.local A": "NODATA",
    })  # fmt: skip


def test_verified_pods_are_there():
    check(cluster("pods verified"), {
        "10-1-1-7.shop.pod.cluster.local A": "10.1.1.7",
        "10-1-1-7.shop.pod.cluster.local AAAA": "NODATA",
        "10-1-1-8.shop.pod.cluster.local A": "NXDOMAIN",
        "10-1-1-7.none.pod.cluster.local A": "NXDOMAIN",
        "fd00--a.shop.pod.cluster.local AAAA": "fd00::a",
        "fd00-0--a.shop.pod.cluster.local AAAA": "NXDOMAIN",
        "shop.pod.cluster.local A": "NODATA",
    })  # fmt: skip


@pytest.mark.parametrize("mode", ["insecure", "verified"])
def test_up_to_two_labels_before_a_pod_do_not_count(mode: str):
    check(cluster(f"pods {mode}"), {
        "x.10-1-1-7.shop.pod.cluster.local A": "10.1.1.7",
        "_x._y.10-1-1-7.shop.pod.cluster.local A": "10.1.1.7",
        "x.y.10-1-1-7.shop.pod.cluster.local AAAA": "NODATA",
        "x.y.z.10-1-1-7.shop.pod.cluster.local A": "NXDOMAIN",
        "x.10-1-1-9.none.pod.cluster.local A": "NXDOMAIN",
    })  # fmt: skip


def test_a_pod_answers_under_the_name_that_was_asked():
    reply = ask(cluster("pods insecure"), "X.10-1-1-7.Shop.pod.Cluster.local")
    assert [rrset.to_text() for rrset in reply.answer] == ["X.10-1-1-7.Shop.pod.Cluster.local. 5 IN A 10.1.1.7"]


@given(
    text=st.text(st.sampled_from("0123456789abcdefAF-.:%_x"), min_size=1, max_size=40),
    rtype=st.sampled_from(("A", "AAAA", "SRV")),
)
def test_any_label_may_be_asked_for_as_a_pod(text: str, rtype: str):
    label = text.replace(".", "\\.")
    try:
        question = dns.message.make_query(f"{label}.shop.pod.cluster.local", rtype)
    except dns.exception.DNSException:
        return
    for served in (INSECURE, VERIFIED):
        reply = served.slow(question.to_wire())
        assert reply is not None
        assert dns.message.from_wire(reply).rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN)


INSECURE, VERIFIED = cluster("pods insecure"), cluster("pods verified")


# Negative answers, transfers


@pytest.mark.parametrize(
    ("name", "rcode"), [("none.cluster.local", "NXDOMAIN"), ("web.shop.svc.cluster.local", "NOERROR")]
)
def test_a_negative_answer_has_the_zones_soa_record(name: str, rcode: str):
    reply = ask(cluster(), name, "MX")
    assert dns.rcode.to_text(reply.rcode()) == rcode
    assert reply.flags & dns.flags.AA
    assert [rrset.to_text() for rrset in reply.authority] == [f"{SOA} 1700000000 7200 1800 86400 5"]


@pytest.mark.parametrize("rtype", ["AXFR", "IXFR"])
@pytest.mark.parametrize("name", ["cluster.local", "none.cluster.local"])
def test_transfers_are_refused(name: str, rtype: str):
    for served in (cluster(), serve_unsynced(".:53 {\nkubernetes cluster.local\n}\n")):
        message = dns.message.make_query(name, "A")
        message.question[0].rdtype = dns.rdatatype.from_text(rtype)
        reply = dns.message.from_wire(served.slow(message.to_wire()))
        assert reply.rcode() == dns.rcode.REFUSED
        assert not reply.flags & dns.flags.AA
        assert not reply.authority


# Falling through


def has_asked_whoami(reply: dns.message.Message) -> bool:
    return any(rrset.rdtype == dns.rdatatype.SRV and rrset.name.labels[0] == b"_udp" for rrset in reply.additional)


def test_names_of_other_zones_go_to_the_next_plugin():
    assert has_asked_whoami(ask(cluster(behind="whoami"), "www.example.org"))


def test_without_the_option_nothing_falls_through():
    assert not has_asked_whoami(ask(cluster(behind="whoami"), "none.cluster.local"))


@pytest.mark.parametrize(
    ("option", "falling", "staying"),
    [
        ("fallthrough", ("none.cluster.local", "9.9.9.9.in-addr.arpa"), ()),
        ("fallthrough in-addr.arpa", ("9.9.9.9.in-addr.arpa",), ("none.cluster.local",)),
        (
            "fallthrough svc.cluster.local 10.9.0.0/16",
            ("none.shop.svc.cluster.local", "1.1.9.10.in-addr.arpa"),
            ("none.cluster.local", "1.1.8.10.in-addr.arpa"),
        ),
        ("fallthrough example.org", (), ("none.cluster.local",)),
        ("pods insecure\nfallthrough", ("10-1-1-7.none.pod.cluster.local", "x.shop.pod.cluster.local"), ()),
    ],
)
def test_name_errors_fall_through_where_they_may(option: str, falling: tuple[str, ...], staying: tuple[str, ...]):
    served = cluster(option, behind="whoami")
    for name in falling:
        assert has_asked_whoami(ask(served, name)), name
    for name in staying:
        assert said(ask(served, name)) == "NXDOMAIN"


def test_what_exists_never_falls_through():
    served = cluster("pods insecure", "fallthrough", behind="whoami")
    for name in (
        "web.shop.svc.cluster.local",
        "cluster.local",
        "shop.svc.cluster.local",
        "10-1-1-7.shop.pod.cluster.local",
    ):
        assert said(ask(served, name, "MX")) == "NODATA"


def test_with_nobody_behind_it_a_fallen_name_is_an_error():
    served = cluster("fallthrough", before="errors")
    with collected() as lines:
        reply = ask(served, "none.cluster.local")
    assert (said(reply), reply.authority, reply.flags & dns.flags.AA) == ("SERVFAIL", [], 0)
    assert lines == ["[ERROR] plugin/errors: 2 none.cluster.local. A: plugin/kubernetes: no next plugin found"]


# Before anything is known

UNSYNCED = serve_unsynced(".:53 {\nkubernetes cluster.local in-addr.arpa {\npods insecure\nfallthrough\n}\nwhoami\n}\n")
NOT_READY = 14  # RFC 8914, 4.15


@pytest.mark.parametrize(
    "question",
    [
        "web.shop.svc.cluster.local A",
        "shop.svc.cluster.local A",
        "none.cluster.local A",
        "10-1-1-7.shop.pod.cluster.local A",
        "_http._tcp.web.shop.svc.cluster.local SRV",
        "1.1.1.10.in-addr.arpa PTR",
        "none.cluster.local SOA",
        "cluster.local TXT",
    ],
)
def test_an_unsynced_cluster_denies_nothing(question: str):
    reply = ask(UNSYNCED, *question.split(), payload=1232)
    assert (reply.rcode(), reply.answer) == (dns.rcode.SERVFAIL, [])
    assert reply.flags & dns.flags.AA
    (soa,) = reply.authority
    assert (soa.rdtype, soa[0].serial) == (dns.rdatatype.SOA, 0)
    (option,) = reply.options
    assert isinstance(option, dns.edns.EDEOption)
    assert (option.code, option.text) == (NOT_READY, "the cluster has not been listed yet")
    plain = ask(UNSYNCED, *question.split())
    assert (plain.rcode(), plain.edns) == (dns.rcode.SERVFAIL, -1)


def test_an_unsynced_cluster_says_what_is_true_of_any():
    check(UNSYNCED, {
        "cluster.local SOA": "ns.dns.cluster.local. hostmaster.cluster.local. 0 7200 1800 86400 5",
        "in-addr.arpa SOA": "ns.dns.in-addr.arpa. hostmaster.in-addr.arpa. 0 7200 1800 86400 5",
        "cluster.local NS": "ns.dns.cluster.local.",
        "ns.dns.cluster.local A": "10.1.1.1",
        "dns-version.cluster.local TXT": '"1.1.0"',
    })  # fmt: skip
    assert has_asked_whoami(ask(UNSYNCED, "www.example.org"))


async def test_without_any_table_yet_it_is_no_different():
    built = build(".:53 {\nkubernetes cluster.local {\nfallthrough\n}\nwhoami\n}\n", Surroundings(has_manifests=True))
    for name, rtype, rcode in (("web.shop.svc.cluster.local", "A", 2), ("cluster.local", "SOA", 0)):
        message = dns.message.make_query(name, rtype, use_edns=0).to_wire()
        reply = dns.message.from_wire(await built.answer(built.listeners[0], message, CLIENT, stream=False))
        assert reply.rcode() == rcode
        assert bool(reply.options) is (rcode == 2)
        (rrset,) = reply.answer or reply.authority
        assert rrset.name.to_text() == "cluster.local."
        assert rrset[0].serial == 0


# What a reply says of where it comes from


async def next_plugin(_: Request) -> Reply:
    raise AssertionError("handed on")


@pytest.mark.parametrize(
    "question", ["web.shop.svc.cluster.local A", "web.shop.svc.cluster.local MX", "x.cluster.local A",
                 "cluster.local SOA", "10-0-0-1.shop.pod.cluster.local A", "_HTTP._tcp.db.shop.svc.Cluster.local SRV"],
)  # fmt: skip
async def test_every_reply_is_written_by_kubernetes(question: str):
    served = cluster("pods insecure")
    plugin = dict(served.resolver.listeners[0].zones[b"\0"].plugins)["kubernetes"]
    reply = await plugin.serve(request(*question.split()), next_plugin)
    assert reply.writer == "kubernetes"


@pytest.mark.parametrize("rtype", ["AXFR", "IXFR"])
async def test_a_zone_is_not_transferred_and_nobody_has_said_so(rtype: str):
    served = cluster()
    plugin = dict(served.resolver.listeners[0].zones[b"\0"].plugins)["kubernetes"]
    with pytest.raises(ServeError, match=r"^$") as refusal:
        await plugin.serve(request("cluster.local", rtype, stream=True), next_plugin)
    assert refusal.value.rcode == dns.rcode.REFUSED
