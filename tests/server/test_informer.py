"""The informer: the generations it hands over, what it takes in, and how it fails."""

from __future__ import annotations

import asyncio
import gc
import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from kdns.cluster.objects import Event
from kdns.dns import names
from kdns.hotpath.table import Table
from kdns.server import informer as module
from kdns.server.control import MAX_TEXT, Channel, Failed, NewTable, Stop
from kdns.server.informer import Informer
from kdns.server.publisher import Publisher
from tests.fakes.context import channel_pair, served_context, until

COREFILE = "a.test {\nkubernetes\n}\nb.test {\nkubernetes {\nttl 9\n}\n}\n"


@pytest.fixture(autouse=True)
def unfrozen() -> Iterator[None]:
    """What an informer exempts from garbage collection is collected again afterwards."""
    yield
    gc.unfreeze()


def namespace(name: str) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})


class Followed:
    """An informer at work, and what it has sent."""

    def __init__(self, informer: Informer, ours: Channel) -> None:
        self.task = asyncio.get_running_loop().create_task(informer.run())
        self.ours = ours
        self.failures: list[str] = []
        self.tables: list[Table] = []
        self._fds: list[int] = []

    def receive(self) -> None:
        """Take in what has come."""
        with suppress(EOFError):
            while (received := self.ours.receive()) is not None:
                match received:
                    case Failed(text), None:
                        self.failures.append(text)
                    case NewTable(), int(fd):
                        self._fds.append(fd)
                        self.tables.append(Table(fd))

    def has_synced(self) -> bool:
        """Whether the last table is complete."""
        self.receive()
        return bool(self.tables) and all(self.tables[-1].is_synced(view) for view in (0, 1))

    def knows(self, name: str, view: int = 0) -> bool:
        """Whether the last table has a name."""
        self.receive()
        return self.tables[-1].lookup(names.from_text(name), 0, view) is not None

    async def aclose(self) -> None:
        """End it."""
        self.ours.send(Stop(0.0))
        async with asyncio.timeout(5):
            await self.task
        for fd in self._fds:
            os.close(fd)


@asynccontextmanager
async def following(
    manifests: Path | str, has_table: bool = False, corefile: str = COREFILE
) -> AsyncIterator[Followed]:
    with served_context(corefile, manifests) as context, channel_pair() as (ours, theirs):
        followed = Followed(Informer(context, theirs, has_table), ours)
        try:
            yield followed
        finally:
            await followed.aclose()


async def test_the_first_generation_says_what_is_true_of_any_cluster_the_next_is_complete(tmp_path: Path):
    (tmp_path / "m.json").write_text(namespace("shop"))
    async with following(tmp_path) as followed:
        await until(followed.has_synced, "synced")
        first, second = followed.tables
        assert [first.is_synced(view) for view in (0, 1)] == [False, False]
        for table, shop in ((first, False), (second, True)):
            assert table.lookup(names.from_text("dns-version.a.test"), 16, 0) is not None
            assert (table.lookup(names.from_text("shop.svc.a.test"), 0, 0) is not None) is shop
            assert (table.lookup(names.from_text("shop.svc.b.test"), 0, 1) is not None) is shop


async def test_where_workers_have_a_table_only_a_complete_one_is_handed_over(tmp_path: Path):
    (tmp_path / "m.json").write_text(namespace("shop"))
    async with following(tmp_path, has_table=True) as followed:
        await until(followed.has_synced, "synced")
        assert len(followed.tables) == 1


async def test_changes_appear_in_the_same_generation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("kdns.cluster.manifests.POLL_SECONDS", 0.01)
    monkeypatch.setattr("kdns.cluster.manifests.SETTLE_SECONDS", 0.01)
    (tmp_path / "m.json").write_text(namespace("shop"))
    async with following(tmp_path) as followed:
        await until(followed.has_synced, "synced")
        generations = len(followed.tables)
        (tmp_path / "more.json").write_text(namespace("news"))
        await until(lambda: followed.knows("news.svc.a.test") and followed.knows("news.svc.b.test", 1), "news is there")
        (tmp_path / "more.json").unlink()
        await until(lambda: not followed.knows("news.svc.a.test"), "news is gone")
        assert followed.knows("shop.svc.a.test")
        assert len(followed.tables) == generations


async def test_a_table_gets_a_heartbeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "HEARTBEAT_SECONDS", 0.01)
    (tmp_path / "m.json").write_text(namespace("shop"))
    async with following(tmp_path) as followed:
        await until(followed.has_synced, "synced")
        first = followed.tables[-1].statistics()["heartbeat_ns"]
        await until(lambda: followed.tables[-1].statistics()["heartbeat_ns"] > first, "a later heartbeat")


async def test_manifests_that_cannot_be_read_are_reported_once_before_anything_is_synced(tmp_path: Path):
    async with following(tmp_path / "nowhere") as followed:
        await until(lambda: followed.receive() or followed.failures, "reported")
        (text,) = followed.failures
        assert text.startswith(f"{tmp_path}/nowhere: no such file or folder")
        assert not followed.has_synced()
        assert not followed.task.done()  # the supervisor ends it


async def test_where_workers_have_a_table_reading_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.01)
    tries = []

    class Counted(module.ManifestSource):
        def load(self) -> list[Event]:
            tries.append(1)
            return super().load()

    monkeypatch.setattr(module, "ManifestSource", Counted)
    async with following(tmp_path, has_table=True) as followed:
        await until(lambda: len(tries) > 3, "tried again and again")
        followed.receive()
        assert len(followed.failures) == 1  # told of once
        (tmp_path / "m.json").write_text(namespace("shop"))
        await until(followed.has_synced, "synced")
        assert followed.knows("shop.svc.a.test")


async def test_a_report_is_cut_to_what_a_message_holds(monkeypatch: pytest.MonkeyPatch):
    async with following("x" * 2 * MAX_TEXT) as followed:
        await until(lambda: followed.receive() or followed.failures, "reported")
        assert len(followed.failures[0]) == MAX_TEXT


async def test_an_informer_ends_when_its_supervisor_is_gone(tmp_path: Path):
    (tmp_path / "m.json").write_text(namespace("shop"))
    with served_context(COREFILE, tmp_path) as context:
        ours, theirs = Channel.pair()
        task = asyncio.get_running_loop().create_task(Informer(context, theirs, False).run())
        await asyncio.sleep(0)
        ours.close()
        async with asyncio.timeout(5):
            await task
        theirs.close()


async def test_an_informer_that_breaks_ends_with_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(_: Publisher, indexes: object) -> None:
        raise LookupError("by design")

    monkeypatch.setattr(Publisher, "sync", broken)
    (tmp_path / "m.json").write_text(namespace("shop"))
    with (
        served_context(COREFILE, tmp_path) as context,
        channel_pair() as (_, theirs),
        pytest.raises(LookupError, match="by design"),
    ):
        await Informer(context, theirs, False).run()
