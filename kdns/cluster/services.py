"""The nodes of a Service, or of a ServiceImport: its own name, its ports' and its topology zones'.

    <svc>                                    addresses, SRV of every port
    _<port>._<protocol>.<svc>                the same, of the port (see `ports`)
    <zone>.pin._zone.<svc>                   the same, of the endpoints in the zone (`zonal`, headless only)
    <zone>.prefer._zone.<svc>
    *.pin._zone.<svc>                        any other zone: nothing
    *.prefer._zone.<svc>                     any other zone: all endpoints

The topology zone may be anything, of any number of labels, which a table of names cannot hold. The two nodes named `*`
stand for whatever lies below their parent and is no node: a wildcard of RFC 4592, but one that names in between do not
stop.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain
from random import Random

from kdns.cluster import owners, records
from kdns.cluster.endpoints import SliceRecords
from kdns.cluster.objects import Port, Service
from kdns.cluster.ports import NO_PORTS, PortPlan, port_plan
from kdns.cluster.zones import DIRECTIVES, WILDCARD, ZONE
from kdns.dns.names import MAX_NAME
from kdns.dns.rrset import Answer, Node, Portion

ZONAL_PREFIXES = frozenset([ZONE, *DIRECTIVES, *[WILDCARD + directive for directive in DIRECTIVES]])

Groups = Sequence[tuple[tuple[Port, ...], Sequence[SliceRecords]]]  # ports, and the slices that have them

_new = tuple.__new__  # makes a NamedTuple at half the cost


def cluster_ip_nodes(service: Service, owner: bytes, ttl: int, imported: bool) -> list[Node]:
    """The nodes of a Service that answers by its own addresses.

    A ServiceImport without ports has no node of its own (CoreDNS quirk; a Service is given a port without number).
    """
    ports = service.ports if imported else service.ports or NO_PORTS
    if not ports:
        return []
    addresses = tuple(dict.fromkeys(service.addresses))
    own = records.address_answers(ttl, addresses)
    glue = tuple([records.address_record(owner, ttl, address) for address in addresses])
    plan, heads_of = _cluster_ip_plan(ports, len(service.addresses))
    answers = [
        (*own, Answer(records.SRV, ttl, tuple([head + owner for head in heads]), (), glue)) if heads and glue else own
        for heads in heads_of
    ]
    return _planned_nodes(plan, owner, answers)


def headless_nodes(
    slices: Sequence[SliceRecords], owner: bytes, ttl: int, random: Random, *, are_distinct: bool = False
) -> list[Node]:
    """The nodes of a Service that answers by its endpoints' addresses; none without an endpoint.

    `are_distinct`: no address is there twice, and answers are put together of portions.
    """
    groups = _group_by_ports(slices)
    if not groups:
        return []

    plan = port_plan(tuple(groups))
    addresses: dict[tuple[bool, ...], tuple[Answer, ...]] = {}  # most selections take a port of every group
    answers = []
    for selection in plan.selections:
        chosen = [(ports, slices) for ports, slices in zip(selection, groups.values(), strict=True) if ports]
        taken = tuple([bool(ports) for ports in selection])
        if taken not in addresses:
            parts = [part for _, slices in chosen for part in slices]
            addresses[taken] = _address_portions(parts, ttl) if are_distinct else _address_answers(parts, ttl)
        answers.append(addresses[taken] + _srv_answers(chosen, owner, ttl, random, are_distinct=are_distinct))
    return _planned_nodes(plan, owner, answers)


def zonal_nodes(slices: Sequence[SliceRecords], owner: bytes, ttl: int, random: Random) -> list[Node]:
    """The nodes of the topology zones of a headless Service; without endpoints, every zone is one without data."""
    if len(WILDCARD + DIRECTIVES[1] + owner) > MAX_NAME:
        return []
    fallback = owner if any(part.addresses for part in slices) else None
    pin, prefer = (directive + owner for directive in DIRECTIVES)
    nodes = [
        Node(ZONE + owner, ()),
        Node(pin, ()),
        Node(prefer, ()),
        Node(WILDCARD + pin, ()),
        Node(WILDCARD + prefer, (), fallback),
    ]
    for zone in dict.fromkeys([zone for part in slices for zone in part.zones]):
        label = owners.labels(zone)
        if label and len(label + prefer) <= MAX_NAME:
            groups = _group_by_ports([part.zones[zone] for part in slices if zone in part.zones])
            within = [part for slices in groups.values() for part in slices]
            answers = _address_answers(within, ttl) + _srv_answers(list(groups.items()), owner, ttl, random)
            nodes += [Node(label + pin, answers), Node(label + prefer, answers)]
    return nodes


def zonal_prefixes(zones: set[str]) -> frozenset[bytes]:
    """The labels in front of a Service's name that `zonal_nodes` uses for these topology zones."""
    found = [label for label in map(owners.labels, zones) if label]
    return ZONAL_PREFIXES | {label + directive for label in found for directive in DIRECTIVES}


@lru_cache(maxsize=1024)
def _cluster_ip_plan(ports: tuple[Port, ...], addresses: int) -> tuple[PortPlan, list[tuple[bytes, ...]]]:
    """The plan for a Service's own ports, and what the SRV data of each selection begins with."""
    plan = port_plan((ports,))
    return plan, [records.srv_heads(selected, len(selected) * addresses) for (selected,) in plan.selections]


def _planned_nodes(plan: PortPlan, owner: bytes, answers: Sequence[tuple[Answer, ...]]) -> list[Node]:
    """The node of the Service and of its ports' names, from the answers for each selection."""
    nodes = [Node(owner, answers[0], None, True)]
    nodes += [_new(Node, (prefix + owner, answers[index], None, False)) for prefix, index in plan.named]
    nodes += [_new(Node, (prefix + owner, answers[index], None, False)) for prefix, index in plan.wild]
    nodes += [_new(Node, (prefix + owner, (), same + owner, False)) for prefix, same in plan.same]
    nodes += [_new(Node, (prefix + owner, (), None, False)) for prefix in plan.above]
    if len(owner) + 2 * 64 > MAX_NAME:
        return [node for node in nodes if len(node.owner) <= MAX_NAME]
    return nodes


def _group_by_ports(slices: Sequence[SliceRecords]) -> dict[tuple[Port, ...], list[SliceRecords]]:
    """The slices that have endpoints, those with the same ports together."""
    groups: dict[tuple[Port, ...], list[SliceRecords]] = {}
    for part in slices:
        if part.addresses:
            groups.setdefault(part.ports, []).append(part)
    return groups


def _address_answers(slices: Sequence[SliceRecords], ttl: int) -> tuple[Answer, ...]:
    """The addresses of the endpoints of slices."""
    ipv4 = tuple(dict.fromkeys(chain.from_iterable([part.ipv4 for part in slices])))
    ipv6 = tuple(dict.fromkeys(chain.from_iterable([part.ipv6 for part in slices])))
    return tuple([Answer(rtype, ttl, found) for rtype, found in ((records.A, ipv4), (records.AAAA, ipv6)) if found])


def _address_portions(slices: Sequence[SliceRecords], ttl: int) -> tuple[Answer, ...]:
    """The same, for slices that share no address."""
    answers = []
    for at, rtype in enumerate((records.A, records.AAAA)):
        portions = tuple([part.portions[at] for part in slices if part.portions[at].rdatas])
        if portions:
            answers.append(Answer(rtype, ttl, (), portions=portions))
    return tuple(answers)


def _srv_answers(
    groups: Groups, owner: bytes, ttl: int, random: Random, *, are_distinct: bool = False
) -> tuple[Answer, ...]:
    """The SRV records of the endpoints of slices, for the ports beside them, and the addresses of their targets.

    Of more records than a message holds, these are as many as it does, from any one onwards, and no addresses.
    """
    candidates = sum([len(ports) * len(part.addresses) for ports, slices in groups for part in slices])
    parts = [
        (part, heads) for ports, slices in groups if (heads := records.srv_heads(ports, candidates)) for part in slices
    ]
    expected = sum([len(part.addresses) * len(heads) for part, heads in parts])
    smallest = records.RECORD_OVERHEAD + records.SRV_HEAD + len(b"\x01x" + owner)
    most = records.MAX_MESSAGE // smallest
    if expected > most:
        start = random.randrange(len(parts))
        parts = parts[start:] + parts[:start]
        if are_distinct and all(part.has_plain_names for part, _ in parts):
            portions = _fitting(parts, owner)
            return (Answer(records.SRV, ttl, (), portions=portions),) if portions else ()
    srv = _distinct((part.srv(owner, heads).rdatas for part, heads in parts), most)
    if not srv:
        return ()
    octets = sum(map(len, srv)) + records.RECORD_OVERHEAD * len(srv)
    if octets > records.MAX_MESSAGE:
        first = random.randrange(len(srv))
        fitting = records.MAX_MESSAGE * len(srv) // octets
        return (Answer(records.SRV, ttl, (srv[first:] + srv[:first])[:fitting]),)
    glue = [record for part, _ in parts for record in part.glue(owner, ttl)]
    # Where no record is there twice, no target is.
    return (Answer(records.SRV, ttl, srv, (), tuple(glue if len(srv) == expected else dict.fromkeys(glue))),)


def _fitting(parts: Sequence[tuple[SliceRecords, tuple[bytes, ...]]], owner: bytes) -> tuple[Portion, ...]:
    """As much of the SRV data of slices as a message holds."""
    portions, room = [], records.MAX_MESSAGE
    for part, heads in parts:
        portion = part.srv(owner, heads)
        if not portion.rdatas:
            continue
        octets = portion.octets + records.RECORD_OVERHEAD * len(portion.rdatas)
        if octets > room:
            fitting = room * len(portion.rdatas) // octets
            portions.append(Portion(portion.rdatas[:fitting]))
            break
        portions.append(portion)
        room -= octets
    return tuple(portions)


def _distinct(pieces: Iterable[tuple[bytes, ...]], most: int) -> tuple[bytes, ...]:
    """What is in `pieces`, each once, up to the piece that makes it more than `most`."""
    found: dict[bytes, None] = {}
    waiting: list[tuple[bytes, ...]] = []
    count = 0
    for piece in pieces:
        waiting.append(piece)
        count += len(piece)
        if count > most:
            found = dict.fromkeys(chain(found, *waiting))
            waiting.clear()
            count = len(found)
            if count > most:
                break
    return tuple(dict.fromkeys(chain(found, *waiting)) if waiting else found)
