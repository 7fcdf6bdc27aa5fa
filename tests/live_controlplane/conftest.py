"""What tests of a whole kdns on a real control plane begin with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.controlplane.blocking import BlockingApi
from tests.controlplane.cluster import WORKLOAD_CONTROLLERS, ControlPlane
from tests.controlplane.fixtures import controlplane_binary
from tests.live_controlplane.deployed import grant_deployed_role
from tests.live_controlplane.plane_site import PlaneSite, open_plane_site
from tests.live_controlplane.wiping import wipe

__all__ = ["controlplane_binary"]

# Not what the conformance data uses: the Service `kubernetes` takes the first address.
OWN_RANGES = "10.112.0.0/16,fd00:10:112::/112"
RANGES = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "ServiceCIDR",
    "metadata": {"name": "tests"},
    "spec": {"cidrs": ["10.96.0.0/12", "fd00:10:96::/112"]},
}


TEST_SECONDS = 300  # a control plane is started in some tests, and a busy machine takes its time


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the tests here more time than others."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(TEST_SECONDS))


@pytest.fixture(scope="package")
def shared_plane(controlplane_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """One control plane for all tests here; `plane` is how a test gets it."""
    folder = tmp_path_factory.mktemp("controlplane")
    made = ControlPlane(controlplane_binary, folder, WORKLOAD_CONTROLLERS, service_ranges=OWN_RANGES)
    with made as running:
        with BlockingApi(running.api()) as api:
            api.apply(RANGES)
            grant_deployed_role(api)
        yield running


@pytest.fixture
def plane(shared_plane: ControlPlane) -> Iterator[ControlPlane]:
    """A running control plane with nothing in it but what it makes by itself, and the role of `deploy/`."""
    wipe(shared_plane)
    yield shared_plane
    if not shared_plane.is_running:
        shared_plane.start()


@pytest.fixture
def api(plane: ControlPlane) -> Iterator[BlockingApi]:
    """The API, as its administrator."""
    with BlockingApi(plane.api()) as made:
        yield made


@pytest.fixture
def site(tmp_path: Path) -> Iterator[PlaneSite]:
    """A place for a server: the machine's loopback, where the control plane is."""
    with open_plane_site(tmp_path) as made:
        yield made
