"""What has changed since nodes were last handed out: whose nodes to make anew, and which names may be gone."""

from __future__ import annotations

from typing import NamedTuple


class ServiceKey(NamedTuple):
    """A Service, or a ServiceImport."""

    imported: bool
    namespace: str
    name: str


class ServiceChange:
    """What of a Service changed."""

    __slots__ = ("all_endpoints", "endpoints", "lost_endpoints", "own", "stale")

    def __init__(self) -> None:
        self.own = False  # its own name and those of its ports and zones
        self.stale: set[bytes] = set()  # labels in front of its name that were names before
        self.endpoints: set[bytes] = set()  # labels of endpoints that came, changed or went
        self.all_endpoints = False
        self.lost_endpoints = False  # somebody may be sent to where nobody listens any more


class Changes:
    """What changed, by the things names depend on; any number of events add up to one."""

    def __init__(self) -> None:
        self.services: dict[ServiceKey, ServiceChange] = {}
        self.namespaces: set[str] = set()
        self.addresses: set[bytes] = set()  # of PTR records
        self.pods: set[tuple[str, bytes]] = set()  # namespace and address
        self.apex = False

    def service(self, key: ServiceKey) -> ServiceChange:
        """What changed of a Service, to be added to."""
        change = self.services.get(key)
        if change is None:
            change = self.services[key] = ServiceChange()
        return change

    def things(self) -> set[tuple[str, str]]:
        """What ExternalName Services may depend on: Services, the Pods of a namespace, this DNS service."""
        found = {(key.namespace, key.name) for key in self.services if not key.imported}
        found.update((namespace, "") for namespace in self.namespaces)
        found.update((namespace, "") for namespace, _ in self.pods)
        if self.apex:
            found.add(("", ""))
        return found
