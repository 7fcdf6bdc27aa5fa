"""`autopath`: walks a client's search path in its stead, so that one question does for five.

A name that was found under the first element of the path is answered as without this plugin, so the compiled path may
answer it; only what the table does not hold below `svc.ZONE` comes here. (`coredns_autopath_success_total` therefore
counts the walks that were made, not the names that needed none.) A name of the cluster that the table knows to be
absent is passed over without asking the rest of the chain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, cast

from kdns.dns import names
from kdns.dns.codes import Rcode, RRType
from kdns.dns.compression import Body, write_body
from kdns.dns.query import Query
from kdns.dns.records import read_sections
from kdns.dns.reply import Reply
from kdns.dns.rrset import Record
from kdns.errors import CorefileError, FormatError, ServeError
from kdns.metrics import Family
from kdns.plugins.plugin import Handler, Plugin, Request, Route, Setup
from kdns.plugins.zones import parse_zones

RESOLV_CONF = Path("/etc/resolv.conf")  # whose search domains follow the cluster's
SVC = b"\x03svc"


class ClientFinder(Protocol):
    """What this plugin asks `kubernetes`."""

    def zone_of(self, name: bytes) -> bytes | None:
        """The zone of the cluster a name is in."""

    def namespace_of(self, client: str) -> bytes | None:
        """The label of the namespace a client is in."""

    def is_absent(self, name: bytes) -> bool:
        """Whether the answer to a name is NXDOMAIN, and nobody behind the plugin is asked about it."""


@dataclass(frozen=True, slots=True)
class ClusterPath:
    """The search paths of a cluster's Pods."""

    clients: ClientFinder
    search: tuple[bytes, ...]  # of this host
    knows_absence: bool  # what its zones say of a name is what the chain says

    def of(self, request: Request) -> tuple[bytes, ...]:
        """The path of the client, empty where it is no Pod or asks for a name elsewhere."""
        zone = self.clients.zone_of(request.query.qname)
        if zone is None or not request.query.qname.endswith(SVC + zone):
            return ()
        namespace = self.clients.namespace_of(request.client[0])
        return () if namespace is None else (namespace + SVC + zone, SVC + zone, zone, *self.search, names.ROOT)

    def is_absent(self, name: bytes) -> bool:
        """Whether nothing needs to be asked about a name."""
        return self.knows_absence and self.clients.is_absent(name)


class AutoPath:
    """Walks the search path of `search`, or the paths `kubernetes` knows its clients to have."""

    def __init__(self, zones: tuple[bytes, ...], search: tuple[bytes, ...], of_kubernetes: bool, found: Family) -> None:
        self.transparent = of_kubernetes  # but for `adapt_route`
        self._zones = zones
        self._search = search
        self._of_kubernetes = of_kubernetes
        self._found = found
        self._cluster: ClusterPath | None = None

    def connect(self, plugins: Mapping[str, Plugin]) -> None:
        """Find `kubernetes`; without one that knows its clients there is nothing to do."""
        cluster = plugins.get("kubernetes")
        if not self._of_kubernetes or cluster is None or not getattr(cluster, "knows_clients", False):
            return
        order = list(plugins)
        between = order[order.index("autopath") + 1 : order.index("kubernetes")]
        knows_absence = all(plugins[name].transparent for name in between)
        self._cluster = ClusterPath(cast(ClientFinder, cluster), self._search, knows_absence)

    def adapt_route(self, route: Route) -> Route:
        """A name that is absent may be found further down the path, and is not to be taken from a cache."""
        if self._cluster is None or not _overlap(route.suffix, self._zones):
            return route
        return route._replace(nxdomain_is_miss=True, computes=True)

    async def serve(self, request: Request, next_handler: Handler) -> Reply:
        """Answer a name below the first element of the client's path by the first that is found along it."""
        query, path = request.query, self._path_of(request)
        base = len(query.qname) - len(path[0]) if path else 0
        if base <= 0 or not names.is_below(query.qname, path[0]):
            return await next_handler(request)
        first: Reply | ServeError | None = None
        for index, element in enumerate(path):
            name = query.name[:base] + element
            if len(name) > names.MAX_NAME or (self._cluster is not None and self._cluster.is_absent(names.lower(name))):
                continue
            asked = request if index == 0 else replace(request, query=query.with_question(name, query.qtype))
            try:
                reply = await next_handler(asked)
            except ServeError as error:
                if str(error):
                    raise
                first = first or (error if index == 0 else None)
                continue
            if reply.rcode != Rcode.NXDOMAIN:
                self._found.add(labels=(request.server,))
                return reply if index == 0 else _led_to(query, asked.query, reply)
            first = first or (reply if index == 0 else None)
        if isinstance(first, ServeError):
            raise first
        return await next_handler(request) if first is None else first

    def _path_of(self, request: Request) -> tuple[bytes, ...]:
        if names.longest_zone(request.query.qname, self._zones) is None:
            return ()
        if self._of_kubernetes:
            return () if self._cluster is None else self._cluster.of(request)
        return self._search


def _led_to(query: Query, asked: Query, reply: Reply) -> Reply:
    """The reply to another name, as one to the name that was asked: a CNAME leads from this to that."""
    answers, authorities, additionals = read_sections(asked.head, reply.body)
    target = next((record for record in answers if names.lower(record.owner) != query.qname), None)
    if target is not None:
        answers.insert(0, Record(query.name, RRType.CNAME, target.ttl, target.owner))
    body: Body = write_body(query.name, answers, authorities, additionals)
    return replace(reply, body=body, writer="autopath")


def _overlap(suffix: bytes, zones: tuple[bytes, ...]) -> bool:
    return any(names.is_below(suffix, zone) or names.is_below(zone, suffix) for zone in zones)


def setup(setup: Setup) -> AutoPath:
    """`autopath [ZONE...] @PLUGIN|RESOLV-CONF`."""
    directive = setup.directive
    zones, source = setup.zones, ""
    search: tuple[bytes, ...] = ()
    while directive.next():
        arguments = directive.remaining_args()
        if not arguments:
            raise CorefileError("no resolv-conf specified")
        source = arguments[-1]
        zones = parse_zones(arguments[:-1]) or setup.zones
        search = _read_file(source) if not source.startswith("@") else _read_own()
    found = setup.surroundings.metrics.counter(
        "coredns_autopath_success_total", "Counter of requests that did autopath.", ("server",)
    )  # fmt: skip
    of_plugin = source.startswith("@")
    if source == "@kubernetes":
        setup.block.cluster.clients = True
    # A plugin that has no paths to tell leaves this one without anything to do (CoreDNS).
    return AutoPath(zones, search if of_plugin else (*search, names.ROOT), of_plugin, found)


def _read_own() -> tuple[bytes, ...]:
    try:
        return read_search(RESOLV_CONF.read_text("utf-8", "surrogateescape"))
    except OSError:
        return ()


def _read_file(path: str) -> tuple[bytes, ...]:
    try:
        return read_search(Path(path).read_text("utf-8", "surrogateescape"))
    except OSError as error:
        reason = f"open {path}: {(error.strerror or str(error)).lower()}"
        raise CorefileError(f'failed to parse "{path}": {reason}') from error


def read_search(text: str) -> tuple[bytes, ...]:
    """The search domains of a resolv.conf: those of its last `search` or `domain` line; what is no name is left out."""
    found: list[str] = []
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["search"] and len(words) > 1:
            found = words[1:]
        elif words[:1] == ["domain"] and len(words) > 1:
            found = words[1:2]
    return tuple(name for word in found if (name := _name_of(word)) is not None)


def _name_of(text: str) -> bytes | None:
    try:
        return names.from_text(text)
    except FormatError:
        return None
