"""Corefiles as they are deployed, and the hashes CoreDNS logs for them.

`data/SHA512` was made with the Caddyfile package that CoreDNS 1.14.7 builds on; the two kubeadm hashes also stand in
published logs of CoreDNS.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from kdns.corefile import ServerBlock, decode, parse, parse_keys, reload_hash
from kdns.errors import CorefileError

DATA = Path(__file__).parent / "data"
ENVIRON = {"CACHE_TTL": "45", "UPSTREAM": "10.9.8.7"}
HASHES = {name: digest for digest, name in (line.split() for line in (DATA / "SHA512").read_text().splitlines())}
DIRECTIVES = (
    *("bind", "bufsize", "cache", "chaos", "errors", "forward", "health", "hosts", "k8s_external", "kubernetes", "log"),
    *("loop", "loadbalance", "prometheus", "ready", "reload", "rewrite", "template"),
)


def load(name: str) -> list[ServerBlock]:
    text = decode((DATA / name).read_bytes())
    return parse(text, "/nowhere/Corefile", DIRECTIVES, ENVIRON)


def test_every_corefile_has_a_hash() -> None:
    assert sorted(HASHES) == sorted(path.name for path in DATA.glob("*.Corefile"))


@pytest.mark.parametrize("name", sorted(HASHES.keys() - {"stale.Corefile"}))
def test_the_hash_is_that_of_coredns(name: str) -> None:
    assert reload_hash(load(name), "/nowhere/Corefile") == HASHES[name]


def test_a_log_line_after_errors_changes_the_hash_as_published() -> None:
    text = (DATA / "kubeadm-current.Corefile").read_text().replace("errors\n", "errors\nlog\n")
    assert reload_hash(parse(text, "Corefile", None, {}), "Corefile").startswith("2dd49c56")


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("kubeadm-1.32", ["dns://.:53"]),
        ("nodelocaldns", ["dns://cluster.local.:53", "dns://in-addr.arpa.:53", "dns://ip6.arpa.:53", "dns://.:53"]),
        ("openshift", ["dns://.:5353", "dns://hostname.bind.:5353", "dns://corp.example.test.:5353"]),
        ("kubespray", ["dns://example.test.:53", "dns://.:53"]),
        (
            "custom-dns",
            [
                "dns://.:53",
                "dns://cluster.test.:53",
                "dns://0.10.in-addr.arpa.:53",
                "dns://1.10.in-addr.arpa.:53",
                "dns://8.b.d.0.1.0.0.2.ip6.arpa.:5353",
            ],
        ),
    ],
)
def test_keys(name: str, keys: list[str]) -> None:
    assert [str(key) for block in load(f"{name}.Corefile") for key in parse_keys(block.keys)] == keys


def test_a_directive_that_is_gone_is_named() -> None:
    with pytest.raises(
        CorefileError, match=r"^/nowhere/Corefile:10 - Error during parsing: Unknown directive 'proxy'$"
    ):
        load("stale.Corefile")
