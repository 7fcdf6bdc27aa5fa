"""The conformance data against a whole server: one server for each file, asked over UDP and over TCP."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conformance.cases import Scenario, load, scenario_paths, waiting
from tests.conformance.runner import Cluster, Finding, FolderCluster, run_scenario
from tests.fakes.nameserver import FakeNameServer
from tests.fakes.stub_resolver import StubResolver
from tests.harness.exchange import TRANSPORTS
from tests.harness.manifests import ManifestFolder
from tests.harness.places import NamespaceError, Place, open_namespace, open_place
from tests.harness.server import Server

WAITING = waiting()
PASSING = [path.stem for path in scenario_paths() if path.stem not in WAITING]
PATHS = {path.stem: path for path in scenario_paths()}
_SHOWN = 20  # findings of a file shown


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a file: what it found, or why it could not be asked."""

    findings: list[Finding]
    obstacle: str = ""

    def of(self, transport: str) -> list[str]:
        """The text of what went wrong over one transport."""
        found = [str(finding) for finding in self.findings if finding.transport == transport]
        return ([self.obstacle] if self.obstacle else []) + found[:_SHOWN]


@pytest.fixture(scope="module")
def ask_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Outcome]:
    """Runs a file once, over both transports; a server shows both the same changes."""
    outcomes: dict[str, Outcome] = {}

    def outcome_of(name: str) -> Outcome:
        if name not in outcomes:
            try:
                findings = run_file(load(PATHS[name]), tmp_path_factory.mktemp(name))
                outcomes[name] = Outcome(findings)
            except (AssertionError, NamespaceError) as error:
                outcomes[name] = Outcome([], str(error))
        return outcomes[name]

    return outcome_of


def run_file(scenario: Scenario, directory: Path) -> list[Finding]:
    """Start a server for the scenario and ask it everything."""
    with ExitStack() as opened:
        place = open_namespace() if scenario.needs_addresses else open_place()
        opened.callback(place.close)
        for address in {*scenario.local_addresses, *scenario.client_addresses}:
            place.add_address(address)
        folder = ManifestFolder(directory / "objects")
        folder.apply(scenario.objects)
        server = opened.enter_context(start_server(scenario, place, directory, folder, opened))
        server.wait_answering()
        cluster: Cluster = FolderCluster(folder)
        try:
            return place.run(
                lambda: list(run_scenario(scenario, lambda query: server.peer(source=query.client), cluster))
            )
        finally:
            server.send_signal(signal.SIGKILL)  # nothing here is about its end


def start_server(
    scenario: Scenario, place: Place, directory: Path, folder: ManifestFolder, opened: ExitStack
) -> Server:
    """The server, and what it needs beside it."""
    environment = {}
    if scenario.has_upstream:
        lines = [f"{r.owner} {r.ttl} {r.rclass} {r.rtype} {r.rdata}" for r in scenario.upstream]
        resolver = place.run(lambda: opened.enter_context(FakeNameServer(StubResolver(lines))))
        environment["UPSTREAM"] = f"{resolver.address}:{resolver.port}"
    files = {}
    if scenario.search_domains:
        files["/etc/resolv.conf"] = directory / "resolv.conf"
        domains = " ".join(scenario.search_domains)
        files["/etc/resolv.conf"].write_text(f"search {domains}\nnameserver 127.0.0.1\n")
    return Server(
        place,
        directory,
        scenario.corefile,
        manifests=folder.path if scenario.is_synced else unreadable_cluster(directory),
        environment=environment,
        files=files,
    )


def unreadable_cluster(directory: Path) -> Path:
    """A pipe nobody writes to: objects that never come, as from an API server that lists nothing."""
    path = directory / "never.yaml"
    os.mkfifo(path)
    return path


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("name", PASSING)
def test_scenario(name: str, transport: str, ask_file: Callable[[str], Outcome]) -> None:
    wrong = ask_file(name).of(transport)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", WAITING)
def test_scenario_that_waits_would_not_pass_yet(name: str, ask_file: Callable[[str], Outcome]) -> None:
    outcome = ask_file(name)
    assert outcome.findings or outcome.obstacle, f"{name} passes: take it off waiting.yaml"


@pytest.mark.parametrize("name", WAITING)
def test_start_names_the_directive_a_scenario_waits_for(name: str, ask_file: Callable[[str], Outcome]) -> None:
    obstacle = ask_file(name).obstacle
    assert WAITING[name] in obstacle, f"{name} waits for {WAITING[name]}, but the server says: {obstacle}"


def test_every_file_that_waits_exists() -> None:
    assert set(WAITING) <= set(PATHS)


def test_most_of_the_data_is_asked() -> None:
    assert len(PASSING) >= 42


@pytest.fixture(autouse=True, scope="module")
def _nothing_is_left_behind() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before
