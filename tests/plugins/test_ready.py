"""`ready`: where, and whether readiness can be lost again."""

from __future__ import annotations

import pytest

from kdns.plugins.plugin import Surroundings
from tests.fakes.directives import refusal_of, refused, set_up

WRONG_COUNT = "Error during parsing: Wrong argument count or unexpected line ending after"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ready", {":8181": False}),
        ("ready 127.0.0.1:1", {"127.0.0.1:1": False}),
        ("ready {\nmonitor until-ready\n}", {":8181": False}),
        ("ready :1 {\nmonitor continuously\n}", {":1": True}),
        ("ready {\n}", {":8181": False}),
    ],
)
def test_accepted_forms(text: str, expected: dict[str, bool]):
    surroundings = Surroundings()
    assert set_up(text, surroundings) is None
    assert surroundings.ready == expected


def test_blocks_share_an_address_and_one_that_looks_continuously_is_enough():
    surroundings = Surroundings()
    for text in ("ready", "ready {\nmonitor continuously\n}", "ready", "ready :1"):
        set_up(text, surroundings)
    assert surroundings.ready == {":8181": True, ":1": False}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ready\nready", "this plugin can only be used once per Server Block"),
        ("ready 8181", "address 8181: missing port in address"),
        ("ready :1 :2", f"Corefile:2 - {WRONG_COUNT} ':2'"),
        ("ready {\nmonitor\n}", f"Corefile:3 - {WRONG_COUNT} 'monitor'"),
        ("ready {\nmonitor until-ready continuously\n}", f"Corefile:3 - {WRONG_COUNT} 'continuously'"),
        ("ready {\nmonitor always\n}", "Corefile:3 - Error during parsing: monitor type 'always' not supported"),
        ("ready {\nwatch\n}", "Corefile:3 - Error during parsing: unknown property 'watch'"),
    ],
)
def test_refused_forms(text: str, expected: str):
    assert refused(text) == f"plugin/ready: {expected}"


def test_a_wrong_monitor_is_answered_with_those_there_are():
    assert refusal_of(". {\nready {\nmonitor always\n}\n}").hint == "expected until-ready or continuously"
    assert refusal_of(". {\nready {\nmonitr always\n}\n}").hint == "did you mean 'monitor'?"
