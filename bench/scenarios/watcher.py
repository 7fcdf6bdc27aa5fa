"""Who watches a server while something happens to it: makes a change, waits for its answer; asks, and judges.

One question is under way at a time, so that what is seen has an order. A change is one of the canary: a headless
Service of one endpoint, whose address is replaced by the next one. Its delay is from the moment the API server takes
the change until the first answer that has it, as exact as the pause between two questions.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import Any

import dns.exception
import dns.message
import dns.query
import dns.rdatatype

from bench.api import ApiProcess
from bench.churn import is_churned
from bench.cluster import ZONE, Cluster, dotted
from bench.errors import PeerError
from bench.records import Question, Truth, service_name
from bench.scenarios.outcome import Watched
from bench.target import Target
from bench.verify import check_reply

ANSWER_SECONDS = 1.0  # for one answer; later, it counts as missing
SEEN_SECONDS = 10.0  # for a change to be answered; later, it counts as unseen
PAUSE_SECONDS = 0.0003  # between two questions for the canary: the resolution of delays
TURN_SECONDS = 0.05  # between two changes of the canary, where they are seen at once
JUDGED_A_TURN = 3  # answers
CANARY = "canary"  # the Service's name, and its namespace's
FIRST_ADDRESS = 10 << 24 | 250 << 16  # of the canary: outside of the Pods' network
QUESTION = Question(f"{CANARY}.{CANARY}.svc.{ZONE}", "A")
_ADDRESSES = 60_000  # of the canary, before the first is used again


class Watcher:
    """Watches one server; `api` is where the canary changes, None where it does not."""

    def __init__(self, target: Target, questions: Sequence[Question], truth: Truth, api: ApiProcess | None) -> None:
        self.seen = Watched()
        self._target = target
        self._questions = cycle(questions)
        self._truth = truth
        self._api = api
        self._number = 0
        if api is not None:
            api.order("put", objects=[*_canary_objects(), _canary_slice(self._address)])

    def watch(self, seconds: float, with_changes: bool = True) -> None:
        """Change, ask and judge for some seconds."""
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            if with_changes and self._api is not None:
                delay = self.change()
                if delay is None:
                    self.seen.unseen += 1
                else:
                    self.seen.delays_ms.append(delay * 1000)
            for _ in range(JUDGED_A_TURN):
                self.judge_one()
            time.sleep(max(0.0, min(now + TURN_SECONDS, end) - time.monotonic()))

    def change(self, limit_seconds: float = SEEN_SECONDS) -> float | None:
        """Change the canary; returns the seconds until it was answered, None if it was not within the limit."""
        assert self._api is not None
        before = self._address
        self._number = (self._number + 1) % _ADDRESSES
        self._api.send("put", objects=[_canary_slice(self._address)])
        seen = self.wait_answered(self._address, before, limit_seconds)
        at: float = self._api.answer()["at"]
        return None if seen is None else max(0.0, seen - at)

    def wait_answered(self, address: str, before: str, limit_seconds: float) -> float | None:
        """Ask for the canary until it has `address`; returns when, on the monotonic clock."""
        end = time.monotonic() + limit_seconds
        query = dns.message.make_query(QUESTION.name, QUESTION.type)
        with _connected(self._target) as asked:
            while time.monotonic() < end:
                reply = self._ask(query, asked)
                if reply is not None:
                    found = [rdata.to_text() for rrset in reply.answer for rdata in rrset]
                    if found == [address]:
                        return time.monotonic()
                    if found != [before]:
                        self.seen.add_wrong(
                            f"the canary is at {before} or {address}, answered was {found or 'nothing'}"
                        )
                time.sleep(PAUSE_SECONDS)
        return None

    def wait_known(self, limit_seconds: float) -> bool:
        """Wait until the canary is answered for the first time."""
        found = self.wait_answered(self._address, "", limit_seconds) is not None
        self.seen = Watched()
        return found

    def judge_one(self) -> None:
        """Ask the next question, and judge the answer."""
        question = next(self._questions)
        query = dns.message.make_query(question.name, question.type)
        with _connected(self._target) as asked:
            reply = self._ask(query, asked)
        self.seen.asked += 1
        if reply is None:
            self.seen.unanswered += 1
            return
        try:
            check_reply(question, reply, self._truth)
        except PeerError as error:
            self.seen.add_wrong(str(error))

    @property
    def _address(self) -> str:
        return dotted(FIRST_ADDRESS + self._number)

    def _ask(self, query: dns.message.QueryMessage, asked: socket.socket) -> dns.message.Message | None:
        try:
            asked.send(query.to_wire())
            while True:
                reply = dns.message.from_wire(asked.recv(65_536), raise_on_truncation=False)
                if reply.id == query.id:
                    return reply
        except (OSError, dns.exception.DNSException):
            return None


def stable_questions(cluster: Cluster, count: int) -> list[Question]:
    """Questions whose answers no churn changes: of Services that it leaves alone, and of names that are not there."""
    stable = [service for service in cluster.services if not is_churned(service.name)][:count]
    found: list[Question] = []
    for service in stable:
        name = service_name(service)
        label = next(label for _, label in service.endpoints())
        found += [Question(f"{label}.{name}", "A"), Question(name, "AAAA"), Question(f"missing.{name}", "A")]
        if service.address is not None:
            found.append(Question(name, "A"))
            if service.ports[0].name:
                found.append(Question(f"_{service.ports[0].name}._tcp.{name}", "SRV"))
    return found


def _connected(target: Target) -> socket.socket:
    """A socket of its own for each exchange: another port reaches another worker."""
    opened = socket.socket(socket.AF_INET6 if ":" in target.address else socket.AF_INET, socket.SOCK_DGRAM)
    opened.settimeout(ANSWER_SECONDS)
    opened.connect((target.address, target.port))
    return opened


def _canary_objects() -> Iterator[dict[str, Any]]:
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": CANARY}}
    yield {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": CANARY, "namespace": CANARY},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "None",
            "clusterIPs": ["None"],
            "ipFamilies": ["IPv4"],
            "ports": [{"name": "http", "port": 80, "targetPort": 80, "protocol": "TCP"}],
        },
    }


def _canary_slice(address: str) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{CANARY}-00001",
            "namespace": CANARY,
            "labels": {"kubernetes.io/service-name": CANARY},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
    }
