"""`bind`: where a server block listens."""

from __future__ import annotations

import pytest

from kdns.plugins.plugin import Surroundings
from tests.fakes.directives import build, refusal_of, refused

INTERFACES = {
    "lo": ("127.0.0.1", "::1"),
    "eth0": ("10.0.0.1", "10.0.0.2", "2001:db8::1", "fe80::1%eth0"),
    "127.0.0.9": ("10.9.9.9",),
}


def hosts(directives: str) -> list[str]:
    return [listener.host for listener in build(f".:53 {{\n{directives}\nwhoami\n}}", surroundings()).listeners]


def surroundings() -> Surroundings:
    return Surroundings(interfaces=INTERFACES)


@pytest.mark.parametrize(
    ("directives", "expected"),
    [
        ("", [""]),
        ("bind 127.0.0.1", ["127.0.0.1"]),
        ("bind 127.0.0.1 ::1", ["127.0.0.1", "::1"]),
        ("bind 127.0.0.1\nbind 127.0.0.2", ["127.0.0.1", "127.0.0.2"]),
        ("bind lo", ["127.0.0.1", "::1"]),
        ("bind eth0 127.0.0.1", ["10.0.0.1", "10.0.0.2", "2001:db8::1", "fe80::1%eth0", "127.0.0.1"]),
        ("bind eth0 {\nexcept 10.0.0.2 2001:db8::1\n}", ["10.0.0.1", "fe80::1%eth0"]),
        ("bind lo eth0 {\nexcept eth0\n}", ["127.0.0.1", "::1"]),
        ("bind lo {\nexcept ::1\n}\nbind ::1", ["127.0.0.1", "::1"]),
        ("bind 127.0.0.9", ["10.9.9.9"]),
    ],
)
def test_a_block_listens_at_these_addresses(directives: str, expected: list[str]):
    assert hosts(directives) == expected


def test_the_start_tells_the_address_and_metrics_know_it():
    (first, second) = build("b.test:53 a.test:1053 {\nbind ::1\nwhoami\n}").listeners
    assert (first.zone_texts, first.label) == (["b.test.:53 on ::1"], "dns://[::1]:53")
    assert (second.zone_texts, second.label) == (["a.test.:1053 on ::1"], "dns://[::1]:1053")


def test_a_zone_is_known_only_where_its_block_is_bound():
    first, second = build(
        ".:53 {\nbind 127.0.0.1 127.0.0.2\nwhoami\n}\na.test:53 {\nbind 127.0.0.2\nwhoami\n}"
    ).listeners
    assert (first.host, sorted(first.zones)) == ("127.0.0.1", [b"\0"])
    assert (second.host, sorted(second.zones)) == ("127.0.0.2", [b"\0", b"\x01a\x04test\0"])


def test_blocks_with_the_same_zone_may_be_bound_apart_only():
    two = ".:53 {{\nbind 127.0.0.1\nwhoami\n}}\n.:53 {{\n{}\nwhoami\n}}"
    assert len(build(two.format("bind 127.0.0.2")).listeners) == 2
    assert (
        str(refusal_of(two.format("bind 127.0.0.1"))) == "cannot serve dns://.:53 on 127.0.0.1 - it is already defined"
    )
    expected = "cannot serve dns://.:53 - zone overlap listener capacity with dns://.:53 on 127.0.0.1"
    assert str(refusal_of(two.format(""))) == expected


@pytest.mark.parametrize(
    ("directive", "text"),
    [
        ("bind", "at least one address or interface name is expected"),
        ("bind {\nexcept lo\n}", "at least one address or interface name is expected"),
        ("bind 1.2.3.4.5", 'not a valid IP address or interface name: "1.2.3.4.5"'),
        ("bind eth7", 'not a valid IP address or interface name: "eth7"'),
        ("bind fe80::1%eth0", 'not a valid IP address or interface name: "fe80::1%eth0"'),
        ("bind lo {\nexcept\n}", "at least one address or interface must be given to except subdirective"),
        ("bind lo {\nexcept x\n}", 'not a valid IP address or interface name: "x"'),
        ("bind lo {\nonly ::1\n}", 'invalid option "only"'),
        ("bind lo {\nexcept lo\n}", "no address is left to listen at"),
    ],
)
def test_mistakes_are_refused_in_coredns_words(directive: str, text: str):
    assert refused(directive, surroundings=surroundings()) == f"plugin/bind: {text}"
