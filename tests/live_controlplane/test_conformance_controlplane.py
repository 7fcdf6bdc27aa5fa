"""The conformance data with its objects in a real API server, step by step too.

Real controllers are at work on the objects meanwhile. No object of the data is refused: all of them can exist.
"""

from __future__ import annotations

import asyncio
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conformance.cases import DATA, TRANSPORTS, Query, Scenario, Step, load, scenario_paths, waiting
from tests.conformance.runner import run_scenario
from tests.controlplane.blocking import BlockingApi
from tests.controlplane.cluster import USER, ControlPlane
from tests.controlplane.kinds import SERVICE_IMPORT_DEFINITION, node, reader
from tests.fakes.nameserver import FakeNameServer
from tests.fakes.stub_resolver import StubResolver
from tests.harness.exchange import Peer
from tests.harness.places import Place, open_namespace, open_place
from tests.harness.relay import Relay
from tests.harness.server import KDNS, Server
from tests.live.live_site import Site, open_site
from tests.live_controlplane.extra import IS_WHOLE
from tests.live_controlplane.mounting import Mount, in_a_pod

ELSEWHERE = {
    "unsynced": "an API server that lists nothing: the fake one of tests/live does that",
    "axfr": "the zone also holds the API server's own Service `kubernetes`",
    "axfr-multicluster": "the same",
}
FILES = [path.stem for path in scenario_paths() if path.stem not in {*ELSEWHERE, *waiting()}]
# Asked each time: what depends on how objects come and go. The others would differ where the fake API server of
# tests/live and the real one list different objects; CONTROLPLANE_TESTS=all asks them too.
USUAL = (
    "apex",
    "clusterip",
    "externalname",
    "headless",
    "k8s-external",
    "labels",
    "multicluster",
    "namespace-labels",
    "pods-verified",
    "updates",
    "updates-apex",
    "updates-empty",
    "updates-multicluster",
    "updates-selectors",
    "zonal",
)
ASKED = FILES if IS_WHOLE else [name for name in FILES if name in USUAL]
OBSERVE_SECONDS = 40.0
_SHOWN = 20


class RealCluster:
    """A cluster that is changed by way of its API server."""

    def __init__(self, plane: ControlPlane, api: BlockingApi) -> None:
        self._plane = plane
        self._api = api

    def change(self, step: Step) -> None:
        """Apply and delete, object by object."""
        refused = self._api.try_apply(step.apply)
        for raw in step.apply:
            reason = refused.get(f"{raw['kind']} {raw['metadata']['name']}")
            if reason is not None:  # a Service's address cannot be changed: who wants another one makes it anew
                assert "may not change once set" in str(reason), reason
                self._api.delete(raw["kind"], raw["metadata"]["namespace"], raw["metadata"]["name"])
                self._api.apply(raw)
        for key in step.delete:
            if key["kind"] == "Namespace":  # in the data it goes alone, not with what is in it
                # Steps are made inside of the place; etcd is outside, as the loop of the API is.
                self._api.call(asyncio.to_thread(self._plane.forget, f"namespaces/{key['name']}"))
            else:
                self._api.delete(key["kind"], key.get("namespace", ""), key["name"])


@pytest.fixture(scope="module")
def _imports_are_defined(shared_plane: ControlPlane) -> None:
    with BlockingApi(shared_plane.api()) as api:
        api.call(api.session.define(SERVICE_IMPORT_DEFINITION))
        api.apply(*reader(USER, "pods"), *reader(USER, "serviceimports", group="multicluster.x-k8s.io"))


@pytest.mark.usefixtures("_imports_are_defined")
@pytest.mark.parametrize("name", ASKED)
def test_scenario_on_a_control_plane(name: str, plane: ControlPlane, api: BlockingApi, tmp_path: Path) -> None:
    scenario = load(DATA / f"{name}.yaml")
    nodes = {raw["spec"]["nodeName"] for raw in scenario.objects if raw["kind"] == "Pod" and "nodeName" in raw["spec"]}
    refused = api.try_apply([*map(node, sorted(nodes)), *scenario.objects])
    assert not refused
    with ExitStack() as opened:
        place = open_namespace() if scenario.needs_addresses else open_place()
        site = opened.enter_context(open_site(tmp_path, place))
        if place.namespace is not None:
            opened.enter_context(Relay(place, plane.port))
        for address in {*scenario.local_addresses, *scenario.client_addresses}:
            place.add_address(address)
        server = start(scenario, plane, site, opened)
        server.wait_answering()

        def ask_all() -> list[str]:
            cluster = RealCluster(plane, api)
            found = run_scenario(scenario, peer_of, cluster, TRANSPORTS, observe_seconds=OBSERVE_SECONDS)
            return [str(finding) for finding in found]

        def peer_of(query: Query) -> Peer:
            return server.peer(source=query.client)

        wrong = place.run(ask_all)
        assert not wrong, "\n".join([*wrong[:_SHOWN], server.said()])
        server.send_signal(signal.SIGKILL)  # nothing here is about its end


def start(scenario: Scenario, plane: ControlPlane, site: Site, opened: ExitStack) -> Server:
    """The server, and what it needs beside it."""
    place: Place = site.place
    # As in a Pod, where a Corefile says nothing about the API server.
    mount = Mount(site.directory / "mount", plane.ca_file)
    mount.write(plane.tokens[USER])
    environment = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(plane.port)}
    files = {}
    if scenario.has_upstream:
        lines = [f"{r.owner} {r.ttl} {r.rclass} {r.rtype} {r.rdata}" for r in scenario.upstream]
        resolver = place.run(lambda: opened.enter_context(FakeNameServer(StubResolver(lines))))
        environment["UPSTREAM"] = f"{resolver.address}:{resolver.port}"
    if scenario.search_domains:
        files["/etc/resolv.conf"] = site.directory / "resolv.conf"
        domains = " ".join(scenario.search_domains)
        files["/etc/resolv.conf"].write_text(f"search {domains}\nnameserver 127.0.0.1\n")
    made = Server(
        place,
        site.directory / "server",
        scenario.corefile,
        workers=1,
        environment=environment,
        files=files,
        command=in_a_pod(mount.path, KDNS),
    )
    return opened.enter_context(made)


def test_most_of_the_data_is_asked_of_a_control_plane() -> None:
    assert len(FILES) >= 48
    assert set(USUAL) <= set(ASKED)
    assert set(ELSEWHERE) <= {path.stem for path in scenario_paths()}
