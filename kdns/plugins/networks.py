"""Sets of IP networks: thousands of them are searched in the time of a few."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network

Network = IPv4Network | IPv6Network

_PREFIX_LENGTH = re.compile(r"[0-9]{1,3}")


def parse_network(text: str) -> Network:
    """The network of an address with a prefix length, whatever the bits behind it. Raises ValueError."""
    address, slash, length = text.partition("/")
    # A netmask or a zone is nothing to Go.
    if not slash or not _PREFIX_LENGTH.fullmatch(length) or "%" in address:
        raise ValueError(f"invalid CIDR address: {text}")
    return ip_network(f"{address}/{int(length)}", strict=False)


class NetworkSet:
    """Networks of both families, as disjoint ranges of addresses in ascending order."""

    def __init__(self, networks: Iterable[Network]) -> None:
        given = list(networks)
        # By the octets of an address: where each range begins, and where it ends.
        self._ranges = {size: _join(given, size) for size in (4, 16)}

    def __contains__(self, address: bytes) -> bool:
        """Whether a packed address is in one of the networks."""
        starts, ends = self._ranges[len(address)]
        value = int.from_bytes(address, "big")
        at = bisect_right(starts, value) - 1
        return at >= 0 and value <= ends[at]


def _join(networks: list[Network], size: int) -> tuple[list[int], list[int]]:
    """The ranges of the networks with addresses of `size` octets, those that overlap made one."""
    starts: list[int] = []
    ends: list[int] = []
    ranges = sorted(
        (int(network.network_address), int(network.broadcast_address))
        for network in networks
        if network.max_prefixlen == 8 * size
    )
    for start, end in ranges:
        if ends and start <= ends[-1] + 1:
            ends[-1] = max(ends[-1], end)
        else:
            starts.append(start)
            ends.append(end)
    return starts, ends
