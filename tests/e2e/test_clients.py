"""The clients programs really use, against the example cluster: dnspython, and the C library by a pod's resolv.conf."""

from __future__ import annotations

import ipaddress
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import dns.resolver
import dns.reversename
import pytest

from tests.e2e.targets import IPV4, IPV6, Target
from tests.harness.places import with_files

# What a kubelet writes for a pod in the namespace shop.
SEARCH = ("shop.svc.cluster.local", "svc.cluster.local", "cluster.local")
RESOLV_CONF = f"search {' '.join(SEARCH)}\nnameserver {{address}}\noptions ndots:5 timeout:2 attempts:1 {{options}}\n"
NSSWITCH = "hosts: files dns\n"
HOSTS = "127.0.0.1 localhost\n::1 localhost\n"
# Run by the client: the same call every program of the C library makes.
GETADDRINFO = """
import socket, sys
try:
    found = socket.getaddrinfo(sys.argv[1], None, type=socket.SOCK_STREAM)
except socket.gaierror as error:
    print(error.args[0] == socket.EAI_NONAME and "EAI_NONAME" or error.args[1])
else:
    print(*sorted({address[0] for *_, address in found}))
"""
GETNAMEINFO = """
import socket, sys
try:
    print(socket.getnameinfo((sys.argv[1], 0), socket.NI_NAMEREQD)[0])
except socket.gaierror as error:
    print(error.args[0] == socket.EAI_NONAME and "EAI_NONAME" or error.args[1])
"""
Client = Callable[[str, str], str]

# As a program in the namespace shop writes them, and the addresses it gets.
NAMES = {
    "web": {"10.96.10.1", "fd00:10:96::a01"},
    "catalog": {"10.96.10.3"},
    "reviews": {"fd00:10:96::a07"},
    "search": {"10.244.2.51", "10.244.2.52"},
    "web.shop": {"10.96.10.1", "fd00:10:96::a01"},
    "api.payments": {"10.96.20.1"},
    "redis.data.svc": {"10.96.30.5"},
    "kubernetes.default.svc.cluster.local": {"10.96.0.1"},
    "kubernetes.default.svc.cluster.local.": {"10.96.0.1"},
    "WEB.Shop.SVC.Cluster.Local": {"10.96.10.1", "fd00:10:96::a01"},
    "postgres.data": {
        "10.244.4.10",
        "10.244.5.10",
        "10.244.6.10",
        "fd00:10:244:4::10",
        "fd00:10:244:5::10",
        "fd00:10:244:6::10",
    },
    "postgres-1.postgres.data": {"10.244.5.10", "fd00:10:244:5::10"},
    "cassandra.data": {"10.244.4.20", "10.244.5.20"},
    "kafka-2.kafka.data.svc.cluster.local": {"10.244.6.30"},
    "shop.payments": {"10.96.10.1", "fd00:10:96::a01"},
    "mainframe.payments": {"192.0.2.10", "192.0.2.11"},
    "10-244-2-51.shop.pod": {"10.244.2.51"},
}
MISSING = ("nowhere", "web.nowhere", "fraud.payments", "spare.mainframe.payments", "nowhere.example.com")
REVERSE = {
    "10.96.10.1": "web.shop.svc.cluster.local",
    "fd00:10:96::a07": "reviews.shop.svc.cluster.local",
    "192.0.2.10": "east.mainframe.payments.svc.cluster.local",
}


@pytest.fixture
def client(target: Target, tmp_path: Path) -> Client:
    """Runs Python code with the argument given, as a pod's process would; what it prints."""
    return make_client(target, tmp_path, IPV4)


def make_client(target: Target, directory: Path, address: str, options: str = "") -> Client:
    assert target.place.namespace is not None, "a resolv.conf has no ports: the server needs a network namespace"
    files = {}
    for name, text in {
        "resolv.conf": RESOLV_CONF.format(address=address, options=options),
        "nsswitch.conf": NSSWITCH,
        "hosts": HOSTS,
    }.items():
        files[f"/etc/{name}"] = directory / name
        files[f"/etc/{name}"].write_text(text)

    def run(code: str, argument: str) -> str:
        argv = with_files([sys.executable, "-I", "-c", code, argument], files)
        ran = target.run(lambda: subprocess.run(argv, capture_output=True, text=True, timeout=30, check=True))
        return ran.stdout.strip()

    return run


@pytest.mark.parametrize("name", NAMES)
def test_c_library_finds_names_by_the_search_path(client: Client, name: str) -> None:
    assert set(client(GETADDRINFO, name).split()) == NAMES[name]


@pytest.mark.parametrize("name", MISSING)
def test_c_library_learns_that_a_name_is_missing(client: Client, name: str) -> None:
    # After its search path glibc asks for the name alone, which this server refuses: a failure of the server then.
    assert client(GETADDRINFO, name) in ("EAI_NONAME", "Temporary failure in name resolution")


def test_c_library_learns_that_a_name_of_the_cluster_is_missing(client: Client) -> None:
    assert client(GETADDRINFO, "nowhere.shop.svc.cluster.local.") == "EAI_NONAME"


@pytest.mark.parametrize("address", REVERSE)
def test_c_library_finds_the_name_of_an_address(client: Client, address: str) -> None:
    assert client(GETNAMEINFO, address) == REVERSE[address]


@pytest.mark.parametrize("options", ["", "edns0", "use-vc", "single-request", "trust-ad rotate"])
@pytest.mark.parametrize("address", [IPV4, IPV6])
def test_c_library_options(target: Target, tmp_path: Path, address: str, options: str) -> None:
    run = make_client(target, tmp_path, address, options)
    assert set(run(GETADDRINFO, "web").split()) == NAMES["web"]


def test_c_library_gets_every_address_of_a_large_service(client: Client, target: Target) -> None:
    found = client(GETADDRINFO, "many").split()
    assert len(found) == 200
    assert all(ipaddress.ip_address(address) in ipaddress.ip_network("10.250.0.0/16") for address in found)


def resolver_of(target: Target) -> dns.resolver.Resolver:
    made = dns.resolver.Resolver(configure=False)
    made.nameservers, made.port = [IPV4], target.port
    made.search = [dns.name.from_text(domain) for domain in SEARCH]
    made.ndots, made.lifetime = 5, 5.0
    return made


@pytest.mark.parametrize("name", [name for name in NAMES if not name.isupper()])
def test_dnspython_finds_names_by_the_search_path(target: Target, name: str) -> None:
    found: set[str] = set()
    for qtype in ("A", "AAAA"):
        answer = target.run(
            lambda t=qtype: resolver_of(target).resolve(name, t, raise_on_no_answer=False, search=True)  # type: ignore[misc]
        )
        found |= {rdata.address for rdata in answer if answer.rrset is not None}
    assert found == NAMES[name]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("_https._tcp.web.shop.svc.cluster.local", {(443, "web.shop.svc.cluster.local.")}),
        ("_postgres._tcp.postgres.data", {(5432, f"postgres-{n}.postgres.data.svc.cluster.local.") for n in range(3)}),
        (
            "_cics._tcp.mainframe.payments",
            {(1435, f"{e}.mainframe.payments.svc.cluster.local.") for e in ("east", "west")},
        ),
        ("_dns._udp.kube-dns.kube-system", {(53, "kube-dns.kube-system.svc.cluster.local.")}),
    ],
)
def test_dnspython_finds_ports(target: Target, name: str, expected: set[tuple[int, str]]) -> None:
    answer = target.run(lambda: resolver_of(target).resolve(name, "SRV", search=True))
    assert {(rdata.port, rdata.target.to_text()) for rdata in answer} == expected


@pytest.mark.parametrize("address", REVERSE)
def test_dnspython_finds_the_name_of_an_address(target: Target, address: str) -> None:
    answer = target.run(lambda: resolver_of(target).resolve(dns.reversename.from_address(address), "PTR"))
    assert [rdata.target.to_text(omit_final_dot=True) for rdata in answer] == [REVERSE[address]]


def test_dnspython_follows_an_alias_inside_the_cluster(target: Target) -> None:
    answer = target.run(lambda: resolver_of(target).resolve("shop.payments.svc.cluster.local.", "A"))
    assert answer.canonical_name.to_text() == "web.shop.svc.cluster.local."


def test_dnspython_sees_an_alias_that_leads_elsewhere(target: Target) -> None:
    answer = target.run(lambda: resolver_of(target).resolve("gateway.payments.svc.cluster.local.", "CNAME"))
    assert [rdata.target.to_text() for rdata in answer] == ["api.gateway.example.com."]


def test_dnspython_learns_that_a_name_is_missing(target: Target) -> None:
    with pytest.raises(dns.resolver.NXDOMAIN):
        target.run(lambda: resolver_of(target).resolve("nowhere.shop.svc.cluster.local.", "A"))
