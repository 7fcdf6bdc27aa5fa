"""Server block keys and zone arguments."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.corefile import Listener, ServerKey, check_overlaps, expand_zone, parse_keys, syntax_warning
from kdns.dns import names
from kdns.errors import CorefileError

LONG_LABEL = "a" * 68


def shown(*texts: str, dns_port: int = 53) -> list[str]:
    return [str(key) for key in parse_keys(texts, dns_port)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (".", "dns://.:53"),
        (".:1053", "dns://.:1053"),
        ("example.test", "dns://example.test.:53"),
        ("UPPER.Test.:053", "dns://upper.test.:53"),
        ("dns://a.test", "dns://a.test.:53"),
        ("tls://a.test", "tls://a.test.:853"),
        ("quic://.", "quic://.:853"),
        ("https://a.test", "https://a.test.:443"),
        ("https3://a.test", "https3://a.test.:443"),
        ("grpc://a.test:8443", "grpc://a.test.:8443"),
        ("TLS://a.test", "dns://tls://a.test.:53"),
        ("a.test:http", "dns://a.test:http.:53"),
        ("}", "dns://}.:53"),
        ("\u00c9.test", "dns://\u00e9.test.:53"),
        ("_under.test", "dns://_under.test.:53"),
        ("a\\.b.test", "dns://a\\.b.test.:53"),
        ("10.0.0.1", "dns://10.0.0.1.:53"),
        ("10.0.0.0/33", "dns://10.0.0.0/33.:53"),
        ("10.1.0.0/16", "dns://1.10.in-addr.arpa.:53"),
        ("10.1.2.3/24:1053", "dns://2.1.10.in-addr.arpa.:1053"),
        ("tls://10.0.0.0/8", "tls://10.in-addr.arpa.:853"),
        ("10.1.2.3/32", "dns://3.2.1.10.in-addr.arpa.:53"),
        ("0.0.0.0/0", "dns://in-addr.arpa.:53"),
        ("2001:db8::/32", "dns://8.b.d.0.1.0.0.2.ip6.arpa.:53"),
        ("2001:DB8::/32:5353", "dns://8.b.d.0.1.0.0.2.ip6.arpa.:5353"),
        ("2001:db8::1", "dns://2001:db8:.:1"),
    ],
)
def test_keys(text: str, expected: str) -> None:
    assert shown(text) == [expected]


def test_the_default_port_is_for_plain_dns_only() -> None:
    assert shown("a", "tls://a", "b:53", dns_port=1053) == ["dns://a.:1053", "tls://a.:853", "dns://b.:53"]


def test_each_key_has_a_port_of_its_own() -> None:
    assert shown("a.test", "b.test:1053") == ["dns://a.test.:53", "dns://b.test.:1053"]


def test_zones_are_in_wire_form() -> None:
    (key,) = parse_keys(["A.Test:53"])
    assert key == ServerKey("dns", b"\x01a\x04test\x00", "a.test.", 53)


@pytest.mark.parametrize(
    ("text", "zones"),
    [
        ("10.2.0.0/15", ["2.10.in-addr.arpa.", "3.10.in-addr.arpa."]),
        ("10.0.0.64/26", [f"{last}.0.0.10.in-addr.arpa." for last in range(64, 128)]),
        ("2001:db8::/30", [f"{digit}.b.d.0.1.0.0.2.ip6.arpa." for digit in "89ab"]),
        ("2001:db8::/29", [f"{digit}.b.d.0.1.0.0.2.ip6.arpa." for digit in "89abcdef"]),
    ],
)
def test_prefixes_within_a_label_are_split(text: str, zones: list[str]) -> None:
    assert shown(text + ":5") == [f"dns://{zone}:5" for zone in zones]
    assert [names.to_text(zone) for zone in expand_zone(text)] == zones


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{LONG_LABEL}.test:53", f"zone is not a valid domain name: {LONG_LABEL}.test"),
        ("a..test", "zone is not a valid domain name: a..test"),
        ("a..\nb", "zone is not a valid domain name: a..\\nb"),
        (".a.test", "zone is not a valid domain name: .a.test"),
        (".:53{", "zone is not a valid domain name: .:53{"),
        (":53", "zone is not a valid domain name: "),
        ("a.test\\", "zone is not a valid domain name: a.test\\"),
        ("a.test:", 'expecting data after last colon: "a.test:"'),
        ("tls://a\t\u00e9\u200b\x01\":", 'expecting data after last colon: "a\\t\u00e9\\u200b\\x01\\":"'),
        ("", 'expecting data after last colon: ""'),
        ("::/8", "invalid CIDR ::/8"),
        ("0:1::/32", "invalid CIDR 0:1::/32"),
        ("a." * 128, "specified zone is too long: 256 > 255"),
        ("a." * 127 + "a", "specified zone is too long: 256 > 255"),
    ],
)  # fmt: skip
def test_errors(text: str, message: str) -> None:
    with pytest.raises(CorefileError) as caught:
        parse_keys(["a.test", text])
    assert str(caught.value) == f"error inspecting server blocks: {message}"
    with pytest.raises(CorefileError) as caught:
        expand_zone(text)
    assert str(caught.value) == message


@pytest.mark.parametrize("port", ["65536", "-1", "9223372036854775807"])
def test_ports_have_16_bits(port: str) -> None:
    with pytest.raises(CorefileError, match=f"^address {port}: invalid port$"):
        parse_keys([f"a.test:{port}"])


def test_a_number_no_integer_holds_is_part_of_the_zone() -> None:
    assert shown("a:9223372036854775808") == ["dns://a:9223372036854775808.:53"]


def test_zone_arguments_may_carry_scheme_and_port() -> None:
    assert expand_zone("dns://A.test:53") == [b"\x01a\x04test\x00"]
    assert expand_zone(".") == [b"\x00"]


@pytest.mark.parametrize("zone", [".", "a.test.", "in-addr.arpa.", "0.10.in-addr.arpa.", "8.b.d.ip6.arpa.", "a-1.b2."])
def test_preferred_syntax_gives_no_warning(zone: str) -> None:
    assert syntax_warning(parse_keys([zone])[0]) == ""


@pytest.mark.parametrize("zone", ["_under.test.", "1.test.", "-a.test.", "a-.test.", "}.", "\u00e9."])
def test_other_syntax_gives_a_warning(zone: str) -> None:
    assert syntax_warning(parse_keys([zone])[0]) == f'Warning: Domain "{zone}" does not follow RFC1035 preferred syntax'


def listener(*keys: str, bind: tuple[str, ...] = ("",), filtered: bool = False) -> Listener:
    return Listener(tuple(parse_keys(keys)), bind, filtered)


def test_the_same_name_on_other_ports_transports_or_addresses_does_not_overlap() -> None:
    check_overlaps(
        [
            listener("a.test", "a.test:1053", "tls://a.test", "b.test"),
            listener("c.test", bind=("127.0.0.1", "127.0.0.2")),
            listener("c.test", bind=("127.0.0.3",)),
        ]
    )


@pytest.mark.parametrize(
    ("listeners", "message"),
    [
        ([listener("a.test", "A.test")], "cannot serve dns://a.test.:53 - it is already defined"),
        ([listener("."), listener(".:53")], "cannot serve dns://.:53 - it is already defined"),
        (
            [listener(".", bind=("::1", "127.0.0.1")), listener(".", bind=("127.0.0.1",))],
            "cannot serve dns://.:53 on 127.0.0.1 - it is already defined",
        ),
        (
            [listener("."), listener(".", bind=("127.0.0.1",))],
            "cannot serve dns://.:53 on 127.0.0.1 - zone overlap listener capacity with dns://.:53",
        ),
        (
            [listener(".", bind=("127.0.0.1",)), listener(".")],
            "cannot serve dns://.:53 - zone overlap listener capacity with dns://.:53 on 127.0.0.1",
        ),
        (
            [listener("."), listener(".", bind=("127.0.0.1",), filtered=True)],
            "cannot serve dns://.:53 on 127.0.0.1 - zone overlap listener capacity with dns://.:53",
        ),
    ],
)
def test_overlaps_are_refused(listeners: list[Listener], message: str) -> None:
    with pytest.raises(CorefileError) as caught:
        check_overlaps(listeners)
    assert str(caught.value) == message


def test_filtered_blocks_may_repeat_a_zone_in_any_order() -> None:
    check_overlaps([listener(".", filtered=True), listener("."), listener(".", filtered=True)])


@given(st.text("a1.:/-\\0 \u00e9f") | st.text())
def test_every_key_is_parsed_or_refused(text: str) -> None:
    try:
        keys = parse_keys([text])
    except CorefileError:
        return
    assert keys
    assert all(names.from_text(key.zone_text) == key.zone for key in keys if "\\" not in key.zone_text)


@given(st.ip_addresses(), st.integers(0, 128))
def test_the_zones_of_a_prefix_hold_its_addresses(address: object, length: int) -> None:
    text = f"{address}/{length}"
    try:
        zones = expand_zone(text)
    except CorefileError:
        assert text.startswith((":", "0"))
        return
    packed = names.pack_address(str(address))
    assert packed is not None
    if length <= len(packed) * 8:
        assert sum(names.is_below(names.reverse_name(packed), zone) for zone in zones) == 1
