"""The kinds of object the tests keep in a control plane, and where its API has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

DEFAULT_NAMESPACE = "default"


class Collection(NamedTuple):
    """Where the objects of a kind are."""

    api_version: str
    name: str
    namespaced: bool = True

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The path of an object, of those of a namespace, or of all."""
        prefix = "/apis/" if "/" in self.api_version else "/api/"
        parts = [prefix + self.api_version, *(["namespaces", namespace] if namespace and self.namespaced else [])]
        return "/".join(filter(None, [*parts, self.name, name, subresource]))


_RBAC = "rbac.authorization.k8s.io/v1"
COLLECTIONS: Mapping[str, Collection] = {
    "Namespace": Collection("v1", "namespaces", False),
    "Node": Collection("v1", "nodes", False),
    "Service": Collection("v1", "services"),
    "Pod": Collection("v1", "pods"),
    "ConfigMap": Collection("v1", "configmaps"),
    "ServiceAccount": Collection("v1", "serviceaccounts"),
    "EndpointSlice": Collection("discovery.k8s.io/v1", "endpointslices"),
    "StatefulSet": Collection("apps/v1", "statefulsets"),
    "Deployment": Collection("apps/v1", "deployments"),
    "ReplicaSet": Collection("apps/v1", "replicasets"),
    "ClusterRole": Collection(_RBAC, "clusterroles", False),
    "ClusterRoleBinding": Collection(_RBAC, "clusterrolebindings", False),
    "ServiceCIDR": Collection("networking.k8s.io/v1", "servicecidrs", False),
    "CustomResourceDefinition": Collection("apiextensions.k8s.io/v1", "customresourcedefinitions", False),
    "ServiceImport": Collection("multicluster.x-k8s.io/v1alpha1", "serviceimports"),
}

_FREE_FORM = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
# As much of the definition as objects need to be stored.
SERVICE_IMPORT_DEFINITION: Mapping[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {
        "name": "serviceimports.multicluster.x-k8s.io",
        "annotations": {"api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/mcs-api"},
    },
    "spec": {
        "group": "multicluster.x-k8s.io",
        "scope": "Namespaced",
        "names": {"kind": "ServiceImport", "plural": "serviceimports", "singular": "serviceimport"},
        "versions": [
            {
                "name": "v1alpha1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": _FREE_FORM}}},
            }
        ],
    },
}


def path_of(raw: Mapping[str, Any], subresource: str = "") -> str:
    """The path of an object."""
    metadata = raw["metadata"]
    namespace = metadata.get("namespace") or DEFAULT_NAMESPACE
    return COLLECTIONS[raw["kind"]].path(namespace, metadata["name"], subresource)


def node(name: str, zone: str = "") -> dict[str, Any]:
    """A Node; without it no Pod on it becomes an endpoint."""
    labels = {"topology.kubernetes.io/zone": zone} if zone else {}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}


def running_pod(
    namespace: str, name: str, address: str, labels: Mapping[str, str], node: str, is_ready: bool = True
) -> dict[str, Any]:
    """A Pod as the kubelet of its Node reports it."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name, "labels": dict(labels)},
        "spec": {"nodeName": node, "containers": [{"name": "main", "image": "none"}]},
        "status": {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": "True" if is_ready else "False"}],
        },
    }


def reader(user: str, *resources: str, group: str = "") -> tuple[dict[str, Any], dict[str, Any]]:
    """A role that lists and watches resources of a group, and its binding to a user."""
    name = f"{user.replace(':', '-')}-{group or 'core'}"
    metadata = {"name": name}
    rule = {"apiGroups": [group], "resources": list(resources), "verbs": ["list", "watch"]}
    role = {"apiVersion": _RBAC, "kind": "ClusterRole", "metadata": metadata, "rules": [rule]}
    binding = {
        "apiVersion": _RBAC,
        "kind": "ClusterRoleBinding",
        "metadata": metadata,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    }
    return role, binding
