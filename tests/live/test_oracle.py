"""Random changes and faults, and every answer judged by what the API server said and when: none is wrong."""

from __future__ import annotations

import time
from collections import Counter

import dns.flags
import dns.message
import pytest

from kdns.cluster.view import PodMode, View
from kdns.dns import names
from tests.fakes.apiserver.oracle import Oracle, Verdict
from tests.harness.exchange import TCP, UDP
from tests.live.live_site import Site
from tests.live.random_cluster import RandomCluster

SECONDS = 20.0
CHANGES_PER_SECOND = 50
QUESTIONS_PER_CHANGE = 3
FAULT_EVERY = 25  # changes
SETTLED_SECONDS = 5.0
MAX_UNDECIDED = 0.02  # of the questions: too many states were possible to try them all
LEAST_QUESTIONS = 1000  # a machine that makes fewer in this time proves nothing
FREE = 5.0
VIEW = View(tuple(map(names.from_text, ("cluster.local.", "in-addr.arpa."))), pods=PodMode.VERIFIED)


@pytest.mark.parametrize("seed", [1])
def test_no_answer_is_wrong_whatever_changes_and_fails(site: Site, seed: int) -> None:
    api = site.open_api()
    cluster = RandomCluster(api, seed)
    site.start(site.directive(api, "cluster.local in-addr.arpa", "pods verified"), workers=2)
    site.wait(lambda: site.ready == 200, "ready", FREE)
    oracle = Oracle(api.journal, VIEW)
    rcodes: Counter[str] = Counter()
    wrong: list[str] = []
    undecided: list[str] = []

    def judge(question: tuple[str, str], judging: Oracle = oracle) -> Verdict:
        asked = time.monotonic()
        reply = whole_reply(site, *question)
        replied = time.monotonic()
        if reply is not None:
            message = dns.message.from_wire(reply)
            rcodes["EMPTY" if message.rcode() == 0 and not message.answer else message.rcode().name] += 1
        return judging.judge(*question, reply, asked, replied)

    started = time.monotonic()
    changes = 0
    while time.monotonic() < started + SECONDS:
        cluster.end_faults()
        cluster.change()
        changes += 1
        if changes % FAULT_EVERY == 0:
            cluster.begin_fault()
        for _ in range(QUESTIONS_PER_CHANGE):
            try:
                verdict = judge(cluster.question())
            except ValueError as error:
                undecided.append(str(error))
                continue
            if not verdict.is_right:
                wrong.append(f"{time.monotonic() - started:.2f} s: {verdict.reason}")
        time.sleep(max(0.0, started + changes / CHANGES_PER_SECOND - time.monotonic()))  # the rate, not a wait
    cluster.end_faults(everything=True)
    assert not wrong, "\n".join(
        [f"seed {seed}: {len(wrong)} of {rcodes.total()} wrong", *wrong[:10], site.server.said()]
    )
    assert rcodes.total() >= LEAST_QUESTIONS
    assert len(undecided) <= MAX_UNDECIDED * rcodes.total(), undecided[:10]
    assert set(rcodes) == {"NOERROR", "EMPTY", "NXDOMAIN"}, rcodes  # the questions were worth asking
    met = Counter(fault.name for fault in cluster.begun if fault.met or fault.name == "refused")
    summary = f"{changes} changes, {rcodes.total()} questions, {len(undecided)} undecided: {dict(rcodes)}"
    print(f"{summary}; faults met: {dict(met)}")  # noqa: T201

    strict = Oracle(api.journal, VIEW, by_commit=True)
    site.wait(
        lambda: all(judge(question, strict).is_right for question in cluster.every_question()),
        lambda: str([v for q in cluster.every_question() if not (v := judge(q, strict)).is_right]),
        SETTLED_SECONDS,
    )


def whole_reply(site: Site, qname: str, qtype: str) -> bytes | None:
    """The reply over UDP, or over TCP where it was cut."""
    reply = site.ask_wire(qname, qtype, UDP)
    if reply is not None and dns.message.from_wire(reply).flags & dns.flags.TC:
        return site.ask_wire(qname, qtype, TCP)
    return reply
