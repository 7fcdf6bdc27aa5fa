import os
import shutil
import socket
import threading
from contextlib import contextmanager

import dns.flags
import dns.message
import dns.rrset
import pytest

from bench.__main__ import main
from bench.cluster import Sizes, generate
from bench.errors import BenchError
from bench.load import Options
from bench.records import Question, Truth
from bench.scenarios import SCENARIOS, parse_scenarios
from bench.scenarios.sizes import sizes_of
from bench.scenarios.stage import Settings
from bench.scenarios.watcher import Watcher, stable_questions
from bench.target import Stranger

CLUSTER = generate(Sizes(services=40, endpoints=400, headless=4, largest=20))
TRUTH = Truth(CLUSTER)


class Api:
    """An API server that only remembers: the canary's address goes to whom it is shared with."""

    def __init__(self):
        self.address = ""
        self.at = 0.0

    def order(self, do, **details):
        self.send(do, **details)
        return self.answer()

    def send(self, do, objects):
        assert do == "put"
        self.address = objects[-1]["endpoints"][0]["addresses"][0]

    def answer(self):
        return {"at": self.at}


@contextmanager
def server(answer):
    """A name server; `answer` gets the question and returns the reply's rcode and rdata, or None to stay silent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))

        def serve():
            while True:
                octets, client = listener.recvfrom(4096)
                if octets == b"stop":
                    return
                query = dns.message.from_wire(octets)
                entry = query.question[0]
                found = answer(entry.name.to_text(), dns.rdatatype.to_text(entry.rdtype))
                if found is None:
                    continue
                reply = dns.message.make_response(query)
                reply.set_rcode(dns.rcode.from_text(found[0]))
                if found[1]:
                    reply.answer.append(dns.rrset.from_text(entry.name, 5, "IN", entry.rdtype, *found[1]))
                listener.sendto(reply.to_wire(), client)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield Stranger("127.0.0.1", listener.getsockname()[1])
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"stop", listener.getsockname())
            thread.join()


def truthful(name, type_):
    found = TRUTH.answer(Question(name, type_))
    return found.rcode, sorted(found.rdata)


def test_a_change_is_seen_when_it_is_answered():
    api = Api()
    with server(lambda name, type_: ("NOERROR", [api.address])) as target:
        watcher = Watcher(target, [], TRUTH, api)
        assert watcher.wait_known(1.0)
        assert watcher.change(1.0) > 0

    assert watcher.seen.wrong == 0


def test_a_change_that_is_never_answered_is_unseen_and_an_old_address_is_not_wrong():
    api = Api()
    with server(lambda name, type_: ("NOERROR", ["10.250.0.0"])) as target:
        watcher = Watcher(target, [], TRUTH, api)
        assert watcher.change(0.05) is None

    assert watcher.seen.wrong == 0


def test_an_address_that_the_canary_never_had_is_wrong():
    api = Api()
    with server(lambda name, type_: ("NOERROR", ["10.9.9.9"])) as target:
        watcher = Watcher(target, [], TRUTH, api)
        watcher.change(0.05)

    assert watcher.seen.wrong > 0
    assert "answered was ['10.9.9.9']" in watcher.seen.examples[0]


def test_right_answers_are_right():
    questions = stable_questions(CLUSTER, 5)
    with server(truthful) as target:
        watcher = Watcher(target, questions, TRUTH, None)
        for _ in questions:
            watcher.judge_one()

    assert (watcher.seen.asked, watcher.seen.wrong, watcher.seen.unanswered) == (len(questions), 0, 0)


@pytest.mark.parametrize(
    ("answer", "wrong", "unanswered"),
    [(lambda name, type_: ("SERVFAIL", []), 1, 0), (lambda name, type_: None, 0, 1)],
)
def test_wrong_and_missing_answers_are_told_apart(monkeypatch, answer, wrong, unanswered):
    monkeypatch.setattr("bench.scenarios.watcher.ANSWER_SECONDS", 0.05)
    with server(answer) as target:
        watcher = Watcher(target, stable_questions(CLUSTER, 1), TRUTH, None)
        watcher.judge_one()

    assert (watcher.seen.wrong, watcher.seen.unanswered) == (wrong, unanswered)


def test_an_unknown_scenario_is_named_with_those_there_are(capsys):
    assert main(["scenario", "storm"]) == 1
    assert "unknown scenario 'storm': expected some of churn, reload, relist, kill," in capsys.readouterr().err


def test_all_are_all():
    assert parse_scenarios("all") == [*SCENARIOS, "sizes"]


@pytest.mark.parametrize(("name", "peer"), [("kill", "coredns"), ("churn", "knot"), ("upstream-gone", "knot")])
def test_what_does_not_apply_to_a_server_is_refused(name, peer, tmp_path):
    with pytest.raises(BenchError, match=f"^{peer} "):
        SCENARIOS[name].play(peer, Settings(CLUSTER.sizes, tmp_path))


@pytest.mark.parametrize("services", [100, 1_000, 100_000])
def test_every_size_is_one_that_a_cluster_can_have(services):
    sizes = sizes_of(services, seed=1)

    assert (sizes.services, sizes.endpoints) == (services, 15 * services)
    if services < 10_000:
        assert len(generate(sizes).services) == services


@pytest.mark.skipif(shutil.which("dnsperf") is None, reason="dnsperf is not installed")
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core")
def test_churn_on_kdns_from_end_to_end(tmp_path):
    server_core, load_core = sorted(os.sched_getaffinity(0))[:2]
    settings = Settings(
        CLUSTER.sizes,
        tmp_path,
        share=5,
        seconds=0.5,
        calm_seconds=0.3,
        options=Options(server_cores=(server_core,), load_core=load_core),
    )

    outcome = SCENARIOS["churn"].play("kdns", settings)

    assert outcome.foreign == 0
    assert (outcome.watched.wrong, outcome.watched.examples) == (0, [])
    assert outcome.watched.delays_ms
    assert outcome.facts["changes/s"] > 0
    assert outcome.phases.keys() == {"calm", "event", "after"}
