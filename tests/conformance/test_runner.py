"""The runner, against a name server that does what the data says, or all but."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import dns.message
import pytest

from tests.conformance.cases import Query, Scenario, load, scenario_paths
from tests.conformance.runner import Finding, main, run_scenario
from tests.fakes.expected_replies import ExpectedReplies, Mutation, ScriptedCluster
from tests.fakes.nameserver import FakeNameServer
from tests.harness.exchange import Peer

SCENARIOS = {scenario.name: scenario for scenario in map(load, scenario_paths())}
# Those with clients of their own need addresses, which only a namespace has.
ON_LOOPBACK = [name for name, scenario in SCENARIOS.items() if not scenario.client_addresses]
WITH_STEPS = [name for name in ON_LOOPBACK if SCENARIOS[name].steps]


def run_against_fake(
    scenario: Scenario, cluster: ScriptedCluster, mutations: dict[str, Mutation] | None = None
) -> list[Finding]:
    with FakeNameServer(ExpectedReplies(scenario, cluster, mutations)) as server:
        peer = Peer(server.address, server.port)
        return list(run_scenario(scenario, lambda _: peer, cluster, observe_seconds=0.2))


def drop_answer(reply: dns.message.Message, _: Query) -> None:
    reply.answer = []


def ids(findings: Iterable[Finding]) -> set[str]:
    return {finding.query.id for finding in findings}


@pytest.mark.parametrize("name", ON_LOOPBACK)
def test_right_server_passes(name: str) -> None:
    assert [str(finding) for finding in run_against_fake(SCENARIOS[name], ScriptedCluster())] == []


@pytest.mark.parametrize("name", WITH_STEPS)
def test_change_may_be_seen_late(name: str) -> None:
    assert run_against_fake(SCENARIOS[name], ScriptedCluster(delay_queries=3)) == []


@pytest.mark.parametrize("name", ["clusterip", "updates", "edns-truncation"])
def test_each_wrong_reply_is_found_and_no_other(name: str) -> None:
    wrong = [query for query in SCENARIOS[name].queries if query.exact.get("answer")][::7]
    scenario = dataclasses.replace(SCENARIOS[name])
    found = run_against_fake(scenario, ScriptedCluster(), {query.id: drop_answer for query in wrong})
    assert ids(found) == {query.id for query in wrong}
    assert len(found) == sum(len(query.transports) for query in wrong)


def test_change_that_never_shows_is_found() -> None:
    scenario = SCENARIOS["updates"]
    found = run_against_fake(scenario, ScriptedCluster(delay_queries=10**9))
    assert {finding.query.step for finding in found} == set(range(1, len(scenario.steps) + 1))


def test_silent_server_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.conformance.runner.ASK_SECONDS", 0.05)
    with FakeNameServer(lambda *_: []) as server:
        peer = Peer(server.address, server.port)
        scenario = dataclasses.replace(SCENARIOS["ptr-split"])
        found = list(run_scenario(scenario, lambda _: peer, ScriptedCluster(), observe_seconds=0.0))
    assert all(finding.differences == ["no reply"] for finding in found)
    assert len(found) == sum(len(query.transports) for query in scenario.queries)


def test_command_line_asks_a_server_by_address(capsys: pytest.CaptureFixture[str]) -> None:
    scenario = SCENARIOS["clusterip"]
    path = next(path for path in scenario_paths() if path.stem == "clusterip")
    with FakeNameServer(ExpectedReplies(scenario, ScriptedCluster(), {"a": drop_answer})) as server:
        where = ["--address", server.address, "--port", str(server.port)]
        assert main([*where, "--transport", "udp", "--observe", "0.1", str(path)]) == 1
    out = capsys.readouterr().out
    assert "clusterip/a svc1.testns.svc.cluster.local. A over udp: answer: missing" in out
    assert f"{len(scenario.queries) - 1} passed, 1 failed" in out


def test_command_line_puts_the_objects_into_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = next(path for path in scenario_paths() if path.stem == "ptr-split")
    scenario = SCENARIOS["ptr-split"]
    with FakeNameServer(ExpectedReplies(scenario, ScriptedCluster())) as server:
        arguments = ["--port", str(server.port), "--manifests", str(tmp_path / "cluster"), str(path)]
        assert main(arguments) == 0
    assert len(list((tmp_path / "cluster").iterdir())) == len(scenario.objects)


def test_unknown_key_in_the_data_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "case.yaml"
    path.write_text("{name: case, corefile: '', objects: [], queries: [{id: a, expect: b}]}")
    with pytest.raises(ValueError, match="unknown keys"):
        load(path)
