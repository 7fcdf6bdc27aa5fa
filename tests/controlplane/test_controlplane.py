"""The control plane does what the tests on it rely on."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from tests.controlplane.api import Api, ApiError, wait
from tests.controlplane.cluster import USER, WORKLOAD_CONTROLLERS, ControlPlane
from tests.controlplane.kinds import SERVICE_IMPORT_DEFINITION, node, reader, running_pod
from tests.fakes_selftest.apiclient import WATCH_LIST

PORT = {"name": "http", "port": 80}


def service(namespace: str, name: str, **labels: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"clusterIP": "None", "selector": labels, "ports": [PORT]},
    }


def namespace(name: str) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


async def test_pods_of_a_service_become_endpoints(controlplane: ControlPlane) -> None:
    async with controlplane.api() as api:
        await api.apply(namespace("slices"), node("node-a", "zone-a"), service("slices", "web", app="web"))
        pods = [running_pod("slices", f"web-{n}", f"10.1.0.{n}", {"app": "web"}, "node-a") for n in (1, 2)]
        await api.apply(*pods)
        await api.wait_slices("slices", "web", lambda found: found == {"10.1.0.1": True, "10.1.0.2": True}, "two ready")
        (part,) = await api.list_objects("EndpointSlice", "slices")
        assert {endpoint["zone"] for endpoint in part["endpoints"]} == {"zone-a"}

        await api.apply(running_pod("slices", "web-1", "10.1.0.1", {"app": "web"}, "node-a", is_ready=False))
        await api.delete("Pod", "slices", "web-2")
        await api.wait_slices("slices", "web", lambda found: found == {"10.1.0.1": False}, "one, not ready")


async def test_a_pod_without_a_node_is_no_endpoint(controlplane: ControlPlane) -> None:
    async with controlplane.api() as api:
        await api.apply(namespace("lost"), node("node-a"), service("lost", "web", app="web"))
        await api.apply(running_pod("lost", "web-1", "10.1.1.1", {"app": "web"}, "no-such-node"))
        await api.apply(running_pod("lost", "web-2", "10.1.1.2", {"app": "web"}, "node-a"))
        found = await api.wait_slices("lost", "web", lambda found: "10.1.1.2" in found, "the Pod that has a Node")
    assert found == {"10.1.1.2": True}


async def test_a_user_may_what_it_is_granted(controlplane: ControlPlane) -> None:
    role, binding = reader(USER, "services")
    async with controlplane.api() as api, controlplane.api(USER) as user:
        with pytest.raises(ApiError, match='cannot list resource "services"'):
            await user.list_objects("Service")
        await api.apply(role, binding)
        assert await user.list_objects("Service")
        with pytest.raises(ApiError, match='cannot list resource "pods"'):
            await user.list_objects("Pod")
        await api.delete("ClusterRoleBinding", "", binding["metadata"]["name"])
        with pytest.raises(ApiError, match="403"):
            await user.list_objects("Service")


async def test_accounts_have_tokens(controlplane: ControlPlane) -> None:
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": "default", "name": "reader"}}
    async with controlplane.api() as api:
        await api.apply(account)
        token = await api.issue_token("default", "reader")
        async with Api(controlplane.url, controlplane.ca_file, token) as holder:
            with pytest.raises(ApiError, match=r"403.*system:serviceaccount:default:reader"):
                await holder.list_objects("Service")
        async with Api(controlplane.url, controlplane.ca_file, token + "x") as stranger:
            with pytest.raises(ApiError, match="401"):
                await stranger.list_objects("Service")


async def test_service_imports_can_be_stored(controlplane: ControlPlane) -> None:
    async with controlplane.api() as api:
        await api.define(SERVICE_IMPORT_DEFINITION)
        imported = {
            "apiVersion": "multicluster.x-k8s.io/v1alpha1",
            "kind": "ServiceImport",
            "metadata": {"namespace": "default", "name": "web"},
            "spec": {"type": "ClusterSetIP", "ips": ["10.200.0.1"]},
        }
        await api.apply(imported)
        assert [found["spec"]["ips"] for found in await api.list_objects("ServiceImport")] == [["10.200.0.1"]]


async def test_a_watch_may_begin_with_a_list(controlplane: ControlPlane) -> None:
    async with controlplane.api() as api:
        events = await api.watch_for("Namespace", seconds=1, **WATCH_LIST)
    marked = [event for event in events if event["type"] == "BOOKMARK"]
    assert events[0]["type"] == "ADDED"
    assert marked[0]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


async def test_objects_outlive_a_restart_and_versions_a_compaction_does_not(
    controlplane_binary: Path, tmp_path: Path
) -> None:
    with ControlPlane(controlplane_binary, tmp_path / "controlplane") as cluster:
        async with cluster.api() as api:
            (stored,) = await api.apply(namespace("kept"))
            await api.apply(namespace("newer"))
            revision = cluster.compact()
            assert revision > int(stored["metadata"]["resourceVersion"])
            cluster.stop()
            with pytest.raises(aiohttp.ClientConnectorError):
                await api.list_objects("Namespace")
            cluster.start()
        async with cluster.api() as api:
            assert {"kept", "newer"} <= {found["metadata"]["name"] for found in await api.list_objects("Namespace")}
            version = stored["metadata"]["resourceVersion"]
            with pytest.raises(ApiError, match="410"):
                await api.list_objects("Namespace", resourceVersion=version, resourceVersionMatch="Exact")
            (event,) = await api.watch_for("Namespace", seconds=1, resourceVersion=version)
            assert (event["type"], event["object"]["code"]) == ("ERROR", 410)


async def test_workloads_roll_out_and_namespaces_go_with_what_is_in_them(
    controlplane_binary: Path, tmp_path: Path
) -> None:
    template = {
        "metadata": {"labels": {"app": "db"}},
        "spec": {"containers": [{"name": "main", "image": "none"}]},
    }
    workload = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"namespace": "shop", "name": "db"},
        "spec": {
            "serviceName": "db",
            "replicas": 2,
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": {"app": "db"}},
            "template": template,
        },
    }
    with ControlPlane(controlplane_binary, tmp_path / "controlplane", WORKLOAD_CONTROLLERS) as cluster:
        async with cluster.api() as api:
            await api.apply(namespace("shop"), node("node-a"), service("shop", "db", app="db"), workload)
            await wait(lambda: api.list_objects("Pod", "shop"), lambda pods: len(pods) == 2, "two Pods")
            for number in range(2):
                await api.run_pod("shop", f"db-{number}", f"10.1.0.{number}", "node-a")
            found = await api.wait_slices("shop", "db", lambda found: len(found) == 2, "two endpoints")
            assert found == {"10.1.0.0": True, "10.1.0.1": True}
            (part,) = await api.list_objects("EndpointSlice", "shop")
            assert {endpoint["hostname"] for endpoint in part["endpoints"]} == {"db-0", "db-1"}

            await api.delete("Service", "shop", "db")
            await api.wait_slices("shop", "db", lambda found: not found, "no slice")
            await api.delete("Namespace", "", "shop")
            await wait(
                lambda: api.list_objects("Pod", "shop"),
                lambda pods: all("deletionTimestamp" in pod["metadata"] for pod in pods),
                "the Pods are on their way out",
            )


async def test_many_objects_are_created(controlplane: ControlPlane) -> None:
    async with controlplane.api() as api:
        await api.apply(namespace("many"))
        assert await api.create(service("many", f"web-{number}") for number in range(200)) == 200
        assert len(await api.list_objects("Service", "many")) == 200
