"""Where a whole server listens, and what it logs of what it is asked there."""

from __future__ import annotations

import re
from collections.abc import Iterator

import dns.message
import pytest

from tests.e2e.conftest import copy_cluster
from tests.harness.exchange import TCP, UDP, ask
from tests.harness.places import open_place
from tests.harness.server import Server
from tests.harness.waiting import wait_until

HOST = "kubernetes.default.svc.cluster.local."
COREFILE = """\
.:53 {
    bind 127.0.0.2 127.0.0.3
    log . "{proto} {local} {name} {type} {class} {rcode} {rsize}"
    chaos here
    hosts hosts {
        10.9.9.9 inline.test
        fallthrough
    }
    kubernetes cluster.local
    whoami
}
cluster.local:53 {
    bind 127.0.0.4
    log . {
        class error
    }
    bufsize 512
    hosts hosts {
        fallthrough
    }
    kubernetes cluster.local
}
"""
HOSTS = "10.9.9.1 mine.cluster.local\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    place, folder = open_place(), tmp_path_factory.mktemp("listeners")
    copy_cluster(folder / "cluster")
    (folder / "hosts").write_text(HOSTS)
    with Server(place, folder, COREFILE, manifests=folder / "cluster") as started:
        for address in ("127.0.0.2", "127.0.0.3", "127.0.0.4"):
            started.wait_answering(address)
        wait_until(lambda: lookup(started, "127.0.0.4", HOST).answer, "the cluster is known")
        yield started
    place.close()


def lookup(
    server: Server, address: str, qname: str, rtype: str = "A", transport: str = UDP, rdclass: str = "IN"
) -> dns.message.Message:
    query = dns.message.make_query(qname, rtype, rdclass)
    wire = server.place.run(lambda: ask(server.peer(address), query.to_wire(), transport))
    assert wire is not None
    return dns.message.from_wire(wire)


def wait_logged(server: Server, line: str) -> None:
    wait_until(lambda: line in server.stdout.splitlines(), lambda: f"{line!r} is logged\n{server.said()}")


@pytest.mark.parametrize("transport", [UDP, TCP])
@pytest.mark.parametrize("address", ["127.0.0.2", "127.0.0.3"])
def test_each_address_is_served_and_logged_as_where_the_query_came(server: Server, address: str, transport: str):
    name = f"x-{transport}-{address.replace('.', '-')}.test."
    assert lookup(server, address, name, transport=transport).additional
    fixed = 12 + len(name) + 1 + 4
    size = fixed + (len(name) + 1 + 14) + (len(name) + 1 + 5 + 17)
    wait_logged(server, f"[INFO] {transport} {address} {name} A IN NOERROR {size}")


def test_names_of_the_cluster_are_logged_where_all_are(server: Server):
    assert lookup(server, "127.0.0.2", HOST).answer
    wait_until(lambda: re.search(rf"udp 127\.0\.0\.2 {HOST} A IN NOERROR \d+$", server.stdout, re.MULTILINE), "a line")


def test_names_of_a_file_go_before_those_of_the_cluster_on_every_address(server: Server):
    for address in ("127.0.0.2", "127.0.0.4"):
        (answer,) = lookup(server, address, "mine.cluster.local.").answer
        assert [record.to_text() for record in answer] == ["10.9.9.1"]
    (answer,) = lookup(server, "127.0.0.3", "inline.test.").answer
    assert [record.to_text() for record in answer] == ["10.9.9.9"]


def test_where_only_errors_are_logged_the_table_answers_silently(server: Server):
    name = "many.shop.svc.cluster.local."
    query = dns.message.make_query(name, "A", use_edns=0, payload=1232)
    wire = server.place.run(lambda: ask(server.peer("127.0.0.4"), query.to_wire()))
    assert wire is not None
    assert len(wire) <= 512  # as `bufsize` says
    assert dns.message.from_wire(wire).flags & dns.flags.TC
    assert lookup(server, "127.0.0.2", "then.test.").additional
    wait_until(lambda: "then.test. A IN" in server.stdout, "a later line")
    assert name not in server.stdout


def test_class_ch_is_for_chaos_where_it_is_and_refused_elsewhere(server: Server):
    (answer,) = lookup(server, "127.0.0.2", "version.bind.", "TXT", rdclass="CH").answer
    assert [record.to_text() for record in answer] == ['"here"']
    assert lookup(server, "127.0.0.4", "version.bind.", "TXT", rdclass="CH").rcode() == dns.rcode.REFUSED


def test_the_start_tells_addresses(server: Server):
    port = server.place.dns_port
    lines = server.stdout.splitlines()
    for line in (f".:{port} on 127.0.0.2", f".:{port} on 127.0.0.3", f"cluster.local.:{port} on 127.0.0.4"):
        assert line in lines
