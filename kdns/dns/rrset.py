"""Record sets: what the cluster side hands to the table side.

A `Node` is everything one owner name answers. It holds no message: names are whole, nothing is compressed, nothing
depends on a client. Nodes that are all alike, hundreds of thousands when a cluster is read, come as a batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from kdns.dns.codes import RRType
from kdns.dns.names import MAX_NAME

_A, _PTR, _AAAA, _SRV = int(RRType.A), int(RRType.PTR), int(RRType.AAAA), int(RRType.SRV)


class Record(NamedTuple):
    """One resource record of class IN: owner and any name in `rdata` in wire form, uncompressed."""

    owner: bytes
    rtype: int
    ttl: int  # seconds
    rdata: bytes


class Portion:
    """Record data that one version of a large answer after the other has; its rendering is kept here with it."""

    __slots__ = ("octets", "rdatas", "rendered")

    def __init__(self, rdatas: tuple[bytes, ...]) -> None:
        self.rdatas = rdatas
        self.octets = sum(map(len, rdatas))
        self.rendered: dict[tuple[int, int], Any] = {}  # by type and TTL; whoever renders knows what it is


class Answer(NamedTuple):
    """What a node answers for one type.

    The answer section is `chain` (CNAMEs, the first owned by the node), then one record per element of `rdatas` and of
    `portions`, owned by the target of the chain, or by the node where there is no chain.
    """

    rtype: int
    ttl: int  # seconds, of the records made of `rdatas`
    rdatas: tuple[bytes, ...]
    chain: tuple[Record, ...] = ()
    additional: tuple[Record, ...] = ()
    # The chain ends outside the zone: whoever asks must resolve the last CNAME's target elsewhere.
    leaves_zone: bool = False
    # Data that is all different and brings no additional records; only where `rdatas` and `chain` are empty.
    portions: tuple[Portion, ...] = ()

    @property
    def all_rdatas(self) -> tuple[bytes, ...]:
        """The data of all records but the chain's."""
        return self.rdatas + tuple([rdata for portion in self.portions for rdata in portion.rdatas])


class Node(NamedTuple):
    """An owner name and what it answers, or that it is gone (`answers` is None).

    A node with no answers exists all the same: every type is NODATA there (RFC 8020).
    """

    owner: bytes  # wire form, lower case
    answers: tuple[Answer, ...] | None
    # This node answers as that owner does; `answers` is empty.
    alias_of: bytes | None = None
    # Names two labels below may be written without underscores (cluster-dns quirk): not finding one proves nothing.
    has_ports: bool = False


class ExternalNode(Node):
    """A node of the names of `k8s_external`: a set of its own, which may have owners in common with the cluster's."""

    __slots__ = ()


class EndpointBatch(NamedTuple):
    """The nodes of endpoints with a name each: its address, and SRV records that lead to it.

    An endpoint whose label is empty, or whose name would be too long, has no node.
    """

    labels: Sequence[bytes]  # of each endpoint, wire form: its name without `suffix`
    suffix: bytes
    addresses: Sequence[bytes]  # of each endpoint, packed
    ttl: int  # seconds
    heads: tuple[bytes, ...]  # data of the SRV records in front of the target (RFC 2782); without any, no such answer

    def nodes(self) -> Iterator[Node]:
        """Each for itself."""
        for label, address in zip(self.labels, self.addresses, strict=True):
            owner = label + self.suffix
            if label and len(owner) <= MAX_NAME:
                rtype = _A if len(address) == 4 else _AAAA
                answers: tuple[Answer, ...] = (Answer(rtype, self.ttl, (address,)),)
                if self.heads:
                    rdatas = tuple([head + owner for head in self.heads])
                    answers += (Answer(_SRV, self.ttl, rdatas, (), (Record(owner, rtype, self.ttl, address),)),)
                yield Node(owner, answers)


class PointerBatch(NamedTuple):
    """The nodes of addresses in the reverse zones that have one PTR record each.

    An address whose owner or label is empty, or whose target would be too long, has no node.
    """

    owners: Sequence[bytes]  # of each address: its name in the reverse zone
    labels: Sequence[bytes]  # of each target, wire form: it without `suffix`
    suffix: bytes
    ttl: int  # seconds

    def nodes(self) -> Iterator[Node]:
        """Each for itself."""
        for owner, label in zip(self.owners, self.labels, strict=True):
            target = label + self.suffix
            if owner and label and len(target) <= MAX_NAME:
                yield Node(owner, (Answer(_PTR, self.ttl, (target,)),))


Batch = EndpointBatch | PointerBatch


def each_node(found: Iterable[Node | Batch]) -> Iterator[Node]:
    """Nodes, those of batches each for itself."""
    for one in found:
        if isinstance(one, Node):
            yield one
        else:
            yield from one.nodes()
