"""The informer: the generations it hands over, what it takes in, and how it fails."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from kdns.cluster.objects import Event, Kind, Service, ServiceType
from kdns.dns import names
from kdns.hotpath.table import Table
from kdns.hotpath.table_writer import TableWriter
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


def former_table(*synced: bool) -> TableWriter:
    """A table of a former informer, which says whether it had all of each view."""
    table = TableWriter.create(7, 64, 1 << 16, bytes(16))
    for view, is_synced in enumerate(synced):
        table.set_synced(view, is_synced)
    return table


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
    manifests: Path | str, former: Table | None = None, corefile: str = COREFILE
) -> AsyncIterator[Followed]:
    with served_context(corefile, manifests) as context, channel_pair() as (ours, theirs):
        table_fd = None if former is None else os.dup(former.fd)
        followed = Followed(Informer(context, theirs, table_fd), ours)
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
    async with following(tmp_path, former=former_table(True, True)) as followed:
        await until(followed.has_synced, "synced")
        assert len(followed.tables) == 1


async def test_what_a_former_informer_did_not_know_is_handed_over_as_soon_as_it_is_known(tmp_path: Path):
    """Also where the former one had nothing of one view: its successor begins with what there was."""
    (tmp_path / "m.json").write_text(namespace("shop"))
    former = former_table(True, False)
    former.replace_node(names.from_text("old.svc.a.test"), 0, 0, [])
    async with following(tmp_path, former=former) as followed:
        await until(followed.has_synced, "synced")
        (table,) = followed.tables
        assert table.statistics()["generation"] == 8
        assert followed.knows("shop.svc.a.test")
        assert not followed.knows("old.svc.a.test")


async def test_a_table_says_whether_all_of_it_is_the_informers_own_word(tmp_path: Path):
    messages, former = [], former_table(True, True)
    with served_context(COREFILE, tmp_path) as context, channel_pair() as (ours, theirs):
        informer = Informer(context, theirs, os.dup(former.fd))
        for index in (1, 0):
            informer._publisher.sync([index])
            message, fd = ours.receive() or (None, None)
            messages.append(message)
            os.close(fd)
    assert messages == [NewTable(8, is_current=False), NewTable(9, is_current=True)]


async def test_how_long_a_change_took_is_measured_by_the_kind_of_its_service(tmp_path: Path):
    with served_context(COREFILE, tmp_path) as context, channel_pair() as (_, theirs):
        informer = Informer(context, theirs, None)
        objects = [
            Service("shop", "web", ServiceType.CLUSTER_IP),
            Service("shop", "db", ServiceType.HEADLESS),
            Service("shop", "away", ServiceType.EXTERNAL_NAME, external_name="example.org"),
        ]
        events = [Event(Kind.SERVICE, "shop", found.name, found) for found in objects]
        informer._publisher.apply(0, events)
        informer._note_programmed(0, "shop", "web", time.time() - 3)  # nothing is published yet
        informer._publisher.sync([0])
        for name, seconds in (("web", 3.0), ("db", 0.01), ("db", -60.0), ("away", 1.0), ("nowhere", 1.0)):
            informer._note_programmed(0, "shop", name, time.time() - seconds)
        found = context.resolver.surroundings.metrics.read()["coredns_kubernetes_dns_programming_duration_seconds"]
    assert {labels: sum(values[:-1]) for labels, values in found.items()} == {
        ("cluster_ip",): 1,
        ("headless_with_selector",): 2,
    }
    assert 3.0 <= found["cluster_ip",][-1] < 4.0
    assert found["headless_with_selector",][0] == 1, "a clock that is ahead of ours makes nothing negative"


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
    async with following(tmp_path, former=former_table(True, True)) as followed:
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
        task = asyncio.get_running_loop().create_task(Informer(context, theirs, None).run())
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
        await Informer(context, theirs, None).run()
