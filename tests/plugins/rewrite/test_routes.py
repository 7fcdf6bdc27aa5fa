"""Names that no `rewrite` rule is for are answered by the compiled path all the same."""

from __future__ import annotations

import pytest

from kdns.dns import names
from kdns.plugins.plugin import MISS, REWRITE, TABLE
from tests.fakes.directives import build

ACTIONS = {MISS: "slow", TABLE: "table", REWRITE: "rewritten"}


def routes(rules: str, behind: str = "") -> dict[str, str]:
    """How each suffix is treated; `+cache` where the compiled path may look there."""
    (listener,) = build(f".:53 {{\n{rules}\nkubernetes cluster.local\n{behind}\n}}\n").listeners
    return {
        names.to_text(route.suffix): ACTIONS[route.action] + ("+cache" if route.cache else "")
        for route in listener.routes()
    }


def test_a_name_a_rule_is_for_is_slow_and_the_rest_of_the_zone_is_not():
    assert routes("rewrite name exact a.svc.cluster.local b.example") == {
        "a.svc.cluster.local.": "slow",
        "cluster.local.": "table",
        ".": "slow",
    }


def test_a_suffix_outside_of_the_zone_leaves_the_zone_alone():
    assert routes("rewrite name suffix .corp.test .svc.cluster.local answer auto") == {
        "corp.test.": "rewritten",
        "cluster.local.": "table", ".": "slow",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "suffix"),
    [
        ("name suffix .corp.cluster.local .x.test", "corp.cluster.local."),
        ("name suffix corp.x.cluster.local .x.test", "x.cluster.local."),  # may begin within a label
        ("ttl suffix .a.cluster.local 30", "a.cluster.local."),
        ("rcode exact a.cluster.local 3 0", "a.cluster.local."),
        (r"name regex ^(\w+)\.corp\.cluster\.local\.$ {1}.svc.cluster.local", "corp.cluster.local."),
        (r"name regex (?i)(a|b)\.(?P<n>c|d)\.corp\.cluster\.local\.?$ b", "corp.cluster.local."),
        (r"ttl regex [|(]corp.x\.y\.cluster\.local\.$ 5", "y.cluster.local."),
    ],
)
def test_what_is_slow_is_no_more_than_it_must_be(rule: str, suffix: str):
    assert routes(f"rewrite {rule}") == {suffix: "slow", "cluster.local.": "table", ".": "slow"}


@pytest.mark.parametrize(
    "rule",
    [
        "name regex a b",
        r"name regex (.*)\.cluster\.local {1}.b",
        r"name regex x|y\.z\.cluster\.local\.$ b",
        r"name regex (?P<n>x(y)|z)|y\.z\.cluster\.local\.$ b",
        r"name regex \.z\.cluster\.local\.*$ b",
        r"name regex \.z\.cluster\.local$ b",
        r"name regex \Q\.z\.cluster\.local\.$ b",
        r"name regex \.z\.cluster\.local\.\$ b",
        r"name regex (a\.z\.cluster\.local\.$) b",
        "name substring a b",
        "name prefix a b",
        "type A AAAA",
        "edns0 nsid set",
        "cname a b",
        "name suffix . .test",
        "name suffix local test",
        "ttl suffix cluster.local 30",
    ],
)
def test_a_rule_that_may_be_for_any_name_makes_all_of_them_slow(rule: str):
    assert set(routes(f"rewrite {rule}").values()) == {"slow"}


def test_what_a_rule_is_for_is_not_looked_up_in_the_cache_and_the_rest_is():
    found = routes(
        "rewrite name exact a.corp.test b.test\nrewrite name exact x.cluster.local y.test", "cache 30\nwhoami"
    )
    assert found == {"x.cluster.local.": "slow", "a.corp.test.": "slow", "cluster.local.": "table", ".": "slow+cache"}


def test_zones_of_a_template_are_slow_and_the_rest_of_the_cluster_is_not():
    found = routes("", "template IN A x.cluster.local example.test {\n rcode NXDOMAIN\n}")
    assert found == {"x.cluster.local.": "slow", "cluster.local.": "table", ".": "slow"}


@pytest.mark.parametrize(
    "rule",
    [
        "name web.test web.shop.svc.cluster.local",
        "name exact a.cluster.local b.cluster.local",
        "stop name suffix .web.test .svc.cluster.local",
        "name suffix .web.test .cluster.local answer auto",
    ],
)
def test_simple_rules_are_done_by_the_compiled_path(rule: str):
    assert "rewritten" in routes(f"rewrite {rule}").values()


@pytest.mark.parametrize(
    "rule",
    [
        "continue name web.test web.shop.svc.cluster.local",  # other rules may follow
        "name exact web.test web.shop.svc.cluster.local answer value a b",
        "name suffix .web.test .svc.cluster.local answer name a b",
        "name suffix .web.test .svc.cluster.local answer auto value a b",
        "name suffix web.test svc.cluster.local",  # may begin within a label
        "name suffix .web.test svc.cluster.local",
        "name suffix .web.test .",
        r"name exact web.test web\.shop.svc.cluster.local",
        "name exact web.test shop..cluster.local",
        "name exact web.test web.example",
        "ttl web.test 5",
    ],
)
def test_others_are_not(rule: str):
    assert "rewritten" not in routes(f"rewrite {rule}").values()


def test_a_rule_behind_one_that_is_for_the_same_names_is_not_compiled():
    found = routes(
        "rewrite name suffix .corp.test .svc.cluster.local\n"
        "rewrite name exact a.corp.test a.svc.cluster.local\nrewrite name exact corp.test b.svc.cluster.local"
    )
    assert found == {"a.corp.test.": "slow", "corp.test.": "rewritten", "cluster.local.": "table", ".": "slow"}


def test_names_that_another_rule_comes_first_for_are_slow():
    found = routes("rewrite continue ttl a.corp.test 5\nrewrite name suffix .corp.test .svc.cluster.local")
    assert found == {"a.corp.test.": "slow", "corp.test.": "rewritten", "cluster.local.": "table", ".": "slow"}


def test_a_plugin_in_between_that_may_answer_the_other_names_is_not_passed_by():
    template = "template IN A x.cluster.local {\n rcode NXDOMAIN\n}"
    rules = "rewrite name exact a.test a.x.cluster.local\nrewrite name suffix .b.test .cluster.local"
    rules += "\nrewrite name suffix .c.test .svc.cluster.local"
    assert routes(rules, template) == {
        "c.test.": "rewritten", "x.cluster.local.": "slow",
        "cluster.local.": "table", ".": "slow",
    }  # fmt: skip


def test_what_asks_to_see_every_query_sees_rewritten_ones_too():
    found = routes("log\nrewrite name suffix .corp.test .svc.cluster.local\nrewrite name a.test a.svc.cluster.local")
    assert set(found.values()) == {"slow"}
