"""`prometheus`: what is counted of a query, and the directive's forms."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdns.dns.codes import RRType
from kdns.dns.query import Edns
from kdns.dns.reply import Reply
from kdns.dns.rrset import Record
from kdns.errors import Dropped, ServeError
from kdns.metrics.meters import DURATION_BUCKETS, FIELDS, labelled_requests
from kdns.plugins import metering
from kdns.plugins.plugin import Handler, PrometheusSettings, Request, Surroundings
from kdns.plugins.prometheus import Prometheus
from tests.fakes.directives import CLIENT, answering, build, failing, refused, request, set_up

SERVER = "dns://:53"


class Counted:
    """A plugin in place, and what it has counted."""

    def __init__(self, *zones: str) -> None:
        self.surroundings = Surroundings(has_manifests=True)
        self.plugin: Prometheus = set_up("prometheus", self.surroundings, zones or (".",))
        for zone in self.plugin._zones:
            self.plugin.note_listener(SERVER, zone)

    async def serve(self, asked: Request, handler: Handler) -> Reply:
        return await self.plugin.serve(asked, handler)

    def numbers(self, zone: str, name: str) -> list[int]:
        """A field of the zone's meter."""
        field = FIELDS[name]
        found = {known: numbers for _, known, numbers in self.surroundings.metrics.meters.read()}
        return list(found[zone][field.at : field.at + field.count])

    def requests(self, zone: str = ".") -> dict[tuple[str, str, str], int]:
        return {labels: n for labels, n in zip(labelled_requests(), self.numbers(zone, "requests"), strict=True) if n}

    def responses(self) -> dict[tuple[str, ...], float]:
        """By zone, rcode and plugin."""
        read = self.surroundings.metrics.read()["coredns_dns_responses_total"]
        return {labels[1:2] + labels[3:]: value for labels, (value,) in read.items()}


def writing(writer: str, rcode: int = 0) -> Handler:
    async def answer(_: Request) -> Reply:
        return Reply(rcode, writer=writer)

    return answer


async def dropping(_: Request) -> Reply:
    raise Dropped


async def breaking(_: Request) -> Reply:
    raise ZeroDivisionError


async def test_a_reply_is_counted_by_who_wrote_it_and_passed_on():
    counted = Counted()
    reply = await counted.serve(request(), writing("forward", 3))
    assert (reply.rcode, reply.writer) == (3, "forward")
    assert counted.requests() == {("udp", "1", "A"): 1}
    assert counted.responses() == {(".", "NXDOMAIN", "forward"): 1}


@pytest.mark.parametrize(("error", "rcode"), [(failing("no way"), "SERVFAIL"), (failing("full", 5), "REFUSED")])
async def test_what_no_plugin_wrote_is_counted_without_a_plugin_and_a_size(error: Handler, rcode: str) -> None:
    counted = Counted()
    with pytest.raises(ServeError):
        await counted.serve(request(), error)
    assert counted.responses() == {(".", rcode, ""): 1}
    assert counted.numbers(".", "response_sizes")[0] == 1
    assert counted.numbers(".", "response_octets") == [0, 0]


async def test_a_query_that_is_dropped_counts_as_one_that_got_nothing():
    counted = Counted()
    with pytest.raises(Dropped):
        await counted.serve(request(), dropping)
    assert counted.responses() == {(".", "NOERROR", ""): 1}


async def test_a_plugin_that_breaks_is_the_servers_to_count():
    counted = Counted()
    with pytest.raises(ZeroDivisionError):
        await counted.serve(request(), breaking)
    assert counted.responses() == {}
    assert counted.requests() == {}


async def test_the_zone_is_the_longest_of_the_block_that_holds_the_name():
    counted = Counted("test", "b.test")
    for name in ("a.test", "x.b.test", "b.test"):
        await counted.serve(request(name), writing("file"))
    assert counted.responses() == {("test.", "NOERROR", "file"): 1, ("b.test.", "NOERROR", "file"): 2}


async def test_transport_family_type_and_dnssec_ok_are_told_apart():
    counted = Counted()
    asked = [
        request(rtype="AAAA", stream=True),
        request(client=("2001:db8::1", 9)),
        request(rtype="TYPE65280"),
    ]
    for one in asked:
        await counted.serve(one, writing("file"))
    query = asked[0].query
    with_do = type(query)(query.head, query.name, query.qname, RRType.MX, query.qclass, Edns(1232, 0, True))
    await counted.serve(Request(with_do, CLIENT, False, asked[0].resolve), writing("file"))
    assert counted.requests() == {
        ("tcp", "1", "AAAA"): 1,
        ("udp", "2", "A"): 1,
        ("udp", "1", "other"): 1,
        ("udp", "1", "MX"): 1,
    }
    assert counted.numbers(".", "dnssec_ok") == [1]


async def test_sizes_are_those_of_messages_with_names_written_out():
    counted = Counted()
    asked = request("a.test")
    records = [Record(asked.query.name, RRType.A, 60, bytes((192, 0, 2, number))) for number in (1, 2)]
    await counted.serve(asked, answering(*records))
    head = 12 + 8 + 4
    assert counted.numbers(".", "request_octets") == [head, 0]
    assert counted.numbers(".", "response_octets") == [head + 2 * (8 + 14), 0]


async def test_the_time_is_that_of_what_stands_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter((10.0, 10.003))
    monkeypatch.setattr(metering, "clock", lambda: next(times))
    counted = Counted()
    await counted.serve(request(), writing("file"))
    durations = counted.numbers(".", "durations")
    assert DURATION_BUCKETS[durations.index(1)] == 0.004
    assert counted.numbers(".", "nanoseconds")[0] == pytest.approx(3_000_000, abs=2)


def test_routes_lead_to_the_meters_of_their_zones():
    surroundings = Surroundings(has_manifests=True)
    resolver = build(
        "cluster.local:53 in-addr.arpa:53 {\nprometheus\nkubernetes cluster.local in-addr.arpa\n}\n"
        "b.cluster.local:53 {\nprometheus\nwhoami\n}\nplain.test:53 {\nwhoami\n}\n",
        surroundings,
    )
    (listener,) = resolver.listeners
    places = {number + 1: zone for number, (_, zone, _) in enumerate(surroundings.metrics.meters.read())}
    found = {route.suffix: places.get(route.meter, "") for route in listener.routes()}
    assert found == {
        b"\1b\7cluster\5local\0": "b.cluster.local.",
        b"\7cluster\5local\0": "cluster.local.",
        b"\7in-addr\4arpa\0": "in-addr.arpa.",
        b"\5plain\4test\0": "",
    }
    assert listener.unserved is not None
    assert places[listener.unserved.meter] == "dropped"


def test_without_the_directive_nothing_is_counted():
    resolver = build(".:53 {\nwhoami\n}\n")
    assert resolver.listeners[0].unserved is None
    assert [route.meter for route in resolver.listeners[0].routes()] == [0]


def test_what_is_in_a_chain_is_enabled_where_the_block_counts():
    surroundings = Surroundings(has_manifests=True)
    build("a.test b.test {\nprometheus\nerrors\nready\nhealth\nwhoami\n}\nc.test {\nerrors\nwhoami\n}\n", surroundings)
    assert sorted(surroundings.enabled) == [
        (SERVER, zone, name) for zone in ("a.test.", "b.test.") for name in ("errors", "prometheus", "whoami")
    ]


def test_beyond_the_last_meter_only_the_slow_path_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdns.metrics.meters.MAX_METERS", 1)
    counted = Counted("a.test", "b.test")
    assert not counted.plugin.transparent
    assert [counted.plugin.meter_of(SERVER, zone) for zone in counted.plugin._zones] == [1, 0]


# The directive


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("prometheus", "localhost:9153"),
        ("prometheus :9253", ":9253"),
        ("prometheus [::1]:9253", "[::1]:9253"),
        ("prometheus :9253 {\nruntime_metrics\n}", ":9253"),
    ],
)
def test_forms(text: str, address: str) -> None:
    surroundings = Surroundings()
    assert set_up(text, surroundings).transparent
    assert surroundings.prometheus == {address: PrometheusSettings(address, None)}


def test_blocks_share_an_address():
    surroundings = Surroundings()
    for text in ("prometheus :1", "prometheus :2", "prometheus :1"):
        set_up(text, surroundings)
    assert list(surroundings.prometheus) == [":1", ":2"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("prometheus\nprometheus", "this plugin can only be used once per Server Block"),
        ("prometheus 9153", "address 9153: missing port in address"),
        (
            "prometheus :1 :2",
            "Corefile:2 - Error during parsing: Wrong argument count or unexpected line ending after ':2'",
        ),
        ("prometheus {\nbogus\n}", "Corefile:3 - Error during parsing: unknown option: bogus"),
        (
            "prometheus {\ntls\n}",
            "Corefile:3 - Error during parsing: Wrong argument count or unexpected line ending after 'tls'",
        ),
        (
            "prometheus {\nruntime_metrics now\n}",
            "Corefile:3 - Error during parsing: Wrong argument count or unexpected line ending after 'now'",
        ),
    ],
)
def test_refused_forms(text: str, expected: str) -> None:
    assert refused(text) == f"plugin/prometheus: {expected}"


def test_a_web_config_that_is_not_there_is_refused(tmp_path: Path) -> None:
    missing = tmp_path / "web.yaml"
    assert refused(f"prometheus {{\ntls {missing}\n}}") == (
        f"plugin/prometheus: web config {missing}: No such file or directory"
    )
