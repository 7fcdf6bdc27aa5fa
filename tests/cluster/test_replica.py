"""What is known of a resource, and the events that lead to what it is told."""

from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from kdns.cluster.lines import LineSplitter
from kdns.cluster.objects import EndpointSlice, Event, Kind
from kdns.cluster.replica import Listed, Replica
from kdns.cluster.resources import Resource
from kdns.cluster.watching import Change, WatchLine, read_line
from tests.fakes.logs import collected

SERVICES = Resource(Kind.SERVICE, "services")
SLICES = Resource(Kind.ENDPOINT_SLICE, "endpointslices", "discovery.k8s.io")
PODS = Resource(Kind.POD, "pods")


class Told:
    """A replica, and what it tells."""

    def __init__(self, resource: Resource = SERVICES) -> None:
        self.kind = resource.kind
        self.batches: list[list[Event]] = []
        self.listed = 0
        self.replica = Replica(resource, time.monotonic, self.batches.append, self._on_listed)

    def read_list(self, **versions: int) -> None:
        listed: dict[tuple[str, str], Listed] = {}
        for name, version in versions.items():
            self.replica.collect(listed, ("shop", name), str(version), service(name))
        self.replica.replace(listed)

    def apply(self, change: Change, name: str, version: int, text: bytes = b"") -> None:
        self.replica.apply(WatchLine(change, text or service(name), ("shop", name), str(version)))

    def take(self) -> list[tuple[str, bool]]:
        """Name of each object told, and whether it is there."""
        self.replica.flush()
        found = [(event.name, event.object is not None) for batch in self.batches for event in batch]
        self.batches.clear()
        return found

    def _on_listed(self) -> None:
        self.listed += 1


def service(name: str) -> bytes:
    return json.dumps({"metadata": {"name": name, "namespace": "shop"}, "spec": {"clusterIP": "10.0.0.1"}}).encode()


def test_list_tells_what_is_gone_first_and_nothing_that_is_the_same() -> None:
    told = Told()
    told.read_list(a=1, b=2, c=3)
    assert told.take() == [("a", True), ("b", True), ("c", True)]
    told.read_list(d=5, b=4, c=3)
    assert len(told.batches) == 1
    assert told.take() == [("a", False), ("d", True), ("b", True)]
    assert told.listed == 2


def test_distrusted_objects_are_told_again_in_whatever_version() -> None:
    told = Told()
    told.read_list(a=1, b=2)
    told.take()
    told.replica.distrust()
    told.read_list(a=1)
    assert told.take() == [("b", False), ("a", True)]


def test_what_was_applied_and_not_told_is_dropped_with_the_trust_in_it() -> None:
    told = Told()
    told.apply(Change.PUT, "a", 1)
    told.replica.distrust()
    assert told.take() == []
    told.read_list(a=1)
    assert told.take() == [("a", True)]


def test_pod_on_its_way_out_stays_until_it_is_deleted_and_never_comes_anew() -> None:
    def pod(**metadata: str) -> bytes:
        status = {"phase": "Running", "podIP": "10.0.0.1"}
        return json.dumps({"metadata": {"name": "p", "namespace": "shop", **metadata}, "status": status}).encode()

    leaving = pod(deletionTimestamp="2030-01-01T00:00:00Z")
    told = Told(PODS)
    told.apply(Change.PUT, "p", 1, leaving)
    assert told.take() == []
    told.apply(Change.PUT, "p", 2, pod())
    told.apply(Change.PUT, "p", 3, leaving)
    assert told.take() == [("p", True)]
    listed: dict[tuple[str, str], Listed] = {}
    told.replica.collect(listed, ("shop", "p"), "4", leaving)
    told.replica.replace(listed)
    assert told.take() == []
    told.apply(Change.DELETE, "p", 5, leaving)
    assert told.take() == [("p", False)]


def test_unchanged_objects_of_a_list_are_not_decoded() -> None:
    told = Told()
    told.read_list(a=1)
    listed: dict[tuple[str, str], Listed] = {}
    told.replica.collect(listed, ("shop", "a"), "1", b"not even JSON")
    assert listed == {("shop", "a"): Listed("1", None)}
    assert told.replica.tally.malformed == 0


def test_problem_is_logged_once_and_counted_always() -> None:
    told = Told()
    with collected() as lines:
        for version in range(5):
            told.apply(Change.PUT, "a", version, b'{"metadata":{"name":"a","namespace":"shop"},"spec":7}')
    assert told.replica.tally.malformed == 5
    assert len(lines) == 1


actions = st.tuples(st.sampled_from(["put", "delete", "list"]), st.sampled_from("abcd"), st.integers(1, 4))


@given(st.lists(actions, max_size=40))
def test_events_told_lead_to_what_is_known(steps: list[tuple[str, str, int]]) -> None:
    told, there = Told(), set()
    expected: dict[str, int] = {}
    for action, name, version in steps:
        if action == "put":
            expected[name] = version
            told.apply(Change.PUT, name, version)
        elif action == "delete":
            expected.pop(name, None)
            told.apply(Change.DELETE, name, version)
        else:
            expected = dict.fromkeys(sorted(expected)[: version - 1], version) | {name: version}
            told.read_list(**expected)
        for found, is_there in told.take():
            assert is_there or found in there
            (there.add if is_there else there.discard)(found)
        assert there == set(expected)
        assert len(told.replica) == len(expected)


def test_large_slices_pass_through_without_their_json_staying() -> None:
    """The octets of a cluster are many times what is kept of them; no more than a few lines of them are held."""
    slices, endpoints, piece = 150, 100, 2**16

    def octets() -> Iterator[bytes]:
        for number in range(slices):
            found = {
                "kind": "EndpointSlice",
                "metadata": {"name": f"s{number}", "namespace": "shop", "resourceVersion": "1", "labels": {}},
                "addressType": "IPv4",
                "endpoints": [
                    {"addresses": [f"10.1.{number}.{last}"], "nodeName": "node" * 10, "targetRef": {"uid": "u" * 36}}
                    for last in range(endpoints)
                ],
            }
            text = json.dumps({"type": "ADDED", "object": found}).encode() + b"\n"
            yield from (text[start : start + piece] for start in range(0, len(text), piece))

    total = sum(map(len, octets()))
    told, splitter = Told(SLICES), LineSplitter()
    listed: dict[tuple[str, str], Listed] = {}
    tracemalloc.start()
    try:
        for part in octets():
            for line in splitter.feed(part):
                found = read_line(Kind.ENDPOINT_SLICE, line)
                told.replica.collect(listed, found.key, found.version, found.text)
        told.replica.replace(listed)
        listed.clear()
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    made = [event.object for event in told.batches[0]]
    assert sum(len(found.endpoints) for found in made if isinstance(found, EndpointSlice)) == slices * endpoints
    assert kept < total
    assert peak - kept < total / 4
