"""Conformance files with their objects in an API server instead of a folder, step by step too."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conformance.cases import DATA, TRANSPORTS, Scenario, Step, load
from tests.conformance.runner import run_scenario
from tests.fakes.apiserver import FakeApiServer
from tests.harness.places import open_namespace, open_place
from tests.live.live_site import Site, open_site

# Those whose answers depend on what is asked of the API, selectors, Pods and imports, and on the order of its changes.
FILES = (
    "apex",
    "endpoint-pod-names",
    "ignore-empty-service",
    "labels",
    "multicluster",
    "namespace-labels",
    "namespaces",
    "noendpoints",
    "noendpoints-ignore-empty",
    "pods-verified",
    "ttl-30",
    "unsynced",
    "updates",
    "updates-apex",
    "updates-empty",
    "updates-multicluster",
    "updates-selectors",
    "zonal",
)
OBSERVE_SECONDS = 3.0
_DIRECTIVE = re.compile(r"^(\s*kubernetes\b[^{\n]*?)\s*(\{?)\s*$", re.MULTILINE)
_SHOWN = 20


class ApiCluster:
    """A cluster that is changed by way of its API server."""

    def __init__(self, api: FakeApiServer) -> None:
        self._api = api

    def change(self, step: Step) -> None:
        """Apply and delete, object by object."""
        if step.apply:
            self._api.put(*step.apply)
        for key in step.delete:
            self._api.delete(key["kind"], key.get("namespace", ""), key["name"])


def following(corefile: str, kubeconfig: Path) -> str:
    """The Corefile with each of its `kubernetes` directives led to the API server."""

    def lead(found: re.Match[str]) -> str:
        end = "" if found[2] else "\n}"
        return f"{found[1]} {{\nkubeconfig {kubeconfig}{end}"

    return _DIRECTIVE.sub(lead, corefile)


@pytest.fixture
def site_of(tmp_path: Path) -> Iterator[Callable[[Scenario], Site]]:
    """Opens the place a scenario needs."""
    with ExitStack() as opened:

        def open_for(scenario: Scenario) -> Site:
            place = open_namespace() if scenario.needs_addresses else open_place()
            site = opened.enter_context(open_site(tmp_path, place))
            for address in {*scenario.local_addresses, *scenario.client_addresses}:
                place.add_address(address)
            return site

        yield open_for


@pytest.mark.parametrize("name", FILES)
def test_scenario_through_an_api_server(name: str, site_of: Callable[[Scenario], Site]) -> None:
    scenario = load(DATA / f"{name}.yaml")
    site = site_of(scenario)
    api = site.open_api()
    api.put(*scenario.objects)
    if not scenario.is_synced:
        api.faults.add("held")
    corefile = following(scenario.corefile, site.kubeconfig(api))
    assert str(api.port) in corefile
    server = site.start_corefile(corefile)
    server.wait_answering()
    wrong = site.place.run(
        lambda: [
            str(finding)
            for finding in run_scenario(
                scenario,
                lambda query: server.peer(source=query.client),
                ApiCluster(api),
                TRANSPORTS,
                observe_seconds=OBSERVE_SECONDS,
            )
        ]
    )
    assert not wrong, "\n".join([*wrong[:_SHOWN], server.said()])


def test_corefile_is_led_to_the_api_server_with_and_without_options() -> None:
    made = following(".:53 {\n  kubernetes a.b c\n  kubernetes d {\n    ttl 3\n  }\n}\n", Path("/k"))
    assert (
        made == ".:53 {\n  kubernetes a.b c {\nkubeconfig /k\n}\n  kubernetes d {\nkubeconfig /k\n    ttl 3\n  }\n}\n"
    )
