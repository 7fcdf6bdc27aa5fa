"""Sets of networks, against Python's own arithmetic."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.plugins.networks import NetworkSet, parse_network

NETWORKS = st.one_of(
    st.builds(
        lambda n, bits: ipaddress.ip_network((n << 24, bits), strict=False), st.integers(0, 255), st.integers(0, 32)
    ),
    st.builds(
        lambda n, bits: ipaddress.ip_network((n << 120, bits), strict=False), st.integers(0, 255), st.integers(0, 128)
    ),
)
ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))


@given(st.lists(NETWORKS, max_size=12), ADDRESSES)
def test_holds_what_one_of_its_networks_holds(networks: list[ipaddress.IPv4Network], address: ipaddress.IPv4Address):
    assert (address.packed in NetworkSet(networks)) == any(address in network for network in networks)


@given(st.lists(NETWORKS, min_size=1, max_size=12))
def test_holds_the_edges_of_its_networks_and_nothing_beyond(networks: list[ipaddress.IPv4Network]):
    found = NetworkSet(networks)
    for network in networks:
        assert network.network_address.packed in found
        assert network.broadcast_address.packed in found
        for beyond in (int(network.network_address) - 1, int(network.broadcast_address) + 1):
            if 0 <= beyond < 1 << network.max_prefixlen:
                address = type(network.network_address)(beyond)
                assert (address.packed in found) == any(address in one for one in networks)


def test_thousands_are_as_good_as_one():
    networks = [parse_network(f"10.{n >> 8}.{n & 255}.0/25") for n in range(10_000)]
    found = NetworkSet(networks)
    assert bytes((10, 7, 3, 127)) in found
    assert bytes((10, 7, 3, 128)) not in found


@pytest.mark.parametrize("text", ["10.1.2.3/16", "10.0.0.0/016", "::/0", "2001:db8::1/32"])
def test_bits_behind_the_prefix_do_not_matter(text: str):
    assert parse_network(text) == ipaddress.ip_network(text.replace("/016", "/16"), strict=False)


@pytest.mark.parametrize(
    "text",
    ["10.0.0.0/33", "10.0.0/8", "10.0.0.0", "10.0.0.0/255.0.0.0", "fe80::%eth0/64", "::/129", "x/1", "/8", "1.2.3.4/"],
)
def test_other_words_are_no_networks(text: str):
    with pytest.raises(ValueError, match=r"invalid CIDR|does not appear"):
        parse_network(text)
