from itertools import islice

import pytest

from bench.api import ApiProcess
from bench.churn import changes, churned_slices, is_churned
from bench.cluster import Sizes, generate
from bench.errors import PeerError
from bench.manifests import objects, write_manifests

CLUSTER = generate(Sizes(services=20, endpoints=200, headless=2, largest=20))


def test_half_of_the_services_stay_as_they_are():
    churned = {service.name for service in CLUSTER.services if is_churned(service.name)}
    touched = {item["metadata"]["labels"]["kubernetes.io/service-name"] for item in churned_slices(objects(CLUSTER))}

    assert len(churned) == 10
    assert touched <= churned


def test_endpoints_go_and_come_back():
    slices = churned_slices(objects(CLUSTER))
    made = list(islice(changes(slices), 2 * len(slices)))

    assert [len(item["endpoints"]) for item in made[: len(slices)]] == [len(item["endpoints"]) - 1 for item in slices]
    assert made[len(slices) :] == slices


@pytest.fixture
def api(tmp_path):
    write_manifests(CLUSTER, tmp_path / "manifests")
    process = ApiProcess(tmp_path / "manifests", tmp_path)
    yield process
    process.stop()


def test_an_api_server_does_what_it_is_told(api):
    api.order("churn", rate=1_000)
    first = api.order("put", objects=[{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "new"}}])
    made = 0
    while not made:
        made = api.order("churn", rate=1_000)["changes"]
    for order in ("stop", "start"):
        assert api.order(order)["at"] > first["at"]
    with pytest.raises(PeerError, match="no order is called 'dance'"):
        api.order("dance")


def test_an_api_server_that_cannot_start_is_told_of(tmp_path):
    (tmp_path / "broken.json").write_text("[]")

    with pytest.raises(PeerError, match=r"the API server ended or hangs; see .*api\.log"):
        ApiProcess(tmp_path, tmp_path / "logs")
