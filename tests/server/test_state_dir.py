"""`--state-dir`: whose image is used, when one is saved, and what a supervisor makes of it at its start."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from kdns.cluster.access import ApiAccess
from kdns.cluster.follower import ClusterFollower
from kdns.cluster.selectors import Selector
from kdns.cluster.view import ExternalZones, PodMode, View
from kdns.dns import names
from kdns.errors import StartError
from kdns.hotpath.table import Table
from kdns.hotpath.table_writer import TableWriter
from kdns.plugins.plugin import Surroundings
from kdns.server import state as module
from kdns.server.context import ServerContext
from kdns.server.control import Channel, NewTable, Stop
from kdns.server.endpoints import HttpEndpoints
from kdns.server.informer import Informer
from kdns.server.instance import Child, Feed, Instance, Role
from kdns.server.processes import Processes
from kdns.server.state import ImageKeeper, StateFolder, fingerprint_of, open_state
from kdns.server.supervisor import Supervisor
from kdns.table.image import IMAGE_NAME
from tests.fakes.context import channel_pair, http_get, served_context, until, unused_tcp_port
from tests.fakes.logs import collected

COREFILE = ". {\nkubernetes cluster.local\n}\n"
ZONES = (names.from_text("cluster.local"),)
VIEW = View(ZONES)
IN_CLUSTER = ApiAccess()
SHOP = names.from_text("shop.svc.cluster.local")
NEWS = names.from_text("news.svc.cluster.local")


@pytest.fixture(autouse=True)
def unfrozen() -> Iterator[None]:
    """What an informer exempts from garbage collection is collected again afterwards."""
    yield
    gc.unfreeze()


def namespace(name: str) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})


# Whose image it is


def fingerprint(
    view: View = VIEW, access: ApiAccess = IN_CLUSTER, manifests: str | None = None, **environ: str
) -> bytes:
    return fingerprint_of([view], [access], environ, manifests)


@pytest.mark.parametrize(
    "changes",
    [
        {"zones": (*ZONES, names.from_text("in-addr.arpa"))},
        {"ttl": 30},
        {"pods": PodMode.VERIFIED},
        {"namespaces": frozenset({"a", "b"})},
        {"labels": Selector.parse("app=web")},
        {"namespace_labels": Selector.parse("team in (a, b)")},
        {"endpoint_pod_names": True},
        {"noendpoints": True},
        {"ignore_empty_service": True},
        {"multicluster": ZONES},
        {"zonal": True},
        {"version_ttl": 60},
        {"clients": True},
        {"transfers": True},
        {"external": ExternalZones(ZONES)},
        {"soa_minimum": 30},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_an_option_that_shapes_records_makes_another_table(changes: dict[str, object]):
    assert fingerprint(replace(VIEW, **changes)) != fingerprint()  # type: ignore[arg-type]
    assert fingerprint(replace(VIEW, **changes)) == fingerprint(replace(VIEW, **changes))  # type: ignore[arg-type]


def test_every_option_of_a_view_was_thought_of():
    known = "zones ttl pods namespaces labels namespace_labels endpoint_pod_names noendpoints ignore_empty_service"
    later = "multicluster zonal version_ttl clients transfers external soa_minimum"
    assert set(View.__slots__) == {*known.split(), *later.split(), "local_addresses"}


def test_another_address_of_the_pod_does_not():
    assert fingerprint(replace(VIEW, local_addresses=(b"\x0a\0\0\1",))) == fingerprint()


def test_the_order_of_a_set_does_not():
    many = frozenset(map(str, range(50)))
    code = (
        "import sys; from kdns.cluster.view import View; from kdns.server.state import fingerprint_of\n"
        "print(fingerprint_of([View((b'\\0',), namespaces=frozenset(map(str, range(50))))], [], {}, None).hex())"
    )
    expected = fingerprint_of([View((b"\0",), namespaces=many)], [], {}, None).hex()
    for seed in ("1", "2"):
        assert run_python(code, PYTHONHASHSEED=seed) == expected


def run_python(code: str, **environ: str) -> str:
    root = Path(__file__).resolve().parents[2]
    argv = [sys.executable, "-c", code]
    return subprocess.run(
        argv, cwd=root, env={**os.environ, **environ}, capture_output=True, text=True, check=True
    ).stdout.strip()  # fmt: skip


def test_another_source_of_objects_makes_another_table():
    found = [
        fingerprint(),
        fingerprint(manifests="a"),
        fingerprint(manifests="b"),
        fingerprint(access=ApiAccess(endpoint="https://a")),
        fingerprint(access=ApiAccess(kubeconfig="k")),
        fingerprint(access=ApiAccess(kubeconfig="k", context="c")),
        fingerprint(KUBECONFIG="other"),
    ]
    assert len(set(found)) == len(found)


def test_how_fast_a_source_is_asked_does_not():
    assert fingerprint(access=ApiAccess(qps=5.0, burst=3, startup_timeout_seconds=1.0)) == fingerprint()
    assert fingerprint(access=ApiAccess(kubeconfig="k"), KUBECONFIG="other") == fingerprint(
        access=ApiAccess(kubeconfig="k")
    )


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "no such folder"),
        (lambda path: path.touch(), "not a folder"),
    ],
)
def test_a_folder_that_cannot_be_used_stops_the_start(tmp_path: Path, make, reason: str):
    path = tmp_path / "state"
    make(path)
    with pytest.raises(StartError) as refusal:
        open_state(str(path), 60.0, Surroundings(), None)
    assert str(refusal.value) == f"--state-dir {path}: {reason}"


def test_a_folder_that_is_not_writable_stops_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module.os, "access", lambda path, mode: not mode & os.W_OK)  # tests may run as root
    with pytest.raises(StartError, match=r"^--state-dir .*: not writable$"):
        open_state(str(tmp_path), 60.0, Surroundings(), None)


# When it is saved


class Kept:
    """A keeper of a table that a test changes, by a clock that a test sets."""

    def __init__(self, folder: Path, max_age_seconds: float = 86_400.0) -> None:
        self.state = StateFolder(folder, max_age_seconds, bytes(32))
        self.table: TableWriter | None = TableWriter.create(1, 100, 1 << 20, bytes(16))
        self.unheard: float | None = 0.0
        self.now_ns = time.time_ns()
        self.keeper = ImageKeeper(self.state, lambda: self.table, lambda: self.unheard, clock_ns=lambda: self.now_ns)
        self.task = asyncio.get_running_loop().create_task(self.keeper.run())

    def change(self, name: bytes = b"\1a\0") -> None:
        assert self.table is not None
        assert self.table.replace_node(name, 0, 0, [])

    def saved(self) -> bytes | None:
        """Which image is there now."""
        image = self.state.image
        return image.read_bytes() if image.exists() else None

    def knows(self, name: bytes) -> bool:
        loaded = self.state.load()
        if loaded is None:
            return False
        table = Table(loaded.fd)
        os.close(loaded.fd)
        return table.lookup(name, 0, 0) is not None

    async def looked(self, times: int = 5) -> None:
        """Wait until the keeper has looked again, so many times."""
        seen = 0
        ask = self.keeper._current_ns

        def counted() -> int | None:
            nonlocal seen
            seen += 1
            return ask()

        self.keeper._current_ns = counted  # type: ignore[method-assign]
        await until(lambda: seen >= times, "looked")
        self.keeper._current_ns = ask  # type: ignore[method-assign]


@asynccontextmanager
async def keeping(folder: Path, max_age_seconds: float = 86_400.0) -> AsyncIterator[Kept]:
    kept = Kept(folder, max_age_seconds)
    try:
        yield kept
    finally:
        kept.task.cancel()
        await asyncio.gather(kept.task, return_exceptions=True)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.005)


@pytest.mark.usefixtures("quick")
async def test_a_complete_table_is_saved_and_an_incomplete_one_is_not(tmp_path: Path):
    async with keeping(tmp_path) as kept:
        table, kept.table = kept.table, None
        await kept.looked()
        assert kept.saved() is None
        kept.table = table
        await until(kept.saved, "saved")


@pytest.mark.usefixtures("quick")
async def test_a_table_nobody_vouches_for_is_not_saved(tmp_path: Path):
    async with keeping(tmp_path) as kept:
        kept.unheard = None
        await kept.looked()
        assert kept.saved() is None


@pytest.mark.usefixtures("quick")
async def test_changes_are_saved_together_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    async with keeping(tmp_path) as kept:
        first = await until(kept.saved, "saved")
        kept.change()
        await kept.looked()
        assert kept.saved() == first, "not so soon"
        monkeypatch.setattr(module, "SAVE_SECONDS", 0.01)
        await until(lambda: kept.knows(b"\1a\0"), "the change is saved")


@pytest.mark.usefixtures("quick")
async def test_without_changes_the_image_is_renewed_before_it_is_too_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "SAVE_SECONDS", 0.0)
    async with keeping(tmp_path, max_age_seconds=100.0) as kept:
        first = await until(kept.saved, "saved")
        kept.now_ns += 24 * 10**9
        await kept.looked()
        assert kept.saved() == first
        kept.now_ns += 2 * 10**9
        await until(lambda: kept.saved() != first, "renewed")


@pytest.mark.usefixtures("quick")
async def test_while_the_source_is_away_the_image_ages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "SAVE_SECONDS", 0.0)
    async with keeping(tmp_path, max_age_seconds=100.0) as kept:
        first = await until(kept.saved, "saved")
        kept.now_ns += 1000 * 10**9
        kept.unheard = 1000.0
        await kept.looked()
        assert kept.saved() == first


@pytest.mark.usefixtures("quick")
async def test_what_cannot_be_written_is_told_once_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "SAVE_SECONDS", 0.0)
    folder = tmp_path / "state"
    with collected() as lines:
        async with keeping(folder) as kept:
            await until(lambda: lines, "told")
            await kept.looked()
            folder.mkdir()
            await until(kept.saved, "saved")
    (line,) = lines
    expected = f"[WARNING] {folder}/{IMAGE_NAME} cannot be written: no such file or directory; a start may have to wait"
    assert line == expected


@pytest.mark.usefixtures("quick")
async def test_the_end_saves_what_is_not_saved_yet_and_nothing_else(tmp_path: Path):
    async with keeping(tmp_path) as kept:
        first = await until(kept.saved, "saved")
        kept.task.cancel()
        await asyncio.gather(kept.task, return_exceptions=True)
        kept.change()
        await kept.keeper.finish()
        assert kept.knows(b"\1a\0")
        second = kept.saved()
        assert second != first
        before = kept.state.image.stat().st_ino
        await kept.keeper.finish()
        assert kept.state.image.stat().st_ino == before


async def stop(ours: Channel, task: asyncio.Task[None]) -> None:
    ours.send(Stop(0.0))
    async with asyncio.timeout(5):
        await task


async def test_an_informer_saves_when_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("kdns.cluster.manifests.POLL_SECONDS", 0.01)
    monkeypatch.setattr("kdns.cluster.manifests.SETTLE_SECONDS", 0.01)
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.005)
    manifests, state_dir = tmp_path / "m", tmp_path / "s"
    manifests.mkdir()
    state_dir.mkdir()
    (state_dir / "table.image.killed.new").touch()
    (manifests / "shop.json").write_text(namespace("shop"))
    with (
        served_context(COREFILE, manifests, state_dir=state_dir) as context,
        channel_pair() as (ours, theirs),
    ):
        assert context.state is not None
        informer = Informer(context, theirs, None)
        task = asyncio.get_running_loop().create_task(informer.run())
        await until(context.state.image.exists, "the first image")
        (manifests / "news.json").write_text(namespace("news"))
        table = informer._publisher.builder
        await until(lambda: table.table.lookup(NEWS, 0, 0) is not None, "the change")
        await stop(ours, task)
        assert os.listdir(state_dir) == [IMAGE_NAME]
        loaded = context.state.load()
        assert loaded is not None
        found = Table(loaded.fd)
        os.close(loaded.fd)
        assert found.lookup(SHOP, 0, 0) is not None
        assert found.lookup(NEWS, 0, 0) is not None
        assert found.is_synced(0)


async def test_a_table_is_as_current_as_the_source_that_is_silent_longest(tmp_path: Path):
    with served_context(COREFILE, tmp_path, state_dir=tmp_path) as context, channel_pair() as (_, theirs):
        informer = Informer(context, theirs, None)
        assert informer._unheard_seconds() == 0.0, "manifests are always there"
        api = Informer(replace(context, manifests=None), theirs, None)
        clock = [100.0]
        for view in (VIEW, replace(VIEW, ttl=9)):
            api._followers.append(
                ClusterFollower(IN_CLUSTER, view, lambda _: None, lambda: None, {}, clock=lambda: clock[0])
            )
        tallies = [replica.tally for follower in api._followers for replica in follower._replicas]
        for tally in tallies:
            assert api._unheard_seconds() is None
            tally.note_contact()
        assert api._unheard_seconds() == 0.0
        clock[0] = 130.0
        for tally in tallies[1:]:
            tally.note_contact()
        assert api._unheard_seconds() == 30.0


# What a start makes of it


async def make_image(context: ServerContext, age_seconds: float = 0.0) -> None:
    """The image an informer would have saved so long ago."""
    with channel_pair() as (ours, theirs):
        assert context.state is not None
        informer = Informer(context, theirs, None)
        assert informer._keeper is not None
        informer._keeper._clock_ns = lambda: time.time_ns() - round(age_seconds * 1e9)
        task = asyncio.get_running_loop().create_task(informer.run())
        await until(context.state.image.exists, "the image")
        await stop(ours, task)


def supervisor_of(context: ServerContext) -> Supervisor:
    processes = Processes(Instance(context, Feed(context)))
    return Supervisor(processes, HttpEndpoints(context.resolver.surroundings))


async def test_a_start_serves_the_image_and_tells_its_age(tmp_path: Path):
    (tmp_path / "m.json").write_text(namespace("shop"))
    with served_context(COREFILE, tmp_path / "m.json", state_dir=tmp_path) as context:
        await make_image(context, age_seconds=90.0)
        supervisor = supervisor_of(context)
        with collected() as lines:
            supervisor._load_image()
        image = tmp_path / IMAGE_NAME
        assert lines == [f"[INFO] serving from {image}, 1m30s old, until the cluster has been read"]
        table = context.resolver.surroundings.current_table.table
        assert table is not None
        assert table.lookup(SHOP, 0, 0) is not None
        assert supervisor.processes.has_synced_table(), "nothing lesser may replace it"
        supervisor.processes.current.feed.close()


async def test_an_image_that_is_refused_is_a_warning_and_nothing_else(tmp_path: Path):
    (tmp_path / "m.json").write_text(namespace("shop"))
    image = tmp_path / IMAGE_NAME
    with served_context(COREFILE, tmp_path / "m.json", state_dir=tmp_path) as context:
        image.write_bytes(b"something else altogether" * 10)
        supervisor = supervisor_of(context)
        with collected() as lines:
            supervisor._load_image()
        assert lines == [f"[WARNING] {image} is not used: not an image of a response table"]
        assert supervisor.processes.current.feed.table_fd is None
        assert not supervisor.processes.has_synced_table()


async def test_an_image_of_another_corefile_is_refused(tmp_path: Path):
    (tmp_path / "m.json").write_text(namespace("shop"))
    with served_context(COREFILE, tmp_path / "m.json", state_dir=tmp_path) as context:
        await make_image(context)
    other = COREFILE.replace("cluster.local", "cluster.local {\nttl 9\n}")
    with served_context(other, tmp_path / "m.json", state_dir=tmp_path) as context, collected() as lines:
        supervisor_of(context)._load_image()
    assert lines == [
        f"[WARNING] {tmp_path / IMAGE_NAME} is not used: made for another Corefile or another source of objects"
    ]


async def test_a_start_without_an_image_says_nothing(tmp_path: Path):
    with served_context(COREFILE, tmp_path, state_dir=tmp_path) as context, collected() as lines:
        supervisor_of(context)._load_image()
    assert lines == []


async def test_ready_as_long_as_the_image_is_young_enough(tmp_path: Path):
    (tmp_path / "m.json").write_text(namespace("shop"))
    port = unused_tcp_port()
    corefile = COREFILE.replace("kubernetes", f"ready 127.0.0.1:{port} {{\nmonitor continuously\n}}\nkubernetes")
    with served_context(corefile, tmp_path / "m.json", state_dir=tmp_path) as context:
        await make_image(context)
        supervisor = supervisor_of(context)
        supervisor.http.bind()
        supervisor._load_image()
        await supervisor.http.start()
        try:
            assert await http_get(port, "/ready") == (200, "OK")
            assert supervisor.http.outdated_at is not None
            supervisor.http.outdated_at -= module.DEFAULT_MAX_AGE_SECONDS
            assert await http_get(port, "/ready") == (503, "kubernetes")
            feed = supervisor.processes.current.feed
            assert feed.table_fd is not None
            with channel_pair() as (ours, _):
                informer = Child(1, Role.INFORMER, ours, 0.0, feed)
                # As the informer's first, which is of today.
                supervisor._take_message(informer, NewTable(2), os.dup(feed.table_fd), asyncio.get_running_loop())
            assert await http_get(port, "/ready") == (200, "OK")
        finally:
            await supervisor.http.aclose()
            supervisor.processes.current.feed.close()
