"""Names in wire form: text in and out, limits, zones, reverse names."""

from __future__ import annotations

from ipaddress import ip_address

import dns.name
import dns.reversename
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.dns import names
from kdns.errors import FormatError
from tests.fakes.dns_values import any_names


@given(any_names)
def test_a_name_survives_its_text_form(name):
    assert names.from_text(names.to_text(name)) == name


@given(any_names)
def test_text_is_what_dnspython_prints(name):
    assert names.to_text(name) == dns.name.from_wire(name, 0)[0].to_text()


@given(st.text())
def test_any_text_is_a_name_or_a_format_error(text):
    try:
        name = names.from_text(text)
    except FormatError:
        return
    assert dns.name.from_wire(name, 0)[1] == len(name) <= names.MAX_NAME


@given(
    st.text(st.characters(codec="ascii", exclude_characters="\\"), max_size=80).filter(
        lambda text: text not in ("@", "")
    )
)
def test_text_without_escapes_is_read_as_dnspython_reads_it(text):
    try:
        expected = dns.name.from_text(text).to_wire().lower()
    except dns.exception.DNSException:
        with pytest.raises(FormatError):
            names.from_text(text)
    else:
        assert names.from_text(text) == expected


@pytest.mark.parametrize(("text", "wire"), [
    ("", b"\0"),
    (".", b"\0"),
    ("a.B.", b"\1a\1b\0"),
    (r"a\.b.c", b"\3a.b\1c\0"),
    (r"\065\200.c", b"\2a\xc8\1c\0"),
    (r"\a", b"\1a\0"),
    ("ü", b"\2\xc3\xbc\0"),
    ("a" * 63, b"\x3f" + b"a" * 63 + b"\0"),
])  # fmt: skip
def test_text_becomes_wire_form(text, wire):
    assert names.from_text(text) == wire


@pytest.mark.parametrize(
    "text", ["..", ".a", "a..b", "a..", "a" * 64, ".".join(["a" * 63] * 4), "a\\", r"\256", r"a\.." + ".", "\ud800"]
)
def test_what_is_no_name_is_refused(text):
    with pytest.raises(FormatError):
        names.from_text(text)


def test_the_longest_name_has_255_octets():
    longest = ".".join(["a" * 63] * 3 + ["b" * 61])
    assert len(names.from_text(longest)) == 255
    with pytest.raises(FormatError, match="256 octets"):
        names.from_text(longest + "b")


@given(any_names)
def test_folding_touches_letters_only(name):
    upper = bytes(c - 32 if 97 <= c <= 122 else c for c in name)
    assert names.lower(upper) == name
    assert names.labels_of(names.lower(upper)) == [label.lower() for label in names.labels_of(upper)]


@given(any_names)
def test_parents_end_at_the_root_and_lose_a_label_each(name):
    found = names.parents(name)
    assert found[0] == name
    assert found[-1] == names.ROOT
    assert [len(names.labels_of(parent)) for parent in found] == list(range(len(found) - 1, -1, -1))
    assert all(name.endswith(parent) and names.is_below(name, parent) for parent in found)


@pytest.mark.parametrize(("name", "zone", "expected"), [
    (b"\1a\7cluster\5local\0", b"\7cluster\5local\0", True),
    (b"\7cluster\5local\0", b"\7cluster\5local\0", True),
    (b"\x0anotcluster\5local\0", b"\7cluster\5local\0", False),
    (b"\x0dcluster.local\0", b"\7cluster\5local\0", False),
    (b"\5local\0", b"\7cluster\5local\0", False),
    # The octets of the zone stand at the end, inside a label.
    (b"\x04a\1bc\0", b"\1bc\0", False),
    (b"\x03a\1b\0", b"\1b\0", False),
    (b"\0", b"\0", True),
])  # fmt: skip
def test_a_name_is_below_a_zone_only_at_label_boundaries(name, zone, expected):
    assert names.is_below(name, zone) is expected


def test_the_longest_zone_wins_whatever_the_order():
    zones = tuple(map(names.from_text, (".", "local", "svc.cluster.local", "cluster.local")))
    assert names.longest_zone(names.from_text("a.svc.cluster.local"), zones) == zones[2]
    assert names.longest_zone(names.from_text("a.xsvc.cluster.local"), zones) == zones[3]
    assert names.longest_zone(names.from_text("example.org"), zones) == names.ROOT
    assert names.longest_zone(names.from_text("example.org"), zones[1:]) is None


@given(st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16)))
def test_reverse_names_are_those_of_the_rfcs(address):
    text = str(ip_address(address))
    assert names.reverse_name(address) == dns.reversename.from_address(text).to_wire()
    assert names.pack_address(names.address_text(address)) == address


@pytest.mark.parametrize(
    "text", ["", "10.0.0", "10.0.0.256", "010.0.0.1", "fe80::1%eth0", " 10.0.0.1", "::g", "10.0.0.1/8"]
)
def test_what_is_no_address_is_none(text):
    assert names.pack_address(text) is None
