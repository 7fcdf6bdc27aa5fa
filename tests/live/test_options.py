"""Options of `kubernetes` that are about following an API server; what others answer is in the conformance files."""

from __future__ import annotations

from itertools import pairwise

from tests.fakes_selftest.objects import endpoint_slice, namespace, service
from tests.live.live_site import NXDOMAIN, SERVFAIL, Site, answer

WEB, DB = "web.shop.svc.cluster.local.", "db.shop.svc.cluster.local."
LATE = "starting server with unsynced Kubernetes API"
QPS = 5.0
UNLESS_DEFAULT_SECONDS = 4.0  # by then the default of 5 s would not be over
FREE = 10.0


def test_startup_timeout_says_when_the_wait_is_over(site: Site) -> None:
    api = site.open_api()
    api.put(namespace(), service("web", "10.96.0.1"))
    held = api.faults.add("held", "Service")
    site.start(site.directive(api, "cluster.local", "startup_timeout 300ms"))
    held.wait_met()
    site.wait(lambda: LATE in site.server.stdout, f"logged: {LATE}", UNLESS_DEFAULT_SECONDS)
    assert site.ask(WEB) == SERVFAIL
    held.remove()
    site.wait_found(WEB, answer("10.96.0.1"), FREE)


def test_a_start_in_time_says_nothing(site: Site) -> None:
    api = site.open_api()
    api.put(namespace(), service("web", "10.96.0.1"))
    site.start(site.directive(api, "cluster.local"))
    site.wait(lambda: site.ready == 200, "ready", FREE)
    assert LATE not in site.server.stdout


def test_requests_keep_to_the_rate_that_is_set(site: Site) -> None:
    api = site.open_api()
    api.put(namespace(), service("web", "10.96.0.1"), service("db", "None"), endpoint_slice("db", "10.1.0.1"))
    limits = (f"apiserver_qps {QPS}", "apiserver_burst 1", "apiserver_max_inflight 1")
    site.start(site.directive(api, "cluster.local", *limits))
    site.wait_found(DB, answer("10.1.0.1"), FREE)
    api.put(endpoint_slice("db", "10.1.0.2"))
    site.wait_found(DB, answer("10.1.0.2"), FREE)
    asked = [request.time for request in api.journal.requests]
    assert len(asked) >= 3
    assert min(later - earlier for earlier, later in pairwise(asked)) >= 0.8 / QPS


def test_two_blocks_follow_one_server_each_with_its_own_options(site: Site) -> None:
    api = site.open_api()
    api.put(namespace(), namespace("other"), service("web", "10.96.0.1", tier="front"), service("db", "10.96.0.2"))
    first = site.directive(api, "cluster.local", "labels tier=front", "ttl 7")
    second = site.directive(api, "two.local", "namespaces shop")
    third = site.directive(api, "three.local", "namespaces other")
    site.start_corefile(
        f"cluster.local:53 {{\n ready :{site.ready_port}\n{first}}}\n"
        f"two.local:53 {{\n{second}}}\nthree.local:53 {{\n{third}}}\n"
    )
    site.wait(lambda: site.ready == 200, "ready", FREE)
    expected = {
        "web.shop.svc.cluster.local.": answer("10.96.0.1"),
        "db.shop.svc.cluster.local.": NXDOMAIN,
        "web.shop.svc.two.local.": answer("10.96.0.1"),
        "db.shop.svc.two.local.": answer("10.96.0.2"),
        "web.shop.svc.three.local.": NXDOMAIN,
    }
    assert {name: site.ask(name) for name in expected} == expected
    api.put(service("db", "10.96.0.3", tier="front"))
    site.wait_found("db.shop.svc.cluster.local.", answer("10.96.0.3"), FREE)
    site.wait_found("db.shop.svc.two.local.", answer("10.96.0.3"), FREE)
    assert site.ask("web.shop.svc.three.local.") == NXDOMAIN
