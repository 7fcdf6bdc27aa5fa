"""A worker on sockets of its own: what it does at the supervisor's word, and how it ends."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import dns.message
import dns.rcode
import pytest

from kdns.cluster.objects import Namespace
from kdns.dns.reply import Reply
from kdns.plugins import SETUPS
from kdns.plugins.plugin import Handler, Request, Setup
from kdns.server import misses
from kdns.server import worker as module
from kdns.server.context import ServerContext
from kdns.server.control import Channel, NewTable, Serve, Serving, Stop
from kdns.server.publisher import Publisher
from kdns.server.worker import Worker
from kdns.table.builder import TableBuilder
from tests.fakes.clusters import event_of
from tests.fakes.context import channel_pair, served_context, until
from tests.fakes.logs import collected
from tests.harness.exchange import TCP, TRANSPORTS, UDP, Peer, ask

CLUSTER = ". {\nerrors\nkubernetes cluster.local\n}\n"
SHOP = dns.message.make_query("shop.svc.cluster.local", "A").to_wire()
OTHER = dns.message.make_query("www.example.org", "A").to_wire()


@pytest.fixture(autouse=True)
def unchanged_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process keeps its title and its garbage collection."""
    monkeypatch.setattr(module, "set_title", lambda _: None)
    yield
    gc.unfreeze()


class Served:
    """A worker at work."""

    def __init__(self, context: ServerContext, ours: Channel, theirs: Channel) -> None:
        self.context = context
        self.ours = ours
        self.task = asyncio.get_running_loop().create_task(Worker(context, theirs, None).run())
        self._builders: list[TableBuilder] = []

    def hand_over(self, *namespaces: str) -> None:
        """Send a generation with these namespaces."""
        views = self.context.resolver.surroundings.views
        publisher = Publisher(views, lambda table: None)
        for index in range(len(views)):
            publisher.apply(index, [event_of(Namespace(name)) for name in namespaces])
        publisher.sync(range(len(views)))
        self._builders.append(publisher.builder)
        self.ours.send(NewTable(len(self._builders)), os.dup(self._builders[-1].table.fd))

    async def ask(self, query: bytes, transport: str = UDP, timeout_seconds: float = 2.0) -> str | None:
        """The rcode of the reply, or None where there is none."""
        port = self.context.resolver.listeners[0].port
        reply = await asyncio.to_thread(ask, Peer(port=port), query, transport, timeout_seconds)
        return None if reply is None else dns.rcode.to_text(dns.message.from_wire(reply).rcode())

    def count(self, counter: str) -> int:
        """A counter of this worker."""
        return self.context.counters.totals()[counter]

    async def ended(self) -> None:
        """Wait until the worker has ended."""
        async with asyncio.timeout(5):
            await self.task


@asynccontextmanager
async def serving(corefile: str, number: int | None = 0) -> AsyncIterator[Served]:
    with served_context(corefile) as context, channel_pair() as (ours, theirs):
        served = Served(context, ours, theirs)
        if number is not None:
            ours.send(Serve(number))
        try:
            yield served
        finally:
            ours.send(Stop(0.0))
            with suppress(TimeoutError):
                await served.ended()


async def test_a_worker_answers_over_both_transports_once_it_has_a_number():
    async with serving(". {\nwhoami\n}\n", number=None) as served:
        query = asyncio.get_running_loop().create_task(served.ask(OTHER))
        await asyncio.sleep(0)
        assert not query.done()
        served.ours.send(Serve(0))
        assert await query == "NOERROR"  # the socket kept it
        assert [await served.ask(OTHER, transport) for transport in TRANSPORTS] == ["NOERROR", "NOERROR"]


async def test_a_worker_answers_from_the_last_table_it_was_given():
    async with serving(CLUSTER) as served:
        for transport in TRANSPORTS:
            assert await served.ask(SHOP, transport) == "SERVFAIL"
        served.hand_over("shop")
        assert [await served.ask(SHOP, transport) for transport in TRANSPORTS] == ["NOERROR", "NOERROR"]
        served.hand_over("news")
        assert [await served.ask(SHOP, transport) for transport in TRANSPORTS] == ["NXDOMAIN", "NXDOMAIN"]


async def test_a_table_given_before_the_number_is_used():
    async with serving(CLUSTER, number=None) as served:
        served.hand_over("shop")
        served.ours.send(Serve(0))
        assert await served.ask(SHOP) == "NOERROR"
        assert served.count("nodata") == 1  # by the compiled path


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_counted_errors_are_told_of_when_a_worker_stops(transport: str):
    async with serving(". {\nerrors {\nconsolidate 1h plugin warning\n}\n}\n") as served:
        with collected() as lines:
            assert [await served.ask(OTHER, transport) for _ in range(3)] == ["SERVFAIL"] * 3
            assert lines == []
            served.ours.send(Stop(1.0))
            await served.ended()
        assert lines == ["[WARNING] plugin/errors: 3 errors like 'plugin' occurred in last 1h0m0s"]


async def test_a_worker_ends_when_its_supervisor_is_gone():
    with served_context(". {\nwhoami\n}\n") as context:
        ours, theirs = Channel.pair()
        served = Served(context, ours, theirs)
        ours.send(Serve(0))
        assert await served.ask(OTHER) == "NOERROR"
        ours.close()
        await served.ended()
        theirs.close()


# A plugin that waits until it is let go


class Gate:
    """Holds questions back."""

    transparent = False

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.waiting = 0
        self.ran = self.cancelled = False

    async def serve(self, request: Request, next_handler: Handler) -> Reply:
        self.waiting += 1
        await self.opened.wait()
        return await next_handler(request)

    async def run(self) -> None:
        """Work until cancelled."""
        self.ran = True
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.cancelled = True


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    """The plugin, as the directive `template`."""
    made = Gate()

    def setup(_: Setup) -> Gate:
        return made

    monkeypatch.setitem(SETUPS, "template", setup)
    return made


GATED = ". {\ntemplate\nwhoami\n}\n"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_what_is_under_way_is_finished_when_a_worker_stops(gate: Gate, transport: str):
    async with serving(GATED) as served:
        asking = asyncio.get_running_loop().create_task(served.ask(OTHER, transport))
        await until(lambda: gate.waiting, "the question arrived")
        served.ours.send(Stop(5.0))
        await asyncio.sleep(0.01)
        assert not served.task.done()
        gate.opened.set()
        assert await asking == "NOERROR"
        await served.ended()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_what_takes_too_long_is_given_up(gate: Gate, transport: str):
    async with serving(GATED) as served:
        asking = asyncio.get_running_loop().create_task(served.ask(OTHER, transport, 0.3))
        await until(lambda: gate.waiting, "the question arrived")
        served.ours.send(Stop(0.05))
        await served.ended()
        with suppress(OSError):  # over TCP the connection is gone
            assert await asking is None


async def test_too_many_questions_at_once_are_dropped_and_counted(gate: Gate, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(misses, "MAX_UNDER_WAY", 2)
    async with serving(GATED) as served:
        asking = [asyncio.get_running_loop().create_task(served.ask(OTHER, UDP, 1.5)) for _ in range(3)]
        await until(lambda: served.count("drop_overload"), "a question was dropped")
        gate.opened.set()
        assert sorted(map(str, await asyncio.gather(*asking))) == ["NOERROR", "NOERROR", "None"]
        assert (gate.waiting, served.count("drop_overload")) == (2, 1)
        assert await served.ask(OTHER) == "NOERROR"


async def test_plugins_work_beside_serving_until_the_end(gate: Gate):
    gate.opened.set()
    async with serving(GATED) as served:
        assert await served.ask(OTHER, TCP) == "NOERROR"
        assert (gate.ran, gate.cancelled) == (True, False)
    assert gate.cancelled


# Queries that have waited too long


async def send_unread(served: Served, count: int) -> list[socket.socket]:
    """Leave queries in the worker's socket; where their replies would come."""
    port = served.context.resolver.listeners[0].port
    clients = []
    for _ in range(count):
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        client.sendto(OTHER, ("127.0.0.1", port))
        client.setblocking(False)
        clients.append(client)
    return clients


def replies(clients: list[socket.socket]) -> int:
    """How many of them got a reply."""
    found = 0
    for client in clients:
        with suppress(BlockingIOError):
            client.recv(4096)
            found += 1
        client.close()
    return found


async def test_after_a_stop_of_the_process_what_waited_is_dropped_and_counted(monkeypatch: pytest.MonkeyPatch):
    async with serving(". {\nwhoami\n}\n") as served:
        assert await served.ask(OTHER) == "NOERROR"
        with collected() as lines:
            late = await send_unread(served, 5)  # the loop has not turned since
            stopped = module._clock() + module.LATE_SECONDS + module.TURN_SECONDS
            monkeypatch.setattr(module, "_clock", lambda: stopped)
            await until(lambda: served.count("drop_late"), "they are dropped")
            assert await served.ask(OTHER) == "NOERROR"
        assert (served.count("drop_late"), replies(late)) == (5, 0)
        assert lines == ["[WARNING] stood still for 6s: dropped 5 queries that had waited"]


async def test_a_loop_that_was_busy_for_a_while_drops_nothing(monkeypatch: pytest.MonkeyPatch):
    async with serving(". {\nwhoami\n}\n") as served:
        assert await served.ask(OTHER) == "NOERROR"
        waiting = await send_unread(served, 5)
        busy = module._clock() + module.LATE_SECONDS - 1
        monkeypatch.setattr(module, "_clock", lambda: busy)
        assert await served.ask(OTHER) == "NOERROR"
        assert (served.count("drop_late"), replies(waiting)) == (0, 5)


async def test_who_takes_over_after_a_long_time_as_the_spare_answers_what_waits(monkeypatch: pytest.MonkeyPatch):
    async with serving(". {\nwhoami\n}\n", number=None) as served:
        await asyncio.sleep(0.01)
        later = module._clock() + 600
        monkeypatch.setattr(module, "_clock", lambda: later)
        waiting = await send_unread(served, 3)
        served.ours.send(Serve(0))
        assert await served.ask(OTHER) == "NOERROR"
        assert (served.count("drop_late"), replies(waiting)) == (0, 3)


async def test_who_takes_over_from_a_stuck_worker_drops_what_waited():
    async with serving(". {\nwhoami\n}\n", number=None) as served:
        late = await send_unread(served, 3)
        served.ours.send(Serve(0, is_late=True))
        await until(lambda: served.count("drop_late") == 3, "they are dropped")
        assert await served.ask(OTHER) == "NOERROR"
        assert replies(late) == 0


async def test_a_worker_says_when_it_serves():
    async with serving(". {\nwhoami\n}\n") as served:
        assert await until(served.ours.receive, "a message") == (Serving(0), None)


async def test_work_in_the_background_has_ended_when_a_worker_has(gate: Gate):
    """It may take its time to clean up; what is under way may need it until then."""
    gate.opened.set()
    async with serving(GATED) as served:
        assert await served.ask(OTHER) == "NOERROR"
        tasks = [task for task in asyncio.all_tasks() if "Gate.run" in repr(task)]
        served.ours.send(Stop(0.5))
        await served.ended()
        assert [task.done() for task in tasks] == [True]
