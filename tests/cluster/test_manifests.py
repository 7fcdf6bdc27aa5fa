"""Manifests in place of an API server: what is loaded, what an edit changes, and what is said of the rest."""

import asyncio
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdns.cluster.manifests import ManifestSource
from kdns.cluster.objects import EndpointSlice, Event, Kind, Pod, Service
from kdns.errors import ManifestError

EXAMPLES = Path(__file__).parents[2] / "examples" / "cluster"
WATCH_DEADLINE_SECONDS = 20


def service(name: str, address: str = "10.96.0.1", namespace: str = "shop", extra: str = "") -> str:
    return f"""---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{clusterIP: {address}, ports: [{{port: 80}}]{extra}}}
"""


def pod(name: str, address: str, namespace: str = "shop", metadata: str = "", status: str = "") -> str:
    return f"""---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {namespace}, labels: {{app: web}}{metadata}}}
status: {{podIP: {address}{status}}}
"""


NAMESPACE = "---\n{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {team: a}}}\n"
SLICE = """---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-x, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints: [{addresses: [10.0.0.9]}]
"""


class Source:
    """A source over a folder, what it has said, and what its events add up to."""

    def __init__(self, path: Path | str) -> None:
        self.problems: list[str] = []
        self.source = ManifestSource(str(path), self.problems.append)
        self.objects: dict[tuple[Kind, str, str], Event] = {}

    def load(self) -> list[Event]:
        return self._apply(self.source.load())

    def settle(self) -> list[Event]:
        """Poll until nothing waits to be confirmed."""
        events = self._apply(self.source.poll())
        while self.source.is_settling:
            events += self._apply(self.source.poll())
        return events

    def names(self, kind: Kind = Kind.SERVICE) -> list[str]:
        return sorted(name for found, _, name in self.objects if found is kind)

    def address(self, name: str = "web") -> bytes:
        found = self.objects[Kind.SERVICE, "shop", name].object
        assert isinstance(found, Service)
        return found.addresses[0]

    def endpoints(self) -> list[bytes]:
        slices = [event.object for event in self.objects.values() if isinstance(event.object, EndpointSlice)]
        return [endpoint.address for made in slices for endpoint in made.endpoints]

    def _apply(self, events: list[Event]) -> list[Event]:
        for event in events:
            key = (event.kind, event.namespace, event.name)
            if event.object is None:
                del self.objects[key]  # nothing goes that was not there
            else:
                assert self.objects.get(key) != event
                self.objects[key] = event
        return events


Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file of the folder, as an editor that replaces it does."""

    def write_file(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.parent / f".{path.name}.new"
        temporary.write_text(text)
        return temporary.rename(path)

    return write_file


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source(tmp_path)


# What is read


def test_examples_load_without_a_problem() -> None:
    source = Source(EXAMPLES)
    source.load()
    assert source.problems == []
    assert len(source.names()) >= 24
    assert set(source.names(Kind.NAMESPACE)) >= {"default", "kube-system", "shop", "payments", "data"}


def test_folder_is_read_with_subfolders_and_without_other_files(source: Source, write: Write) -> None:
    write("a.yaml", service("a"))
    write("deep/er/b.yml", service("b"))
    write(
        "c.json",
        json.dumps({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "c"}, "spec": {"clusterIP": "None"}}),
    )
    for name in (".hidden.yaml", "d.yaml~", "d.yaml.swp", "README.md", ".git/e.yaml", ".#f.yaml"):
        write(name, "not: [yaml")
    source.load()
    assert source.names() == ["a", "b", "c"]
    assert source.problems == []


def test_one_file_is_read_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "cluster").write_text(service("a"))
    source = Source(tmp_path / "cluster")
    source.load()
    assert source.names() == ["a"]


def test_standard_input_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(service("a").encode())))
    source = Source("-")
    source.load()
    assert source.names() == ["a"]
    assert source.settle() == []


async def test_watching_a_stream_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(service("a").encode())))
    source = ManifestSource("-")
    source.load()
    await source.watch(lambda _: None)


def test_pipe_is_read_once() -> None:
    reader, writer = os.pipe()
    os.write(writer, service("a").encode())
    os.close(writer)
    source = Source(f"/dev/fd/{reader}")
    source.load()
    os.close(reader)
    assert source.names() == ["a"]
    assert source.settle() == []


def test_lists_of_any_kind_are_opened(source: Source, write: Write) -> None:
    items = [{"metadata": {"name": name, "namespace": "shop"}, "spec": {"clusterIP": "None"}} for name in ("a", "b")]
    typed = {"apiVersion": "v1", "kind": "Service", **items[0]}
    write("a.json", json.dumps({"apiVersion": "v1", "kind": "ServiceList", "items": items}))
    inner = {"apiVersion": "v1", "kind": "List", "items": [{**typed, "metadata": {"name": "c"}}]}
    write("b.json", json.dumps({"apiVersion": "v1", "kind": "List", "items": [inner]}))
    write("c.json", json.dumps({"apiVersion": "v1", "kind": "List", "items": None}))
    source.load()
    assert source.names() == ["a", "b", "c"]
    assert source.problems == []


def test_kinds_without_a_part_in_dns_are_ignored(source: Source, write: Write) -> None:
    other = "---\n{apiVersion: serving.knative.dev/v1, kind: Service, metadata: {name: k}}\n"
    write("a.yaml", service("a") + other + "---\n{apiVersion: apps/v1, kind: Deployment, metadata: {name: d}}\n")
    source.load()
    assert source.names() == ["a"]
    assert source.problems == []


def test_endpoints_are_ignored_with_a_hint(source: Source, write: Write) -> None:
    write("a.yaml", service("a") + "---\n{apiVersion: v1, kind: Endpoints, metadata: {name: a}}\n")
    source.load()
    [problem] = source.problems
    assert "document 2: Endpoints: DNS reads EndpointSlices" in problem


def test_label_values_that_look_like_booleans_are_text(source: Source, write: Write) -> None:
    labels = "labels: {x: on, y: 1.10, z: 5, t: true}"
    write("a.yaml", f"{{apiVersion: v1, kind: Service, metadata: {{name: a, {labels}}}, spec: {{clusterIP: None}}}}")
    source.load()
    assert source.objects[Kind.SERVICE, "default", "a"].labels == {"x": "on", "y": "1.10", "z": "5", "t": "true"}
    assert source.problems == []


# Namespaces


def test_namespaces_are_implied_where_none_is_declared(source: Source, write: Write) -> None:
    write("a.yaml", service("a") + service("b", namespace="data"))
    source.load()
    assert source.names(Kind.NAMESPACE) == ["data", "shop"]
    write("a.yaml", service("a"))
    source.settle()
    assert source.names(Kind.NAMESPACE) == ["shop"]


def test_one_declared_namespace_ends_implied_ones(source: Source, write: Write) -> None:
    write("a.yaml", service("a") + service("b", namespace="data"))
    source.load()
    write("b.yaml", NAMESPACE)
    source.settle()
    assert source.names(Kind.NAMESPACE) == ["shop"]
    labels = source.objects[Kind.NAMESPACE, "", "shop"].labels
    assert labels == {"kubernetes.io/metadata.name": "shop", "team": "a"}
    (write("b.yaml", "")).unlink()
    source.settle()
    assert source.names(Kind.NAMESPACE) == ["data", "shop"]


# Changes


def test_edited_file_changes_what_it_names_and_nothing_else(source: Source, write: Write) -> None:
    write("a.yaml", service("a", "10.96.0.1") + service("b", "10.96.0.2"))
    write("c.yaml", service("c", "10.96.0.3"))
    source.load()
    write("a.yaml", service("b", "10.96.0.9") + service("a", "10.96.0.1"))
    [event] = source.settle()
    assert event.name == "b"
    assert source.address("b") == b"\x0a\x60\0\x09"


def test_added_and_deleted_files(source: Source, write: Write, tmp_path: Path) -> None:
    write("a.yaml", service("a"))
    source.load()
    write("b.yaml", service("b"))
    assert [event.name for event in source.settle()] == ["b"]
    (tmp_path / "a.yaml").unlink()
    assert [(event.name, event.object) for event in source.settle()] == [("a", None)]


def test_object_that_leaves_a_file_is_gone(source: Source, write: Write) -> None:
    write("a.yaml", service("a") + service("b"))
    source.load()
    write("a.yaml", service("a"))
    source.settle()
    assert source.names() == ["a"]


def test_touched_file_changes_nothing(source: Source, write: Write) -> None:
    path = write("a.yaml", service("a"))
    source.load()
    os.utime(path, (1, 1))
    assert source.settle() == []


def test_changed_labels_are_a_change(source: Source, write: Write) -> None:
    write("a.yaml", service("a"))
    source.load()
    write("a.yaml", service("a").replace("name: a,", "name: a, labels: {x: y},"))
    [event] = source.settle()
    assert event.labels == {"x": "y"}


def test_change_is_believed_when_seen_twice(source: Source, write: Write, tmp_path: Path) -> None:
    """A file that is being written is not read half."""
    write("a.yaml", service("a") + service("b"))
    source.load()
    path = tmp_path / "a.yaml"
    path.write_text(service("a"))
    assert source.source.poll() == []
    path.write_text(service("a") + service("b", "10.96.0.7"))
    assert source.source.poll() == []
    [event] = source.source.poll()
    assert event.name == "b"
    assert not source.source.is_settling


def test_file_that_is_away_for_a_moment_is_not_gone(source: Source, write: Write, tmp_path: Path) -> None:
    path = write("a.yaml", service("a"))
    write("b.yaml", service("b"))
    source.load()
    path.rename(tmp_path / "a.yaml~")
    assert source.source.poll() == []
    write("a.yaml", service("a", "10.96.0.8"))
    assert [event.name for event in source.settle()] == ["a"]
    assert source.names() == ["a", "b"]


def test_switch_of_a_mounted_configmap_is_seen(source: Source, write: Write, tmp_path: Path) -> None:
    """kubelet mounts `a.yaml -> ..data/a.yaml` and switches `..data` to another folder."""
    for version, address in (("..1", "10.96.0.1"), ("..2", "10.96.0.2")):
        write(f"{version}/a.yaml", service("web", address))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    source.load()
    assert source.address() == b"\x0a\x60\0\1"
    (tmp_path / "..new").symlink_to("..2")
    (tmp_path / "..new").rename(tmp_path / "..data")
    source.settle()
    assert source.address() == b"\x0a\x60\0\2"


def test_links_to_nowhere_and_in_circles_are_passed_over(source: Source, write: Write, tmp_path: Path) -> None:
    write("deep/a.yaml", service("a"))
    (tmp_path / "deep" / "up").symlink_to(tmp_path)
    (tmp_path / "gone.yaml").symlink_to("nowhere")
    (tmp_path / "self.yaml").symlink_to("self.yaml")
    source.load()
    assert source.names() == ["a"]


async def test_watch_hands_over_what_changes(source: Source, write: Write) -> None:
    write("a.yaml", service("a"))
    source.source.load()
    seen: asyncio.Queue[list[Event]] = asyncio.Queue()
    watching = asyncio.create_task(source.source.watch(seen.put_nowait))
    write("b.yaml", service("b"))
    async with asyncio.timeout(WATCH_DEADLINE_SECONDS):
        [event] = await seen.get()
    assert event.name == "b"
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching


# The same object twice


def test_last_file_by_name_counts_and_is_reported_once(source: Source, write: Write, tmp_path: Path) -> None:
    write("a.yaml", service("web", "10.96.0.1"))
    write("b.yaml", service("web", "10.96.0.2"))
    source.load()
    assert source.address() == b"\x0a\x60\0\2"
    assert source.problems == [
        f"{tmp_path}/b.yaml: Service shop/web: is in {tmp_path}/a.yaml too; the last file by name counts"
    ]
    write("b.yaml", service("web", "10.96.0.3"))
    source.settle()
    assert source.address() == b"\x0a\x60\0\3"
    assert len(source.problems) == 1


def test_object_of_the_other_file_shows_again(source: Source, write: Write, tmp_path: Path) -> None:
    write("a.yaml", service("web", "10.96.0.1"))
    write("b.yaml", service("web", "10.96.0.2"))
    source.load()
    write("a.yaml", service("web", "10.96.0.5"))
    assert source.settle() == []
    (tmp_path / "b.yaml").unlink()
    [event] = source.settle()
    assert isinstance(event.object, Service)
    assert source.address() == b"\x0a\x60\0\5"


def test_object_twice_in_one_file_is_reported(source: Source, write: Write) -> None:
    write("a.yaml", service("web", "10.96.0.1") + service("web", "10.96.0.2"))
    source.load()
    assert source.address() == b"\x0a\x60\0\2"
    [problem] = source.problems
    assert "document 2: Service shop/web: is in document 1 already" in problem


# Damage


def test_broken_file_is_reported_and_what_it_held_stays(source: Source, write: Write, tmp_path: Path) -> None:
    write("a.yaml", service("a"))
    write("b.yaml", service("b"))
    source.load()
    write("a.yaml", service("a", "10.96.0.9") + "---\nkind: [Service\n")
    assert source.settle() == []
    [problem] = source.problems
    assert problem.startswith(f"{tmp_path}/a.yaml: document 2, line ")
    assert "not YAML" in problem
    assert source.settle() == []
    assert len(source.problems) == 1
    write("a.yaml", service("a", "10.96.0.9"))
    assert [event.name for event in source.settle()] == ["a"]


def test_damaged_object_stays_as_it_was_and_the_rest_is_taken(source: Source, write: Write, tmp_path: Path) -> None:
    write("a.yaml", service("a", "10.96.0.1") + service("b", "10.96.0.2"))
    source.load()
    write("a.yaml", service("a", "10.96.0.1").replace("spec: {", "spec: {type: 5, ") + service("b", "10.96.0.9"))
    assert [event.name for event in source.settle()] == ["b"]
    assert source.address("a") == b"\x0a\x60\0\1"
    assert source.problems == [f"{tmp_path}/a.yaml: document 1: Service shop/a: spec.type: met int, expected str"]


@pytest.mark.parametrize(
    ("intact", "damaged", "reason"),
    [
        ("{name: a,", "{name: [a],", "Service without a name: metadata.name: met array, expected str"),
        ("kind: Service", "kin: Service", "kind: met null, expected the kind of a Kubernetes object"),
        ("apiVersion: v1", "version: v1", "Service: apiVersion: met null, expected v1"),
        ("namespace: shop", "namespace: [shop]", "Service without a name: metadata.namespace: met array, expected str"),
    ],
)
def test_object_that_cannot_be_told_any_more_stays(
    source: Source, write: Write, intact: str, damaged: str, reason: str
) -> None:
    write("a.yaml", service("a") + pod("p", "10.0.0.1"))
    source.load()
    write("a.yaml", service("a").replace(intact, damaged))
    source.settle()
    assert source.names() == ["a"]
    assert source.names(Kind.POD) == []
    [problem] = source.problems
    assert problem.endswith(f"document 1: {reason}")


def test_document_that_is_no_object_does_not_hold_back_changes(source: Source, write: Write) -> None:
    junk = "---\nreplicas: 3\n---\n- a\n---\ntext\n"
    write("a.yaml", service("a") + service("b") + junk)
    source.load()
    assert len(source.problems) == 3
    write("a.yaml", service("a") + junk)
    source.settle()
    assert source.names() == ["a"]


def test_damaged_part_is_left_out_and_reported(source: Source, write: Write) -> None:
    write("a.yaml", service("web") + SLICE.replace("[10.0.0.9]", "[10.0.0.9, 10.0.0]"))
    source.load()
    assert source.endpoints() == [b"\x0a\0\0\x09"]
    [problem] = source.problems
    assert problem.endswith(
        'document 2: EndpointSlice shop/web-x: endpoints[0].addresses[1]: met "10.0.0", expected an IP address'
    )


def test_service_without_a_cluster_ip_is_pointed_out(source: Source, write: Write) -> None:
    write("a.yaml", "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: 80}]}}")
    source.load()
    assert source.names() == ["a"]
    [problem] = source.problems
    assert "Service default/a: spec.clusterIP: met none" in problem


def test_folder_emptied_while_watched_goes_on_being_served(source: Source, write: Write, tmp_path: Path) -> None:
    write("a.yaml", service("a"))
    source.load()
    (tmp_path / "a.yaml").unlink()
    for _ in range(5):
        assert source.source.poll() == []
    [problem] = source.problems
    assert problem.startswith(f"{tmp_path}: met no manifest, expected at least one file *.yaml")
    assert problem.endswith("what was read before goes on being served")
    write("a.yaml", service("a", "10.96.0.9"))
    assert [event.name for event in source.settle()] == ["a"]


def test_file_removed_while_watched_goes_on_being_served(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(service("a"))
    source = Source(path)
    source.load()
    path.unlink()
    for _ in range(5):
        assert source.source.poll() == []
    assert source.problems == [
        f"{path}: no such file or folder; give --manifests a file, a folder or - for standard input;"
        " what was read before goes on being served"
    ]
    path.write_text(service("b"))
    source.settle()
    assert source.names() == ["b"]


# At start


def test_missing_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"/nowhere: no such file or folder; give --manifests a file"):
        ManifestSource(str(tmp_path / "nowhere")).load()


def test_unreadable_path_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("")
    with pytest.raises(ManifestError, match=r"a.yaml/b: cannot be read: Not a directory$"):
        ManifestSource(str(tmp_path / "a.yaml" / "b")).load()


def test_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "README").write_text("")
    with pytest.raises(ManifestError, match=r"met no manifest, expected at least one file \*.yaml, \*.yml, \*.json"):
        ManifestSource(str(tmp_path)).load()


def test_broken_file_alone_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: [")
    with pytest.raises(ManifestError, match=r"a.yaml: document 1, line 2, column 1: not YAML: "):
        ManifestSource(str(tmp_path)).load()


def test_broken_file_among_good_ones_is_reported(source: Source, write: Write) -> None:
    write("a.yaml", "a: [")
    write("b.yaml", service("b"))
    source.load()
    assert source.names() == ["b"]
    assert len(source.problems) == 1


# Pods


def test_pods_make_endpoints_for_services_with_a_selector(source: Source, write: Write) -> None:
    write("a.yaml", service("web", "None", extra=", selector: {app: web}"))
    write("b.yaml", pod("web-0", "10.0.0.1") + pod("web-1", "10.0.0.2"))
    source.load()
    assert source.endpoints() == [b"\x0a\0\0\1", b"\x0a\0\0\2"]
    write("b.yaml", pod("web-0", "10.0.0.1") + pod("web-1", "10.0.0.3"))
    events = source.settle()
    assert [event.kind for event in events] == [Kind.POD, Kind.ENDPOINT_SLICE]
    assert source.endpoints() == [b"\x0a\0\0\1", b"\x0a\0\0\3"]


def test_given_slice_takes_the_place_of_the_pods(source: Source, write: Write, tmp_path: Path) -> None:
    write("a.yaml", service("web", "None", extra=", selector: {app: web}") + pod("web-0", "10.0.0.1"))
    source.load()
    assert source.endpoints() == [b"\x0a\0\0\1"]
    path = write("b.yaml", SLICE)
    source.settle()
    assert source.endpoints() == [b"\x0a\0\0\x09"]
    path.unlink()
    source.settle()
    assert source.endpoints() == [b"\x0a\0\0\1"]


def test_slice_that_moves_to_another_service_gives_the_pods_back(source: Source, write: Write) -> None:
    write("a.yaml", service("web", "None", extra=", selector: {app: web}") + pod("web-0", "10.0.0.1"))
    write("b.yaml", SLICE)
    source.load()
    write("b.yaml", SLICE.replace("service-name: web", "service-name: other"))
    source.settle()
    assert sorted(source.endpoints()) == [b"\x0a\0\0\1", b"\x0a\0\0\x09"]


def test_terminating_pod_keeps_its_record_and_loses_its_endpoint(source: Source, write: Write) -> None:
    terminating = pod("web-0", "10.0.0.1", metadata=", deletionTimestamp: '2026-01-01T00:00:00Z'")
    write("a.yaml", service("web", "None", extra=", selector: {app: web}") + pod("web-0", "10.0.0.1"))
    source.load()
    write("a.yaml", service("web", "None", extra=", selector: {app: web}") + terminating)
    source.settle()
    assert source.objects[Kind.POD, "shop", "web-0"].object == Pod("shop", "web-0", b"\x0a\0\0\1")
    assert source.endpoints() == []
    write("a.yaml", service("web", "None", extra=", selector: {app: web}"))
    source.settle()
    assert source.names(Kind.POD) == []


def test_pod_first_seen_terminating_never_appears(source: Source, write: Write) -> None:
    write("a.yaml", pod("web-0", "10.0.0.1", metadata=", deletionTimestamp: '2026-01-01T00:00:00Z'"))
    assert [event.kind for event in source.load()] == [Kind.NAMESPACE]


def test_pod_that_ends_is_gone(source: Source, write: Write) -> None:
    write("a.yaml", pod("web-0", "10.0.0.1"))
    source.load()
    write("a.yaml", pod("web-0", "10.0.0.1", status=", phase: Succeeded"))
    source.settle()
    assert source.names(Kind.POD) == []


def test_damage_that_only_concerns_endpoints_is_reported(source: Source, write: Write) -> None:
    write("a.yaml", service("web", extra=", selector: app"))
    source.load()
    assert source.names() == ["web"]
    [problem] = source.problems
    assert problem.endswith("Service shop/web: spec.selector: met str, expected object; no endpoints are made from it")


# Anything


FRAGMENTS = st.sampled_from([service("web"), pod("p", "10.0.0.1"), SLICE, NAMESPACE, "kind: List\nitems: [", "--- 5\n"])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=40) | st.lists(FRAGMENTS | st.text(max_size=10), max_size=4).map("".join).map(str.encode))
def test_any_bytes_give_events_or_one_manifest_error(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(text)
    source = Source(path)
    try:
        source.load()
    except ManifestError:
        path.write_text(service("good"))
        source = Source(path)
        source.load()
        assert source.names() == ["good"]
    assert all(problem.startswith(f"{path}: ") for problem in source.problems)
    before: dict[Any, Event] = dict(source.objects)
    path.write_bytes(text + b"\nbroken: [\n")
    source.settle()
    assert source.objects == before
