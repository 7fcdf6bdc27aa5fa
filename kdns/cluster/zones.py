"""The zones of a view, and where the names of each end."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from kdns.cluster import owners
from kdns.cluster.view import View
from kdns.dns import names
from kdns.dns.rrset import Node

SVC = owners.label("svc")
POD = owners.label("pod")
DNS = owners.label("dns")
NS_DNS = owners.label("ns") + DNS
DNS_VERSION = owners.label("dns-version")
WILDCARD = owners.label("*")
ZONE = owners.label("_zone")
DIRECTIVES = (owners.label("pin") + ZONE, owners.label("prefer") + ZONE)  # in front of a Service's name


class Zone:
    """A zone of a view: its name, and what the names in it have on their right."""

    def __init__(self, name: bytes, view: View) -> None:
        self.name = name
        self.imported = name in view.multicluster  # serves ServiceImports instead of Services
        self.svc = SVC + name
        self.pod = POD + name
        self.is_reverse = is_reverse(name)
        # Zones of the same view inside this one: names there are theirs.
        self.inner = tuple([zone for zone in view.zones if zone != name and names.is_below(zone, name)])

    def own(self, nodes: list[Node]) -> list[Node]:
        """Those of `nodes` that no inner zone claims."""
        if not self.inner:
            return nodes
        return [node for node in nodes if not any(names.is_below(node.owner, zone) for zone in self.inner)]


def is_reverse(zone: bytes) -> bool:
    """Whether a zone lies in the reverse trees."""
    return names.is_below(zone, names.IN_ADDR_ARPA) or names.is_below(zone, names.IP6_ARPA)


@lru_cache(maxsize=256)  # the same Service is asked for a few times in a row
def service_suffix(namespace: str, name: str, zone: Zone) -> bytes:
    """The name of a Service in a zone, or nothing where that is too long."""
    owner = owners.label(name) + owners.label(namespace) + zone.svc
    return owner if len(owner) <= names.MAX_NAME else b""


def standing_names(zones: Iterable[bytes]) -> frozenset[bytes]:
    """The names that exist whatever the cluster holds, only because a zone of the view lies below them.

    These are the names between a zone and another around it, and the top of the reverse trees in a zone around those.
    """
    served = list(dict.fromkeys(zones))
    found: set[bytes] = set()
    for name in [*served, names.IN_ADDR_ARPA, names.IP6_ARPA]:
        outer = names.longest_zone(name[1 + name[0] :], tuple(served)) if name != names.ROOT else None
        if outer is not None:
            above = names.parents(name)
            found.update(above[(1 if name in served else 0) : above.index(outer)])
    return frozenset(found)
