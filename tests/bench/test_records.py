import pytest

from bench.cluster import Port, Service, Sizes, generate
from bench.errors import BenchError
from bench.loads import LOADS, Sender, parse_loads
from bench.records import Question, Truth, forward_records, service_name
from bench.zones import write_zones

SMALL = Sizes(services=300, endpoints=4_000, headless=30, largest=1_500)
LARGE = generate(Sizes(services=1_000, endpoints=15_000, headless=120, largest=5_000))  # has every size loads ask for
LARGE_TRUTH = Truth(LARGE)
WEB = Service("shop", "web", 0x0A600001, (Port("http", 80, 8080), Port("metrics", 9100, 9100)), 0x0A800001, 1, False)
DB = Service("shop", "db", None, (Port("http", 5432, 5432),), 0x0A800101, 3, True)


def records(service):
    return {f"{record.owner} {record.type} {record.rdata}" for record in forward_records(service)}


def test_records_of_a_service_with_two_ports():
    assert records(WEB) == {
        "web.shop.svc.cluster.local. A 10.96.0.1",
        "web.shop.svc.cluster.local. SRV 0 50 80 web.shop.svc.cluster.local.",
        "web.shop.svc.cluster.local. SRV 0 50 9100 web.shop.svc.cluster.local.",
        "_http._tcp.web.shop.svc.cluster.local. SRV 0 100 80 web.shop.svc.cluster.local.",
        "_metrics._tcp.web.shop.svc.cluster.local. SRV 0 100 9100 web.shop.svc.cluster.local.",
        "10-128-0-1.web.shop.svc.cluster.local. A 10.128.0.1",
        "10-128-0-1.web.shop.svc.cluster.local. SRV 0 50 8080 10-128-0-1.web.shop.svc.cluster.local.",
        "10-128-0-1.web.shop.svc.cluster.local. SRV 0 50 9100 10-128-0-1.web.shop.svc.cluster.local.",
    }


def test_endpoints_of_a_headless_service_share_its_name_and_the_weight():
    assert "db.shop.svc.cluster.local. A 10.128.1.3" in records(DB)
    assert "db-2.db.shop.svc.cluster.local. A 10.128.1.3" in records(DB)
    assert "_http._tcp.db.shop.svc.cluster.local. SRV 0 33 5432 db-2.db.shop.svc.cluster.local." in records(DB)


@pytest.mark.parametrize(
    ("name", "type_", "rcode"),
    [
        ("svc.cluster.local.", "A", "NOERROR"),
        ("shop-000.svc.cluster.local.", "A", "NOERROR"),
        ("nowhere.svc.cluster.local.", "A", "NXDOMAIN"),
        ("api.github.com.shop-000.svc.cluster.local.", "AAAA", "NXDOMAIN"),
        ("api.github.com.cluster.local.", "A", "NXDOMAIN"),
        ("1.0.0.10.in-addr.arpa.", "PTR", "NXDOMAIN"),
        ("api.github.com.", "A", "REFUSED"),
    ],
)
def test_names_that_no_service_has(name, type_, rcode):
    answer = Truth(generate(SMALL)).answer(Question(name, type_))

    assert (answer.rcode, answer.rdata) == (rcode, frozenset())


def test_a_name_that_only_has_names_below_it_exists():
    cluster = generate(SMALL)
    service = next(service for service in cluster.services if service.ports[0].name)

    assert Truth(cluster).answer(Question(f"_tcp.{service_name(service)}", "A")).rcode == "NOERROR"


@pytest.mark.parametrize("load", LOADS.values(), ids=lambda load: load.name)
def test_every_load_is_the_same_each_time_and_gets_an_rcode_that_it_expects(load):
    asked = load.questions(LARGE, 30)

    assert asked == load.questions(LARGE, 30)
    # FORMERR comes from what is done to the questions, not from what they ask.
    expected = {"NOERROR"} if load.sender is Sender.MALFORMED else load.rcodes
    assert {LARGE_TRUTH.answer(question).rcode for question in set(asked)} <= expected


def test_positive_loads_have_answers_and_nodata_has_none():
    cluster = generate(SMALL)
    truth = Truth(cluster)

    for name in ("hits", "srv", "endpoints", "ptr", "headless-20", "srv-1000"):
        assert all(truth.answer(question).rdata for question in LOADS[name].questions(cluster, 30))
    assert not any(truth.answer(question).rdata for question in LOADS["nodata"].questions(cluster, 30))


def test_zone_files_hold_each_record_below_its_zone(tmp_path):
    cluster = generate(SMALL)
    paths = write_zones(cluster, tmp_path)

    lines = paths["in-addr.arpa."].read_text().splitlines()
    assert lines[1].startswith("in-addr.arpa. SOA ns.dns.in-addr.arpa. ")
    assert sum(" PTR " in line for line in lines) == 4_000 + 270
    forward = paths["cluster.local."].read_text().splitlines()[1:]
    assert all(line.split(" ", 1)[0].endswith("cluster.local.") for line in forward)


def test_an_unknown_load_is_named_with_those_there_are():
    with pytest.raises(BenchError, match=r"unknown load 'hit': expected some of hits, zipf"):
        parse_loads("nxdomain,hit")
