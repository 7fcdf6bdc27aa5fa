"""`autopath`: what is asked along a search path, and what comes back of it."""

from __future__ import annotations

from pathlib import Path

import dns.message
import dns.rcode
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdns.cluster.objects import Namespace, Pod, Port, Service, ServiceType
from kdns.dns import names
from kdns.dns.codes import Rcode, RRType
from kdns.dns.compression import write_body
from kdns.dns.records import read_sections
from kdns.dns.reply import Reply
from kdns.dns.rrset import Record
from kdns.errors import ServeError
from kdns.plugins import autopath
from kdns.plugins.autopath import AutoPath, read_search
from kdns.plugins.plugin import Request
from tests.fakes.clusters import event_of
from tests.fakes.directives import CLIENT, answers_of, refused, request, set_up
from tests.fakes.served import Served, serve

HTTP = (Port("http", "TCP", 80),)
OBJECTS = (
    Namespace("shop"),
    Namespace("local"),
    Service("shop", "web", ServiceType.CLUSTER_IP, (b"\x0a\x60\0\1",), HTTP),
    Service("local", "far", ServiceType.CLUSTER_IP, (b"\x0a\x60\0\2",), HTTP),
    Pod("shop", "p1", b"\xc0\0\2\1"),  # the client's address
)
OUTSIDE = 'template IN A example.test {\nmatch ^www\nanswer "www.example.test. 60 IN A 192.0.2.9"\nrcode NOERROR\n}'


def cluster(pods: str = "verified", zones: str = "", before: str = "", *objects: Pod) -> Served:
    directives = f"autopath {zones} @kubernetes\n{before}\nkubernetes cluster.local {{\npods {pods}\n}}"
    return serve(
        f".:53 {{\n{directives}\n}}\nexample.test:53 {{\n{OUTSIDE}\n}}\n",
        [event_of(found) for found in (*OBJECTS, *objects)],
    )


def asked(served: Served, name: str, rtype: str = "A") -> tuple[str, dns.message.Message]:
    """The outcome on the compiled path, and the reply a client gets."""
    wire = dns.message.make_query(name, rtype).to_wire()
    outcome, fast = served.fast(wire)
    reply = served.slow(wire)
    assert reply is not None
    assert outcome == "miss" or fast == reply
    return outcome, dns.message.from_wire(reply, ignore_trailing=False)


def lines(message: dns.message.Message) -> list[str]:
    return [line for rrset in message.answer for line in rrset.to_text().splitlines()]


@pytest.fixture(autouse=True)
def _host_without_search_domains(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    monkeypatch.setattr(autopath, "RESOLV_CONF", tmp_path / "resolv.conf")


# Of a cluster


def test_a_name_of_the_clients_namespace_is_answered_by_the_compiled_path():
    outcome, reply = asked(cluster(), "web.shop.svc.cluster.local")
    assert (outcome, lines(reply)) == ("answer", ["web.shop.svc.cluster.local. 5 IN A 10.96.0.1"])


def test_a_name_found_further_down_comes_behind_a_cname():
    outcome, reply = asked(cluster(), "Far.local.shop.svc.cluster.local")
    assert outcome == "miss"
    assert lines(reply) == [
        "Far.local.shop.svc.cluster.local. 5 IN CNAME Far.local.svc.cluster.local.",
        "Far.local.svc.cluster.local. 5 IN A 10.96.0.2",
    ]


def test_srv_records_keep_their_additional_addresses():
    reply = asked(cluster(), "_http._tcp.far.local.shop.svc.cluster.local", "SRV")[1]
    assert [rrset.name.to_text() for rrset in reply.additional] == ["far.local.svc.cluster.local."]


def test_a_name_without_data_of_the_type_ends_the_walk():
    reply = asked(cluster(), "far.local.shop.svc.cluster.local", "AAAA")[1]
    assert (reply.rcode(), reply.answer) == (dns.rcode.NOERROR, [])
    assert reply.question[0].name.to_text() == "far.local.shop.svc.cluster.local."


@pytest.mark.parametrize(
    "name", ["far.local.local.svc.cluster.local", "far.local.svc.svc.cluster.local", "shop.svc.cluster.local", "far."]
)
def test_a_name_not_below_the_clients_namespace_is_left_alone(name: str):
    reply = asked(cluster(), name)[1]
    assert not reply.answer


def test_without_verified_pods_it_does_nothing():
    outcome, reply = asked(cluster("insecure"), "far.local.shop.svc.cluster.local")
    assert (outcome, reply.rcode()) == ("nxdomain", dns.rcode.NXDOMAIN)


def test_a_client_that_is_no_pod_is_left_alone():
    served = serve(
        ".:53 {\nautopath @kubernetes\nkubernetes cluster.local {\npods verified\n}\n}\n",
        [event_of(found) for found in OBJECTS if not isinstance(found, Pod)],
    )
    assert asked(served, "far.local.shop.svc.cluster.local")[1].rcode() == dns.rcode.NXDOMAIN


def test_only_its_own_zones_are_walked():
    assert asked(cluster(zones="cluster.local"), "far.local.shop.svc.cluster.local")[1].answer
    served = cluster(zones="local.shop.svc.cluster.local other.test")
    assert asked(served, "far.local.shop.svc.cluster.local")[1].answer
    assert asked(cluster(zones="other.test"), "far.local.shop.svc.cluster.local")[0] == "nxdomain"


def test_absent_names_of_the_cluster_do_not_go_through_the_chain():
    plugin: AutoPath = set_up_with(Cluster(absent=("a.shop.svc.cluster.local", "a.svc.cluster.local")))
    seen: list[str] = []
    answer_of(plugin, "a.shop.svc.cluster.local", seen, found="a.cluster.local")
    assert seen == ["a.cluster.local."]


@pytest.mark.parametrize("absent", [(), ("a.shop.svc.cluster.local", "a.svc.cluster.local", "a.cluster.local")])
def test_a_name_that_is_nowhere_gets_the_reply_to_itself(absent: tuple[str, ...]):
    seen: list[str] = []
    reply = answer_of(set_up_with(Cluster(absent)), "a.shop.svc.cluster.local", seen)
    (soa,) = read_sections(request("a.shop.svc.cluster.local").query.head, reply.body).authorities
    assert (reply.rcode, names.to_text(soa.owner)) == (Rcode.NXDOMAIN, "a.shop.svc.cluster.local.")
    assert "a." in seen


def test_they_do_where_a_plugin_between_may_know_them():
    served = cluster(before='template IN A shop.svc.cluster.local {\nanswer "{{ .Name }} 60 IN A 192.0.2.8"\n}')
    assert lines(asked(served, "x.shop.svc.cluster.local")[1]) == ["x.shop.svc.cluster.local. 60 IN A 192.0.2.8"]


def test_walks_that_end_well_are_counted():
    served = cluster()
    asked(served, "far.local.shop.svc.cluster.local")
    asked(served, "none.shop.svc.cluster.local")
    family = served.resolver.surroundings.metrics.families["coredns_autopath_success_total"]
    assert family.total(("dns://:53",)) == 1


# Of a file


class Cluster:
    """A `kubernetes` that knows one client."""

    transparent = False
    knows_clients = True

    def __init__(self, absent: tuple[str, ...] = ()) -> None:
        self._absent = {names.from_text(name) for name in absent}

    def zone_of(self, name: bytes) -> bytes | None:
        zone = names.from_text("cluster.local")
        return zone if names.is_below(name, zone) else None

    def namespace_of(self, client: str) -> bytes | None:
        return b"\x04shop" if client == CLIENT[0] else None

    def is_absent(self, name: bytes) -> bool:
        return name in self._absent


def set_up_with(kubernetes: Cluster) -> AutoPath:
    plugin: AutoPath = set_up("autopath . @kubernetes")
    plugin.connect({"autopath": plugin, "kubernetes": kubernetes})  # type: ignore[dict-item]
    return plugin


def answer_of(plugin: AutoPath, name: str, seen: list[str], found: str = "", error: str | None = None) -> Reply:
    """Ask the plugin; behind it there is one name, or an error, or one that was answered without a reason."""

    async def chain(asked: Request) -> Reply:
        text = names.to_text(asked.query.name)
        seen.append(text)
        if error is not None:
            raise ServeError(error, Rcode.SERVFAIL)
        if text.rstrip(".").lower() == found:
            return Reply(body=write_body(asked.query.name, [Record(asked.query.name, RRType.A, 60, b"\1\2\3\4")]))
        mark = Record(asked.query.name, RRType.TXT, 60, b"")  # stands for the zone's SOA record
        return Reply(Rcode.NXDOMAIN, write_body(asked.query.name, [], [mark]))

    serving = plugin.serve(request(name), chain)
    try:
        serving.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("nothing here waits")


@pytest.fixture
def of_file(tmp_path: Path) -> AutoPath:
    path = tmp_path / "resolv.conf"
    path.write_text("domain ignored.test\nsearch first.test second.test.  # not a domain\nnameserver ::1\n")
    plugin: AutoPath = set_up(f"autopath . {path}", zones=("example.test",))
    return plugin


def test_the_search_path_of_a_file_ends_in_the_bare_name(of_file: AutoPath):
    seen: list[str] = []
    assert answer_of(of_file, "a.b.first.test", seen).rcode == Rcode.NXDOMAIN
    assert seen[:2] == ["a.b.first.test.", "a.b.second.test."]
    assert seen[-1] == "a.b."


def test_the_reply_belongs_to_the_name_that_was_asked(of_file: AutoPath):
    asked = request("a.first.test")
    reply = answer_of(of_file, "a.first.test", [], found="a.second.test")
    assert [(names.to_text(record.owner), record.rtype) for record in answers_of(asked, reply)] == [
        ("a.first.test.", RRType.CNAME),
        ("a.second.test.", RRType.A),
    ]


def test_an_error_ends_the_walk(of_file: AutoPath):
    seen: list[str] = []
    with pytest.raises(ServeError, match="broken"):
        answer_of(of_file, "a.first.test", seen, error="broken")
    assert seen == ["a.first.test."]


def test_an_rcode_nobody_wrote_does_not(of_file: AutoPath):
    seen: list[str] = []
    with pytest.raises(ServeError):
        answer_of(of_file, "a.first.test", seen, error="")
    assert len(seen) > 2


def test_the_first_element_itself_is_an_ordinary_name(of_file: AutoPath):
    seen: list[str] = []
    answer_of(of_file, "first.test", seen)
    assert seen == ["first.test."]


def test_names_that_would_be_too_long_are_passed_over(tmp_path: Path):
    path = tmp_path / "resolv.conf"
    path.write_text(f"search a.test {'x' * 60}.{'y' * 60}.test\n")
    seen: list[str] = []
    long = ".".join(["z" * 60] * 3)
    answer_of(set_up(f"autopath . {path}"), f"{long}.a.test", seen)
    assert seen == [f"{long}.a.test.", f"{long}."]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("search a b.c\n", ["a.", "b.c."]),
        ("search a\nsearch b\n", ["b."]),
        ("domain a b\n", ["a."]),
        ("search a..b c\n", ["c."]),
        ("nameserver ::1\noptions ndots:5\nsearch\n", []),
    ],
)
def test_search_domains_are_those_of_the_last_line(text: str, found: list[str]):
    assert [names.to_text(name) for name in read_search(text)] == found


@given(st.text())
@settings(deadline=None)
def test_any_file_gives_names(text: str):
    for name in read_search(text):
        assert names.from_text(names.to_text(name)) == name


def test_a_file_that_is_not_there_ends_the_start(tmp_path: Path):
    missing = tmp_path / "none"
    expected = f'plugin/autopath: failed to parse "{missing}": open {missing}: no such file or directory'
    assert refused(f"autopath {missing}") == expected


def test_it_must_be_told_of_a_path():
    assert refused("autopath") == "plugin/autopath: no resolv-conf specified"


def test_a_plugin_without_paths_leaves_it_idle():
    plugin: AutoPath = set_up("autopath @nope")
    seen: list[str] = []
    answer_of(plugin, "a.shop.svc.cluster.local", seen)
    assert seen == ["a.shop.svc.cluster.local."]
