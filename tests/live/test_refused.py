"""What an API server refuses holds back only the names that depend on it, and the log says what to do."""

from __future__ import annotations

import pytest

from tests.fakes.apiserver import FakeApiServer
from tests.fakes_selftest.objects import endpoint_slice, namespace, pod, service
from tests.harness.exchange import TCP
from tests.live.live_site import NXDOMAIN, READY_SECONDS, SERVFAIL, Found, Site, answer

WEB, DB = "web.shop.svc.cluster.local.", "db.shop.svc.cluster.local."
REVERSE_WEB, REVERSE_DB = "1.0.96.10.in-addr.arpa.", "1.0.1.10.in-addr.arpa."
POD, NOWHERE = "10-1-0-9.shop.pod.cluster.local.", "nowhere.shop.svc.cluster.local."
WHOLE = {
    (WEB, "A"): answer("10.96.0.1"),
    (WEB, "AAAA"): Found("NOERROR"),
    (f"_http._tcp.{WEB}", "SRV"): answer(f"0 100 80 {WEB}"),
    (DB, "A"): answer("10.1.0.1"),
    (DB, "SRV"): answer(f"0 100 80 10-1-0-1.{DB}"),
    (f"10-1-0-1.{DB}", "A"): answer("10.1.0.1"),
    (REVERSE_WEB, "PTR"): answer(WEB),
    (REVERSE_DB, "PTR"): answer(f"10-1-0-1.{DB}"),
    (POD, "A"): answer("10.1.0.9"),
    (NOWHERE, "A"): NXDOMAIN,
    (f"www.example.org.{NOWHERE}", "A"): NXDOMAIN,
}
HELD_BACK = {
    "pods": {(POD, "A")},
    "endpointslices": {(DB, "A"), (DB, "SRV"), (f"10-1-0-1.{DB}", "A"), (REVERSE_DB, "PTR")},
    "services": set(WHOLE) - {(POD, "A")},
    "namespaces": set(WHOLE) - {(REVERSE_WEB, "PTR"), (REVERSE_DB, "PTR")},
}
GROUPS = {"endpointslices": "endpointslices.discovery.k8s.io"}
DEPENDENTS = {
    "pods": "the names of Pods",
    "endpointslices": "the names of headless Services and of endpoints",
    "services": "the names of Services",
    "namespaces": "all names",
}
FREE = 10.0


def opened(site: Site) -> FakeApiServer:
    api = site.open_api()
    api.put(namespace(), service("web", "10.96.0.1"), service("db", "None"))
    api.put(endpoint_slice("db", "10.1.0.1"), pod("p", address="10.1.0.9"))
    return api


@pytest.mark.parametrize("resource", list(HELD_BACK))
def test_a_refused_resource_holds_back_what_depends_on_it(site: Site, resource: str) -> None:
    api = opened(site)
    api.denied = {(verb, resource) for verb in ("list", "watch")}
    site.start(site.directive(api, "cluster.local in-addr.arpa", "pods verified"))
    expected = {key: SERVFAIL if key in HELD_BACK[resource] else found for key, found in WHOLE.items()}
    some_answer = next((key for key, found in expected.items() if found.values), None)
    assert some_answer is not None
    site.wait_found(some_answer[0], expected[some_answer], FREE, some_answer[1])
    assert {key: site.ask(*key) for key in WHOLE} == expected
    assert {key: site.ask(*key, TCP) for key in WHOLE} == expected
    assert (site.health, site.ready) == (200, 503)
    name = GROUPS.get(resource, resource)
    advice = f"grant the verbs list and watch on {name}; until then {DEPENDENTS[resource]} are held back"
    (line,) = [line for line in site.server.stdout.splitlines() if "are refused" in line]
    assert f"plugin/kubernetes: {name} at {api.url}: list and watch are refused: {advice}" in line

    api.put(service("web", "10.96.0.2"))  # what is followed is followed
    if resource in ("pods", "endpointslices"):
        site.wait_found(WEB, answer("10.96.0.2"), FREE)
    api.put(service("web", "10.96.0.1"))
    api.denied = set()
    held = next(iter(HELD_BACK[resource]))
    site.wait_found(held[0], WHOLE[held], READY_SECONDS, held[1])
    site.wait(lambda: {key: site.ask(*key) for key in WHOLE} == WHOLE, "everything is answered", FREE)
    site.wait(lambda: site.ready == 200, "ready", FREE)


def test_what_is_refused_after_all_was_known_stays_as_it_was(site: Site) -> None:
    api = opened(site)
    site.start(site.directive(api, "cluster.local in-addr.arpa", "pods verified"))
    site.wait(lambda: {key: site.ask(*key) for key in WHOLE} == WHOLE, "everything is answered", FREE)
    api.denied = {(verb, "pods") for verb in ("list", "watch")}
    api.cut_connections()
    api.put(service("web", "10.96.0.2"))
    site.wait_found(WEB, answer("10.96.0.2"), READY_SECONDS)
    site.wait(lambda: "grant the verbs list and watch on pods" in site.server.stdout, "the refusal is logged", FREE)
    assert site.ask(POD) == WHOLE[POD, "A"]
    assert site.ready == 200


def test_a_resource_that_never_answers_does_not_hold_back_the_others_for_long(site: Site) -> None:
    api = opened(site)
    held = api.faults.add("held", "Pod")
    site.start(site.directive(api, "cluster.local in-addr.arpa", "pods verified"))
    site.wait_found(WEB, WHOLE[WEB, "A"], 2 * FREE)
    assert site.ask(POD) == SERVFAIL
    assert site.ready == 503
    held.remove()
    site.wait_found(POD, WHOLE[POD, "A"], READY_SECONDS)
    site.wait(lambda: site.ready == 200, "ready", FREE)


def test_a_resource_that_fails_each_time_does_not_hold_back_the_others_for_long(site: Site) -> None:
    api = opened(site)
    fault = api.faults.add("status", "EndpointSlice", code=500)
    site.start(site.directive(api, "cluster.local in-addr.arpa", "pods verified"))
    site.wait_found(WEB, WHOLE[WEB, "A"], 3 * FREE)
    assert site.ask(DB) == SERVFAIL
    assert site.ask(POD) == WHOLE[POD, "A"]
    assert site.ready == 503
    for number in range(3):
        api.put(service("web", f"10.96.0.{number}"))
        site.wait_found(WEB, answer(f"10.96.0.{number}"), FREE)
    fault.remove()
    site.wait_found(DB, WHOLE[DB, "A"], FREE)
    site.wait(lambda: site.ready == 200, "ready", FREE)
