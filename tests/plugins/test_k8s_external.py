"""`k8s_external`: its names on both paths, and what it says where they are not in the table."""

from __future__ import annotations

import dns.message
import dns.rcode
import pytest

from kdns.cluster.objects import Endpoint, EndpointSlice, Namespace, Port, Service, ServiceType
from kdns.cluster.view import ExternalZones
from kdns.dns import names
from kdns.plugins.k8s_external import ExternalService
from kdns.plugins.plugin import BlockSettings, ClusterNeeds, Surroundings
from tests.fakes.clusters import event_of
from tests.fakes.directives import refused, set_up
from tests.fakes.served import Served, serve
from tests.fakes.unsynced import serve_unsynced

PORTS = (Port("http", "TCP", 80), Port("https", "TCP", 443))
OBJECTS = (
    Namespace("shop"),
    Service("shop", "lb", ServiceType.CLUSTER_IP, (b"\x0a\x60\0\1",), PORTS, "", ("203.0.113.1", "2001:db8::5")),
    Service("shop", "cdn", ServiceType.CLUSTER_IP, (b"\x0a\x60\0\2",), PORTS, "", ("lb.cdn.test",)),
    Service("shop", "in", ServiceType.CLUSTER_IP, (b"\x0a\x60\0\3",), PORTS),
    Service("shop", "db", ServiceType.HEADLESS, (), PORTS),
    EndpointSlice.of("shop", "s1", "db", PORTS, (Endpoint(b"\x0a\1\1\2", "a"), Endpoint(b"\x0a\1\1\3"))),
)
SOA = "example.com. 9 IN SOA ns1.edge.example.com. hostmaster.edge.example.com. 1700000000 7200 1800 86400 9"


def external(*options: str, zones: str = "example.com in-addr.arpa", behind: str = "") -> Served:
    directive = f"k8s_external {zones} {{\n" + "\n".join(("ttl 9", "apex edge", *options)) + "\n}"
    kubernetes = "kubernetes cluster.local in-addr.arpa"
    return serve(f".:53 {{\n{kubernetes}\n{directive}\n{behind}\n}}\n", [event_of(found) for found in OBJECTS])


def ask(served: Served, name: str, rtype: str = "A") -> tuple[str, dns.message.Message]:
    """What became of the question on the compiled path, and the reply, which is the same on both."""
    wire = dns.message.make_query(name, rtype).to_wire()
    outcome, fast = served.fast(wire)
    reply = served.slow(wire)
    assert reply is not None
    assert outcome == "miss" or fast == reply
    return outcome, dns.message.from_wire(reply, ignore_trailing=False)


def records(message: dns.message.Message) -> list[str]:
    sections = (message.answer, message.authority, message.additional)
    return sorted(line for section in sections for rrset in section for line in rrset.to_text().splitlines())


def test_a_cache_before_it_limits_ttls_as_if_it_kept_the_answers():
    served = external(behind="cache 7")
    clamped = SOA.replace("com. 9 IN SOA", "com. 7 IN SOA")  # its last number stays
    for question, expected in (
        ("lb.shop.example.com A", "lb.shop.example.com. 7 IN A 203.0.113.1"),
        ("example.com SOA", clamped),
        ("lb.shop.example.com TXT", clamped),
        ("none.shop.example.com A", clamped),
    ):
        assert records(ask(served, *question.split())[1]) == [expected]


def test_a_cache_leaves_the_minimum_of_the_clusters_soa_records():
    served = external(behind="cache 4")
    expected = "cluster.local. 4 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 1700000000 7200 1800 86400 5"
    for question in ("cluster.local SOA", "in.shop.svc.cluster.local TXT"):
        assert records(ask(served, *question.split())[1]) == [expected]


def test_a_cache_of_other_zones_leaves_ttls_alone():
    served = external(behind="cache 7 example.net")
    assert records(ask(served, "lb.shop.example.com")[1]) == ["lb.shop.example.com. 9 IN A 203.0.113.1"]


@pytest.mark.parametrize(
    ("question", "outcome", "expected"),
    [
        ("lb.shop.example.com A", "answer", ["lb.shop.example.com. 9 IN A 203.0.113.1"]),
        ("LB.shop.example.com AAAA", "answer", ["LB.shop.example.com. 9 IN AAAA 2001:db8::5"]),
        ("lb.shop.example.com TXT", "nodata", [SOA]),
        ("shop.example.com A", "nodata", [SOA]),
        ("edge.example.com A", "nodata", [SOA]),
        ("in.shop.example.com A", "nxdomain", [SOA]),
        ("lb.other.example.com A", "nxdomain", [SOA]),
        ("x.edge.example.com A", "nxdomain", [SOA]),
        ("example.com SOA", "answer", [SOA]),
        (
            "example.com NS",
            "answer",
            ["example.com. 9 IN NS ns1.edge.example.com.", "ns1.edge.example.com. 9 IN A 10.1.1.1"],
        ),
        ("ns1.edge.example.com A", "answer", ["ns1.edge.example.com. 9 IN A 10.1.1.1"]),
        ("1.113.0.203.in-addr.arpa PTR", "answer", ["1.113.0.203.in-addr.arpa. 9 IN PTR lb.shop.example.com."]),
        ("lb.shop.svc.cluster.local A", "answer", ["lb.shop.svc.cluster.local. 5 IN A 10.96.0.1"]),
    ],
)
def test_names_are_answered_from_the_table(question: str, outcome: str, expected: list[str]):
    found = ask(external(), *question.split())
    assert (found[0], records(found[1])) == (outcome, expected)


def test_its_reverse_zone_hides_the_one_of_the_cluster():
    reply = ask(external(), "1.0.96.10.in-addr.arpa", "PTR")[1]
    assert reply.rcode() == dns.rcode.NXDOMAIN


def test_with_fallthrough_the_cluster_answers_in_the_reverse_zone():
    outcome, reply = ask(external("fallthrough in-addr.arpa"), "1.0.96.10.in-addr.arpa", "PTR")
    assert (outcome, records(reply)) == (
        "miss",
        ["1.0.96.10.in-addr.arpa. 5 IN PTR lb.shop.svc.cluster.local."],
    )


@pytest.mark.parametrize("spelling", ["_http._tcp.lb", "http.tcp.lb", "_HTTP._tcp.LB", "_._tcp.lb"])
def test_ports_are_found_in_each_spelling(spelling: str):
    reply = ask(external(), f"{spelling}.shop.example.com", "SRV")[1]
    assert {record.target.to_text().lower() for record in reply.answer[0]} == {"lb.shop.example.com."}
    assert {rrset.name.to_text().lower() for rrset in reply.additional} == {"lb.shop.example.com."}
    assert {rrset.ttl for rrset in reply.additional} == {9}
    assert reply.answer[0].ttl == 5


@pytest.mark.parametrize("spelling", ["cdn", "_http._tcp.cdn", "http.tcp.cdn", "_._.cdn"])
def test_a_balancers_name_is_resolved_by_the_server(spelling: str):
    served = external(behind='template IN A cdn.test {\nanswer "lb.cdn.test. 60 IN A 192.0.2.1"\n}')
    name = f"{spelling}.shop.example.com."
    outcome, reply = ask(served, name)
    assert outcome == "miss"
    assert records(reply) == sorted([f"{name} 5 IN CNAME lb.cdn.test.", "lb.cdn.test. 60 IN A 192.0.2.1"])


def test_headless_services_are_shown_on_request():
    assert ask(external(), "db.shop.example.com")[1].rcode() == dns.rcode.NXDOMAIN
    shown = external("headless")
    assert len(ask(shown, "db.shop.example.com")[1].answer[0]) == 2
    assert records(ask(shown, "a.db.shop.example.com")[1]) == ["a.db.shop.example.com. 9 IN A 10.1.1.2"]


def test_before_the_cluster_is_listed_its_names_are_not_known():
    served = serve_unsynced(".:53 {\nkubernetes cluster.local\nk8s_external example.com\n}\n")
    wire = dns.message.make_query("lb.shop.example.com", "A").to_wire()
    assert served.fast(wire)[0] == "miss"
    reply = served.slow(wire)
    assert reply is not None
    assert dns.message.from_wire(reply).rcode() == dns.rcode.SERVFAIL


def test_options_are_read():
    surroundings = Surroundings(has_manifests=True)
    plugin = set_up("k8s_external a.test b.test {\nttl 0\napex Edge\nheadless\nfallthrough c.a.test\n}", surroundings)
    assert isinstance(plugin, ExternalService)
    assert plugin.zones == (names.from_text("a.test"), names.from_text("b.test"))


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("ttl", "Wrong argument count or unexpected line ending after 'ttl'"),
        ("ttl x", 'strconv.Atoi: parsing "x": invalid syntax'),
        ("ttl 3601", "ttl must be in range [0, 3600]: 3601"),
        ("apex", "Wrong argument count or unexpected line ending after 'apex'"),
        ("apex a.b", "apex: met 'a.b', expected one label"),
        ("zone a", "unknown property 'zone'"),
    ],
)
def test_options_that_are_wrong_are_refused(option: str, said: str):
    text = refused(f"k8s_external example.com {{\n{option}\n}}\nkubernetes cluster.local")
    assert text.startswith("plugin/k8s_external: ")
    assert said in text


def test_it_needs_a_cluster():
    assert "no kubernetes directive" in refused("k8s_external example.com")


def test_its_zones_default_to_those_of_the_block():
    settings = BlockSettings()
    assert settings.cluster == ClusterNeeds()
    served = serve(
        "example.com:53 {\nkubernetes cluster.local\nk8s_external\n}\n", [event_of(found) for found in OBJECTS]
    )
    assert ask(served, "lb.shop.example.com")[0] == "answer"
    view = served.resolver.surroundings.views[0]
    assert view.external == ExternalZones((names.from_text("example.com"),))
