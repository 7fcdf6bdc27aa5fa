"""The options of `kubernetes`: every form there is, and what is said of the others."""

from __future__ import annotations

import pytest

from kdns.cluster.access import ApiAccess
from kdns.cluster.selectors import Selector
from kdns.cluster.view import PodMode, View
from kdns.dns import names
from kdns.plugins.kubernetes.cluster_zones import ClusterZones
from kdns.plugins.kubernetes.options import OPTIONS
from kdns.plugins.plugin import MAX_VIEWS, Surroundings
from tests.fakes.directives import build, refusal_of, refused, set_up
from tests.fakes.logs import collected

CLUSTER = names.from_text("cluster.local")
WRONG_COUNT = "Error during parsing: Wrong argument count or unexpected line ending after"


def view_of(*options: str, zones: str = "cluster.local") -> View:
    surroundings = Surroundings(has_manifests=True)
    set_up(f"kubernetes {zones} {{\n" + "\n".join(options) + "\n}", surroundings)
    (view,) = surroundings.views
    return view


def said(*options: str, zones: str = "cluster.local") -> str:
    """What is said of options, the first of which stands on line 3."""
    text = refused(f"kubernetes {zones} {{\n" + "\n".join(options) + "\n}")
    assert text.startswith("plugin/kubernetes: ")
    return text.removeprefix("plugin/kubernetes: ")


# Zones


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("kubernetes", ["block.test.", "10.in-addr.arpa."]),
        ("kubernetes Cluster.LOCAL in-addr.arpa", ["cluster.local.", "in-addr.arpa."]),
        ("kubernetes cluster.local 10.0.0.0/15", ["cluster.local.", "0.10.in-addr.arpa.", "1.10.in-addr.arpa."]),
        ("kubernetes dns://cluster.local:1053", ["cluster.local."]),
        ("kubernetes .", ["."]),
    ],
)
def test_zones_are_those_named_or_those_of_the_block(text: str, expected: list[str]):
    surroundings = Surroundings(has_manifests=True)
    plugin = set_up(text, surroundings, zones=("block.test", "10.0.0.0/8"))
    assert isinstance(plugin, ClusterZones)
    assert [names.to_text(zone) for zone in surroundings.views[0].zones] == expected


@pytest.mark.parametrize("zones", ["in-addr.arpa", "10.0.0.0/8 ip6.arpa"])
def test_a_zone_that_is_not_reverse_is_needed(zones: str):
    assert said(zones=zones) == "non-reverse zone name must be used"


def test_a_zone_that_is_no_name_is_refused():
    assert said(zones="a..b") == "Corefile:2 - Error during parsing: zone is not a valid domain name: a..b"


def test_once_in_a_block():
    text = "kubernetes a.test\nkubernetes b.test"
    assert refused(text) == "plugin/kubernetes: this plugin can only be used once per Server Block"


# Options that make a view


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), View((CLUSTER,))),
        (("ttl 0",), View((CLUSTER,), ttl=0)),
        (("ttl 3600",), View((CLUSTER,), ttl=3600)),
        (("ttl +30 ignored",), View((CLUSTER,), ttl=30)),
        (("ttl 1", "ttl 2"), View((CLUSTER,), ttl=2)),
        (("pods disabled",), View((CLUSTER,))),
        (("pods insecure",), View((CLUSTER,), pods=PodMode.INSECURE)),
        (("pods verified",), View((CLUSTER,), pods=PodMode.VERIFIED)),
        (("namespaces a b", "namespaces c"), View((CLUSTER,), namespaces=frozenset("abc"))),
        (
            ("labels environment in (production, qa), tier notin (x)",),
            View((CLUSTER,), labels=Selector.parse("tier notin (x),environment in (production,qa)")),
        ),
        (("namespace_labels istio=on",), View((CLUSTER,), namespace_labels=Selector.parse("istio=on"))),
        (("endpoint_pod_names",), View((CLUSTER,), endpoint_pod_names=True)),
        (("noendpoints",), View((CLUSTER,), noendpoints=True)),
        (("ignore empty_service",), View((CLUSTER,), ignore_empty_service=True)),
        (("ignore",), View((CLUSTER,))),
        (("zonal",), View((CLUSTER,), zonal=True)),
        (("multicluster Cluster.local.",), View((CLUSTER,), multicluster=(CLUSTER,))),
        (("multicluster",), View((CLUSTER,))),
        (("namespace_labels a=b", "labels c=d", "pods verified"), View(
            (CLUSTER,), pods=PodMode.VERIFIED, labels=Selector.parse("c=d"), namespace_labels=Selector.parse("a=b"),
        )),
    ],
)  # fmt: skip
def test_a_view_holds_what_the_options_say(options: tuple[str, ...], expected: View):
    assert view_of(*options) == expected


@pytest.mark.parametrize(
    "option",
    [
        "endpoint https://10.0.0.1:6443",
        "tls cert key ca",
        "kubeconfig /etc/config",
        "kubeconfig /etc/config context",
        "apiserver_qps 0",
        "apiserver_qps 12.5",
        "apiserver_qps 1e3",
        "apiserver_burst 0",
        "apiserver_max_inflight 400",
        "startup_timeout 0s",
        "startup_timeout 1m30s",
        "startup_timeout 1s ignored",
        "fallthrough",
        "fallthrough in-addr.arpa 10.0.0.0/8",
    ],
)
def test_options_that_are_no_part_of_a_view(option: str):
    assert view_of(option) == View((CLUSTER,))


def test_every_option_is_told_apart_from_an_unknown_one():
    accepted = {"tls": "a b c", "apiserver_qps": "1", "apiserver_burst": "1", "apiserver_max_inflight": "1",
                "startup_timeout": "1s", "ttl": "1", "pods": "insecure", "labels": "a=b", "namespace_labels": "a=b",
                "endpoint": "x", "kubeconfig": "x", "namespaces": "x"}  # fmt: skip
    for option in OPTIONS:
        view_of(f"{option} {accepted.get(option, '')}")
    assert len(OPTIONS) == 18


# Wrong counts


@pytest.mark.parametrize(
    ("option", "last"),
    [
        ("endpoint", "endpoint"),
        ("tls cert key", "key"),
        ("tls cert key ca more", "more"),
        ("kubeconfig", "kubeconfig"),
        ("kubeconfig a b c", "c"),
        ("apiserver_qps", "apiserver_qps"),
        ("apiserver_qps 1 2", "2"),
        ("apiserver_burst", "apiserver_burst"),
        ("apiserver_max_inflight 1 2", "2"),
        ("startup_timeout", "startup_timeout"),
        ("namespaces", "namespaces"),
        ("labels", "labels"),
        ("namespace_labels", "namespace_labels"),
        ("pods", "pods"),
        ("pods insecure verified", "verified"),
        ("endpoint_pod_names x", "x"),
        ("ttl", "ttl"),
        ("noendpoints x", "x"),
        ("zonal x", "x"),
    ],
)
def test_wrong_numbers_of_arguments(option: str, last: str):
    assert said("ttl 5", option) == f"Corefile:4 - {WRONG_COUNT} '{last}'"


# Wrong values

PARSING = "Corefile:3 - Error during parsing: "


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("ttl -1", PARSING + "ttl must be in range [0, 3600]: -1"),
        ("ttl 3601", PARSING + "ttl must be in range [0, 3600]: 3601"),
        ("ttl 5s", 'strconv.Atoi: parsing "5s": invalid syntax'),
        ("ttl 1_0", 'strconv.Atoi: parsing "1_0": invalid syntax'),
        ("ttl \u0663", 'strconv.Atoi: parsing "\u0663": invalid syntax'),
        ("pods some", "wrong value for pods: some,  must be one of: disabled, verified, insecure"),
        ("ignore everything", "unable to parse ignore value: 'everything'"),
        (
            "apiserver_qps many",
            PARSING + 'invalid apiserver_qps "many": strconv.ParseFloat: parsing "many": invalid syntax',
        ),
        ("apiserver_qps +", PARSING + 'invalid apiserver_qps "+": strconv.ParseFloat: parsing "+": invalid syntax'),
        ("apiserver_qps -0.5", PARSING + "apiserver_qps must be >= 0"),
        ("apiserver_burst 1.5", PARSING + 'invalid apiserver_burst "1.5": strconv.Atoi: parsing "1.5": invalid syntax'),
        ("apiserver_burst -1", PARSING + "apiserver_burst must be >= 0"),
        ("apiserver_max_inflight -1", PARSING + "apiserver_max_inflight must be >= 0"),
        ("startup_timeout 5", "failed to parse startup_timeout: 5, time: missing unit in duration \"5\""),
        ("fallthrough a..b", PARSING + "zone is not a valid domain name: a..b"),
        (
            "multicluster clusterset.local",
            PARSING + "is not authoritative for the multicluster zone clusterset.local. "
            "(authoritative zones: [cluster.local. ip6.arpa.])",
        ),
    ],
)  # fmt: skip
def test_wrong_values(option: str, expected: str):
    # What is asked of all options together is cited where the block ends.
    line = "Corefile:4" if option.startswith("multicluster") else "Corefile:3"
    assert said(option, zones="cluster.local ip6.arpa") == expected.replace("Corefile:3", line)


@pytest.mark.parametrize(("option", "word"), [("labels", "label"), ("namespace_labels", "namespace_label")])
def test_a_selector_that_does_not_parse_is_cited(option: str, word: str):
    text = said(f"{option} a in (b")
    assert text.startswith(f"unable to parse {word} selector value: 'a in (b': ")


@pytest.mark.parametrize("option", ["upstream", "resyncperiod 5m", "transfer to *", "}x"])
def test_an_option_there_is_none_of_is_named(option: str):
    assert said(option) == f"Corefile:3 - Error during parsing: unknown property '{option.split()[0]}'"


@pytest.mark.parametrize(("option", "near"), [("fallthru", "fallthrough"), ("endpoint_pod_name", "endpoint_pod_names")])
def test_a_slip_is_answered_with_the_option_it_is_near(option: str, near: str):
    assert refusal_of(f".:53 {{\nkubernetes {{\n{option}\n}}\n}}").hint == f"did you mean '{near}'?"


def test_namespaces_are_named_or_selected():
    for options in (("namespaces a", "namespace_labels b=c"), ("namespace_labels b=c", "namespaces a")):
        expected = "Corefile:5 - Error during parsing: namespaces and namespace_labels cannot both be set"
        assert said(*options) == expected


def test_zonal_needs_endpoints():
    for options in (("zonal", "noendpoints"), ("noendpoints", "zonal")):
        assert (
            said(*options) == "Corefile:5 - Error during parsing: zonal requires the endpoint cache; remove noendpoints"
        )


def test_control_characters_of_a_corefile_do_not_break_the_line():
    assert "\n" not in said('pods "a\nb"')


# The API server


def test_of_several_endpoints_the_first_counts_and_a_warning_is_logged():
    with collected() as lines:
        view_of("endpoint http://a http://b")
    assert lines == [
        "[WARNING] plugin/kubernetes: Multiple endpoints have been deprecated, "
        "only the first specified endpoint 'http://a' is used"
    ]


NOT_IN_CLUSTER = (
    "plugin/kubernetes: unable to load in-cluster configuration, "
    "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT must be defined"
)


@pytest.mark.parametrize(
    "environ",
    [{}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, {"KUBERNETES_SERVICE_HOST": "", "KUBERNETES_SERVICE_PORT": "443"}],
)
def test_without_a_way_to_the_api_server_it_does_not_start(environ: dict[str, str]):
    assert refused("kubernetes cluster.local", surroundings=Surroundings(environ=environ)) == NOT_IN_CLUSTER


@pytest.mark.parametrize(
    ("option", "environ"),
    [
        ("", {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}),
        ("endpoint http://10.0.0.1", {}),
        ("kubeconfig /etc/kubeconfig", {}),
    ],
)
def test_ways_to_the_api_server(option: str, environ: dict[str, str]):
    surroundings = Surroundings(environ=environ)
    set_up(f"kubernetes {{\nttl 5\n{option}\n}}", surroundings)
    assert len(surroundings.views) == 1


def test_defaults_are_those_of_coredns():
    assert ApiAccess().startup_timeout_seconds == 5.0
    assert view_of().ttl == 5


# Views


def test_directives_with_the_same_options_share_a_view_and_others_do_not():
    surroundings = Surroundings((b"\x0a\1\1\1",), has_manifests=True)
    texts = ("kubernetes a.test", "kubernetes a.test {\nttl 5\n}", "kubernetes a.test {\nttl 6\n}", "kubernetes b.test")
    plugins = [set_up(text, surroundings) for text in texts]
    assert [plugin.view_index for plugin in plugins] == [0, 0, 1, 2]
    assert all(view.local_addresses == (b"\x0a\1\1\1",) for view in surroundings.views)


def test_a_corefile_with_too_many_views_is_refused():
    blocks = [f"b{n}.test {{\nkubernetes {{\nttl {n}\n}}\n}}\n" for n in range(MAX_VIEWS + 1)]
    build("".join(blocks[:-1]))
    text = "plugin/kubernetes: more than 64 kubernetes directives with different options"
    assert str(refusal_of("".join(blocks))) == text
