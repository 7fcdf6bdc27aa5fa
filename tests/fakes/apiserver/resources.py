"""The resources the fake API server has, and where it serves them."""

from __future__ import annotations

import re
from typing import NamedTuple


class Resource(NamedTuple):
    """A resource of the API: `kind` in objects, `name` in paths."""

    kind: str
    name: str
    group: str
    version: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """`apiVersion` of its objects."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def prefix(self) -> str:
        """The path its group and version are served under."""
        return f"/apis/{self.api_version}" if self.group else f"/api/{self.version}"


RESOURCES = (
    Resource("Namespace", "namespaces", "", "v1", namespaced=False),
    Resource("Service", "services", "", "v1"),
    Resource("Pod", "pods", "", "v1"),
    Resource("EndpointSlice", "endpointslices", "discovery.k8s.io", "v1"),
    Resource("ServiceImport", "serviceimports", "multicluster.x-k8s.io", "v1alpha1"),
)
BY_KIND = {resource.kind: resource for resource in RESOURCES}
_SERVED = {(resource.prefix, resource.name): resource for resource in RESOURCES}
_PATH = re.compile(r"(/api/[^/]+|/apis/[^/]+/[^/]+)(?:/namespaces/([^/]+)(?=/))?/([^/]+)(?:/([^/]+))?")


class Target(NamedTuple):
    """What a path names: a collection, or one object of it."""

    resource: Resource
    namespace: str = ""  # empty: all of them
    name: str = ""  # empty: the collection


def parse_path(path: str) -> Target | None:
    """The resource a path names, or None where there is none."""
    found = _PATH.fullmatch(path)
    if found is None:
        return None
    prefix, namespace, name, item = found.groups(default="")
    resource = _SERVED.get((prefix, name))
    if resource is None or (namespace and not resource.namespaced) or (item and resource.namespaced and not namespace):
        return None
    return Target(resource, namespace, item)
