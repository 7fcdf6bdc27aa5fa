"""Pods behind selectors, and what the real controllers make of them, is what is answered."""

from __future__ import annotations

from typing import Any

import pytest

from tests.controlplane.blocking import BlockingApi
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.kinds import node, running_pod
from tests.fakes_selftest.objects import namespace
from tests.live.live_site import NXDOMAIN, answer
from tests.live_controlplane.deployed import following
from tests.live_controlplane.extra import EXTRA
from tests.live_controlplane.plane_site import PlaneSite

SUFFIX = "shop.svc.cluster.local."
SEEN_SECONDS = 60.0  # through the controller, which waits, on a machine that does something else as well
ZONES = "cluster.local in-addr.arpa ip6.arpa"


def service(name: str, app: str = "", **spec: Any) -> dict[str, Any]:
    """A Service that selects Pods; headless unless its specification says something else."""
    default: dict[str, Any] = {"clusterIP": "None", "ports": [{"name": "http", "port": 80}]}
    if app:
        default["selector"] = {"app": app}
    metadata = {"namespace": "shop", "name": name}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {**default, **spec}}


@pytest.fixture
def shop(plane: ControlPlane, api: BlockingApi, site: PlaneSite) -> BlockingApi:
    """A namespace and a node, and a server that follows the cluster."""
    api.apply(namespace(), node("node-a", "zone-a"))
    site.start(following(plane, site.directory, ZONES))
    return api


def test_pods_become_addresses_as_they_become_ready(shop: BlockingApi, site: PlaneSite) -> None:
    shop.apply(service("web", "web"), service("early", "web", publishNotReadyAddresses=True))
    web, early = f"web.{SUFFIX}", f"early.{SUFFIX}"
    pods = [running_pod("shop", f"web-{n}", f"10.1.0.{n}", {"app": "web"}, "node-a") for n in (1, 2)]
    shop.apply(*pods)
    site.wait_found(web, answer("10.1.0.1", "10.1.0.2"), SEEN_SECONDS)
    site.wait_found("1.0.1.10.in-addr.arpa.", answer(f"10-1-0-1.{web}", f"10-1-0-1.{early}"), SEEN_SECONDS, "PTR")

    shop.apply(running_pod("shop", "web-1", "10.1.0.1", {"app": "web"}, "node-a", is_ready=False))
    site.wait_found(web, answer("10.1.0.2"), SEEN_SECONDS)
    assert site.ask(f"10-1-0-1.{web}") == NXDOMAIN
    assert site.ask(early) == answer("10.1.0.1", "10.1.0.2")
    shop.apply(running_pod("shop", "web-1", "10.1.0.1", {"app": "web"}, "node-a"))
    site.wait_found(web, answer("10.1.0.1", "10.1.0.2"), SEEN_SECONDS)

    shop.delete("Pod", "shop", "web-2")
    site.wait_found(web, answer("10.1.0.1"), SEEN_SECONDS)
    site.wait_found(early, answer("10.1.0.1"), SEEN_SECONDS)
    shop.delete("Pod", "shop", "web-1")
    site.wait_found(web, NXDOMAIN, SEEN_SECONDS)  # as CoreDNS has it: a headless Service is its endpoints


def test_rollout_of_a_statefulset_keeps_its_names(shop: BlockingApi, site: PlaneSite) -> None:
    labels = {"app": "db"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": "one"}]}}
    workload = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"namespace": "shop", "name": "db"},
        "spec": {
            "serviceName": "db",
            "replicas": 2,
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": labels},
            "template": template,
        },
    }
    shop.apply(service("db", "db"), workload)

    def uids() -> dict[str, str]:
        found = shop.list_objects("Pod", "shop")
        return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in found}

    site.wait(lambda: len(uids()) == 2, "two Pods", SEEN_SECONDS)
    for number in range(2):
        shop.run_pod("shop", f"db-{number}", f"10.1.0.{number}", "node-a")
        site.wait_found(f"db-{number}.db.{SUFFIX}", answer(f"10.1.0.{number}"), SEEN_SECONDS)

    before = uids()
    template["spec"]["containers"][0]["image"] = "two"
    shop.apply(workload)
    for number in (1, 0):  # the controller deletes the last first, and goes on when its successor is ready
        name = f"db-{number}"
        site.wait(lambda name=name: is_ending(shop, name), f"{name} is told to end", SEEN_SECONDS)
        if uids().get(name) == before[name]:
            shop.delete("Pod", "shop", name)  # as its kubelet does at the end of the grace
        site.wait(lambda name=name: uids().get(name) not in (None, before[name]), f"another {name}", SEEN_SECONDS)
        shop.run_pod("shop", name, f"10.1.1.{number}", "node-a")
        site.wait_found(f"{name}.db.{SUFFIX}", answer(f"10.1.1.{number}"), SEEN_SECONDS)
    site.wait_found(f"db.{SUFFIX}", answer("10.1.1.0", "10.1.1.1"), SEEN_SECONDS)
    site.wait_found("1.1.1.10.in-addr.arpa.", answer(f"db-1.db.{SUFFIX}"), SEEN_SECONDS, "PTR")
    assert site.ask("1.0.1.10.in-addr.arpa.", "PTR") == NXDOMAIN


def is_ending(api: BlockingApi, name: str) -> bool:
    """Whether a Pod is to end, or has."""
    found = [pod["metadata"] for pod in api.list_objects("Pod", "shop") if pod["metadata"]["name"] == name]
    return not found or "deletionTimestamp" in found[0]


def test_services_of_two_families_answer_both(shop: BlockingApi, site: PlaneSite) -> None:
    both = {"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"]}
    shop.apply(service("web", "web", **both), service("front", "web", clusterIP="10.96.0.7", **both))
    pod = running_pod("shop", "web-1", "10.1.0.1", {"app": "web"}, "node-a")
    pod["status"]["podIPs"].append({"ip": "fd00::1"})
    shop.apply(pod)
    web, front = f"web.{SUFFIX}", f"front.{SUFFIX}"
    site.wait_found(web, answer("10.1.0.1"), SEEN_SECONDS)
    site.wait_found(web, answer("fd00::1"), SEEN_SECONDS, "AAAA")
    addresses = shop.get("Service", "shop", "front")["spec"]["clusterIPs"]
    assert len(addresses) == 2
    site.wait_found(front, answer(addresses[0]), SEEN_SECONDS)
    site.wait_found(front, answer(addresses[1]), SEEN_SECONDS, "AAAA")


def test_a_service_turns_into_another_type(shop: BlockingApi, site: PlaneSite) -> None:
    web = f"web.{SUFFIX}"
    shop.apply(running_pod("shop", "web-1", "10.1.0.1", {"app": "web"}, "node-a"))
    shop.apply(service("web", "web", clusterIP="10.96.0.7"), service("other", clusterIP="10.96.0.8"))
    site.wait_found(web, answer("10.96.0.7"), SEEN_SECONDS)
    leading = {"type": "ExternalName", "externalName": f"other.{SUFFIX}", "clusterIP": None, "clusterIPs": None}
    shop.patch("Service", "shop", "web", {"spec": leading})
    site.wait_found(web, answer("10.96.0.8", f"other.{SUFFIX}"), SEEN_SECONDS)
    assert site.ask("7.0.96.10.in-addr.arpa.", "PTR") == NXDOMAIN
    shop.patch("Service", "shop", "web", {"spec": {"type": "ClusterIP", "externalName": None, "clusterIP": "None"}})
    site.wait_found(web, answer("10.1.0.1"), SEEN_SECONDS)


@EXTRA
def test_a_namespace_goes_with_what_is_in_it(shop: BlockingApi, site: PlaneSite) -> None:
    shop.apply(service("web", clusterIP="10.96.0.7"))
    site.wait_found(f"web.{SUFFIX}", answer("10.96.0.7"), SEEN_SECONDS)
    shop.delete("Namespace", "", "shop")
    site.wait_found(SUFFIX, NXDOMAIN, SEEN_SECONDS)
    site.wait_found("7.0.96.10.in-addr.arpa.", NXDOMAIN, SEEN_SECONDS, "PTR")
    assert site.ask(f"web.{SUFFIX}") == NXDOMAIN
