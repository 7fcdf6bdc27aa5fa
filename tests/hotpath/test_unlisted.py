"""Before everything has been listed: an answer is the one of the whole cluster, or SERVFAIL, on both paths."""

from __future__ import annotations

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdns.cluster.objects import Event
from kdns.cluster.resources import OF_KIND, resources_of
from kdns.cluster.unlisted import Unlisted
from kdns.corefile import parse
from kdns.dns import names
from kdns.hotpath.table import Table
from kdns.plugins import ORDER
from kdns.plugins.plugin import Surroundings
from kdns.resolver import build
from kdns.server.publisher import Publisher
from tests.fakes.clusters import clusters, events
from tests.fakes.served import Served, serve
from tests.harness.examples import examples
from tests.hotpath.test_parity import COREFILES, chances, queries, questions_of_the_table

KINDS = [kind for kind in Unlisted if kind]
NAME_SERVERS = ("ns.dns.",)  # while slices or Services are lacking, this server goes by its own address

lacking_kinds = st.lists(st.sampled_from(KINDS), min_size=1, max_size=3, unique=True)


def lacking(corefile: str, kinds: list[Unlisted]) -> Unlisted:
    """Those of `kinds` that a Corefile's views follow at all."""
    surroundings = Surroundings((), has_manifests=True)
    build(parse(corefile, "Corefile", ORDER, {}), surroundings, 53)
    followed = {OF_KIND[resource.kind] for view in surroundings.views for resource in resources_of(view)}
    found = Unlisted.NOTHING
    for kind in followed.intersection(kinds):
        found |= kind
    return found


@given(cluster=clusters, corefile=st.sampled_from(COREFILES), kinds=lacking_kinds,
       messages=st.lists(queries(), min_size=20, max_size=40), stream=st.booleans(), chance=chances)  # fmt: skip
@settings(max_examples=examples(150), deadline=None, suppress_health_check=list(HealthCheck))
def test_an_answer_is_that_of_the_whole_cluster_or_servfail(cluster, corefile, kinds, messages, stream, chance):
    whole = serve(corefile, cluster)
    partial = serve(corefile, cluster, unlisted=lacking(corefile, kinds))
    for message in [*messages, *questions_of_the_table(whole)]:
        outcome, reply = partial.fast(message, stream=stream, chance=chance)
        slow = partial.slow(message, stream=stream, chance=chance)
        if outcome != "miss":
            assert reply == slow, outcome
        expected = whole.any(message, stream=stream, chance=chance)
        assert _is_held_back(slow) or _told(slow) == _told(expected), (kinds, slow, expected)


def _is_held_back(reply: bytes | None) -> bool:
    return reply is not None and reply[3] & 15 == dns.rcode.SERVFAIL


def _told(reply: bytes | None) -> object:
    """What a reply says, but for the serial and for who the name servers are."""
    if reply is None:
        return None
    message = dns.message.from_wire(reply)
    question = message.question[0] if message.question else None
    if question is not None and (question.rdtype == dns.rdatatype.NS or "ns.dns." in question.name.to_text().lower()):
        return None
    sections = [
        [(rrset.name, rrset.rdtype, rrset.ttl, sorted(_data(found) for found in rrset)) for rrset in section]
        for section in message.sections[1:]
    ]
    return message.rcode(), message.flags & ~dns.flags.TC, sections


def _data(found: dns.rdata.Rdata) -> str:
    return found.mname.to_text() if found.rdtype == dns.rdatatype.SOA else found.to_text()


@given(cluster=clusters, changes=st.lists(events, max_size=15), corefile=st.sampled_from(COREFILES[:4]),
       kinds=lacking_kinds)  # fmt: skip
@settings(max_examples=examples(150), deadline=None, suppress_health_check=list(HealthCheck))
def test_changes_lead_to_the_table_that_a_build_would_make(cluster, changes, corefile, kinds):
    unlisted = lacking(corefile, kinds)
    late = [event for event in [*cluster, *changes] if OF_KIND[event.kind] & unlisted]
    held = Held(corefile)
    held.apply([event for event in cluster if not OF_KIND[event.kind] & unlisted])
    held.publisher.sync([0], unlisted)
    for event in changes:
        if not OF_KIND[event.kind] & unlisted:
            held.apply([event])
    assert held.answers() == answers_of(serve(corefile, [*cluster, *changes], unlisted=unlisted).builder.table)
    assert held.publisher.is_synced is not bool(unlisted)
    held.apply(late)
    held.publisher.sync([0])
    assert held.answers() == answers_of(serve(corefile, [*cluster, *changes]).builder.table)
    assert held.publisher.is_synced


class Held:
    """A publisher of one view."""

    def __init__(self, corefile: str) -> None:
        surroundings = Surroundings((b"\x0a\x01\x01\x01",), has_manifests=True)
        build(parse(corefile, "Corefile", ORDER, {}), surroundings, 53)
        self.publisher = Publisher(surroundings.views[:1], lambda table: None, clock=lambda: 1_700_000_000.0)
        self.publisher.start()

    def apply(self, found: list[Event]) -> None:
        self.publisher.apply(0, found)

    def answers(self) -> dict[tuple[bytes, int], object]:
        return answers_of(self.publisher.builder.table)


def answers_of(table: Table) -> dict[tuple[bytes, int], object]:
    """What the first view of a table holds, records in no order."""
    found = {}
    for name, qtype, view in table.keys():  # noqa: SIM118 - no dict
        if view == 0:
            entry = table.lookup(name, qtype, view)
            assert entry is not None
            found[name, qtype] = (*entry[1:6], sorted(entry[6])) if qtype else entry[0] != 0
    return found


SHOP = """.:53 {
 kubernetes cluster.local in-addr.arpa {
  pods verified
 }
}
"""


@pytest.fixture(scope="module")
def cluster() -> list[Event]:
    from kdns.cluster.objects import Endpoint, EndpointSlice, Namespace, Pod, Port, Service, ServiceType
    from tests.fakes.clusters import event_of

    ports = (Port("http", "TCP", 80),)
    objects = (
        Namespace("shop"),
        Service("shop", "web", ServiceType.CLUSTER_IP, (b"\x0a\x60\x00\x01",), ports),
        Service("shop", "db", ServiceType.HEADLESS, (), ports),
        Service("shop", "away", ServiceType.EXTERNAL_NAME, external_name="www.example.org"),
        EndpointSlice.of("shop", "db-1", "db", ports, (Endpoint(b"\x0a\x01\x00\x01", "a"),)),
        EndpointSlice.of("shop", "web-1", "web", ports, (Endpoint(b"\x0a\x01\x00\x02"),)),
        Pod("shop", "p", b"\x0a\x01\x00\x03"),
    )
    return [event_of(found) for found in objects]


def ask(served: Served, text: str, qtype: str = "A") -> str:
    message = dns.message.make_query(text, qtype).to_wire()
    reply = served.any(message)
    assert reply is not None
    parsed = dns.message.from_wire(reply)
    return dns.rcode.to_text(parsed.rcode()) if not parsed.answer else str(parsed.answer[-1][0])


WEB, DB, AWAY = (f"{name}.shop.svc.cluster.local" for name in ("web", "db", "away"))
QUESTIONS = {
    "service": (WEB, "A"),
    "service, no data": (WEB, "AAAA"),
    "service port": (f"_http._tcp.{WEB}", "SRV"),
    "service pointer": ("1.0.96.10.in-addr.arpa", "PTR"),
    "endpoint": (f"10-1-0-2.{WEB}", "A"),
    "headless": (DB, "A"),
    "headless endpoint": (f"a.{DB}", "A"),
    "endpoint pointer": ("1.0.1.10.in-addr.arpa", "PTR"),
    "no pointer": ("9.9.9.10.in-addr.arpa", "PTR"),
    "pod": ("10-1-0-3.shop.pod.cluster.local", "A"),
    "no pod": ("10-1-0-9.shop.pod.cluster.local", "A"),
    "no service": ("nowhere.shop.svc.cluster.local", "A"),
    "search path": ("www.example.org.shop.svc.cluster.local", "A"),
    "no namespace": ("web.nowhere.svc.cluster.local", "A"),
    "namespace": ("shop.svc.cluster.local", "A"),
    "nothing": ("nothing.cluster.local", "A"),
    "zone": ("cluster.local", "A"),
}
WHOLE = {
    "service": "10.96.0.1",
    "service, no data": "NOERROR",
    "service port": f"0 100 80 {WEB}.",
    "service pointer": f"{WEB}.",
    "endpoint": "10.1.0.2",
    "headless": "10.1.0.1",
    "headless endpoint": "10.1.0.1",
    "endpoint pointer": f"a.{DB}.",
    "no pointer": "NXDOMAIN",
    "pod": "10.1.0.3",
    "no pod": "NXDOMAIN",
    "no service": "NXDOMAIN",
    "search path": "NXDOMAIN",
    "no namespace": "NXDOMAIN",
    "namespace": "NOERROR",
    "nothing": "NXDOMAIN",
    "zone": "NOERROR",
}


@pytest.mark.parametrize(
    ("unlisted", "held_back"),
    [
        (Unlisted.NOTHING, set()),
        (Unlisted.PODS, {"pod", "no pod"}),
        (
            Unlisted.ENDPOINT_SLICES,
            {"endpoint", "headless", "headless endpoint", "endpoint pointer", "no pointer"},
        ),
        (
            Unlisted.SERVICES,
            {"service", "service, no data", "service port", "service pointer", "endpoint", "headless",
             "headless endpoint", "endpoint pointer", "no pointer", "no service", "search path"},
        ),
        (
            Unlisted.NAMESPACES,
            set(QUESTIONS) - {"service pointer", "endpoint pointer", "no pointer", "nothing", "zone"},
        ),
    ],
)  # fmt: skip
def test_what_is_lacking_holds_back_what_depends_on_it(
    cluster: list[Event], unlisted: Unlisted, held_back: set[str]
) -> None:
    served = serve(SHOP, cluster, unlisted=unlisted)
    found = {what: ask(served, *question) for what, question in QUESTIONS.items()}
    assert found == {what: "SERVFAIL" if what in held_back else reply for what, reply in WHOLE.items()}


def test_an_alias_that_leaves_the_cluster_does_not_wait(cluster: list[Event]) -> None:
    served = serve(SHOP, cluster, unlisted=Unlisted.ENDPOINT_SLICES | Unlisted.PODS)
    assert ask(served, AWAY, "CNAME") == "www.example.org."


def test_views_that_are_not_published_again_go_on_as_they_were(cluster: list[Event]) -> None:
    """A new writer carries on what its predecessor knew, view by view."""
    corefile = "a.test {\n kubernetes\n}\nb.test {\n kubernetes {\n ttl 9\n }\n}\n"
    surroundings = Surroundings((), has_manifests=True)
    build(parse(corefile, "Corefile", ORDER, {}), surroundings, 53)
    first = Publisher(surroundings.views, lambda table: None)
    for index in (0, 1):
        first.apply(index, cluster)
    first.sync([0], Unlisted.NOTHING)
    first.sync([1], Unlisted.ENDPOINT_SLICES)
    announced: list[Table] = []
    second = Publisher(surroundings.views, announced.append, former=first.builder.table)
    second.start()
    assert announced == []
    second.apply(0, cluster[:1])
    second.sync([0])
    (table,) = announced
    assert table.statistics()["generation"] == first.builder.table.statistics()["generation"] + 1
    assert [table.unlisted(index) for index in (0, 1)] == [0, Unlisted.ENDPOINT_SLICES]
    assert not second.is_synced
    for name, view, is_there in (
        ("web.shop.svc.a.test.", 0, False),
        ("shop.svc.a.test.", 0, True),
        ("web.shop.svc.b.test.", 1, True),
    ):
        assert (table.lookup(names.from_text(name), 0, view) is not None) is is_there, name
    assert table.serial(2) == first.builder.table.serial(2) != 0
