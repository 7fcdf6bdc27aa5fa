"""`hosts`: answers from a file and from the Corefile, and a file that changes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kdns.dns import names
from kdns.dns.codes import RRType
from kdns.dns.reply import Reply
from kdns.errors import ServeError
from kdns.plugins.hosts.static_hosts import LINES_PER_TURN, StaticHosts
from kdns.plugins.plugin import MISS, TABLE, Route, Surroundings
from tests.fakes.directives import answers_of, build, refused, request, set_up
from tests.fakes.logs import collected

NEXT = Reply(writer="next")


def hosts(path: Path | str, *lines: str, zones: str = "", surroundings: Surroundings | None = None) -> StaticHosts:
    body = "\n".join(lines)
    return set_up(f"hosts {path} {zones} {{\n{body}\n}}", surroundings, zones=("test", "in-addr.arpa", "ip6.arpa"))  # type: ignore[no-any-return]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "hosts"
    path.write_text("192.0.2.1 a.test both.test\n2001:db8::1 six.test both.test\n192.0.2.7 *.wild.test\n")
    return path


async def ask(plugin: StaticHosts, name: str, rtype: str = "A") -> list[str] | str:
    """The data of the answers; who is asked else; the rcode of an error."""

    async def next_handler(_: object) -> Reply:
        return NEXT

    asked = request(name, rtype)
    try:
        reply = await plugin.serve(asked, next_handler)
    except ServeError as error:
        return f"rcode {error.rcode}{error}"  # without a text, so that the errors directive does not tell of it
    if reply is NEXT:
        return "next"
    assert (reply.rcode, reply.authoritative, reply.writer) == (0, True, "hosts")
    found = answers_of(asked, reply)
    assert {record.owner for record in found} <= {asked.query.name}
    return [
        names.to_text(record.rdata) if record.rtype == RRType.PTR else names.address_text(record.rdata)
        for record in found
    ]


async def test_addresses_of_a_name(file: Path):
    plugin = hosts(file)
    assert await ask(plugin, "a.test") == ["192.0.2.1"]
    assert await ask(plugin, "A.Test") == ["192.0.2.1"]
    assert await ask(plugin, "both.test", "AAAA") == ["2001:db8::1"]


@pytest.mark.parametrize(
    ("name", "rtype"), [("six.test", "A"), ("a.test", "AAAA"), ("a.test", "TXT"), ("a.test", "ANY")]
)
async def test_a_known_name_has_nothing_of_another_type(file: Path, name: str, rtype: str):
    assert await ask(hosts(file, "fallthrough"), name, rtype) == []


async def test_other_types_of_a_known_name_may_be_anothers(file: Path):
    plugin = hosts(file, "fallthrough_unsupported")
    assert await ask(plugin, "a.test", "TXT") == "next"
    assert await ask(plugin, "a.test", "AAAA") == []
    assert await ask(plugin, "unknown.test", "TXT") == "rcode 2"


async def test_an_unknown_name_is_an_error_unless_it_falls_through(file: Path):
    assert await ask(hosts(file), "unknown.test") == "rcode 2"
    assert await ask(hosts(file, "fallthrough"), "unknown.test") == "next"
    limited = hosts(file, "fallthrough b.test")
    assert await ask(limited, "x.b.test") == "next"
    assert await ask(limited, "x.a.test") == "rcode 2"


async def test_names_outside_the_zones_are_not_its_business(file: Path):
    assert await ask(hosts(file), "a.other") == "next"
    plugin = hosts(file, zones="b.test")
    assert await ask(plugin, "a.test") == "next"
    assert await ask(plugin, "x.b.test") == "rcode 2"


async def test_names_of_an_address(file: Path):
    plugin = hosts(file)
    assert await ask(plugin, "1.2.0.192.in-addr.arpa", "PTR") == ["a.test.", "both.test."]
    assert await ask(plugin, names.to_text(names.reverse_name(bytes.fromhex("20010db8" + 22 * "0" + "01"))), "PTR") == [
        "six.test.",
        "both.test.",
    ]


async def test_reverse_names_need_not_lie_in_the_zones(file: Path):
    plugin = hosts(file, zones="test")
    assert await ask(plugin, "1.2.0.192.in-addr.arpa", "PTR") == ["a.test.", "both.test."]


@pytest.mark.parametrize(
    "name", ["9.2.0.192.in-addr.arpa", "2.0.192.in-addr.arpa", "a.test", "01.2.0.192.in-addr.arpa"]
)
async def test_an_unknown_address_is_always_anothers(file: Path, name: str):
    assert await ask(hosts(file), name, "PTR") == "next"


async def test_no_reverse_leaves_addresses_to_others(file: Path):
    assert await ask(hosts(file, "no_reverse"), "1.2.0.192.in-addr.arpa", "PTR") == "next"


async def test_inline_entries_stand_behind_those_of_the_file(file: Path):
    plugin = hosts(file, "192.0.2.5 a.test inline.test", "192.0.2.1 third.test")
    assert await ask(plugin, "a.test") == ["192.0.2.1", "192.0.2.5"]
    assert await ask(plugin, "inline.test") == ["192.0.2.5"]
    assert await ask(plugin, "1.2.0.192.in-addr.arpa", "PTR") == ["a.test.", "both.test.", "third.test."]


async def test_a_name_goes_before_the_wildcard_that_holds_it(file: Path):
    plugin = hosts(file, "192.0.2.8 real.wild.test")
    assert await ask(plugin, "real.wild.test") == ["192.0.2.8"]
    assert await ask(plugin, "any.wild.test") == ["192.0.2.7"]
    assert await ask(plugin, "any.wild.test", "AAAA") == []
    assert await ask(plugin, "wild.test") == "rcode 2"


async def test_the_ttl_is_an_hour_unless_said_otherwise(file: Path):
    for lines, ttl in ((), 3600), (("ttl 77",), 77):
        asked = request("a.test")
        reply = await hosts(file, *lines).serve(asked, None)  # type: ignore[arg-type]
        assert [record.ttl for record in answers_of(asked, reply)] == [ttl]


async def test_many_names_of_an_address_are_written_once(file: Path):
    await asyncio.to_thread(file.write_text, "\n".join(f"0.0.0.0 n{number}.test" for number in range(1000)))
    plugin = hosts(file)
    asked = request("0.0.0.0.in-addr.arpa", "PTR")
    first, second = [await plugin.serve(asked, None) for _ in range(2)]  # type: ignore[arg-type]
    assert len(answers_of(asked, first)) == 1000
    assert first.body is second.body


async def test_a_file_without_path_is_that_of_the_system():
    plugin: Any = set_up("hosts", zones=(".",))
    assert plugin._options.path == Path("/etc/hosts")


async def test_a_changed_file_is_read_again_and_told_of(file: Path):
    surroundings = Surroundings()
    plugin: Any = hosts(file, "reload 10ms", surroundings=surroundings)
    entries = surroundings.metrics.families["coredns_hosts_entries"]
    reloaded = surroundings.metrics.families["coredns_hosts_reload_timestamp_seconds"]

    async def is_known(name: str) -> bool:
        return await ask(plugin, name) != "rcode 2"

    async def is_told(seconds: float) -> bool:
        return reloaded.total() == seconds

    task = asyncio.create_task(plugin.run())
    try:
        await until(partial(is_told, os.stat(file).st_mtime_ns / 1e9))
        assert entries.total((str(file),)) == 9
        await asyncio.to_thread(file.write_text, "192.0.2.9 new.test\n")
        os.utime(file, (1e9, 1e9 + 0.5))
        await until(partial(is_told, 1e9 + 0.5))
        assert entries.total((str(file),)) == 2
        assert await ask(plugin, "new.test") == ["192.0.2.9"]
        assert await ask(plugin, "a.test") == "rcode 2"
        await asyncio.to_thread(file.unlink)
        assert not await plugin._file.reread()
        assert await ask(plugin, "new.test") == ["192.0.2.9"]
        await asyncio.to_thread(file.write_text, "192.0.2.10 newer.test\n")
        await until(partial(is_known, "newer.test"))
        assert await ask(plugin, "new.test") == "rcode 2"
    finally:
        task.cancel()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while not await condition():  # noqa: ASYNC110 - the file is polled as well
            await asyncio.sleep(0.005)


async def test_reading_a_large_file_lets_others_have_their_turn(file: Path):
    plugin: Any = hosts(file)
    lines = [f"10.0.{n >> 8}.{n & 255} n{n}.test" for n in range(20 * LINES_PER_TURN)]
    await asyncio.to_thread(file.write_text, "\n".join(lines))
    turns, reading = 0, asyncio.create_task(plugin._file.reread())
    while not reading.done():
        turns += 1
        await asyncio.sleep(0)
    assert await reading
    assert turns >= 20
    assert await ask(plugin, "n2500.test") == ["10.0.9.196"]


async def test_without_reload_the_file_is_read_once(file: Path):
    plugin = hosts(file, "reload 0")
    await asyncio.wait_for(plugin.run(), 5)


def routes(file: Path, *lines: str, arguments: str = "", zones: str = "cluster.local in-addr.arpa") -> dict[str, Route]:
    body = "\n".join(lines)
    corefile = f"{zones} {{\nhosts {file} {arguments} {{\n{body}\n}}\nkubernetes cluster.local in-addr.arpa\n}}"
    return {names.to_text(route.suffix): route for route in build(corefile).listeners[0].routes()}


def test_the_table_answers_all_names_but_those_of_the_file(file: Path):
    file.write_text("192.0.2.1 a.cluster.local node1\n192.0.2.2 *.wild.cluster.local\n2001:db8::1 node1\n")
    found = routes(file, "fallthrough", zones=".")["cluster.local."]
    assert found.action == TABLE
    assert found.detours is not None
    assert len(found.detours) == 3
    for name in ("a.cluster.local", "x.wild.cluster.local", "1.2.0.192.in-addr.arpa"):
        assert names.from_text(name) in found.detours
    for name in ("b.cluster.local", "node1", "wild.cluster.local", "2.2.0.192.in-addr.arpa"):
        assert names.from_text(name) not in found.detours


def test_the_table_answers_nothing_where_unknown_names_are_errors(file: Path):
    assert routes(file)["cluster.local."].action == MISS
    limited = routes(file, "fallthrough in-addr.arpa")
    assert (limited["cluster.local."].action, limited["in-addr.arpa."].action) == (MISS, TABLE)
    elsewhere = routes(file, arguments="example.org")
    assert (elsewhere["cluster.local."].action, elsewhere["in-addr.arpa."].action) == (TABLE, TABLE)
    assert routes(file, arguments="x.cluster.local")["cluster.local."].action == MISS


async def test_names_of_a_file_that_changed_are_left_to_it(file: Path):
    plugin: Any = hosts(file, "fallthrough")
    route = plugin.adapt_route(Route(names.from_text("test"), TABLE))
    assert names.from_text("a.test") in route.detours
    await asyncio.to_thread(file.write_text, "192.0.2.9 new.test\n")
    assert await plugin._file.reread()
    await plugin._renew_detours()
    assert names.from_text("new.test") in route.detours
    assert names.from_text("a.test") not in route.detours


def test_a_missing_file_is_warned_of_and_waited_for(tmp_path: Path):
    with collected() as lines:
        hosts(tmp_path / "none")
    assert lines == [f"[WARNING] plugin/hosts: File does not exist: {tmp_path}/none"]
    with collected() as lines:
        hosts(tmp_path)
    assert lines == [f'[WARNING] plugin/hosts: Hosts file "{tmp_path}" is a directory']


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (("ttl",), "ttl needs a time in second"),
        (("ttl long",), "ttl needs a number of second"),
        (("ttl 0",), "ttl provided is invalid"),
        (("ttl 65536",), "ttl provided is invalid"),
        (("reload",), "reload needs a duration (zero seconds to disable)"),
        (("reload 5",), "invalid duration for reload '5'"),
        (("reload -1s",), "invalid negative duration for reload '-1s'"),
        (("fallthrough\n192.0.2.1 late.test",), "unknown property '192.0.2.1'"),
    ],
)
def test_mistakes_are_refused_in_coredns_words(lines: tuple[str, ...], text: str):
    line = 4 if "\n" in lines[0] else 3
    expected = f"plugin/hosts: Corefile:{line} - Error during parsing: {text}"
    assert refused(f"hosts {{\n{lines[0]}\n}}") == expected


def test_once_in_a_block_only():
    assert refused("hosts\nhosts") == "plugin/hosts: this plugin can only be used once per Server Block"


def test_a_path_through_a_file_is_an_error(file: Path):
    text = f"unable to access hosts file '{file}/x': stat {file}/x: not a directory"
    assert refused(f"hosts {file}/x") == f"plugin/hosts: Corefile:2 - Error during parsing: {text}"
