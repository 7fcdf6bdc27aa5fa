"""What may stand behind `forward FROM`."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.errors import CorefileError
from kdns.plugins.forward.addresses import (
    HostName,
    ResolvConf,
    Target,
    expand,
    parse_entry,
    read_name_servers,
)


def unknown(name: str) -> Sequence[str]:
    raise AssertionError(f"looked up {name}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.1", Target("10.0.0.1", 53)),
        ("10.0.0.1:5300", Target("10.0.0.1", 5300)),
        ("dns://10.0.0.1", Target("10.0.0.1", 53)),
        ("dns://10.0.0.1:5300", Target("10.0.0.1", 5300)),
        ("2001:DB8::1", Target("2001:db8::1", 53)),
        ("[2001:db8::1]", Target("2001:db8::1", 53)),
        ("[2001:db8::1]:5300", Target("2001:db8::1", 5300)),
        ("fe80::1%7", Target("fe80::1%7", 53)),
        ("2001:db8::1%7", Target("2001:db8::1", 53)),
        ("tls://9.9.9.9", Target("9.9.9.9", 853, "tls")),
        ("tls://9.9.9.9:8853", Target("9.9.9.9", 8853, "tls")),
        ("tls://9.9.9.9%dns.quad9.net", Target("9.9.9.9", 853, "tls", "dns.quad9.net")),
        ("tls://9.9.9.9%dns.quad9.net:8853", Target("9.9.9.9", 8853, "tls", "dns.quad9.net")),
        ("tls://[2620:fe::fe%dns.quad9.net]:853", Target("2620:fe::fe", 853, "tls", "dns.quad9.net")),
        ("tls://2620:fe::fe%dns.quad9.net", Target("2620:fe::fe", 853, "tls", "dns.quad9.net")),
        ("https://1.1.1.1", Target("1.1.1.1", 443, "https")),
        ("https://9.9.9.9%dns.quad9.net:8443", Target("9.9.9.9", 8443, "https", "dns.quad9.net")),
        ("https://dns.google", HostName("dns.google", 443, "https", "")),
        ("resolver.corp.test", HostName("resolver.corp.test", 53, "dns", "")),
        ("resolver.corp.test:5300", HostName("resolver.corp.test", 5300, "dns", "")),
        ("tls://dns.google", HostName("dns.google", 853, "tls", "")),
    ],
)
def test_entries_are_told_apart(text: str, expected: object) -> None:
    assert parse_entry(text) == expected


def test_a_file_is_a_file_before_it_is_a_host_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "resolv.conf").write_text("nameserver 10.0.0.1\n")
    assert parse_entry("resolv.conf") == ResolvConf(Path("resolv.conf"))
    assert parse_entry(str(tmp_path / "resolv.conf")) == ResolvConf(tmp_path / "resolv.conf")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("/no/such/file", 'not an IP address, file, or valid domain: "/no/such/file"'),
        ("./resolv.conf", 'not an IP address, file, or valid domain: "./resolv.conf"'),
        ("a..b", 'not an IP address, file, or valid domain: "a..b"'),
        ("quic://dns.google", 'not an IP address, file, or valid domain: "quic://dns.google"'),
        (
            "https://1.1.1.1/dns-query",
            "paths are not allowed in HTTPS upstream addresses (the /dns-query path is used by default): "
            "https://1.1.1.1/dns-query",
        ),
        ("10.0.0.1:99999", "address 99999: invalid port"),
        ("10.0.0.1:0", "address 0: invalid port"),
        ("[::1]:dns", "address dns: invalid port"),
    ],
)
def test_what_is_nothing_known_is_said(text: str, reason: str) -> None:
    with pytest.raises(CorefileError) as caught:
        parse_entry(text)
    assert str(caught.value) == reason


def test_name_servers_are_listed_in_order_and_nothing_else_counts() -> None:
    text = (
        "search a.test\nnameserver 10.0.0.2 extra\n#nameserver 10.0.0.9\n  nameserver\t10.0.0.1\nnameserver nonsense\n"
    )
    text += (
        "nameserver fe80::1%3\nnameserver 2001:db8::1%3\noptions ndots:5 timeout:1\nnameserver\nNameserver 10.0.0.8\n"
    )
    assert [target.host for target in read_name_servers(text)] == ["10.0.0.2", "10.0.0.1", "fe80::1%3", "2001:db8::1"]


def test_addresses_count_once_whatever_their_scheme() -> None:
    entries = [parse_entry(text) for text in ("10.0.0.1", "dns://10.0.0.1:53", "tls://10.0.0.1:53", "10.0.0.1:54")]
    assert expand(entries, unknown) == [Target("10.0.0.1", 53), Target("10.0.0.1", 54)]


def test_host_names_become_all_their_addresses() -> None:
    entries = [parse_entry("10.0.0.1"), parse_entry("tls://dns.test:8853")]
    found = expand(entries, {"dns.test": ["10.0.0.1", "2001:db8::1"]}.__getitem__)
    assert found == [Target("10.0.0.1", 53), Target("10.0.0.1", 8853, "tls"), Target("2001:db8::1", 8853, "tls")]


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        ([], "no valid upstream addresses found"),
        (["grpc://10.0.0.1"], "'grpc' is not supported as a destination protocol in forward: grpc://10.0.0.1:443"),
        (["quic://[::1]"], "'quic' is not supported as a destination protocol in forward: quic://[::1]:853"),
        ([f"10.0.0.{n}" for n in range(16)], "more than 15 TOs configured: 16"),
    ],
)
def test_lists_that_lead_nowhere_are_refused(texts: list[str], reason: str) -> None:
    with pytest.raises(CorefileError) as caught:
        expand([parse_entry(text) for text in texts], unknown)
    assert str(caught.value) == reason


def test_link_local_addresses_go_by_their_interface() -> None:
    index, name = socket.if_nameindex()[0]
    assert Target(f"fe80::1%{name}", 53).sockaddr() == ("fe80::1", 53, 0, index)
    assert Target("fe80::1%7", 53).sockaddr() == ("fe80::1", 53, 0, 7)
    assert Target("2001:db8::1", 53).sockaddr() == ("2001:db8::1", 53)


@given(st.text(alphabet="0123456789abcdef.:%[]/dnstlhp@ -_", max_size=40))
def test_any_text_is_an_entry_or_is_refused(text: str) -> None:
    try:
        entry = parse_entry(text)
    except CorefileError:
        return
    if isinstance(entry, Target):
        assert str(entry)
        assert 0 < entry.port < 65536


@given(st.lists(st.one_of(st.text(max_size=30), st.text(max_size=20).map("nameserver {}".format)), max_size=8))
def test_any_file_lists_addresses_or_nothing(lines: list[str]) -> None:
    for target in read_name_servers("\n".join(lines)):
        assert target.port == 53
        assert ":" in target.host or target.host.count(".") == 3
