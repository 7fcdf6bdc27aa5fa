"""Names that are not known to be absent: what they depend on has not been listed yet.

    <svc>.<ns>.svc      the namespace, the Service, and, unless the Service has data, its slices
    <any>.<svc>...      the same; a Service with addresses of its own may still have endpoints with names
    <ip>.<ns>.pod       the namespace, and with `pods verified` the Pod
    reverse names       Services and slices; namespaces only where the `namespaces` option hides some

A Service whose answer waits for other objects stands in the table as a name without data, so that Services that do not
exist are NXDOMAIN as ever: search paths lead to many of them.
"""

from __future__ import annotations

from kdns.cluster.unlisted import EVERYTHING, Unlisted
from kdns.cluster.view import PodMode, View
from kdns.dns import names
from kdns.hotpath.table import Table

NAMESPACE_DEPTH, SERVICE_DEPTH = 2, 3  # labels below the zone of <ns>.svc and <svc>.<ns>.svc


def is_undecided(table: Table, index: int, view: View, name: bytes, zone: bytes) -> bool:
    """Whether a name of `zone` that has no data of some type, or is not there, may have it all the same."""
    unlisted = table.unlisted(index)
    if unlisted in (Unlisted.NOTHING, EVERYTHING):
        return unlisted == EVERYTHING
    if names.is_below(name, names.IN_ADDR_ARPA) or names.is_below(name, names.IP6_ARPA):
        needed = Unlisted.SERVICES | Unlisted.ENDPOINT_SLICES
        if view.namespaces:
            needed |= Unlisted.NAMESPACES
        return bool(unlisted & needed) and table.lookup(name, 0, index) is None
    above = names.parents(name)
    depth = len(above) - len(names.parents(zone))
    subtree = above[depth - 1] if depth else b""
    is_service, is_pod = subtree.startswith(b"\x03svc"), subtree.startswith(b"\x03pod")
    if depth < NAMESPACE_DEPTH or not (is_service or is_pod):
        return False
    if unlisted & Unlisted.NAMESPACES:
        return True
    if depth < SERVICE_DEPTH or table.lookup(above[depth - NAMESPACE_DEPTH], 0, index) is None:
        return False
    if is_pod:
        return view.pods is PodMode.VERIFIED and bool(unlisted & Unlisted.PODS)
    if unlisted & (Unlisted.SERVICE_IMPORTS if zone in view.multicluster else Unlisted.SERVICES):
        return True
    service = table.lookup(above[depth - SERVICE_DEPTH], 0, index)
    if service is None:
        return False
    has_data = service[0] != 0
    if depth == SERVICE_DEPTH:
        return not has_data
    # Names below an alias do not exist, whatever it leads to; slices give names to all other Services.
    return bool(unlisted & Unlisted.ENDPOINT_SLICES) and not (has_data and table.lookup(name, 0, index))
