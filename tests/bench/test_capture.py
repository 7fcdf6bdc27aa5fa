import struct
from contextlib import suppress

import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.capture import MAGICS, is_capture, read_capture
from bench.errors import BenchError
from bench.records import Question

WEB = Question("web.shop.svc.cluster.local.", "AAAA")


def query(question=WEB, reply=False):
    message = dns.message.make_query(question.name, question.type)
    return (dns.message.make_response(message) if reply else message).to_wire()


def udp(payload, port=53):
    return struct.pack("!HHHH", 40_000, port, 8 + len(payload), 0) + payload


def ipv4(payload, protocol=17, fragment=0):
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 1, fragment, 64, protocol, 0)
    return head + bytes(8) + payload


def ipv6(payload, extensions=b"", first=17):
    return struct.pack("!IHBB", 6 << 28, len(extensions) + len(payload), first, 64) + bytes(32) + extensions + payload


def ethernet(packet, tags=b"", kind=0x0800):
    return bytes(12) + tags + struct.pack("!H", kind) + packet


def pcap(*packets, link=1, magic=b"\xd4\xc3\xb2\xa1"):
    order = MAGICS[magic]
    octets = magic + struct.pack(order + "HHiIII", 2, 4, 0, 0, 65_535, link)
    for packet in packets:
        octets += struct.pack(order + "IIII", 1, 2, len(packet), len(packet)) + packet
    return octets


@pytest.mark.parametrize("magic", MAGICS)
def test_both_orders_and_both_clocks_are_read(magic):
    assert list(read_capture(pcap(ethernet(ipv4(udp(query()))), magic=magic))) == [WEB]


@pytest.mark.parametrize(
    ("link", "frame"),
    [
        (0, bytes(4) + ipv4(udp(query()))),
        (1, ethernet(ipv4(udp(query())))),
        (1, ethernet(ipv4(udp(query())), tags=b"\x81\x00\x00\x05")),
        (1, ethernet(ipv4(udp(query())), tags=b"\x88\xa8\x00\x05\x81\x00\x00\x06")),
        (1, ethernet(ipv6(udp(query())), kind=0x86DD)),
        (101, ipv4(udp(query()))),
        (101, ipv6(udp(query()), extensions=bytes([17, 0]) + bytes(6), first=0)),
        (113, bytes(14) + b"\x08\x00" + ipv4(udp(query()))),
        (229, ipv6(udp(query()))),
        (276, b"\x86\xdd" + bytes(18) + ipv6(udp(query()))),
    ],
)
def test_a_query_is_found_on_every_link(link, frame):
    assert list(read_capture(pcap(frame, link=link))) == [WEB]


@pytest.mark.parametrize(
    "packet",
    [
        ipv4(udp(query(reply=True))),
        ipv4(udp(query(), port=5353)),
        ipv4(udp(query()), protocol=6),
        ipv4(udp(query()), fragment=100),
        ipv4(udp(b"no message")),
        ipv4(b""),
        b"",
    ],
    ids=["a reply", "another port", "TCP", "a later fragment", "no DNS", "nothing in it", "no packet"],
)
def test_what_is_no_query_is_passed_over(packet):
    assert list(read_capture(pcap(ethernet(packet), ethernet(ipv4(udp(query())))))) == [WEB]


def test_a_capture_that_was_cut_off_gives_what_is_whole():
    packet = ethernet(ipv4(udp(query())))

    assert list(read_capture(pcap(packet, packet)[:-1])) == [WEB]


@pytest.mark.parametrize(
    ("octets", "says"),
    [
        (b"\x0a\x0d\x0d\x0a" + bytes(30), "editcap -F pcap"),
        (b"\xd4\xc3\xb2\xa1", "no pcap file"),
        (pcap(link=9_999), "a link of type 9999; known are 0, 1,"),
        (pcap() + struct.pack("<IIII", 0, 0, 1 << 30, 0), "damaged at octet 24"),
    ],
)
def test_what_cannot_be_read_is_said(octets, says):
    with pytest.raises(BenchError, match=says):
        list(read_capture(octets))


def test_captures_of_both_formats_are_known_by_their_first_octets():
    starts = (b"\xa1\xb2\x3c\x4d", b"\x0a\x0d\x0d\x0a", b"web. A\n")

    assert [is_capture(start) for start in starts] == [True, True, False]


@given(st.binary(max_size=200), st.sampled_from([0, 1, 101, 113, 276]))
def test_any_packet_gives_questions_or_none(packet, link):
    assert all(isinstance(found, Question) for found in read_capture(pcap(packet, ipv4(udp(packet)), link=link)))


@given(st.binary(max_size=100))
def test_any_file_gives_questions_or_the_documented_error(octets):
    for start in (b"", b"\xd4\xc3\xb2\xa1"):
        with suppress(BenchError):
            assert all(isinstance(found, Question) for found in read_capture(start + octets))
