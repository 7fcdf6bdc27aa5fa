"""Every option of `forward`, and what is said where one is wrong."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from kdns.corefile import Dispenser, parse
from kdns.dns import names
from kdns.plugins import ORDER
from kdns.plugins.forward.options import Options, parse_options
from tests.fakes.apiserver.certificates import make_authority, make_server_certificate
from tests.fakes.directives import build, refusal_of, refused
from tests.plugins.forward.forwarding import forwarding

MISCOUNTED = "Wrong argument count or unexpected line ending after"


def options(*lines: str, start: str = "forward . 10.0.0.1 {", folder: str = "") -> Options:
    """What these lines in the directive's block say."""
    (block,) = parse("\n".join((".:53 {", start, *lines, "}", "}")), "Corefile", ORDER, {})
    dispenser = Dispenser(block.directives["forward"])
    assert dispenser.next()
    return parse_options(dispenser, folder)


def test_defaults_are_coredns() -> None:
    found = options()
    assert (found.policy, found.max_fails, found.check_seconds, found.expire_seconds) == ("random", 2, 0.5, 10)
    assert (found.check_recursion, found.check_domain) == (True, names.ROOT)
    assert (found.read_timeout_seconds, found.max_concurrent, found.max_idle_conns, found.max_age_seconds) == (
        2,
        0,
        0,
        0,
    )
    assert found.max_connect_attempts is None
    assert not any((found.force_tcp, found.prefer_udp, found.fails_fast, found.next_on_nodata, found.tls, found.source))


def test_every_option_is_read() -> None:
    found = options(
        "except a.test 10.0.0.0/8", "except B.test", "policy sequential", "force_tcp", "prefer_udp", "max_fails 7",
        "health_check 3s no_rec domain Probe.test", "max_connect_attempts 4", "expire 1m", "max_age 1h",
        "max_idle_conns 5", "read_timeout 300ms", "max_concurrent 1000", "next nxdomain SERVFAIL", "next REFUSED",
        "next_on_nodata", "failover SERVFAIL badcookie", "failfast_all_unhealthy_upstreams", "tls_servername dns.test",
        "source_address 192.0.2.9", "resolver 10.0.0.53 10.0.0.54:5300", "doh_method GET",
    )  # fmt: skip
    assert found.excepted == tuple(names.from_text(text) for text in ("a.test", "10.in-addr.arpa", "b.test"))
    assert (found.policy, found.force_tcp, found.prefer_udp, found.max_fails) == ("sequential", True, True, 7)
    assert (found.check_seconds, found.check_recursion) == (3, False)
    assert found.check_domain == names.from_text("probe.test")
    assert (found.max_connect_attempts, found.expire_seconds, found.max_age_seconds) == (4, 60, 3600)
    assert (found.max_idle_conns, found.read_timeout_seconds, found.max_concurrent) == (5, 0.3, 1000)
    assert (found.next_rcodes, found.next_on_nodata, found.failover_rcodes) == ({2, 3, 5}, True, {2, 23})
    assert (found.fails_fast, found.tls_servername, found.source) == (True, "dns.test", "192.0.2.9")
    assert found.resolvers == ["10.0.0.53", "10.0.0.54:5300"]


@pytest.mark.parametrize(("line", "last"), [
    ("except", "except"),
    ("policy", "policy"),
    ("force_tcp x", "x"),
    ("prefer_udp x", "x"),
    ("max_fails", "max_fails"),
    ("health_check 1s domain", "domain"),
    ("next", "next"),
    ("next_on_nodata x", "x"),
    ("failfast_all_unhealthy_upstreams 1", "1"),
    ("tls a b c d", "d"),
    ("tls_servername", "tls_servername"),
])  # fmt: skip
def test_arguments_too_few_or_too_many_are_said(line: str, last: str) -> None:
    expected = f"plugin/forward: Corefile:3 - Error during parsing: {MISCOUNTED} '{last}'"
    assert refused(f"forward . 10.0.0.1 {{\n{line}\n}}") == expected


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("except a..b", "unable to normalize 'a..b'"),
        ("policy fastest", "Corefile:3 - Error during parsing: unknown policy 'fastest'"),
        ("max_fails x", 'strconv.ParseUint: parsing "x": invalid syntax'),
        ("max_fails -1", 'strconv.ParseUint: parsing "-1": invalid syntax'),
        ("max_fails 4294967296", 'strconv.ParseUint: parsing "4294967296": value out of range'),
        ("max_connect_attempts 1.5", 'strconv.ParseUint: parsing "1.5": invalid syntax'),
        ("health_check fast", 'time: invalid duration "fast"'),
        ("health_check 5", 'time: missing unit in duration "5"'),
        ("health_check -1s", "health_check can't be negative: -1000000000"),
        ("health_check 1s rec", "health_check: unknown option rec"),
        ("health_check 1s domain a..b", "health_check: invalid domain name a..b"),
        ("expire -1s", "expire can't be negative: -1s"),
        ("max_age -1m", "max_age can't be negative: -1m0s"),
        ("max_idle_conns -1", "max_idle_conns can't be negative: -1"),
        ("max_idle_conns x", 'strconv.Atoi: parsing "x": invalid syntax'),
        ("read_timeout 0s", "read_timeout must be positive: 0s"),
        ("max_concurrent -1", "max_concurrent can't be negative: -1"),
        ("max_concurrent 99999999999999999999", 'strconv.Atoi: parsing "99999999999999999999": value out of range'),
        ("next NOPE", "NOPE is not a valid rcode"),
        ("failover NOERROR", "NoError cannot be used in failover"),
        ("failover x", "x is not a valid rcode"),
        ("source_address eth0", "source_address: invalid IP address: eth0"),
        ("doh_method get", "doh_method must be either POST or GET"),
        ("max_age 5s", "max_age (5s) must not be less than expire (10s)"),
        ("max_requests 5", "Corefile:3 - Error during parsing: unknown property 'max_requests'"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_an_option_is_said(line: str, reason: str) -> None:
    assert refused(f"forward . 10.0.0.1 {{\n{line}\n}}") == f"plugin/forward: {reason}"


@pytest.mark.parametrize("line", ["forward", "forward ."])
def test_a_zone_and_somebody_to_ask_are_needed(line: str) -> None:
    last = line.split()[-1]
    assert refused(line) == f"plugin/forward: Corefile:2 - Error during parsing: {MISCOUNTED} '{last}'"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("forward a..b 10.0.0.1", "unable to normalize 'a..b'"),
        ("forward . grpc://::1", "'grpc' is not supported as a destination protocol in forward: grpc://[::1]:443"),
        ("forward . /no/file", 'not an IP address, file, or valid domain: "/no/file"'),
        ("forward . " + " ".join(f"10.0.0.{n}" for n in range(16)), "more than 15 TOs configured: 16"),
        ("forward . ::1\nforward . ::2 {\npolicy x\n}", "Corefile:4 - Error during parsing: unknown policy 'x'"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_the_line_is_said(line: str, reason: str) -> None:
    assert refused(line) == f"plugin/forward: {reason}"


@pytest.mark.parametrize("name", [".test", "a\x00b", f"{'x' * 64}.test"])
def test_a_name_no_server_can_have_ends_the_start(name: str) -> None:
    said = refused(f"forward . tls://10.0.0.1 {{\ntls_servername {name}\n}}")
    assert said.startswith(f"plugin/forward: tls_servername: {name!r} cannot be the name of a server: ")


def test_an_empty_resolv_conf_ends_the_start(tmp_path: Path) -> None:
    (tmp_path / "empty.conf").write_text("search a.test\n")
    assert refused(f"forward . {tmp_path}/empty.conf") == "plugin/forward: no valid upstream addresses found"


def test_an_option_nearly_right_comes_with_a_hint() -> None:
    assert "max_fails" in refusal_of(".:53 {\nforward . 10.0.0.1 {\nmax_fail 3\n}\n}\n").hint


def test_tls_files_are_found_beside_the_corefile_and_checked(tmp_path: Path) -> None:
    authority = make_authority(tmp_path, "ca")
    server = make_server_certificate(tmp_path, authority, "client")
    for files in ("", "ca.crt", "client.crt client.key", "client.crt client.key ca.crt"):
        found = options(f"tls {files}", folder=str(tmp_path)).tls
        assert found is not None
        assert found.minimum_version == ssl.TLSVersion.TLSv1_2
        assert found.verify_mode == ssl.CERT_REQUIRED
    folder = f"{tmp_path}/"
    assert refused(f"forward . 10.0.0.1 {{\ntls {folder}none.crt\n}}").startswith(
        "plugin/forward: error reading CA from "
    )
    wrong = f"{server.certificate} {authority.key}"
    assert refused(f"forward . 10.0.0.1 {{\ntls {wrong}\n}}").startswith("plugin/forward: could not load TLS cert: ")


def test_other_classes_reach_the_chain_of_a_listener_with_forward() -> None:
    (listener,) = build(".:53 {\nforward . 10.0.0.1\n}\n").listeners
    assert listener.takes_other_classes


async def test_host_names_are_looked_up_at_setup() -> None:
    async with forwarding("forward . localhost:5353") as forward:
        assert "127.0.0.1:5353" in [upstream.address for upstream in forward.plugin.upstreams]
    text = refused("forward . no-such-host.invalid")
    assert text == 'plugin/forward: failed to resolve "no-such-host.invalid": lookup no-such-host.invalid: no such host'
