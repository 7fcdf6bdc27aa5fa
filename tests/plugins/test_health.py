"""`health`: where, and how long the end is put off."""

from __future__ import annotations

import pytest

from kdns.plugins.plugin import HealthSettings, Surroundings
from tests.fakes.directives import refused, set_up

WRONG_COUNT = "Error during parsing: Wrong argument count or unexpected line ending after"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("health", HealthSettings(":8080", 0.0)),
        ("health :9090", HealthSettings(":9090", 0.0)),
        ("health 127.0.0.1:9090", HealthSettings("127.0.0.1:9090", 0.0)),
        ("health [::1]:9090", HealthSettings("[::1]:9090", 0.0)),
        ("health {\nlameduck 5s\n}", HealthSettings(":8080", 5.0)),
        ("health {\nlameduck 1m30s\n}", HealthSettings(":8080", 90.0)),
        ("health {\nlameduck 0\n}", HealthSettings(":8080", 0.0)),
        ("health :1 {\nlameduck 1s\nlameduck 300ms\n}", HealthSettings(":1", 0.3)),
        ("health {\n}", HealthSettings(":8080", 0.0)),
        ("health :1\nhealth :2 {\nlameduck 1s\n}", HealthSettings(":2", 1.0)),  # may be given twice: the last counts
    ],
)
def test_accepted_forms(text: str, expected: HealthSettings):
    surroundings = Surroundings()
    assert set_up(text, surroundings) is None
    assert surroundings.health == [expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("health a b", f"Corefile:2 - {WRONG_COUNT} 'b'"),
        ("health 8080", "address 8080: missing port in address"),
        ("health [::1]", "address [::1]: missing port in address"),
        ("health ::1", "address ::1: too many colons in address"),
        ("health {\nlameduck\n}", f"Corefile:3 - {WRONG_COUNT} 'lameduck'"),
        ("health {\nlameduck 5s 6s\n}", f"Corefile:3 - {WRONG_COUNT} '6s'"),
        (
            "health {\nlameduck 5\n}",
            "unable to parse lameduck duration value: '5' : time: missing unit in duration \"5\"",
        ),
        ("health {\nlame 5s\n}", "Corefile:3 - Error during parsing: unknown property 'lame'"),
    ],
)
def test_refused_forms(text: str, expected: str):
    assert refused(text) == f"plugin/health: {expected}"


def test_each_block_may_have_its_own():
    surroundings = Surroundings()
    set_up("health :1", surroundings)
    set_up("health :2", surroundings)
    assert [settings.address for settings in surroundings.health] == [":1", ":2"]
