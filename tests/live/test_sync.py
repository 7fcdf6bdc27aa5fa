"""From the start to the first answers, with API servers that are there, late, or refuse something."""

from __future__ import annotations

import time

import dns.edns
import dns.message
import dns.rcode
import dns.rdatatype
import pytest

from tests.fakes_selftest.objects import endpoint_slice, namespace, service
from tests.harness.exchange import TCP, TRANSPORTS, UDP
from tests.live.live_site import NXDOMAIN, READY_SECONDS, SERVFAIL, Found, Site, answer

WEB, DB = "web.shop.svc.cluster.local.", "db.shop.svc.cluster.local."
NOWHERE = "nowhere.shop.svc.cluster.local."
REVERSE = "1.0.96.10.in-addr.arpa."
OBJECTS = (namespace(), service("web", "10.96.0.1"), service("db", "None"), endpoint_slice("db", "10.1.0.1"))
LISTENING_SECONDS = 1.0
FREE = 5.0  # seconds; where the time is not what is tested


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_names_of_the_cluster_appear_after_the_start(site: Site, transport: str) -> None:
    api = site.open_api()
    api.put(*OBJECTS)
    site.start(site.directive(api))
    site.wait_found(WEB, answer("10.96.0.1"), FREE)
    assert site.ask(WEB, transport=transport) == answer("10.96.0.1")
    assert site.ask(DB, transport=transport) == answer("10.1.0.1")
    assert site.ask(REVERSE, "PTR", transport) == answer(WEB)
    assert site.ask(WEB, "SRV", transport) == answer("0 100 80 " + WEB)
    assert site.ask(NOWHERE, transport=transport) == NXDOMAIN
    site.wait(lambda: site.ready == 200, "ready", FREE)


def test_without_its_api_server_the_cluster_is_servfail_until_it_comes(site: Site) -> None:
    api = site.open_api()
    api.put(*OBJECTS)
    outage = api.faults.add("refused")
    started = time.monotonic()
    site.start(site.directive(api))
    site.wait(lambda: site.ask(WEB).rcode != "NOREPLY", "listening", FREE)
    listening_seconds = time.monotonic() - started
    site.wait(lambda: "not followed for the moment" in site.server.stdout, "the outage is logged", FREE)
    for name, qtype in ((WEB, "A"), (WEB, "AAAA"), (NOWHERE, "A"), (REVERSE, "PTR"), (DB, "SRV")):
        for transport in (UDP, TCP):
            assert site.ask(name, qtype, transport) == SERVFAIL, (name, qtype, transport)
    assert (site.health, site.ready) == (200, 503)
    _check_servfail_is_explained(site)

    met: set[Found] = set()
    outage.remove()
    there = time.monotonic()

    def has_come() -> bool:
        met.add(site.ask(WEB))
        return answer("10.96.0.1") in met

    site.wait(has_come, f"{WEB} answers", FREE)
    assert time.monotonic() - there <= READY_SECONDS
    assert met <= {SERVFAIL, answer("10.96.0.1")}
    assert site.ask(NOWHERE) == NXDOMAIN
    site.wait(lambda: site.ready == 200, "ready", FREE)
    assert listening_seconds <= LISTENING_SECONDS, "the start took too long"


def _check_servfail_is_explained(site: Site) -> None:
    plain, extended = site.ask_wire(WEB), site.ask_wire(WEB, edns=0)
    assert plain is not None
    assert extended is not None
    for reply in map(dns.message.from_wire, (plain, extended)):
        assert [rrset.rdtype for rrset in reply.authority] == [dns.rdatatype.SOA]
    assert dns.message.from_wire(plain).edns == -1
    options = dns.message.from_wire(extended).options
    assert [option.code for option in options if isinstance(option, dns.edns.EDEOption)] == [dns.edns.EDECode.NOT_READY]


def test_a_refused_resource_holds_names_back_and_the_log_says_which(site: Site) -> None:
    api = site.open_api()
    api.put(*OBJECTS)
    refusals = [api.faults.add("status", "EndpointSlice", verb, code=403) for verb in ("list", "watch")]
    site.start(site.directive(api))
    wanted = "grant the verbs list and watch on endpointslices.discovery.k8s.io"
    site.wait(lambda: wanted in site.server.stdout, f"logged: {wanted}", FREE)
    for qtype in ("A", "AAAA", "SRV"):
        assert site.ask(DB, qtype) == SERVFAIL
    assert site.ready == 503
    for refusal in refusals:
        refusal.remove()
    site.wait_found(DB, answer("10.1.0.1"), READY_SECONDS)
    site.wait(lambda: site.ready == 200, "ready", FREE)


def test_a_resource_without_an_answer_holds_names_back(site: Site) -> None:
    api = site.open_api()
    api.put(*OBJECTS)
    held = api.faults.add("held", "EndpointSlice")
    site.start(site.directive(api))
    held.wait_met()
    site.wait(lambda: {"Namespace", "Service"} <= set(api.open_watches), "the others are watched", FREE)
    for qtype in ("A", "AAAA", "SRV"):
        assert site.ask(DB, qtype) == SERVFAIL
    assert site.ready == 503
    held.remove()
    site.wait_found(DB, answer("10.1.0.1"), READY_SECONDS)


def test_a_cluster_answers_while_the_api_server_of_another_is_away(site: Site) -> None:
    here, there = site.open_api(), site.open_api()
    here.put(*OBJECTS)
    there.put(namespace(), service("web", "10.97.0.1"))
    away = there.faults.add("refused")
    other = "web.shop.svc.other.local."
    # Two directives need two blocks: the keys are the zones.
    probes = f"errors\n ready :{site.ready_port}\n health :{site.health_port}\n"
    site.start_corefile(
        f"cluster.local:53 {{\n {probes}{site.directive(here, 'cluster.local')}}}\n"
        f"other.local:53 {{\n errors\n{site.directive(there, 'other.local')}}}\n"
    )
    site.wait_found(WEB, answer("10.96.0.1"), FREE)
    assert site.ask(other) == SERVFAIL
    assert site.ready == 503
    here.put(service("web", "10.96.0.9"))
    site.wait_found(WEB, answer("10.96.0.9"), FREE)
    assert site.ask(other) == SERVFAIL
    away.remove()
    site.wait_found(other, answer("10.97.0.1"), READY_SECONDS)
    assert site.ask(WEB) == answer("10.96.0.9")
    site.wait(lambda: site.ready == 200, "ready", FREE)
