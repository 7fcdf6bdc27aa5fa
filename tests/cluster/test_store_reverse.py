"""The reverse zones: which addresses lie in which, and which partial names exist."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.cluster.reverse import NeighbourNames, ReverseZones, address_of, name_of
from kdns.cluster.zones import standing_names
from kdns.dns import names


def packed(text: str) -> bytes:
    found = names.pack_address(text)
    assert found is not None
    return found


def zones_of(*texts: str) -> list[bytes]:
    return [names.from_text(text) for text in texts]


@pytest.mark.parametrize(
    ("zones", "address", "depth"),
    [
        (["in-addr.arpa"], "10.1.2.3", 0),
        (["in-addr.arpa", "10.in-addr.arpa"], "10.1.2.3", 1),
        (["in-addr.arpa", "10.in-addr.arpa"], "11.1.2.3", 0),
        (["2.1.10.in-addr.arpa"], "10.1.3.3", None),
        (["3.2.1.10.in-addr.arpa"], "10.1.2.3", 4),
        (["in-addr.arpa"], "fd00::1", None),
        (["0.0.d.f.ip6.arpa"], "fd00::1", 4),
        (["."], "10.1.2.3", 0),
        (["arpa"], "fd00::1", 0),
        (["cluster.local", "01.in-addr.arpa", "256.in-addr.arpa", "x.in-addr.arpa"], "1.1.2.3", None),
    ],
)
def test_longest_zone_holds_an_address(zones: list[str], address: str, depth: int | None) -> None:
    assert ReverseZones(zones_of(*zones)).depth(packed(address)) == depth


addresses = st.one_of(
    st.lists(st.integers(0, 2), min_size=4, max_size=4).map(bytes),
    st.lists(st.integers(0, 1), min_size=16, max_size=16).map(bytes),
)


@given(st.lists(addresses, max_size=12), st.integers(0, 12))
def test_partial_names_exist_as_long_as_something_lies_below(added: list[bytes], removed: int) -> None:
    served = ("0.in-addr.arpa", "1.1.in-addr.arpa", "ip6.arpa")
    zones = ReverseZones(zones_of(*served))
    zones.add(added)
    zones.remove(added[:removed])
    assert set(zones.partial_names()) == partial_names(added[removed:], zones_of(*served))
    changed = zones.take_changed()
    assert {name_of(digits) for digits in changed} >= set(zones.partial_names())
    assert zones.take_changed() == set()


def partial_names(held: Iterable[bytes], zones: list[bytes]) -> set[bytes]:
    """The names between each address and its zone, found the long way."""
    found: set[bytes] = set()
    for address in held:
        name = names.reverse_name(address)
        zone = names.longest_zone(name, tuple(zones))
        if zone is not None:
            above = names.parents(name)
            found.update(above[1 : above.index(zone)])
    return found


@given(st.lists(addresses, max_size=6))
def test_names_made_many_at_a_time_are_those_made_one_by_one(found: list[bytes]) -> None:
    for zones in (["in-addr.arpa", "ip6.arpa"], ["0.in-addr.arpa", "0.ip6.arpa"], ["."]):
        reverse = ReverseZones(zones_of(*zones))
        for size in (4, 16):
            family = [address for address in found if len(address) == size]
            expected = [names.reverse_name(a) if reverse.depth(a) is not None else b"" for a in family]
            assert NeighbourNames(reverse).names(family) == expected


@given(st.one_of(addresses, st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16)))
def test_complete_reverse_name_gives_its_address_back(address: bytes) -> None:
    assert address_of(names.reverse_name(address)) == address
    assert address_of(names.parents(names.reverse_name(address))[1]) is None


@pytest.mark.parametrize(
    ("zones", "standing"),
    [
        (["cluster.local", "in-addr.arpa", "ip6.arpa"], []),
        ([".", "cluster.local"], ["local", "arpa", "in-addr.arpa", "ip6.arpa"]),
        (["example.org", "a.b.c.example.org"], ["b.c.example.org", "c.example.org"]),
        (["in-addr.arpa", "0.96.10.in-addr.arpa"], ["96.10.in-addr.arpa", "10.in-addr.arpa"]),
        (["arpa", "in-addr.arpa"], ["ip6.arpa"]),
    ],
)
def test_names_between_zones_stand_whatever_the_cluster_holds(zones: list[str], standing: list[str]) -> None:
    assert standing_names(zones_of(*zones)) == frozenset(zones_of(*standing))
