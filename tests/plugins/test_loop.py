"""`loop`: which questions are its own, and what becomes of an upstream that leads back."""

from __future__ import annotations

import asyncio
import gc
import os
from dataclasses import dataclass, field

import pytest

from kdns.dns import names
from kdns.dns.codes import RRType
from kdns.errors import ServeError
from kdns.plugins import loop as loop_directive
from kdns.plugins.loop import Loop
from tests.fakes.directives import answering, refused, request, set_up
from tests.fakes.logs import collected


@dataclass
class FakeUpstream:
    address: str
    asked: list[bytes] = field(default_factory=list)
    was_asked: asyncio.Event = field(default_factory=asyncio.Event)
    out: str = ""

    def take_out(self, reason: str) -> None:
        self.out = reason

    async def probe(self, name: bytes, qtype: int) -> bool:
        assert qtype == RRType.HINFO
        self.asked.append(name)
        self.was_asked.set()
        return True


@dataclass
class FakeForward:
    upstreams: list[FakeUpstream]


def connected(*addresses: str) -> tuple[Loop, list[FakeUpstream]]:
    plugin = set_up("loop", zones=(".",))
    upstreams = [FakeUpstream(address) for address in addresses]
    plugin.connect({"forward": FakeForward(upstreams)})
    return plugin, upstreams


async def probe(plugin: Loop, *upstreams: FakeUpstream, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Run until each upstream was asked once."""
    monkeypatch.setattr(loop_directive, "START_SECONDS", 0)
    task = asyncio.create_task(plugin.run())
    async with asyncio.timeout(5):
        await asyncio.gather(*(upstream.was_asked.wait() for upstream in upstreams))
    task.cancel()
    return [upstream.asked[0] for upstream in upstreams]


async def serve(plugin: Loop, name: bytes, rtype: str = "HINFO") -> int:
    return (await plugin.serve(request(names.to_text(name), rtype), answering())).rcode


async def test_an_upstream_whose_probe_comes_back_is_taken_out_and_the_others_are_not(monkeypatch):
    plugin, (one, other) = connected("10.0.0.1:53", "10.0.0.2:53")
    _, name = await probe(plugin, one, other, monkeypatch=monkeypatch)
    with collected() as lines, pytest.raises(ServeError) as caught:
        await serve(plugin, name)

    assert (bool(one.out), bool(other.out), caught.value.rcode) == (False, True, 2)
    assert lines[0].startswith('[ERROR] plugin/loop: Loop (192.0.2.1:4242 -> :53) detected for zone ".": the upstream ')


async def test_a_loop_is_told_of_once(monkeypatch):
    plugin, upstreams = connected("10.0.0.1:53")
    (name,) = await probe(plugin, *upstreams, monkeypatch=monkeypatch)
    with collected() as lines:
        for _ in range(3):
            with pytest.raises(ServeError):
                await serve(plugin, name)
    assert len([line for line in lines if "detected" in line]) == 1


async def test_nobody_can_make_up_a_probe(monkeypatch):
    plugin, (upstream,) = connected("10.0.0.1:53")
    (name,) = await probe(plugin, upstream, monkeypatch=monkeypatch)
    stranger, others = connected("10.0.0.1:53")
    assert await serve(stranger, name) == 0
    assert others[0].out == ""
    damaged = name[:3] + (b"0" if name[3:4] != b"0" else b"1") + name[4:]
    assert await serve(plugin, damaged) == 0
    assert upstream.out == ""


async def test_questions_of_other_types_are_handed_on(monkeypatch):
    plugin, upstreams = connected("10.0.0.1:53")
    (name,) = await probe(plugin, *upstreams, monkeypatch=monkeypatch)
    assert await serve(plugin, name, "A") == 0
    assert upstreams[0].out == ""


async def test_probes_differ_each_time_and_lie_in_the_zone_of_the_block(monkeypatch):
    plugin = set_up("loop", zones=("example.org",))
    upstreams = [FakeUpstream("10.0.0.1:53"), FakeUpstream("10.0.0.2:53")]
    plugin.connect({"forward": FakeForward(upstreams)})
    probes = await probe(plugin, *upstreams, monkeypatch=monkeypatch)
    assert len(set(probes)) == 2
    assert all(len(names.labels_of(name)) == 4 and name.endswith(b"\x07example\x03org\0") for name in probes)


async def test_without_forward_nothing_is_probed():
    plugin = set_up("loop", zones=(".",))
    plugin.connect({})
    assert await serve(plugin, names.from_text("a.b")) == 0


@pytest.mark.parametrize(
    ("directive", "text"),
    [
        ("loop now", "plugin/loop: Corefile:2 - Error during parsing: Wrong argument count or unexpected line ending"),
        ("loop\nloop", "plugin/loop: this plugin can only be used once per Server Block"),
    ],
)
def test_what_loop_does_not_take(directive, text):
    assert refused(directive).startswith(text)


def test_the_lock_of_a_configuration_that_is_gone_is_closed():
    def locks() -> int:
        return sum(
            "kdns-loop" in os.readlink(entry.path) for entry in os.scandir("/proc/self/fd") if entry.is_symlink()
        )

    gc.collect()
    before = locks()
    plugin = set_up("loop")
    assert locks() == before + 1
    del plugin
    gc.collect()
    assert locks() == before
