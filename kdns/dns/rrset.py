"""Record sets: what the cluster side hands to the table side.

A `Node` is everything one owner name answers. It holds no message: names are whole, nothing is compressed, nothing
depends on a client.
"""

from __future__ import annotations

from typing import Any, NamedTuple


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
