"""The addresses of this machine's interfaces, asked of the kernel over netlink (rtnetlink(7))."""

from __future__ import annotations

import socket
import struct
from ipaddress import ip_address

RTM_GETADDR = 22
RTM_NEWADDR = 20
NLMSG_DONE = 3
NLM_F_REQUEST_DUMP = 0x301
IFA_ADDRESS = 1
IFA_LOCAL = 2
TIMEOUT_SECONDS = 2.0  # the kernel answers at once
MAX_DATAGRAM = 1 << 16  # octets

_MESSAGE = struct.Struct("=LHHLL")
_ADDRESS = struct.Struct("=BBBBL")
_ATTRIBUTE = struct.Struct("=HH")


def local_addresses() -> tuple[bytes, ...]:
    """The packed addresses of all interfaces, but those of loopback and of one link; none where netlink is missing."""
    return tuple(dict.fromkeys(address for _, address in _all_addresses() if _is_reachable(address)))


def interface_addresses() -> dict[str, tuple[str, ...]]:
    """The addresses of each interface that has any, as text, those of one link with the interface as their zone."""
    found: dict[str, tuple[str, ...]] = {}
    for index, address in _all_addresses():
        try:
            name = socket.if_indextoname(index)
        except OSError:
            continue  # it went meanwhile
        text = str(ip_address(address))
        found[name] = (*found.get(name, ()), f"{text}%{name}" if _is_of_one_link(address) else text)
    return found


def _all_addresses() -> list[tuple[int, bytes]]:
    """(index of its interface, packed address), as the kernel orders them; none where netlink is missing."""
    found: list[tuple[int, bytes]] = []
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
            netlink.settimeout(TIMEOUT_SECONDS)
            netlink.send(_MESSAGE.pack(_MESSAGE.size + 8, RTM_GETADDR, NLM_F_REQUEST_DUMP, 1, 0) + bytes(8))
            while not _read(netlink.recv(MAX_DATAGRAM), found):
                pass
    except OSError:
        return []
    return found


def _read(datagram: bytes, found: list[tuple[int, bytes]]) -> bool:
    """Collect the addresses of one datagram; whether it was the last."""
    at = 0
    while at + _MESSAGE.size <= len(datagram):
        size, kind, _, _, _ = _MESSAGE.unpack_from(datagram, at)
        if kind == NLMSG_DONE or size < _MESSAGE.size:
            return True
        if kind == RTM_NEWADDR and size >= _MESSAGE.size + _ADDRESS.size:
            index = _ADDRESS.unpack_from(datagram, at + _MESSAGE.size)[4]
            attributes = _attributes(datagram[at + _MESSAGE.size + _ADDRESS.size : at + size])
            # On a point-to-point link IFA_ADDRESS is the other end's.
            address = attributes.get(IFA_LOCAL) or attributes.get(IFA_ADDRESS)
            if address is not None and len(address) in (4, 16):
                found.append((index, address))
        at += (size + 3) & ~3
    return False


def _attributes(data: bytes) -> dict[int, bytes]:
    found, at = {}, 0
    while at + _ATTRIBUTE.size <= len(data):
        size, kind = _ATTRIBUTE.unpack_from(data, at)
        if size < _ATTRIBUTE.size:
            break
        found[kind] = data[at + _ATTRIBUTE.size : at + size]
        at += (size + 3) & ~3
    return found


def _is_reachable(address: bytes) -> bool:
    if len(address) == 4:
        return address[0] != 127
    return address != bytes(15) + b"\x01" and not _is_of_one_link(address)


def _is_of_one_link(address: bytes) -> bool:
    return len(address) == 16 and address[0] == 0xFE and address[1] & 0xC0 == 0x80  # fe80::/10
