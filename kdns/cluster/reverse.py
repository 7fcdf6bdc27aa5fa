"""The reverse zones: which addresses have their names in which zone, and which partial names have something below.

A partial name (`96.10.in-addr.arpa`) exists as long as a name below it does. To know that without a walk, each counts
its children, and only its children: what is added below a name that has some already goes no further up. The "digits"
of an address are its labels from the right: octets of IPv4, hexadecimal digits of IPv6.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from kdns.dns import names

Digits = bytes | str

_IPV4_OCTETS = {str(octet).encode(): octet for octet in range(256)}
_HEX_DIGITS = frozenset(b"%x" % digit for digit in range(16))
# The labels an address's last octet becomes, by the length of the address.
_LAST_OCTETS = {
    4: [b"%c%d" % (len(str(octet)), octet) for octet in range(256)],
    16: [b"\x01%x\x01%x" % (octet & 15, octet >> 4) for octet in range(256)],
}


class ReverseZones:
    """Finds the zone of an address, and keeps count of the partial names."""

    def __init__(self, zones: Iterable[bytes]) -> None:
        self._zones: set[Digits] = set()
        for zone in zones:
            self._zones.update(_zone_digits(zone))
        self._ipv4_depths = sorted({len(zone) for zone in self._zones if isinstance(zone, bytes)}, reverse=True)
        self._ipv6_depths = sorted({len(zone) for zone in self._zones if isinstance(zone, str)}, reverse=True)
        # Whether every IPv4, every IPv6 address has its name in a zone: the rule, and quick to know.
        self.holds_all = {4: b"" in self._zones, 16: "" in self._zones}
        self._children: dict[Digits, int] = {}
        self._changed: set[Digits] = set()

    def depth(self, address: bytes) -> int | None:
        """How many digits of an address its longest zone has, or None where no zone holds it."""
        return self._depth(_digits(address))

    def _depth(self, digits: Digits) -> int | None:
        for depth in self._ipv4_depths if isinstance(digits, bytes) else self._ipv6_depths:
            if digits[:depth] in self._zones:
                return depth
        return None

    def add(self, addresses: Iterable[bytes]) -> None:
        """Count in the names of addresses; one counted twice must be counted out twice."""
        children = self._children
        for address in addresses:
            digits = _digits(address)
            depth = self._depth(digits)
            if depth is None:
                continue
            parent = digits[:-1]
            while len(parent) > depth:
                count = children.get(parent, 0)
                children[parent] = count + 1
                if count:
                    break
                self._changed.add(parent)
                parent = parent[:-1]

    def remove(self, addresses: Iterable[bytes]) -> None:
        """Count out the names of addresses."""
        children = self._children
        for address in addresses:
            digits = _digits(address)
            depth = self._depth(digits)
            if depth is None:
                continue
            parent = digits[:-1]
            while len(parent) > depth:
                children[parent] -= 1
                if children[parent]:
                    break
                del children[parent]
                self._changed.add(parent)
                parent = parent[:-1]

    def has_below(self, partial: Digits) -> bool:
        """Whether something lies below a partial name."""
        return partial in self._children

    def take_changed(self) -> set[Digits]:
        """The partial names that came or went since the last call."""
        changed, self._changed = self._changed, set()
        return changed

    def partial_names(self) -> Iterator[bytes]:
        """The partial names with something below."""
        return map(name_of, self._children)


class NeighbourNames:
    """Makes the names of many addresses, most of them neighbours: what follows their last octet is made once."""

    def __init__(self, zones: ReverseZones) -> None:
        self._zones = zones
        self._tails = {4: _Tails(), 16: _Tails()}

    def names(self, addresses: Sequence[bytes]) -> list[bytes]:
        """The reverse name of each of these addresses of one family, empty where no zone holds it."""
        size = len(addresses[0]) if addresses else 4
        if self._zones.holds_all[size]:
            last, tails = _LAST_OCTETS[size], self._tails[size]
            return [last[address[-1]] + tails[address[:-1]] for address in addresses]
        return [names.reverse_name(found) if self._zones.depth(found) is not None else b"" for found in addresses]


class _Tails(dict[bytes, bytes]):
    """The names of addresses without the last octet."""

    def __missing__(self, others: bytes) -> bytes:
        whole = names.reverse_name(others + b"\0")
        tail = self[others] = whole[len(_LAST_OCTETS[len(others) + 1][0]) :]
        return tail


def name_of(digits: Digits) -> bytes:
    """The name whose labels, from the right, are these digits."""
    if isinstance(digits, bytes):
        return b"".join([b"%c%d" % (len(str(octet)), octet) for octet in reversed(digits)]) + names.IN_ADDR_ARPA
    return b"".join([b"\x01" + digit.encode() for digit in reversed(digits)]) + names.IP6_ARPA


def address_of(name: bytes) -> bytes | None:
    """The address a reverse name is complete for, or None."""
    for digits in _zone_digits(name):
        if isinstance(digits, bytes) and len(digits) == 4:
            return digits
        if isinstance(digits, str) and len(digits) == 32:
            return bytes.fromhex(digits)
    return None


def _digits(address: bytes) -> Digits:
    return address if len(address) == 4 else address.hex()


def _zone_digits(zone: bytes) -> list[Digits]:
    """What a zone holds of the reverse trees: nothing, one branch, or, where it lies above both, two whole trees."""
    if names.is_below(names.IN_ADDR_ARPA, zone) and names.is_below(names.IP6_ARPA, zone):
        return [b"", ""]
    labels = names.labels_of(zone)[::-1][2:]
    if names.is_below(zone, names.IN_ADDR_ARPA) and len(labels) <= 4 and all(label in _IPV4_OCTETS for label in labels):
        return [bytes([_IPV4_OCTETS[label] for label in labels])]
    if names.is_below(zone, names.IP6_ARPA) and len(labels) <= 32 and all(label in _HEX_DIGITS for label in labels):
        return [b"".join(labels).decode()]
    return []
