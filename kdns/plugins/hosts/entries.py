"""What a hosts file says: the addresses of names, and the names of addresses (hosts(5)).

A file may have a hundred thousand lines and is read beside serving, so lines are taken in portions; and the maps hold
nothing but `bytes` and tuples of them, which the garbage collector does not look through.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Sequence

from kdns.dns import names
from kdns.dns.reply import MAX_MESSAGE
from kdns.errors import FormatError

MAX_ADDRESSES = MAX_MESSAGE // 16  # of a name and family; no reply holds more records of 16 octets and up
MAX_NAMES = MAX_MESSAGE // 14  # of an address, likewise
FEW_NAMES = 16  # of an address, kept in a tuple; more are kept in a list
WILDCARD = b"\x01*"  # the label that stands for any one label


class HostEntries:
    """The entries of some lines, as far as their names lie in one of `zones`."""

    def __init__(self, zones: tuple[bytes, ...] = (names.ROOT,), *, has_reverse: bool = True) -> None:
        self._zones = () if names.ROOT in zones else zones  # empty: everywhere
        self._has_reverse = has_reverse
        self._addresses: dict[int, dict[bytes, bytes]] = {4: {}, 16: {}}  # by their size, packed one after another
        self._names: dict[bytes, Sequence[bytes]] = {}
        self._count = 0

    def __len__(self) -> int:
        """How many addresses and names there are, counted in both directions as CoreDNS does."""
        return self._count

    def addresses(self, name: bytes, size: int) -> bytes:
        """The packed addresses of `size` octets of a name, one after another."""
        return self._addresses[size].get(name, b"")

    def wildcard_addresses(self, name: bytes, size: int) -> bytes:
        """The same of the wildcard that stands for `name`."""
        return self._addresses[size].get(WILDCARD + name[1 + name[0] :], b"") if len(name) > 1 else b""

    def names_of(self, address: bytes) -> Sequence[bytes]:
        """The names of a packed address."""
        return self._names.get(address, ())

    def owners(self) -> Iterator[bytes]:
        """Every name there is an answer for: names, wildcards, and the reverse names of addresses."""
        for by_name in self._addresses.values():
            yield from by_name
        for address in self._names:
            yield names.reverse_name(address)

    def add(self, lines: Iterable[bytes]) -> None:
        """Take in lines; what is no entry is passed over."""
        text, address = b"", None
        for line in lines:
            words = line.partition(b"#")[0].split()
            if len(words) < 2:
                continue
            # Block lists give one address to all their names.
            if words[0] != text:
                text, address = words[0], _parse_address(words[0])
            if address is None:
                continue
            for word in words[1:]:
                name = _parse_name(word)
                if name is not None and (not self._zones or names.longest_zone(name, self._zones) is not None):
                    self._add(name, address)

    def _add(self, name: bytes, address: bytes) -> None:
        by_name = self._addresses[len(address)]
        known = by_name.get(name)
        if known is None:
            by_name[name] = address
        elif len(known) < MAX_ADDRESSES * len(address):
            by_name[name] = known + address
        self._count += 1
        if not self._has_reverse or name.startswith(WILDCARD):
            return
        self._count += 1
        others = self._names.get(address, ())
        if len(others) >= MAX_NAMES:
            return
        if isinstance(others, list):
            others.append(name)
        else:
            # Block lists give thousands of names to one address: no tuple is made anew for each of them.
            self._names[address] = (*others, name) if len(others) < FEW_NAMES else [*others, name]


def _parse_address(word: bytes) -> bytes | None:
    """A packed address; what follows a `%` is left out. An IPv4 address mapped into IPv6 is an IPv4 address."""
    text = word.partition(b"%")[0].decode("ascii", "replace")
    try:
        if ":" not in text:
            return socket.inet_pton(socket.AF_INET, text)
        address = socket.inet_pton(socket.AF_INET6, text)
    except (OSError, ValueError):  # a NUL is no part of an address
        return None
    return address[12:] if address.startswith(bytes(10) + b"\xff\xff") else address


def _parse_name(word: bytes) -> bytes | None:
    """A name in wire form; None where the word is none, so that nobody can ask for it."""
    if b"\\" in word or word == b".":
        try:
            return names.from_text(word.decode("utf-8", "surrogateescape"))
        except FormatError:
            return None
    labels = word.split(b".")
    if not labels[-1]:
        labels.pop()
    try:
        return names.from_labels(labels)
    except FormatError:
        return None
