"""What kdns may do at a real API server, and with which token: too little, just enough, and renewed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.controlplane.api import Api, ApiError
from tests.controlplane.blocking import BlockingApi
from tests.controlplane.cluster import USER, ControlPlane
from tests.controlplane.kinds import reader, running_pod
from tests.fakes_selftest.objects import endpoint_slice, namespace, service
from tests.harness.places import open_namespace
from tests.harness.server import KDNS
from tests.live.live_site import NXDOMAIN, SERVFAIL, answer
from tests.live_controlplane.deployed import bound_to, deployed, following
from tests.live_controlplane.mounting import Mount, in_a_pod
from tests.live_controlplane.plane_site import PlaneSite

WEB, DB = "web.shop.svc.cluster.local.", "db.shop.svc.cluster.local."
POD = "10-1-0-9.shop.pod.cluster.local."
ZONES = "cluster.local in-addr.arpa"
OBJECTS = (
    namespace(),
    service("web", "10.96.0.9"),
    service("db", "None"),
    endpoint_slice("db", "10.1.0.1"),
    running_pod("shop", "p", "10.1.0.9", {}, "node-a"),
)
NOTICED_SECONDS = 60.0
ROLE = deployed("ClusterRole")["metadata"]["name"]


@pytest.fixture
def granted(api: BlockingApi) -> Iterator[BlockingApi]:
    """The API; the user has the role of `deploy/` again afterwards."""
    api.apply(*OBJECTS)
    yield api
    api.apply(deployed("ClusterRole"), bound_to(ROLE))


def test_deployed_role_is_just_enough(plane: ControlPlane, granted: BlockingApi, site: PlaneSite) -> None:
    site.start(following(plane, site.directory))
    site.wait_found(DB, answer("10.1.0.1"), NOTICED_SECONDS)
    site.wait(lambda: site.ready == 200, "ready", NOTICED_SECONDS)
    assert site.ask(WEB) == answer("10.96.0.9")
    assert "refused" not in site.server.stdout
    rules = {
        (group, resource, verb)
        for rule in deployed("ClusterRole")["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert rules == {
        (group, resource, verb)
        for group, resource in (("", "namespaces"), ("", "services"), ("discovery.k8s.io", "endpointslices"))
        for verb in ("list", "watch")
    }


@pytest.mark.parametrize("taken", ["services", "endpointslices"])
def test_without_one_rule_of_the_deployed_role_something_is_held_back(
    taken: str, plane: ControlPlane, granted: BlockingApi, site: PlaneSite
) -> None:
    role = deployed("ClusterRole")
    for rule in role["rules"]:
        rule["resources"] = [resource for resource in rule["resources"] if resource != taken]
    role["rules"] = [rule for rule in role["rules"] if rule["resources"]]
    granted.apply(role)
    site.start(following(plane, site.directory))
    name = {"endpointslices": "endpointslices.discovery.k8s.io"}.get(taken, taken)
    said = f"{name} at {plane.url}: list and watch are refused: grant the verbs list and watch on {name}; until then"
    site.wait(lambda: said in site.server.stdout, f"said: {said}", NOTICED_SECONDS)
    expected = answer("10.96.0.9") if taken == "endpointslices" else SERVFAIL
    site.wait_found(WEB, expected, NOTICED_SECONDS)
    assert site.ask(DB) == SERVFAIL
    assert site.ready == 503

    granted.apply(deployed("ClusterRole"))
    site.wait_found(DB, answer("10.1.0.1"), NOTICED_SECONDS)
    site.wait_found(WEB, answer("10.96.0.9"), NOTICED_SECONDS)
    site.wait(lambda: site.ready == 200, "ready", NOTICED_SECONDS)


def test_pods_are_asked_for_only_where_they_are_verified(
    plane: ControlPlane, granted: BlockingApi, site: PlaneSite
) -> None:
    role, binding = reader(USER, "pods")
    granted.call(_delete_quietly(granted, "ClusterRoleBinding", binding["metadata"]["name"]))
    site.start(following(plane, site.directory, ZONES, "pods verified"))
    said = f"pods at {plane.url}: list and watch are refused: grant the verbs list and watch on pods; until then"
    site.wait(lambda: said in site.server.stdout, f"said: {said}", NOTICED_SECONDS)
    site.wait_found(WEB, answer("10.96.0.9"), NOTICED_SECONDS)
    assert site.ask(DB) == answer("10.1.0.1")
    assert site.ask(POD) == SERVFAIL
    granted.apply(role, binding)
    site.wait_found(POD, answer("10.1.0.9"), NOTICED_SECONDS)
    site.wait(lambda: site.ready == 200, "ready", NOTICED_SECONDS)


async def _delete_quietly(api: BlockingApi, kind: str, name: str) -> None:
    found = await api.session.list_objects(kind)
    if name in {part["metadata"]["name"] for part in found}:
        await api.session.delete(kind, "", name)


def test_a_token_is_renewed_while_kdns_runs(plane: ControlPlane, granted: BlockingApi, site: PlaneSite) -> None:
    open_namespace().close()  # says what is missing where nothing can be mounted
    account = deployed("ServiceAccount")
    where = account["metadata"]["namespace"], account["metadata"]["name"]
    binding = deployed("ClusterRoleBinding")
    binding["metadata"]["name"] = "of-the-account"

    def issue() -> str:
        granted.apply(account)
        return granted.call(granted.session.issue_token(*where))

    first = issue()
    granted.apply(binding)
    mount = Mount(site.directory / "mount", plane.ca_file)
    mount.write(first + "\n")
    environment = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(plane.port)}
    corefile = f".:53 {{\n errors\n ready :{site.ready_port}\n kubernetes {ZONES}\n}}\n"
    server = site.start_command(corefile, command=in_a_pod(mount.path, KDNS), environment=environment)
    site.wait_found(WEB, answer("10.96.0.9"), NOTICED_SECONDS)

    granted.delete("ServiceAccount", *where)  # which voids every token of it
    second = issue()
    plane.restart()  # every watch has to be opened again; a server that runs would take the old token for 10 s more
    with BlockingApi(Api(plane.url, plane.ca_file, first)) as former, pytest.raises(ApiError, match="401"):
        former.list_objects("Service")
    site.wait(lambda: "are refused: the credentials" in server.stdout, "the refusal is logged", NOTICED_SECONDS)
    assert site.ask(WEB) == answer("10.96.0.9")
    mount.write(second)
    with BlockingApi(plane.api()) as again:
        again.apply(service("web", "10.96.0.9"), service("late", "10.96.0.10"))
    site.wait_found("late.shop.svc.cluster.local.", answer("10.96.0.10"), NOTICED_SECONDS)
    assert site.ask("nowhere.shop.svc.cluster.local.") == NXDOMAIN
    assert first not in server.stdout + server.stderr
    assert second not in server.stdout + server.stderr
