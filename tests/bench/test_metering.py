"""The bench of counting runs, and counts what it answers."""

from __future__ import annotations

from bench.metering import measure


def test_both_kinds_are_measured():
    found = measure(rounds=1, batch=50)
    assert found["plain_ns"] > 0
    assert found["metered_ns"] > 0
    assert set(found) == {"plain_ns", "metered_ns", "metering_ns"}
