"""ExternalName Services: the chain of CNAMEs from a Service to addresses, and who depends on whom.

As in CoreDNS, a target in the zone of the query is followed there, and one that leads to nothing makes the whole answer
empty; a target elsewhere ends the chain, for somebody else to resolve.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from kdns.cluster import records
from kdns.cluster.objects import EndpointSlice, Service, ServiceType
from kdns.dns import names
from kdns.dns.rrset import Answer, Node, Record
from kdns.errors import FormatError

MAX_CHAIN = 11  # CNAMEs in an answer (CoreDNS since 1.12.1)


class Chain(NamedTuple):
    """Where following an ExternalName ends: at a node of the zone, or, where it `leaves_zone`, elsewhere."""

    records: tuple[Record, ...]
    end: Node | None
    leaves_zone: bool


def alias_target(service: Service, slices: Iterable[EndpointSlice]) -> bytes | None:
    """The name a Service stands for, or None where it answers by addresses, or by nothing at all.

    A headless Service whose slices hold names (addressType FQDN) and no address stands for the first of them.
    """
    if service.type is ServiceType.EXTERNAL_NAME:
        return _target(service.external_name)
    if service.type is ServiceType.CLUSTER_IP:
        return None
    targets: list[str] = []
    for slice_ in slices:
        if slice_.addresses:
            return None
        targets += slice_.targets
    return _target(min(targets)) if targets else None


def follow(
    owner: bytes, target: bytes, zone: bytes, ttl: int, look_up: Callable[[bytes], Node | bytes | None]
) -> Chain | None:
    """Follow a target through `zone`; `look_up` gives a name's node, or the name it stands for. None: a dead end."""
    chain: list[Record] = []
    seen: set[bytes] = set()
    while True:
        # A target at or below its owner is taken for a loop, in CoreDNS as in etcd's recursive directories.
        if len(chain) == MAX_CHAIN or target in seen or names.is_below(target, owner):
            return None
        seen.add(target)
        chain.append(Record(owner, records.CNAME, ttl, target))
        if not names.is_below(target, zone):
            return Chain(tuple(chain), None, leaves_zone=True)
        found = look_up(target)
        if not isinstance(found, bytes):
            return Chain(tuple(chain), found, leaves_zone=False)
        owner, target = target, found


def alias_node(owner: bytes, target: bytes, ttl: int, chain: Chain | None) -> Node:
    """The node of a Service that stands for `target`. Types other than CNAME, A and AAAA have no data (CoreDNS)."""
    answers = [Answer(records.CNAME, ttl, (target,))]
    for rtype in (records.A, records.AAAA) if chain else ():
        assert chain is not None
        if chain.leaves_zone:
            answers.append(Answer(rtype, ttl, (), chain.records, leaves_zone=True))
        elif found := records.answer(chain.end, rtype):
            answers.append(Answer(rtype, ttl, found.all_rdatas, chain.records))
    return Node(owner, tuple(answers))


NOTHING: frozenset[tuple[str, str]] = frozenset()


class Dependents:
    """Which Services stand for names that depend on which things of the cluster; a thing is any pair of words."""

    def __init__(self) -> None:
        self._things: dict[tuple[str, str], frozenset[tuple[str, str]]] = {}
        self._aliases: dict[tuple[str, str], set[tuple[str, str]]] = {}

    def __bool__(self) -> bool:
        return bool(self._aliases)

    def put(self, alias: tuple[str, str], things: frozenset[tuple[str, str]]) -> None:
        """Say what the Service `alias` depends on now."""
        before = self._things.get(alias, NOTHING)
        if before == things:
            return
        for thing in before - things:
            self._aliases[thing].discard(alias)
            if not self._aliases[thing]:
                del self._aliases[thing]
        for thing in things - before:
            self._aliases.setdefault(thing, set()).add(alias)
        if things:
            self._things[alias] = things
        else:
            self._things.pop(alias, None)

    def of(self, things: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
        """The Services that depend on one of `things`, directly or through others."""
        found: set[tuple[str, str]] = set()
        pending = list(things)
        while pending:
            fresh = self._aliases.get(pending.pop(), set()) - found
            found |= fresh
            pending += fresh
        return found


def _target(text: str) -> bytes | None:
    """The name an externalName says; CoreDNS leaves out those that are IP addresses."""
    if names.pack_address(text) is not None:
        return None
    try:
        target = names.from_text(text)
    except FormatError:
        return None
    return None if target == names.ROOT else target
