"""NOTIFY: when it is sent, to whom, and what is done where nobody answers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import pytest

from kdns.dns import names
from kdns.dns.codes import RRType
from kdns.dns.rrset import Record
from kdns.errors import ServeError
from kdns.plugins.plugin import Surroundings, ZoneTransfer
from kdns.plugins.transfer.notify import TRIES, Notifier, Peer, send_notify
from kdns.plugins.transfer.outgoing import Stanza, Transfer
from tests.fakes.context import until
from tests.fakes.logs import collected
from tests.fakes.nameserver import FakeNameServer

ZONE = names.from_text("cluster.local")


class Source:
    """A plugin whose zone has the serial the test says; None while it does not know it."""

    transparent = False
    zones = (ZONE,)

    def __init__(self, serial: int | None = 1) -> None:
        self.serial = serial

    async def serve(self, *_: object) -> None:
        raise AssertionError("nobody asks")

    def transfer(self, zone: bytes) -> ZoneTransfer | None:
        if self.serial is None:
            raise ServeError("not known yet", 2)
        return ZoneTransfer(Record(zone, RRType.SOA, 5, b""), self.serial, iter(()))


class Secondary:
    """A name server that takes notifications, or says something else."""

    def __init__(self, rcode: dns.rcode.Rcode = dns.rcode.NOERROR, answers: bool = True) -> None:
        self.seen: list[dns.message.Message] = []
        self._rcode = rcode
        self._answers = answers

    def __call__(self, wire: bytes, transport: str) -> Sequence[bytes]:
        message = dns.message.from_wire(wire)
        self.seen.append(message)
        reply = dns.message.make_response(message)
        reply.set_rcode(self._rcode)
        stranger = dns.message.make_response(message)
        stranger.id ^= 1
        return [stranger.to_wire(), reply.to_wire()] if self._answers else []


def test_a_notification_says_which_zone():
    secondary = Secondary()
    with FakeNameServer(secondary) as server:
        assert asyncio.run(send_notify(ZONE, Peer(server.address, server.port))) == ""
    (message,) = secondary.seen
    assert message.opcode() == dns.opcode.NOTIFY
    assert message.flags & dns.flags.AA
    assert [rrset.to_text() for rrset in message.question] == ["cluster.local. IN SOA"]


def test_it_comes_from_the_source_address():
    clients: list[str] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)

        async def run() -> None:
            sending = asyncio.create_task(send_notify(ZONE, Peer(*server.getsockname()), "127.0.0.1"))
            wire, client = await asyncio.to_thread(server.recvfrom, 512)
            clients.append(client[0])
            server.sendto(wire[:2] + bytes((wire[2] | 0x80,)) + wire[3:], client)
            assert await sending == ""

        asyncio.run(run())
    assert clients == ["127.0.0.1"]


@pytest.mark.parametrize(
    ("secondary", "said"),
    [(Secondary(dns.rcode.NOTIMP), "rcode was NOTIMP"), (Secondary(answers=False), "i/o timeout")],
    ids=["refused", "silent"],
)
def test_it_is_repeated_a_few_times(secondary: Secondary, said: str):
    with FakeNameServer(secondary) as server:
        problem = asyncio.run(send_notify(ZONE, Peer(server.address, server.port), timeout_seconds=0.05))
    assert (problem, len(secondary.seen)) == (said, TRIES)


def test_where_nobody_listens_that_is_told():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with collected() as lines:

        async def run() -> None:
            notifier = Notifier(ZONE, Source(), (Peer("127.0.0.1", port),), look_seconds=0.001)
            task = asyncio.create_task(notifier.run())
            await until(lambda: lines, "told")
            task.cancel()

        asyncio.run(run())
    text = f'notify for zone "cluster.local." was not accepted by "127.0.0.1:{port}": connection refused'
    assert lines[0] == f"[WARNING] plugin/transfer: {text}"


def test_a_problem_that_lasts_is_told_once():
    secondary, source = Secondary(dns.rcode.REFUSED), Source()

    async def run() -> None:
        notifier = Notifier(ZONE, source, (Peer(server.address, server.port),), "", 0.001, 0.001)
        task = asyncio.create_task(notifier.run())
        for serial in (1, 2, 3):
            source.serial = serial
            await until(lambda: len(secondary.seen) == TRIES * source.serial, "notified")
        task.cancel()

    with collected() as lines, FakeNameServer(secondary) as server:
        asyncio.run(run())
    assert len(lines) == 1
    assert lines[0].endswith("rcode was REFUSED")


def test_each_change_is_notified_once_and_not_before_the_serial_is_known():
    secondary, source = Secondary(), Source(None)

    async def run() -> None:
        notifier = Notifier(ZONE, source, (Peer(server.address, server.port),), "", 0.001, 0.001)
        task = asyncio.create_task(notifier.run())
        for serial in (None, 7, 8):
            count = len(secondary.seen)
            source.serial = serial
            if serial is not None:
                await until(lambda: len(secondary.seen) > count, "notified")  # noqa: B023 - awaited here
            for _ in range(20):
                await asyncio.sleep(0.001)
            assert len(secondary.seen) == count + (serial is not None)
        task.cancel()

    with FakeNameServer(secondary) as server:
        asyncio.run(run())


@pytest.mark.parametrize(("worker", "expected"), [(0, 1), (1, 0), (None, 0)])
def test_only_the_first_worker_notifies(worker: int | None, expected: int):
    secondary = Secondary()

    async def run() -> None:
        stanza = Stanza((ZONE,), (Peer(server.address, server.port),), is_open=False)
        plugin = Transfer([stanza], Surroundings(worker=worker))
        plugin.connect({"source": Source()})
        task = asyncio.create_task(plugin.run())
        if expected:
            await until(lambda: secondary.seen, "notified")
            assert not task.done()
            task.cancel()
        else:
            await task

    with FakeNameServer(secondary) as server:
        asyncio.run(run())
    assert len(secondary.seen) == expected
