"""The text of /metrics: what Go's library would write, and what Prometheus's own parser reads."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open_metrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from kdns.hotpath.meter import Meters
from kdns.metrics import CounterTable, Registry
from kdns.metrics.meters import FIELDS
from kdns.server.exposition import Exposition, go_number, metric_of, render


def exposition(metrics: Registry) -> Exposition:
    return Exposition(metrics, CounterTable(1))


def lines_of(metrics: Registry, prefix: str) -> list[str]:
    return [line for line in exposition(metrics).text().decode().splitlines() if line.startswith(prefix)]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1.0, "1"),
        (-3.0, "-3"),
        (0.00025, "0.00025"),
        (8.192, "8.192"),
        (64_000, "64000"),
        (999_999, "999999"),
        (1e6, "1e+06"),
        (1_234_567, "1.234567e+06"),
        (123456.5, "123456.5"),
        (2.5e-7, "2.5e-07"),
        (0.00001, "1e-05"),
        (2.0**64, "1.8446744073709552e+19"),
        (1e300, "1e+300"),
        (-1e21, "-1e+21"),
        (math.inf, "+Inf"),
        (-math.inf, "-Inf"),
        (math.nan, "NaN"),
    ],
)
def test_numbers_are_written_as_go_writes_them(value: float, text: str) -> None:
    assert go_number(value) == text


@given(st.floats(allow_nan=False))
def test_no_digit_of_a_number_is_lost(value: float) -> None:
    assert float(go_number(value)) == value


def test_labels_stand_by_name_and_le_last():
    metrics = Registry()
    metrics.histogram("size_bytes", "Sizes.", (0, 0.5, 100), ("zone", "proto")).observe(7, (".", "udp"))
    assert lines_of(metrics, "size_bytes") == [
        'size_bytes_bucket{proto="udp",zone=".",le="0"} 0',
        'size_bytes_bucket{proto="udp",zone=".",le="0.5"} 0',
        'size_bytes_bucket{proto="udp",zone=".",le="100"} 1',
        'size_bytes_bucket{proto="udp",zone=".",le="+Inf"} 1',
        'size_bytes_sum{proto="udp",zone="."} 7',
        'size_bytes_count{proto="udp",zone="."} 1',
    ]


def test_a_family_without_labels_is_there_from_the_start_and_one_with_labels_from_its_first_value():
    metrics = Registry()
    metrics.counter("panics_total", "Panics.")
    metrics.counter("hits_total", "Hits.", ("zone",))
    assert lines_of(metrics, "panics_total") == ["panics_total 0"]
    assert lines_of(metrics, "hits_total") == lines_of(metrics, "# TYPE hits_total") == []


def test_odd_texts_are_escaped():
    odd = 'a"b\\c\nd'
    text = render([metric_of("gauge", "g", odd, ("zone",), [((odd,), 1.0)])]).decode()
    assert text == '# HELP g a"b\\\\c\\nd\n# TYPE g gauge\ng{zone="a\\"b\\\\c\\nd"} 1\n'
    ((family,),) = [list(parse_text(text))]
    assert family.samples[0].labels == {"zone": odd}


def metered() -> Registry:
    metrics = Registry(2)
    metrics.meters.number("dns://:53", ".")
    for row in (0, 1):
        Meters(metrics.meters.row(row)).observe(
            0,
            stream=bool(row),
            is_v6=False,
            qtype=28,
            dnssec_ok=True,
            request_size=40,
            response_size=101,
            seconds=0.0003,
        )
    numbers = metrics.meters.row(1).cast("Q")
    numbers[FIELDS["responses"].at + 16 + 3] = 4  # by kubernetes, NXDOMAIN
    numbers[FIELDS["responses"].at + 5] = 1  # by the server, REFUSED
    return metrics


def test_meters_become_the_families_of_coredns():
    metrics = metered()
    labels = ("server", "zone", "view", "rcode", "plugin")
    metrics.counter("coredns_dns_responses_total", "", labels).add(2, ("dns://:53", ".", "", "NXDOMAIN", "kubernetes"))
    lines = exposition(metrics).text().decode().splitlines()
    for line in (
        'coredns_dns_requests_total{family="1",proto="udp",server="dns://:53",type="AAAA",view="",zone="."} 1',
        'coredns_dns_requests_total{family="1",proto="tcp",server="dns://:53",type="AAAA",view="",zone="."} 1',
        'coredns_dns_do_requests_total{server="dns://:53",view="",zone="."} 2',
        'coredns_dns_responses_total{plugin="kubernetes",rcode="NXDOMAIN",server="dns://:53",view="",zone="."} 6',
        'coredns_dns_responses_total{plugin="",rcode="REFUSED",server="dns://:53",view="",zone="."} 1',
        'coredns_dns_request_duration_seconds_bucket{server="dns://:53",view="",zone=".",le="0.00025"} 0',
        'coredns_dns_request_duration_seconds_bucket{server="dns://:53",view="",zone=".",le="0.0005"} 2',
        'coredns_dns_request_duration_seconds_sum{server="dns://:53",view="",zone="."} 0.0006',
        'coredns_dns_request_size_bytes_bucket{proto="udp",server="dns://:53",view="",zone=".",le="100"} 1',
        'coredns_dns_response_size_bytes_bucket{proto="tcp",server="dns://:53",view="",zone=".",le="100"} 0',
        'coredns_dns_response_size_bytes_bucket{proto="tcp",server="dns://:53",view="",zone=".",le="200"} 1',
        "# TYPE coredns_dns_requests_total counter",
        "# TYPE coredns_dns_request_duration_seconds histogram",
    ):
        assert line in lines, line


def test_a_zone_without_queries_shows_nothing():
    metrics = Registry()
    metrics.meters.number("dns://:53", ".")
    assert not any("coredns_dns_" in line for line in exposition(metrics).text().decode().splitlines())


def test_the_version_is_that_of_the_coredns_that_is_followed():
    (line,) = lines_of(Registry(), "coredns_build_info")
    assert 'version="1.14.7"' in line
    assert line.endswith(" 1")


def test_prometheus_reads_both_formats_alike():
    made = exposition(metered())
    families = list(parse_text(made.text().decode()))
    assert families == sorted(families, key=lambda family: family.name)
    assert len({family.name for family in families}) == len(families)
    plain = {(s.name, *sorted(s.labels.items())): s.value for family in families for s in family.samples}
    text = made.open_metrics().decode()
    assert text.endswith("# EOF\n")
    assert "_created" not in text
    samples = [sample for family in parse_open_metrics(text) for sample in family.samples]
    assert {(s.name, *sorted((k, v) for k, v in s.labels.items())): s.value for s in samples} == plain
