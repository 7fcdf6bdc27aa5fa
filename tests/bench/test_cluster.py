import pytest

from bench.cluster import Sizes, generate
from bench.errors import BenchError
from bench.manifests import objects
from bench.objects import events
from bench.records import forward_records, reverse_records

SMALL = Sizes(services=300, endpoints=4_000, headless=30, largest=1_500)


def test_same_seed_gives_the_same_cluster():
    assert generate(SMALL) == generate(SMALL)


def test_another_seed_gives_another_cluster():
    assert generate(SMALL).services != generate(Sizes(300, 4_000, 30, 1_500, seed=2)).services


def test_sizes_are_met_exactly():
    cluster = generate(SMALL)

    assert len(cluster.services) == 300
    assert sum(service.endpoint_count for service in cluster.services) == 4_000
    assert sum(service.address is None for service in cluster.services) == 30
    assert max(service.endpoint_count for service in cluster.services if service.address is None) == 1_500


def test_headless_services_of_the_sizes_that_loads_ask_for_exist():
    cluster = generate(SMALL)

    assert cluster.headless(1_500)
    assert cluster.headless(1_000)
    assert cluster.headless(20)


def test_the_default_cluster_has_every_size_that_loads_ask_for():
    fixed = Sizes().fixed()

    assert fixed.count(5_000) == 1
    assert fixed.count(1_000) == 4
    assert fixed.count(20) == 100


def test_names_and_addresses_are_unique():
    cluster = generate(SMALL)
    addresses = [address for service in cluster.services for address, _ in service.endpoints()]
    addresses += [service.address for service in cluster.clustered]

    assert len({(service.namespace, service.name) for service in cluster.services}) == 300
    assert len(set(addresses)) == len(addresses)


def test_every_label_is_one_that_dns_can_hold():
    cluster = generate(SMALL)

    assert all(len(label) <= 63 for service in cluster.services for _, label in service.endpoints())


@pytest.mark.parametrize(
    ("sizes", "flag"),
    [
        (Sizes(services=0), "--services"),
        (Sizes(services=10, endpoints=9, headless=1), "--endpoints"),
        (Sizes(services=10, endpoints=90, headless=10), "--headless"),
        (Sizes(services=10, endpoints=90, headless=1, largest=82), "--largest"),
    ],
)
def test_impossible_sizes_are_refused_by_the_flag_that_set_them(sizes, flag):
    with pytest.raises(BenchError, match=flag):
        generate(sizes)


def test_manifests_hold_every_object_in_slices_of_a_hundred():
    cluster = generate(SMALL)
    items = list(objects(cluster))
    by_kind = {
        kind: [item for item in items if item["kind"] == kind] for kind in ("Namespace", "Service", "EndpointSlice")
    }

    assert len(by_kind["Namespace"]) == len(cluster.namespaces)
    assert len(by_kind["Service"]) == 300
    sizes = [len(item["endpoints"]) for item in by_kind["EndpointSlice"]]
    assert sum(sizes) == 4_000
    assert max(sizes) == 100


def test_headless_services_are_headless_in_manifests():
    cluster = generate(SMALL)
    addresses = [item["spec"]["clusterIP"] for item in objects(cluster) if item["kind"] == "Service"]

    assert addresses.count("None") == 30


def test_objects_of_kdns_are_those_of_the_manifests():
    cluster = generate(SMALL)
    names = [
        (item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"]) for item in objects(cluster)
    ]

    assert [(event.kind.value, event.namespace, event.name) for event in events(cluster)] == names


def test_every_endpoint_has_an_address_and_a_ptr_record():
    cluster = generate(SMALL)
    owners = {record.owner for service in cluster.services for record in forward_records(service) if record.type == "A"}
    targets = [record.rdata for service in cluster.services for record in reverse_records(service)]

    assert len(targets) == 4_000 + 270
    assert set(targets) <= owners
