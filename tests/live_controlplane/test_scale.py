"""A generated cluster in a real control plane is synced, answered rightly and the same by two servers."""

from __future__ import annotations

from pathlib import Path

from bench.cluster import Sizes, generate
from bench.diff import compare_servers
from bench.loads import LOADS
from bench.records import Truth
from bench.verify import verify
from tests.controlplane.blocking import BlockingApi
from tests.controlplane.cluster import ControlPlane
from tests.live.live_site import PLAIN_ZONES, answer
from tests.live_controlplane.deployed import following
from tests.live_controlplane.extra import IS_WHOLE
from tests.live_controlplane.filling import CANARY, canary_objects, fill
from tests.live_controlplane.plane_site import PlaneSite, open_plane_site

SIZES = Sizes() if IS_WHOLE else Sizes(services=1_000, endpoints=15_000, headless=100, largest=5_000)
SYNCED_SECONDS = 90.0
QUESTIONS = 1_000
CANARY_NAME = f"{CANARY}.{CANARY}.svc.cluster.local."


def test_a_large_cluster_is_synced_and_followed(plane: ControlPlane, site: PlaneSite, tmp_path: Path) -> None:
    cluster = generate(SIZES)
    fill(plane, cluster)
    site.start(following(plane, site.directory, PLAIN_ZONES))
    site.wait_found(CANARY_NAME, answer("10.250.0.0"), SYNCED_SECONDS)
    site.wait(lambda: site.ready == 200, "ready", SYNCED_SECONDS)
    questions = LOADS["mix"].questions(cluster, QUESTIONS)
    here = site.server.peer()
    verify(here.address, here.port, questions, Truth(cluster), over_tcp=False)
    with BlockingApi(plane.api()) as api:
        api.apply(*canary_objects("10.250.0.1"))
        site.wait_found(CANARY_NAME, answer("10.250.0.1"), SYNCED_SECONDS)

    with open_plane_site(tmp_path / "other") as other:  # which lists what the first one was told of bit by bit
        other.start(following(plane, tmp_path, PLAIN_ZONES))
        other.wait_found(CANARY_NAME, answer("10.250.0.1"), SYNCED_SECONDS)
        there = other.server.peer()
        found = compare_servers((here.address, here.port), (there.address, there.port), questions, with_ttls=True)
        assert not found.examples
