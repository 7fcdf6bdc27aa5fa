"""The stream counts what is lost, what is wrong, and how long nothing came."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence

import pytest

from tests.fakes.nameserver import Answer, FakeNameServer
from tests.fakes.zone import FakeZone
from tests.harness import query_stream
from tests.harness.exchange import Peer
from tests.harness.places import Loopback
from tests.harness.query_stream import QueryStream, StreamStatistics
from tests.harness.waiting import wait_until


def stream(answer: Answer, qname: str = "host.test.cluster.local.", enough: int = 100) -> StreamStatistics:
    with FakeNameServer(answer) as server, QueryStream(Loopback(), Peer(port=server.port), qname) as queries:
        wait_until(lambda: queries.answered >= enough, "enough answers")
    return queries.statistics()


def test_every_reply_is_counted() -> None:
    seen = stream(FakeZone())
    assert seen.answered >= 100
    assert (seen.wrong, seen.lost) == (0, 0)


def test_lost_query_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_stream, "LATE_SECONDS", 0.1)
    zone, number = FakeZone(), itertools.count()

    def forgetful(wire: bytes, transport: str) -> Sequence[bytes]:
        return zone(wire, transport) if next(number) % 10 else []

    seen = stream(forgetful)
    assert seen.sent // 10 - 1 <= seen.lost <= seen.sent // 10 + 1


def test_reply_without_an_answer_is_wrong() -> None:
    seen = stream(FakeZone(), "missing.cluster.local.")
    assert seen.wrong == seen.answered


def test_silence_is_measured() -> None:
    zone, number = FakeZone(), itertools.count()

    def stalling(wire: bytes, transport: str) -> Sequence[bytes]:
        if next(number) == 50:
            time.sleep(0.2)
        return zone(wire, transport)

    assert 0.15 < stream(stalling).longest_gap_seconds < 2.0
