"""What the lines of a hosts file mean."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kdns.dns import names
from kdns.plugins.hosts.entries import MAX_ADDRESSES, MAX_NAMES, HostEntries


def entries(text: str, zones: tuple[str, ...] = (".",), has_reverse: bool = True) -> HostEntries:
    found = HostEntries(tuple(map(names.from_text, zones)), has_reverse=has_reverse)
    found.add(text.encode("utf-8", "surrogateescape").split(b"\n"))
    return found


def addresses(found: HostEntries, name: str, size: int = 4) -> list[str]:
    packed = found.addresses(names.from_text(name), size)
    return [str(ip_address(packed[at : at + size])) for at in range(0, len(packed), size)]


def names_of(found: HostEntries, address: str) -> list[str]:
    return [names.to_text(name) for name in found.names_of(ip_address(address).packed)]


def test_a_line_gives_an_address_to_its_names():
    found = entries("192.0.2.1 a.test b.test.\t C.Test # and no more d.test\n2001:db8::1 a.test")
    assert [addresses(found, name) for name in ("a.test", "b.test", "c.test")] == [["192.0.2.1"]] * 3
    assert addresses(found, "d.test") == []
    assert addresses(found, "a.test", 16) == ["2001:db8::1"]
    assert names_of(found, "192.0.2.1") == ["a.test.", "b.test.", "c.test."]
    assert names_of(found, "2001:db8::1") == ["a.test."]


def test_lines_add_up_in_their_order():
    found = entries("192.0.2.2 a.test\n192.0.2.1 a.test\n192.0.2.2 b.test")
    assert addresses(found, "a.test") == ["192.0.2.2", "192.0.2.1"]
    assert names_of(found, "192.0.2.2") == ["a.test.", "b.test."]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "# 192.0.2.1 a.test",
        "192.0.2.1",
        "192.0.2 a.test",
        "192.0.2.01 a.test",
        "a.test 192.0.2.1",
        "reload",
        "::g a.test",
    ],
)
def test_other_lines_are_passed_over(line: str):
    found = entries(f"{line}\r\n192.0.2.9 other.test\r")
    assert (addresses(found, "a.test"), addresses(found, "other.test")) == ([], ["192.0.2.9"])
    assert len(found) == 2


@pytest.mark.parametrize("name", ["a..test", "a" * 64, ".".join(["a" * 62] * 5), "\\", "..", "a\\1b."])
def test_words_that_are_no_names_are_passed_over(name: str):
    assert addresses(entries(f"192.0.2.1 {name} b.test"), "b.test") == ["192.0.2.1"]


def test_a_zone_id_is_left_out_and_a_mapped_address_is_of_ipv4():
    found = entries("fe80::1%eth0 a.test\n::ffff:192.0.2.1 a.test")
    assert addresses(found, "a.test", 16) == ["fe80::1"]
    assert addresses(found, "a.test") == ["192.0.2.1"]


def test_names_outside_the_zones_are_left_out():
    found = entries("192.0.2.1 a.test a.other test", ("test", "x.org"))
    assert [addresses(found, name) for name in ("a.test", "a.other", "test")] == [["192.0.2.1"], [], ["192.0.2.1"]]
    assert names_of(found, "192.0.2.1") == ["a.test.", "test."]


def test_a_wildcard_stands_for_one_label_and_has_no_reverse_name():
    found = entries("192.0.2.1 *.a.test")
    wildcard = [
        found.wildcard_addresses(names.from_text(name), 4) for name in ("x.a.test", "a.test", "x.y.a.test", ".")
    ]
    assert wildcard == [bytes((192, 0, 2, 1)), b"", b"", b""]
    assert names_of(found, "192.0.2.1") == []
    assert len(found) == 1


def test_the_reverse_direction_can_be_left_out():
    found = entries("192.0.2.1 a.test", has_reverse=False)
    assert (names_of(found, "192.0.2.1"), len(found)) == ([], 1)


def test_more_than_a_message_can_hold_is_counted_and_not_kept():
    found = entries("\n".join(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255} a.test" for n in range(MAX_ADDRESSES + 5)))
    assert len(addresses(found, "a.test")) == MAX_ADDRESSES
    assert len(found) == 2 * (MAX_ADDRESSES + 5)
    found = entries("\n".join(f"0.0.0.0 n{n}.test" for n in range(MAX_NAMES + 5)))
    assert len(names_of(found, "0.0.0.0")) == MAX_NAMES


@example(b"\0\t\0")
@example(b"10.0.0.1\0 a\n::\0 b")
@given(st.binary())
def test_any_file_can_be_read(octets: bytes):
    HostEntries().add(octets.split(b"\n"))
