"""The questions in a pcap file: every DNS query over UDP to port 53, whatever link it was captured on.

    file:    24 octets (magic, version, ..., link type), then records
    record:  seconds, fraction, octets kept, octets there were; each 4 octets; then what was kept

The magic tells the order of octets, and whether fractions are micro- or nanoseconds, which is all the same here.
pcapng is another format, and refused by its name.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import dns.exception
import dns.message
import dns.rdatatype

from bench.errors import BenchError
from bench.records import Question

MAGICS = {
    b"\xa1\xb2\xc3\xd4": ">",
    b"\xd4\xc3\xb2\xa1": "<",
    b"\xa1\xb2\x3c\x4d": ">",  # nanoseconds
    b"\x4d\x3c\xb2\xa1": "<",
}
PCAPNG_MAGIC = b"\x0a\x0d\x0d\x0a"
MAX_PACKET = 1 << 18  # octets; the largest snapshot length that tcpdump takes
DNS_PORT = 53
_FILE_HEADER = 24
_RECORD_HEADER = 16
_UDP = 17
_IPV4, _IPV6 = 0x0800, 0x86DD
_VLAN_TAGS = (0x8100, 0x88A8)
_EXTENSIONS = (0, 43, 60)  # of IPv6: hop-by-hop, routing, destination options

Link = Callable[[bytes], bytes]


def is_capture(start: bytes) -> bool:
    """Whether a file that begins so is a capture, of whatever format."""
    return start[:4] in MAGICS or start[:4] == PCAPNG_MAGIC


def read_capture(octets: bytes) -> Iterator[Question]:
    """The questions in a pcap file; raises BenchError if it is none. A last packet that was cut off is left out."""
    if octets[:4] == PCAPNG_MAGIC:
        raise BenchError("this is pcapng; `editcap -F pcap IN OUT`, or `tcpdump -r IN -w OUT`, makes pcap of it")
    order = MAGICS.get(octets[:4])
    if order is None or len(octets) < _FILE_HEADER:
        raise BenchError("this is no pcap file")
    link_type = struct.unpack_from(order + "I", octets, 20)[0] & 0x0FFFFFFF
    link = _LINKS.get(link_type)
    if link is None:
        raise BenchError(f"captured on a link of type {link_type}; known are {', '.join(map(str, sorted(_LINKS)))}")
    place = _FILE_HEADER
    while place + _RECORD_HEADER <= len(octets):
        kept = struct.unpack_from(order + "I", octets, place + 8)[0]
        if kept > MAX_PACKET:
            raise BenchError(f"damaged at octet {place}: a packet of {kept} octets")
        place += _RECORD_HEADER
        packet = octets[place : place + kept]
        place += kept
        if len(packet) == kept:
            yield from _question(link(packet))


def _question(packet: bytes) -> Iterator[Question]:
    """The question of an IP packet, if it is a DNS query over UDP."""
    datagram = _datagram(packet)
    if len(datagram) < 8 or struct.unpack_from("!H", datagram, 2)[0] != DNS_PORT:
        return
    try:
        query = dns.message.from_wire(datagram[8:], question_only=True, ignore_trailing=True)
    except (dns.exception.DNSException, ValueError):
        return
    if query.flags & 0x8000 or len(query.question) != 1:
        return
    entry = query.question[0]
    yield Question(entry.name.to_text(), dns.rdatatype.to_text(entry.rdtype))


def _datagram(packet: bytes) -> bytes:
    """The UDP datagram in an IP packet; empty if there is none, or only a later piece of one."""
    if len(packet) < 20:
        return b""
    if packet[0] >> 4 == 4:
        fragment = struct.unpack_from("!H", packet, 6)[0] & 0x1FFF
        return packet[(packet[0] & 15) * 4 :] if packet[9] == _UDP and not fragment else b""
    if packet[0] >> 4 != 6:
        return b""
    kind, place = packet[6], 40
    while kind in _EXTENSIONS and place + 2 <= len(packet):
        kind, place = packet[place], place + (packet[place + 1] + 1) * 8
    return packet[place:] if kind == _UDP else b""


def _ethernet(frame: bytes) -> bytes:
    place = 12
    while len(frame) >= place + 2 and struct.unpack_from("!H", frame, place)[0] in _VLAN_TAGS:
        place += 4
    return _of_type(frame, place, place + 2)


def _of_type(frame: bytes, type_at: int, start: int) -> bytes:
    """What follows in a frame that names its protocol as Ethernet does."""
    if len(frame) < type_at + 2 or struct.unpack_from("!H", frame, type_at)[0] not in (_IPV4, _IPV6):
        return b""
    return frame[start:]


# By the numbers of https://www.tcpdump.org/linktypes.html; a packet's version is in the packet itself.
_LINKS: dict[int, Link] = {
    0: lambda frame: frame[4:],  # BSD loopback
    1: _ethernet,
    12: bytes,  # raw IP, as some systems number it
    14: bytes,
    101: bytes,  # raw IP
    108: lambda frame: frame[4:],  # OpenBSD loopback
    113: lambda frame: _of_type(frame, 14, 16),  # Linux "any"
    228: bytes,  # IPv4
    229: bytes,  # IPv6
    276: lambda frame: _of_type(frame, 0, 20),  # Linux "any", the second form
}
