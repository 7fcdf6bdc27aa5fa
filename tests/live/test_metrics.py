"""What following an API server adds to the metrics."""

from __future__ import annotations

import re
import time

from tests.fakes_selftest.objects import endpoint_slice, namespace, service
from tests.harness.places import free_port
from tests.live.live_site import Site, answer
from tests.live.metrics import values_of

DB, WEB = "db.shop.svc.cluster.local.", "web.shop.svc.cluster.local."
ANNOTATION = "endpoints.kubernetes.io/last-change-trigger-time"
AGO_SECONDS = 2.0
FREE = 10.0


def triggered(address: str, owner: str) -> dict[str, object]:
    """A slice whose change began a little while ago."""
    made = endpoint_slice(owner, address)
    began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - AGO_SECONDS))
    made["metadata"]["annotations"] = {ANNOTATION: began}
    return made


def test_what_is_followed_is_measured(site: Site) -> None:
    api = site.open_api()
    api.put(namespace(), service("web", "10.96.0.1"), service("db", "None"), triggered("10.1.0.1", "db"))
    port = site.place.run(free_port)
    site.start(f"    prometheus 127.0.0.1:{port}\n", site.directive(api))
    site.wait_found(DB, answer("10.1.0.1"), FREE)
    programming = "coredns_kubernetes_dns_programming_duration_seconds"
    assert not any(name.startswith(programming) for name in values_of(site, port))
    for last in (2, 3):
        api.put(triggered(f"10.1.0.{last}", "db"))
        site.wait_found(DB, answer(f"10.1.0.{last}"), FREE)
    api.put(triggered("10.1.0.9", "web"))
    site.wait(lambda: f'{programming}_count{{service_kind="cluster_ip"}}' in values_of(site, port), "counted", FREE)
    found = values_of(site, port)
    assert found[f'{programming}_count{{service_kind="headless_with_selector"}}'] == 2
    assert found[f'{programming}_count{{service_kind="cluster_ip"}}'] == 1
    assert AGO_SECONDS <= found[f'{programming}_sum{{service_kind="cluster_ip"}}'] < AGO_SECONDS + FREE + 1

    host = api.url.removeprefix("https://")
    requests = f'coredns_kubernetes_rest_client_requests_total{{code="200",host="{host}",method="GET"}}'
    assert _in_any_order(found, requests) >= 3  # a watch of each resource
    duration = f'coredns_kubernetes_rest_client_request_duration_seconds_count{{host="{host}",verb="GET"}}'
    assert _in_any_order(found, duration) >= 3
    events = 'kdns_kubernetes_events_total{resource="endpointslices.discovery.k8s.io",view="0"}'
    site.wait(lambda: _in_any_order(values_of(site, port), events) == 3, "events are counted", FREE)


def _in_any_order(found: dict[str, float], wanted: str) -> float:
    """The value of a sample whatever the order of its labels."""

    def parts(name: str) -> tuple[str, frozenset[str]]:
        family, _, labels = name.partition("{")
        return family, frozenset(re.findall(r'\w+="[^"]*"', labels))

    return next((value for name, value in found.items() if parts(name) == parts(wanted)), 0.0)
