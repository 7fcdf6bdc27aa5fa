"""The servers that are measured, by name. A new one is a module with a subclass of Peer, and a line here."""

from __future__ import annotations

from collections.abc import Sequence

from bench.errors import BenchError
from bench.peers.bind import Bind
from bench.peers.coredns import CoreDns, NodeCache
from bench.peers.dnsmasq import Dnsmasq
from bench.peers.kdns import Kdns
from bench.peers.knot import Knot
from bench.peers.nsd import Nsd
from bench.peers.peer import ADDRESS, ClusterFiles, Peer
from bench.peers.unbound import Unbound

__all__ = ["ADDRESS", "PEERS", "ClusterFiles", "CoreDns", "Kdns", "Knot", "Nsd", "Peer", "parse_peers", "use_binaries"]

PEERS: dict[str, type[Peer]] = {
    peer.name: peer for peer in (Knot, Nsd, Unbound, Bind, Dnsmasq, CoreDns, NodeCache, Kdns)
}


def parse_peers(text: str) -> list[type[Peer]]:
    """The peers named in `text`, separated by commas; "all" is all of them."""
    names = list(PEERS) if text == "all" else [name.strip() for name in text.split(",")]
    return [_peer(name) for name in names]


def use_binaries(options: Sequence[str]) -> None:
    """Take the programs of peers from `NAME=PATH` instead of searching for them."""
    for option in options:
        name, equals, path = option.partition("=")
        if not equals:
            raise BenchError(f"--binary {option}: expected NAME=PATH, such as coredns=/usr/local/bin/coredns")
        _peer(name).binary = path


def _peer(name: str) -> type[Peer]:
    if name not in PEERS:
        raise BenchError(f"unknown peer {name!r}: expected some of {', '.join(PEERS)}")
    return PEERS[name]
