"""The options of `cache`, and what is said of those that are none."""

from __future__ import annotations

import pytest

from kdns.corefile import Dispenser, parse
from kdns.dns import names
from kdns.errors import CorefileError
from kdns.plugins import ORDER
from kdns.plugins.cache import options
from kdns.plugins.cache.options import Options
from kdns.plugins.plugin import Surroundings
from tests.fakes.directives import build, refusal_of


def read(text: str) -> Options:
    """The options of a directive in a block for a.test and b.test."""
    (block,) = parse(f"a.test b.test {{\n{text}\n}}\n", "Corefile", ORDER, {})
    zones = (names.from_text("a.test"), names.from_text("b.test"))
    return options.parse(Dispenser(block.directives["cache"]), zones)


def complaint(text: str) -> str:
    with pytest.raises(CorefileError) as caught:
        read(text)
    return str(caught.value)


def test_the_defaults_are_those_of_coredns():
    found = read("cache")
    assert found.zones == (names.from_text("a.test"), names.from_text("b.test"))
    assert (found.success.capacity, found.success.max_ttl, found.success.min_ttl) == (9984, 3600, 5)
    assert (found.denial.capacity, found.denial.max_ttl, found.denial.min_ttl) == (9984, 1800, 5)
    assert (found.servfail_seconds, found.keeps_ttl, found.prefetch.uses, found.stale.seconds) == (5.0, False, 0, 0.0)


@pytest.mark.parametrize(("text", "success", "denial", "zones"), [
    ("cache 30", 30, 30, ("a.test", "b.test")),
    ("cache +30 x.a.test", 30, 30, ("x.a.test",)),
    ("cache x.a.test 30", 3600, 1800, ("x.a.test", "30")),
    ("cache 30 10.0.0.0/15", 30, 30, ("0.10.in-addr.arpa", "1.10.in-addr.arpa")),
    ("cache 007", 7, 7, ("a.test", "b.test")),
])  # fmt: skip
def test_a_ttl_may_come_first_and_zones_after(text: str, success: int, denial: int, zones: tuple[str, ...]):
    found = read(text)
    assert (found.success.max_ttl, found.denial.max_ttl) == (success, denial)
    assert found.zones == tuple(map(names.from_text, zones))


def test_each_side_has_its_own_numbers():
    found = read("cache 60 {\nsuccess 5000 300 0\ndenial 10\n}")
    assert (found.success.capacity, found.success.max_ttl, found.success.min_ttl) == (5000, 300, 0)
    assert (found.denial.capacity, found.denial.max_ttl, found.denial.min_ttl) == (10, 60, 5)


def test_more_than_a_ttl_can_be_is_the_greatest_ttl():
    assert read("cache 9999999999999").success.max_ttl == 2**31 - 1


@pytest.mark.parametrize(("text", "uses", "gap", "percent"), [
    ("prefetch 10", 10, 60.0, 10), ("prefetch 3 1m30s", 3, 90.0, 10), ("prefetch 0 1h 90%", 0, 3600.0, 90),
])  # fmt: skip
def test_prefetch(text: str, uses: int, gap: float, percent: int):
    found = read(f"cache {{\n{text}\n}}").prefetch
    assert (found.uses, found.gap_seconds, found.percent) == (uses, gap, percent)


@pytest.mark.parametrize(
    ("percent", "ttl", "seconds"), [(10, 1, 1), (10, 100, 10), (10, 101, 11), (50, 5, 3), (90, 0, 0)]
)
def test_the_time_left_when_an_entry_is_renewed_is_rounded_up(percent: int, ttl: int, seconds: int):
    assert options.Prefetch(1, 60.0, percent).threshold(ttl) == seconds


@pytest.mark.parametrize(("text", "expected"), [
    ("serve_stale", (3600.0, False, 0.0, 0, 0.0)),
    ("serve_stale 20m", (1200.0, False, 0.0, 0, 0.0)),
    ("serve_stale 0", (0.0, False, 0.0, 0, 0.0)),
    ("serve_stale 1h immediate 30s", (3600.0, False, 0.0, 30, 0.0)),
    ("serve_stale 1h IMMEDIATE 30s 5s", (3600.0, False, 0.0, 30, 5.0)),
    ("serve_stale 1h verify", (3600.0, True, 0.0, 0, 0.0)),
    ("serve_stale 1h Verify 200ms 30s 5s", (3600.0, True, 0.2, 30, 5.0)),
    ("serve_stale 1h verify 0 30s", (3600.0, True, 0.0, 30, 0.0)),
])  # fmt: skip
def test_serve_stale(text: str, expected: tuple[float, bool, float, int, float]):
    found = read(f"cache {{\n{text}\n}}").stale
    assert (found.seconds, found.verify, found.timeout_seconds, found.ttl, found.recheck_seconds) == expected
    assert not found.prefer_positive


@pytest.mark.parametrize("lines", [
    "serve_stale\nserve_stale_policy prefer_positive", "serve_stale_policy prefer_positive\nserve_stale 5m verify",
])  # fmt: skip
def test_the_policy_stands_before_or_behind(lines: str):
    assert read(f"cache {{\n{lines}\n}}").stale.prefer_positive


def test_disable_and_keepttl_and_servfail():
    found = read("cache {\ndisable success\ndisable denial A.test c.test\nkeepttl\nservfail 5m\n}")
    assert not found.success.keeps(names.from_text("x.test"))
    assert not found.denial.keeps(names.from_text("x.a.test"))
    assert found.denial.keeps(names.from_text("xa.test"))
    assert (found.keeps_ttl, found.servfail_seconds) == (True, 300.0)


@pytest.mark.parametrize(("text", "said"), [
    ("cache 0", "cache TTL can not be zero or negative: 0"),
    ("cache -5", "cache TTL can not be zero or negative: -5"),
    ("cache {\nsuccess many\n}", 'strconv.Atoi: parsing "many": invalid syntax'),
    ("cache {\nsuccess 99999999999999999999\n}", 'strconv.Atoi: parsing "99999999999999999999": value out of range'),
    ("cache {\nsuccess\n}", "Wrong argument count or unexpected line ending after 'success'"),
    ("cache {\ndenial\n}", "Wrong argument count or unexpected line ending after 'denial'"),
    ("cache {\nsuccess 1 0\n}", "cache TTL can not be zero or negative: 0"),
    ("cache {\ndenial 1 5 -1\n}", "cache min TTL can not be negative: -1"),
    ("cache {\npositive 15\n}", "Wrong argument count or unexpected line ending after 'positive'"),
    ("cache {\nprefetch\n}", "Wrong argument count or unexpected line ending after 'prefetch'"),
    ("cache {\nprefetch 1 1m 10% x\n}", "Wrong argument count or unexpected line ending after 'x'"),
    ("cache {\nprefetch -1\n}", "prefetch amount should be positive: -1"),
    ("cache {\nprefetch 0 blurp\n}", 'time: invalid duration "blurp"'),
    ("cache {\nprefetch 1 1m 10\n}", "last character of percentage should be `%`, but is: '0'"),
    ("cache {\nprefetch 1 1m 9%\n}", "percentage should fall in range [10, 90]: 9"),
    ("cache {\nprefetch 1 1m 91%\n}", "percentage should fall in range [10, 90]: 91"),
    ("cache {\nserve_stale 20\n}", 'time: missing unit in duration "20"'),
    ("cache {\nserve_stale -20m\n}", "invalid negative duration for serve_stale"),
    ("cache {\nserve_stale 1m nono\n}", "invalid value for serve_stale refresh mode: nono"),
    ("cache {\nserve_stale 1m verify 1s 1s 1s 1s\n}", "Wrong argument count or unexpected line ending after '1s'"),
    ("cache {\nserve_stale 1m immediate 1s 1s 1s\n}", "Wrong argument count or unexpected line ending after '1s'"),
    ("cache {\nserve_stale 1m verify -1s\n}", "invalid negative verify timeout for serve_stale"),
    ("cache {\nserve_stale_policy prefer_positive\n}", "serve_stale_policy requires serve_stale"),
    ("cache {\nserve_stale\nserve_stale_policy x\n}", "invalid value for serve_stale_policy: x"),
    ("cache {\nservfail\n}", "Wrong argument count or unexpected line ending after 'servfail'"),
    ("cache {\nservfail 6m\n}", "caching SERVFAIL responses over 5 minutes is not permitted"),
    ("cache {\nservfail -1s\n}", "invalid negative ttl for servfail"),
    ("cache {\ndisable\n}", "Wrong argument count or unexpected line ending after 'disable'"),
    ("cache {\ndisable both\n}", 'cache type for disable must be "success" or "denial"'),
    ("cache {\ndisable success a..b\n}", "invalid disabled zone: a..b"),
    ("cache {\nkeepttl 5\n}", "Wrong argument count or unexpected line ending after '5'"),
    ("cache\ncache", "this plugin can only be used once per Server Block"),
])  # fmt: skip
def test_what_is_no_option_is_told(text: str, said: str):
    assert complaint(text).endswith(said)


def test_a_complaint_names_the_plugin():
    assert str(refusal_of(".:53 {\ncache 0\n}\n")) == "plugin/cache: cache TTL can not be zero or negative: 0"


def test_capacities_of_all_directives_are_added_up():
    surroundings = Surroundings(has_manifests=True)
    build(".:53 {\ncache\n}\na.test {\ncache {\nsuccess 100\ndenial 5000\n}\n}\n", surroundings)
    assert surroundings.cache.entries == 2 * 9984 + 1024 + 5000


@pytest.mark.parametrize(("change", "is_same"), [
    ("errors\n cache 60\n log\n whoami", True), ("cache\n\n\n whoami", True), ("cache\n whoami\n acl", False),
])  # fmt: skip
def test_a_store_is_another_where_the_block_may_answer_otherwise(change: str, is_same: bool):
    def store(body: str, key: str = "a.test:53") -> int:
        (listener,) = build(f"{key} {{\n {body}\n}}\n").listeners
        (block,) = listener.zones.values()
        return dict(block.plugins)["cache"].policy("").store  # type: ignore[attr-defined, no-any-return]

    assert (store(change) == store("cache\n whoami")) is is_same
    assert store("cache\n whoami", "b.test:53") != store("cache\n whoami")
