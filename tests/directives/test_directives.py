"""The directive cases against the whole server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import pytest

from tests.directives.cases import DATA, Case, Start, load, waiting
from tests.directives.judge import judge_steps, observe_start, reply_differences, start_differences
from tests.harness.places import Place, open_place

CASES = {path.stem: load(path) for path in sorted(DATA.glob("*.yaml"))}
STARTS = {f"{case.name}/{start.id}": start for case in CASES.values() for start in case.starts}
WITH_STEPS = {name: case for name, case in CASES.items() if case.steps}
WAITING = waiting()
KNOWN = STARTS.keys() | WITH_STEPS.keys()


@pytest.fixture
def place() -> Iterator[Place]:
    made = open_place()
    yield made
    made.close()


@pytest.mark.parametrize("name", [name for name in STARTS if name not in WAITING])
def test_start(name: str, place: Place, tmp_path: Path) -> None:
    assert start_differences(STARTS[name], *observe_start(place, tmp_path, STARTS[name])) == []


@pytest.mark.parametrize("name", [name for name in WITH_STEPS if name not in WAITING])
def test_steps(name: str, place: Place, tmp_path: Path) -> None:
    assert list(judge_steps(place, tmp_path, CASES[name])) == []


@pytest.mark.parametrize("name", [name for name in WAITING if name in STARTS])
def test_start_that_waits_is_ended_by_one_line_that_names_the_directive(
    name: str, place: Place, tmp_path: Path
) -> None:
    start = STARTS[name]
    observed = observe_start(place, tmp_path, start)
    assert start_differences(start, *observed) != [], f"{name} passes: take it off waiting.yaml"
    lines = start.corefile.splitlines()
    position = 1 + next(number for number, line in enumerate(lines) if line.split()[:1] == [WAITING[name]])
    expected = replace(start, exit=1, stderr=[], stderr_pattern=rf"\A.*Corefile:{position}\b.*{WAITING[name]}.*\n\Z")
    assert start_differences(expected, *observed) == []


@pytest.mark.parametrize("name", [name for name in WAITING if name in WITH_STEPS])
def test_steps_that_wait_would_not_pass_yet(name: str, place: Place, tmp_path: Path) -> None:
    try:
        differences = list(judge_steps(place, tmp_path, CASES[name]))
    except AssertionError as error:
        differences = [str(error)]
    assert differences, f"{name} passes: take it off waiting.yaml"


def test_everything_that_waits_exists() -> None:
    assert set(WAITING) <= KNOWN


START = Start("a", "", {}, {}, (), 1, ["Corefile:1 - wrong"], "^plugin/")
SAID = "Corefile:1 - wrong\nplugin/x: no\n"


def test_start_as_expected_passes() -> None:
    assert start_differences(START, 1, SAID) == []


@pytest.mark.parametrize(
    ("ended", "said"),
    [(0, SAID), ("running", SAID), (1, "Corefile:1 - wrong\n"), (1, "plugin/x: no\n"), (1, SAID.replace("1 -", "2 -"))],
)
def test_start_that_differs_is_found(ended: int | str, said: str) -> None:
    assert start_differences(START, ended, said)


def a_reply(**changes: object) -> dns.message.Message:
    reply = dns.message.make_response(dns.message.make_query("a.test.", "A"))
    reply.flags |= dns.flags.AA
    if "rcode" in changes:
        reply.set_rcode(dns.rcode.SERVFAIL)
    if "flags" in changes:
        reply.flags ^= dns.flags.AA
    if "records" in changes:
        reply.additional.append(dns.rrset.from_text("a.test.", 0, "IN", "A", "192.0.2.1"))
    if "opt" in changes:
        reply.use_edns(0)
    return reply


def test_reply_as_expected_passes() -> None:
    assert reply_differences({"rcode": "NOERROR", "aa": True}, a_reply()) == []
    assert reply_differences({"rcode": "NOERROR", "aa": True, "ignore": ["additional"]}, a_reply(records=1)) == []


@pytest.mark.parametrize("change", ["rcode", "flags", "records", "opt"])
def test_reply_that_differs_is_found(change: str) -> None:
    assert reply_differences({"rcode": "NOERROR", "aa": True}, a_reply(**{change: True}))


def test_unknown_key_in_the_data_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "case.yaml"
    path.write_text("{name: case, corefile: '', steps: [{q: a.test., rcode: NOERROR, expect: b}]}")
    with pytest.raises(ValueError, match="unknown keys"):
        load(path)


def test_every_case_is_asked_something() -> None:
    assert all(isinstance(case, Case) and (case.starts or case.steps) for case in CASES.values())
