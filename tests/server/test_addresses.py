"""The addresses of this machine, as the kernel and as `ip` tell them."""

from __future__ import annotations

import ipaddress
import json
import shutil
import socket
import subprocess
import sys

import pytest

from kdns.server import addresses
from kdns.server.addresses import interface_addresses, local_addresses

NEEDS_IP = pytest.mark.skipif(shutil.which("ip") is None, reason="iproute2 is missing")
SHOW = "from kdns.server.addresses import local_addresses; print(*(a.hex() for a in local_addresses()))"
SHOW_INTERFACES = "from kdns.server.addresses import interface_addresses; print(*interface_addresses()['d0'])"


@NEEDS_IP
def test_the_kernel_and_ip_tell_the_same():
    links = json.loads(subprocess.run(["ip", "-j", "addr"], check=True, capture_output=True).stdout)
    texts = [found["local"] for link in links for found in link.get("addr_info", ()) if "local" in found]
    parsed = [ipaddress.ip_address(text) for text in texts]
    expected = {address.packed for address in parsed if not address.is_loopback and not _is_link_local(address)}
    assert set(local_addresses()) == expected


def _is_link_local(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return address.version == 6 and address.is_link_local


@NEEDS_IP
def test_addresses_of_many_interfaces_are_found_in_a_namespace():
    """Hundreds of addresses come in several datagrams; point-to-point links tell the other end's address too."""
    script = (
        "set -e; ip link add d0 type veth peer name d1; ip link set d0 up; ip link set lo up; "
        "for n in $(seq 1 250); do echo addr add 10.1.0.$n/16 dev d0; done | ip -batch -; "
        "ip addr add 10.2.0.1 peer 10.2.0.2 dev d0; ip addr add fd00::1/64 dev d0 nodad; "
        f'exec {sys.executable} -c "{SHOW}"'
    )
    made = subprocess.run(["unshare", "-rn", "sh", "-c", script], check=False, capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no namespace here: {made.stderr.strip()[-200:]}")
    found = set(map(bytes.fromhex, made.stdout.split()))
    expected = {bytes((10, 1, 0, n)) for n in range(1, 251)} | {bytes((10, 2, 0, 1))}
    assert found == expected | {ipaddress.ip_address("fd00::1").packed}


def test_without_netlink_there_are_none(monkeypatch):
    def refuse(*_: object) -> socket.socket:
        raise OSError(97, "Address family not supported by protocol")

    monkeypatch.setattr(addresses.socket, "socket", refuse)
    assert local_addresses() == ()
    assert interface_addresses() == {}


def test_interfaces_have_their_addresses_as_text():
    found = interface_addresses()
    assert found["lo"][0] == "127.0.0.1"
    assert {text for texts in found.values() for text in texts if "%" not in text} >= {
        str(ipaddress.ip_address(address)) for address in local_addresses()
    }
    for name, texts in found.items():
        of_one_link = [text for text in texts if "%" in text]
        assert all(text.startswith("fe") and text.endswith(f"%{name}") for text in of_one_link)


@NEEDS_IP
def test_an_address_of_one_link_has_its_interface_as_zone():
    script = (
        "set -e; ip link add d0 type veth peer name d1; ip link set d0 up; "
        "ip addr add 10.2.0.1/24 dev d0; ip addr add fe80::77/64 dev d0 nodad; "
        f'exec {sys.executable} -c "{SHOW_INTERFACES}"'
    )
    made = subprocess.run(["unshare", "-rn", "sh", "-c", script], check=False, capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no namespace here: {made.stderr.strip()[-200:]}")
    assert made.stdout.split()[0] == "10.2.0.1"
    assert "fe80::77%d0" in made.stdout.split()
