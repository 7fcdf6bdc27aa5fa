"""Metrics of a whole server: what its processes count together, and what stays when one of them dies."""

from __future__ import annotations

import os
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import dns.message
import pytest
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tests.e2e.conftest import copy_cluster
from tests.harness.exchange import TCP, UDP, ask
from tests.harness.places import Place, free_port, open_place
from tests.harness.server import Server
from tests.harness.waiting import wait_until

HOST = "kubernetes.default.svc.cluster.local."
COREFILE = """\
.:53 {{
    errors
    prometheus 127.0.0.1:{port}
    health 127.0.0.1:{health}
    kubernetes cluster.local
    loadbalance
    whoami
}}
quiet.test:53 {{
    whoami
}}
"""

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Metered:
    """A server, and what it shows."""

    def __init__(self, server: Server, port: int) -> None:
        self.server = server
        self._url = f"http://127.0.0.1:{port}/metrics"

    def ask(self, qname: str, rtype: str = "A", transport: str = UDP, times: int = 1) -> None:
        """Have a question answered so often, each time from another port: by one worker or the other."""
        wire = dns.message.make_query(qname, rtype).to_wire()
        for _ in range(times):
            assert self.server.place.run(lambda: ask(self.server.peer(), wire, transport)) is not None

    def samples(self) -> Samples:
        with self.server.place.run(lambda: urllib.request.urlopen(self._url, timeout=5)) as reply:
            text = reply.read().decode()
        families = parse_text(text)
        return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}

    def value(self, name: str, /, **labels: str) -> float:
        """The sum of the samples that have these labels."""
        wanted = set(labels.items())
        return sum(value for (found, given), value in self.samples().items() if found == name and wanted <= given)


@pytest.fixture
def place() -> Iterator[Place]:
    made = open_place()
    yield made
    made.close()


@pytest.fixture
def metered(place: Place, tmp_path: Path) -> Iterator[Metered]:
    copy_cluster(tmp_path / "cluster")
    port, health = place.run(free_port), place.run(free_port)
    corefile = COREFILE.format(port=port, health=health)
    with Server(place, tmp_path, corefile, manifests=tmp_path / "cluster", workers=2) as server:
        server.wait_answering()
        server.wait_synced()
        yield Metered(server, port)


def test_each_query_is_counted_once_whoever_answers_it(metered: Metered) -> None:
    zone = {"zone": ".", "view": ""}
    before = metered.samples()
    metered.ask(HOST, times=20)
    metered.ask(HOST, "AAAA", TCP, times=5)
    metered.ask("none.default.svc.cluster.local.", times=3)
    metered.ask("outside.test.", times=4)
    metered.ask("a.quiet.test.", times=2)
    after = metered.samples()
    grown = {key: value - before.get(key, 0.0) for key, value in after.items() if value != before.get(key, 0.0)}

    def growth(name: str, **labels: str) -> float:
        wanted = set({**zone, **labels}.items())
        return sum(value for (found, given), value in grown.items() if found == name and wanted <= given)

    assert growth("coredns_dns_requests_total", proto="udp", family="1", type="A") == 27
    assert growth("coredns_dns_requests_total", proto="tcp", family="1", type="AAAA") == 5
    assert growth("coredns_dns_requests_total") == 32
    assert growth("coredns_dns_responses_total", plugin="kubernetes", rcode="NOERROR") == 25
    assert growth("coredns_dns_responses_total", plugin="kubernetes", rcode="NXDOMAIN") == 3
    assert growth("coredns_dns_responses_total", plugin="whoami", rcode="NOERROR") == 4
    assert growth("coredns_dns_request_duration_seconds_count") == 32
    assert growth("coredns_dns_response_size_bytes_count", proto="tcp") == 5
    assert not any(("zone", "quiet.test.") in labels for name, labels in after if name.startswith("coredns_dns_"))


def test_counters_do_not_go_back_when_a_worker_dies_and_its_gauges_go(metered: Metered) -> None:
    metered.ask(HOST, times=30)
    counted = metered.value("coredns_dns_requests_total")
    assert counted >= 30
    workers = [process.pid for process in metered.server.processes() if process.title.startswith("kdns: worker")]
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    wait_until(
        lambda: metered.value("kdns_process_restarts_total", role="worker") == len(workers),
        lambda: f"{len(workers)} deaths are counted",
    )
    metered.server.wait_answering()
    assert metered.value("coredns_dns_requests_total") >= counted
    metered.ask(HOST, times=10)
    assert metered.value("coredns_dns_requests_total") >= counted + 10
    wait_until(
        lambda: metered.value("kdns_processes") == 5 and metered.value("kdns_tcp_connections") == 0,
        lambda: "all processes are back, and nothing is held by those that are gone",
    )


def test_the_service_tells_of_itself(metered: Metered) -> None:
    metered.ask(HOST)
    assert metered.value("kdns_table_entries") > 20
    assert 0 <= metered.value("kdns_table_age_seconds") < 60
    assert metered.value("kdns_messages_total", outcome="answer") >= 1
    assert metered.value("process_resident_memory_bytes") > 1 << 20
    assert metered.value("coredns_plugin_enabled", name="kubernetes") == 1
    assert metered.value("coredns_plugin_enabled", name="health") == 0
    wait_until(lambda: metered.value("coredns_health_request_duration_seconds_count") >= 1, lambda: "health has asked")
    wait_until(lambda: metered.value("go_goroutines") >= 2, lambda: "workers show their tasks")
    assert metered.value("coredns_health_request_failures_total") == 0
