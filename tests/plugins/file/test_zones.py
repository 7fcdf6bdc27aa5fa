"""`file`: answers from zone files, options, and files that change."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from kdns.dns import names
from kdns.dns.codes import Rcode, rcode_text
from kdns.dns.compression import write_body
from kdns.dns.records import read_sections
from kdns.dns.reply import Reply
from kdns.dns.rrset import Record
from kdns.errors import CorefileError, Dropped, ServeError
from kdns.plugins.file.zones import FileZones
from kdns.plugins.plugin import MISS, REFUSE, Request
from tests.fakes.directives import build, refused, request, set_up
from tests.fakes.logs import collected

SOA = "$TTL 60\n@ SOA ns root {} 3600 600 86400 60\n@ NS ns\nns A 192.0.2.53\n"
ZONE = SOA.format(7) + "www A 192.0.2.1\na.ent A 192.0.2.3\nout CNAME www.other.test.\n*.wild TXT x\nsub NS ns.sub\n"
NEXT = Reply(writer="next")
LOOK_SECONDS = 0.01
AT = "plugin/file: Corefile:{} - Error during parsing: "


@pytest.fixture
def db(tmp_path: Path) -> Path:
    path = tmp_path / "db.test"
    path.write_text(ZONE)
    return path


def zones(db: Path, *options: str, zone: str = "zone.test") -> FileZones:
    body = "\n".join(options)
    return set_up(f"file {db} {zone} {{\n{body}\n}}")  # type: ignore[no-any-return]


async def ask(plugin: FileZones, asked: Request) -> str:
    """The rcode, and the owners of the records of each section; who is asked else; the rcode of an error."""

    async def next_handler(_: Request) -> Reply:
        return NEXT

    try:
        reply = await plugin.serve(asked, next_handler)
    except ServeError as error:
        return f"unwritten {rcode_text(error.rcode)}{error}"
    if reply is NEXT:
        return "next"
    assert reply.writer == "file"
    sections = read_sections(asked.query.head, reply.body)
    owners = [" ".join(names.to_text(record.owner) for record in section) for section in sections]
    return " | ".join([rcode_text(reply.rcode) + (" aa" if reply.authoritative else ""), *owners])


@pytest.mark.parametrize(
    ("name", "rtype", "said"),
    [
        ("www.zone.test", "A", "NOERROR aa | www.zone.test. | zone.test. | "),
        ("www.zone.test", "TXT", "NOERROR aa |  | zone.test. | "),
        ("none.zone.test", "A", "NXDOMAIN aa |  | zone.test. | "),
        ("x.sub.zone.test", "A", "NOERROR |  | sub.zone.test. | "),
        ("www.elsewhere.test", "A", "next"),
        ("zone.test", "AXFR", "unwritten REFUSED"),
        ("zone.test", "IXFR", "unwritten REFUSED"),
    ],
)
async def test_names_of_the_zone_are_answered(db: Path, name: str, rtype: str, said: str):
    plugin = zones(db)
    for _ in range(2):  # an answer that has been rendered before is the same
        assert await ask(plugin, request(name, rtype)) == said


async def test_the_client_gets_its_own_spelling(db: Path):
    plugin = zones(db)
    first = await plugin.serve(request("www.zone.test"), None)  # type: ignore[arg-type]
    asked = request("www.zone.test")
    spelled = names.from_text("www.zone.test").upper()
    head = asked.query.head[:12] + spelled + asked.query.head[12 + len(spelled) :]
    asked = replace(asked, query=replace(asked.query, head=head, name=spelled))
    reply = await plugin.serve(asked, None)  # type: ignore[arg-type]
    assert reply.body == first.body
    assert read_sections(head, reply.body).answers[0].owner == spelled


def resolving(rcode: int = 0, *found: Record) -> Callable[[Request], object]:
    async def resolve(asked: Request) -> Reply:
        assert (names.to_text(asked.query.qname), asked.depth) == ("www.other.test.", 1)
        if rcode < 0:
            raise Dropped
        return Reply(rcode, write_body(asked.query.name, found))

    return resolve


@pytest.mark.parametrize(
    ("rcode", "records", "said"),
    [
        (0, 1, "NOERROR aa | out.zone.test. www.other.test. | zone.test. | "),
        (Rcode.NXDOMAIN, 0, "NXDOMAIN aa | out.zone.test. | zone.test. | "),
        # What the name is called is true all the same.
        (Rcode.SERVFAIL, 0, "NOERROR aa | out.zone.test. | zone.test. | "),
        (Rcode.REFUSED, 0, "NOERROR aa | out.zone.test. | zone.test. | "),
        (-1, 0, "NOERROR aa | out.zone.test. | zone.test. | "),
    ],
)
async def test_the_server_is_asked_what_a_cname_out_of_the_zone_leads_to(db: Path, rcode: int, records: int, said: str):
    record = Record(names.from_text("www.other.test"), 1, 30, bytes(4))
    asked = replace(request("out.zone.test"), resolve=resolving(rcode, *[record][:records]))
    assert await ask(zones(db), asked) == said


async def test_names_without_records_fall_through_where_they_may(db: Path):
    plugin = zones(db, "fallthrough wild.zone.test ent.zone.test none.zone.test sub.zone.test www.zone.test")
    asked = {
        "none.zone.test": "next",
        "ent.zone.test": "next",
        "other.zone.test": "NXDOMAIN aa |  | zone.test. | ",
        "x.wild.zone.test": "NOERROR aa |  | zone.test. | ",
        "sub.zone.test": "NOERROR |  | sub.zone.test. | ",
    }
    assert {name: await ask(plugin, request(name)) for name in asked} == asked
    assert await ask(plugin, request("www.zone.test", "TXT")) == "NOERROR aa |  | zone.test. | "
    assert await ask(zones(db, "fallthrough"), request("other.zone.test")) == "next"


async def test_what_is_in_no_zone_is_refused_where_nobody_else_could_answer(db: Path):
    listener = build(f".:53 {{\nfile {db} zone.test\n}}").listeners[0]
    (_, last), *_ = listener.zones[names.ROOT].plugins
    assert await ask(last, request("other.test")) == "unwritten REFUSED"  # type: ignore[arg-type]
    listener = build(f".:53 {{\nfile {db} zone.test\nwhoami\n}}").listeners[0]
    (_, other), *_ = listener.zones[names.ROOT].plugins
    assert await ask(other, request("other.test")) == "next"  # type: ignore[arg-type]


async def test_the_longest_zone_has_a_name_and_the_one_above_its_ds_records(db: Path, tmp_path: Path):
    child = tmp_path / "child"
    child.write_text(SOA.format(1) + "x A 192.0.2.9\n")
    plugin = set_up(f"file {db} zone.test\nfile {child} sub.zone.test")
    assert await ask(plugin, request("x.sub.zone.test")) == "NOERROR aa | x.sub.zone.test. | sub.zone.test. | "
    assert await ask(plugin, request("sub.zone.test", "DS")) == "NOERROR aa |  | zone.test. | "
    assert await ask(plugin, request("zone.test", "DS")) == "NOERROR aa |  | zone.test. | "


async def test_a_file_without_zones_is_that_of_the_block_and_may_serve_several(db: Path):
    plugin = set_up(f"file {db}", zones=("a.test", "b.test"))
    assert await ask(plugin, request("www.a.test")) == "NOERROR aa | www.a.test. | a.test. | "
    assert await ask(plugin, request("www.b.test")) == "NOERROR aa | www.b.test. | b.test. | "
    assert plugin.zones == plugin.touches() == (names.from_text("a.test"), names.from_text("b.test"))


def test_the_compiled_path_leaves_the_zone_alone_and_has_the_rest(db: Path):
    corefile = f".:53 {{\nfile {db} zone.test\nkubernetes cluster.local\n}}"
    routes = {route.suffix: route.action for route in build(corefile).listeners[0].routes()}
    assert routes[names.from_text("cluster.local")] not in (MISS, REFUSE)
    assert routes[names.ROOT] == MISS


def test_a_zone_can_be_transferred(db: Path):
    plugin = zones(db)
    found = plugin.transfer(names.from_text("zone.test"))
    assert found is not None
    assert (found.serial, found.soa.owner) == (7, names.from_text("zone.test"))
    assert len([record for record in found.records if record is not None]) == 7
    assert plugin.transfer(names.from_text("www.zone.test")) is None


@pytest.mark.parametrize(
    ("directive", "said"),
    [
        ("file", AT.format(2) + "Wrong argument count or unexpected line ending after 'file'"),
        ("file DB zone.test {\nreload\n}", AT.format(3) + "reload duration value is expected"),
        ("file DB zone.test {\nreload x\n}", 'plugin/file: time: invalid duration "x"'),
        ("file DB zone.test {\nreload -1s\n}", AT.format(3) + "invalid duration: -1s"),
        ("file DB zone.test {\nother\n}", AT.format(3) + "unknown property 'other'"),
        ("file DB.none zone.test {\nreload 0\n}", "plugin/file: open DB.none: no such file or directory"),
        ("file DB.bad zone.test", "plugin/file: DB.bad:2 - no type"),
        ("file DB.empty zone.test", 'plugin/file: file "DB.empty" has no SOA record for origin zone.test.'),
    ],
)  # fmt: skip
def test_what_makes_no_zone_stops_the_start(db: Path, directive: str, said: str):
    db.with_name("db.test.bad").write_text("$TTL 5\nwww\n")
    db.with_name("db.test.empty").write_text("")
    assert refused(directive.replace("DB", str(db))).replace(str(db), "DB") == said


def test_relative_paths_begin_at_the_root_directive(db: Path):
    build(f".:53 {{\nroot {db.parent}\nfile {db.name} zone.test {{\nreload 0\n}}\n}}")
    with pytest.raises(CorefileError, match="no such file"):
        build(f".:53 {{\nfile {db.name} zone.test {{\nreload 0\n}}\n}}")


@asynccontextmanager
async def running(plugin: FileZones) -> AsyncIterator[None]:
    task = asyncio.create_task(plugin.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for is a file
            await asyncio.sleep(LOOK_SECONDS)


def rewrite(db: Path, text: str) -> None:
    """Replace the file at once, with a time of change of its own."""
    new, before = db.with_suffix(".new"), db.stat().st_mtime_ns if db.exists() else 0
    new.write_text(text)
    os.utime(new, ns=(before + 10**9, before + 10**9))
    new.replace(db)


def remove(db: Path) -> None:
    db.unlink()


def serial(plugin: FileZones) -> int:
    found = plugin.transfer(names.from_text("zone.test"))
    assert found is not None
    return found.serial


def has(plugin: FileZones, name: str) -> bool:
    """Whether a transfer of the zone has the name; no reply is rendered for it."""
    try:
        found = plugin.transfer(names.from_text("zone.test"))
    except ServeError:
        return False
    assert found is not None
    return any(record is not None and record.owner == names.from_text(name) for record in found.records)


async def test_a_new_serial_brings_a_new_zone(db: Path):
    plugin = zones(db, f"reload {LOOK_SECONDS}s")
    await ask(plugin, request("www.zone.test"))  # rendered, and to be forgotten
    with collected() as lines:
        async with running(plugin):
            rewrite(db, SOA.format(8))
            await until(lambda: serial(plugin) == 8)
            assert await ask(plugin, request("www.zone.test")) == "NXDOMAIN aa |  | zone.test. | "
    assert lines == [
        f'[INFO] plugin/file: Successfully reloaded zone "zone.test." in "{db}" with 8 SOA serial',
    ]


async def test_without_a_new_serial_the_zone_stays_but_where_the_time_counts(db: Path):
    by_serial, by_time = zones(db, f"reload {LOOK_SECONDS}s"), zones(db, f"reload {LOOK_SECONDS}s", "reload_by_mtime")
    async with running(by_serial), running(by_time):
        rewrite(db, ZONE + "new A 192.0.2.9\n")
        await until(lambda: has(by_time, "new.zone.test"))
        assert not has(by_serial, "new.zone.test")
        rewrite(db, SOA.format(8))
        await until(lambda: serial(by_serial) == 8)


async def test_a_file_that_cannot_be_read_leaves_the_zone_and_is_told_once(db: Path):
    plugin = zones(db, f"reload {LOOK_SECONDS}s")
    with collected() as lines:
        async with running(plugin):
            rewrite(db, SOA.format(8) + "www A 192.0.2\n")
            await until(lambda: len(lines) == 1)
            remove(db)
            await until(lambda: len(lines) == 2)
            await asyncio.sleep(5 * LOOK_SECONDS)  # nothing is to come
            assert serial(plugin) == 7
            rewrite(db, SOA.format(9))
            await until(lambda: serial(plugin) == 9)
    assert lines[:2] == [
        f'[ERROR] plugin/file: Failed to read zone "zone.test.": {db}:5 - bad address "192.0.2"',
        f'[ERROR] plugin/file: Failed to read zone "zone.test.": open {db}: no such file or directory',
    ]
    assert len(lines) == 3


async def test_a_file_that_comes_later_is_taken_then(db: Path):
    remove(db)
    with collected() as lines:
        plugin = zones(db, f"reload {LOOK_SECONDS}s")
    assert lines == [
        f'[WARNING] plugin/file: Failed to open "open {db}: no such file or directory": trying again in 10ms',
    ]
    assert await ask(plugin, request("www.zone.test")) == "unwritten SERVFAIL"
    with pytest.raises(ServeError):
        plugin.transfer(names.from_text("zone.test"))
    async with running(plugin):
        rewrite(db, ZONE)
        await until(lambda: has(plugin, "www.zone.test"))


def test_what_is_left_out_of_a_zone_is_told(db: Path):
    db.write_text(ZONE + "www.other.test. A 192.0.2.1\nwww RRSIG A 8 3 60 1 1 1 zone.test. AAAA\n")
    with collected() as lines:
        zones(db)
    assert lines == [
        f'[WARNING] plugin/file: zone "zone.test." in "{db}": left out 1 records of its signature',
        f'[WARNING] plugin/file: zone "zone.test." in "{db}": left out 1 records of other zones',
    ]
