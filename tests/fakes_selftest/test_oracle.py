"""The oracle: right is what some current versions give, wrong is everything else."""

from __future__ import annotations

import time
from collections.abc import Iterator

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from kdns.cluster.view import PodMode, View
from kdns.dns import names
from tests.fakes.apiserver import FakeApiServer
from tests.fakes.apiserver.oracle import WINDOW_SECONDS, Oracle
from tests.fakes_selftest.apiclient import connected
from tests.fakes_selftest.objects import endpoint_slice, namespace, pod, service

ZONES = (names.from_text("cluster.local."), names.from_text("10.in-addr.arpa."))
WEB = "web.shop.svc.cluster.local."
LATER = 10 * WINDOW_SECONDS


@pytest.fixture
def server() -> Iterator[FakeApiServer]:
    with FakeApiServer() as made:
        made.put(namespace())
        yield made


def reply(qname: str, qtype: str, *values: str, rcode: str = "NOERROR", ttl: int = 5) -> bytes:
    made = dns.message.make_response(dns.message.make_query(qname, qtype))
    made.set_rcode(dns.rcode.from_text(rcode))
    if values:
        made.answer.append(dns.rrset.from_text(qname, ttl, "IN", qtype, *values))
    return made.to_wire()


def judge(oracle: Oracle, qname: str, qtype: str, *values: str, at: float = 0.0, rcode: str = "NOERROR") -> bool:
    moment = time.monotonic() + at
    return oracle.judge(qname, qtype, reply(qname, qtype, *values, rcode=rcode), moment, moment).is_right


def test_a_service_answers_with_its_address_and_nothing_else(server: FakeApiServer) -> None:
    server.put(service("web", "10.96.0.1"))
    oracle = Oracle(server.journal, View(ZONES), by_commit=True)
    assert judge(oracle, WEB, "A", "10.96.0.1", at=LATER)
    assert not judge(oracle, WEB, "A", "10.96.0.2", at=LATER)
    assert not judge(oracle, WEB, "A", "10.96.0.1", "10.96.0.2", at=LATER)
    assert not judge(oracle, WEB, "A", at=LATER)
    assert not judge(oracle, WEB, "A", rcode="NXDOMAIN", at=LATER)
    assert judge(oracle, WEB, "AAAA", at=LATER)
    assert judge(oracle, "no.shop.svc.cluster.local.", "A", rcode="NXDOMAIN", at=LATER)
    assert judge(oracle, "1.0.96.10.in-addr.arpa.", "PTR", WEB, at=LATER)


def test_the_old_address_is_right_for_a_second(server: FakeApiServer) -> None:
    server.put(service("web", "10.96.0.1"))
    server.put(service("web", "10.96.0.2"))
    oracle = Oracle(server.journal, View(ZONES), by_commit=True)
    assert judge(oracle, WEB, "A", "10.96.0.1")
    assert judge(oracle, WEB, "A", "10.96.0.2")
    assert not judge(oracle, WEB, "A", "10.96.0.1", at=LATER)
    assert not judge(oracle, WEB, "A", "10.96.0.2", at=-LATER)


async def test_what_nobody_was_told_of_may_be_unknown(server: FakeApiServer) -> None:
    server.put(service("web", "10.96.0.1"))
    oracle = Oracle(server.journal, View(ZONES))
    async with connected(server) as client:
        await client.list("Namespace")
        await client.list("Service")
        server.put(service("web", "10.96.0.2"))
        assert judge(oracle, WEB, "A", "10.96.0.1", at=LATER)
        await client.list("Service")
        assert not judge(oracle, WEB, "A", "10.96.0.1", at=LATER)


def test_each_object_may_be_old_on_its_own(server: FakeApiServer) -> None:
    server.put(service("web", "None"), endpoint_slice("web", "10.1.0.1"))
    server.put(endpoint_slice("web", "10.1.0.2", name="web-2"))
    server.put(endpoint_slice("web", "10.1.0.3"), endpoint_slice("web", "10.1.0.4", name="web-2"))
    oracle = Oracle(server.journal, View(ZONES), by_commit=True)
    for first, second in (("1", "2"), ("3", "2"), ("1", "4"), ("3", "4")):
        assert judge(oracle, WEB, "A", f"10.1.0.{first}", f"10.1.0.{second}")
    assert not judge(oracle, WEB, "A", "10.1.0.1", "10.1.0.3")
    assert judge(oracle, WEB, "A", "10.1.0.3", "10.1.0.4", at=LATER)
    assert not judge(oracle, WEB, "A", "10.1.0.1", "10.1.0.4", at=LATER)


def test_a_deleted_service_is_a_ghost_after_a_second(server: FakeApiServer) -> None:
    server.put(service("web"))
    server.delete("Service", "shop", "web")
    oracle = Oracle(server.journal, View(ZONES), by_commit=True)
    assert judge(oracle, WEB, "A", "10.96.0.1")
    assert not judge(oracle, WEB, "A", "10.96.0.1", at=LATER)
    assert judge(oracle, WEB, "A", rcode="NXDOMAIN", at=LATER)


def test_going_back_makes_the_old_state_right_again(server: FakeApiServer) -> None:
    then = server.put(service("web", "10.96.0.1")).rv
    server.put(service("web", "10.96.0.2"))
    server.faults.add("rewind", to=then)
    oracle = Oracle(server.journal, View(ZONES), by_commit=True)
    assert judge(oracle, WEB, "A", "10.96.0.1", at=LATER)
    assert not judge(oracle, WEB, "A", "10.96.0.2", at=LATER)


def test_aliases_are_followed_inside_the_zone(server: FakeApiServer) -> None:
    alias = service("alias")
    alias["spec"] = {"type": "ExternalName", "externalName": WEB.rstrip(".")}
    server.put(alias, service("web", "10.96.0.1"))
    server.put(service("web", "10.96.0.2"))
    oracle = Oracle(server.journal, View(ZONES), by_commit=True)
    qname = "alias.shop.svc.cluster.local."
    moment = time.monotonic()
    for address, at, is_right in (("10.96.0.1", 0.0, True), ("10.96.0.1", LATER, False), ("10.96.0.2", LATER, True)):
        made = dns.message.from_wire(reply(qname, "CNAME", WEB))
        made.answer.append(dns.rrset.from_text(WEB, 5, "IN", "A", address))
        verdict = oracle.judge(qname, "A", made.to_wire(), moment + at, moment + at)
        assert verdict.is_right is is_right, verdict.reason


def test_verified_pods_are_judged(server: FakeApiServer) -> None:
    server.put(pod("a", address="10.1.0.1"))
    oracle = Oracle(server.journal, View(ZONES, pods=PodMode.VERIFIED), by_commit=True)
    assert judge(oracle, "10-1-0-1.shop.pod.cluster.local.", "A", "10.1.0.1", at=LATER)
    assert judge(oracle, "10-1-0-2.shop.pod.cluster.local.", "A", rcode="NXDOMAIN", at=LATER)


def test_a_failure_is_right_only_before_the_first_sync(server: FakeApiServer) -> None:
    oracle = Oracle(server.journal, View(ZONES), by_commit=True)
    failed = reply(WEB, "A", rcode="SERVFAIL")
    moment = time.monotonic() + LATER
    assert oracle.judge(WEB, "A", failed, moment, moment, is_synced=False).is_right
    assert not oracle.judge(WEB, "A", failed, moment, moment).is_right


def test_no_reply_a_truncated_one_and_garbage_are_wrong(server: FakeApiServer) -> None:
    oracle = Oracle(server.journal, View(ZONES))
    cut = dns.message.from_wire(reply(WEB, "A", rcode="NXDOMAIN"))
    cut.flags |= dns.flags.TC
    for met, told in ((None, "no reply"), (cut.to_wire(), "truncated"), (b"\0" * 5, "malformed")):
        verdict = oracle.judge(WEB, "A", met, 0.0, 0.0)
        assert not verdict.is_right
        assert told in verdict.reason


def test_names_that_no_object_decides_are_not_judged(server: FakeApiServer) -> None:
    oracle = Oracle(server.journal, View(ZONES))
    for qname in ("cluster.local.", "example.org.", "ns.dns.cluster.local."):
        with pytest.raises(ValueError, match="no objects of the cluster decide"):
            judge(oracle, qname, "A")


async def test_what_is_forgotten_is_not_missed(server: FakeApiServer) -> None:
    server.put(service("web", "10.96.0.1"))
    oracle = Oracle(server.journal, View(ZONES))
    async with connected(server) as client:
        for last in range(2, 50):
            server.put(service("web", f"10.96.0.{last}"))
            await client.list("Namespace")
            await client.list("Service")
    key = next(key for key in server.journal.objects() if key.kind == "Service")
    assert len(server.journal.newest(key)) == 49
    server.journal.forget(time.monotonic())
    assert len(server.journal.newest(key)) == 1
    assert judge(oracle, WEB, "A", "10.96.0.49", at=LATER)
    assert not judge(oracle, WEB, "A", "10.96.0.48", at=LATER)
    assert not judge(oracle, WEB, "A", rcode="NXDOMAIN", at=LATER)
