"""`log`: which queries make a line, and what it says."""

from __future__ import annotations

import asyncio
import contextlib
import io
import re
import struct
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from kdns import log
from kdns.dns import names
from kdns.dns.codes import RRType
from kdns.dns.query import Edns
from kdns.dns.reply import Reply
from kdns.dns.rrset import Record
from kdns.errors import Dropped, ServeError
from kdns.plugins import log as log_plugin
from kdns.plugins.plugin import Handler, Request
from tests.fakes.directives import answering, build, failing, query, refused, request, set_up

NAME = names.from_text("a.test")
ADDRESS = Record(NAME, RRType.A, 60, bytes((192, 0, 2, 1)))
SOA = Record(NAME, RRType.SOA, 60, NAME + NAME + bytes(20))
OTHER = names.from_text("ns.other.test")


async def lines_of(
    directive: str, asked: Request, handler: Handler | None = None, zones: Sequence[str] = (".",)
) -> list[str]:
    """The lines a query makes, durations as 0s."""
    lines: list[str] = []
    plugin: Any = set_up(directive, zones=zones)
    plugin._write = lines.append
    with contextlib.suppress(ServeError, Dropped):
        await plugin.serve(asked, handler or answering(ADDRESS))
    return [re.sub(r" \d+(\.\d+)?s$", " 0s", line) for line in lines]


async def test_the_common_format():
    assert await lines_of("log", request()) == [
        '192.0.2.1:4242 - 1 "A IN a.test. udp 24 false 512" NOERROR qr,aa,rd 46 0s'
    ]


async def test_over_tcp_the_buffer_is_the_largest():
    (line,) = await lines_of("log", request(stream=True))
    assert '"A IN a.test. tcp 24 false 65535"' in line


async def test_edns_tells_its_size_and_do_and_counts_in_the_size():
    asked = replace(request(), query=query("a.test", edns=Edns(1400, 0, True, ((10, bytes(8)),))))
    (line,) = await lines_of("log", asked)
    assert '"A IN a.test. udp 47 true 1400"' in line
    asked = replace(request(), query=query("a.test", edns=Edns(100, 0, False)))
    assert "udp 35 false 512" in (await lines_of("log", asked))[0]


async def test_an_ipv6_client_stands_in_brackets():
    assert (await lines_of("log", request(client=("::1", 53))))[0].startswith("[::1]:53 - 1 ")


async def test_a_type_or_class_without_mnemonic_is_a_number():
    (line,) = await lines_of("log", request(rtype="TYPE65280"))
    assert '"TYPE65280 IN a.test.' in line
    asked = request()
    head = asked.query.head[:-2] + struct.pack("!H", 7)
    (line,) = await lines_of("log", replace(asked, query=replace(asked.query, head=head, qclass=7)))
    assert '"A CLASS7 a.test.' in line


async def test_odd_octets_of_a_name_stay_on_the_line():
    (line,) = await lines_of("log", request("a\\010b\\032.test"))
    assert "A IN a\\010b\\032.test. udp" in line


async def test_combined_adds_the_opcode():
    (line,) = await lines_of("log . {combined}", request())
    assert line.endswith('46 0s "0"') or re.search(r' 46 \S+s "0"$', line)


@pytest.mark.parametrize(
    ("template", "line"),
    [
        ("{proto} Request: {name} {type}", "udp Request: a.test. A"),
        ("{local} {port} {>opcode} {nope} {/no/meta}", "10.1.1.1 4242 0 {nope} -"),
        ("A } {type}", "A } A"),
        ("{ {type} }", "{ A }"),
        ("{{type}}", "{A}"),
        ("{type", "{type"),
        ("{common", "{common"),
    ],
)
async def test_placeholders_are_replaced_and_the_rest_stays(template: str, line: str):
    found = await lines_of(f'log . "{template}"', replace(request(), local=("10.1.1.1", 53)))
    assert found == ([line] if "{" in template else [])


async def test_a_format_in_two_lines_is_one():
    assert await lines_of('log . "{type}\n{class}"', request()) == ["A\\nIN"]


async def test_the_flags_stand_in_the_order_of_the_header():
    async def answer(_: Request) -> Reply:
        return Reply(recursion_available=True, authentic_data=True, truncated=True)

    assert await lines_of("log . {>rflags}", request(), answer) == ["qr,aa,tc,rd,ra,ad"]


async def test_what_the_server_answers_for_a_plugin_is_logged():
    (line,) = await lines_of("log", request(), failing("no next plugin"))
    assert line == '192.0.2.1:4242 - 1 "A IN a.test. udp 24 false 512" SERVFAIL qr,rd 24 0s'
    (line,) = await lines_of("log . {rcode}", request(), failing("too many", 5))
    assert line == "REFUSED"


async def test_silence_is_logged_as_nothing():
    async def drop(_: Request) -> Reply:
        raise Dropped

    (line,) = await lines_of("log { \nclass error\n}", request(), drop)
    assert line.endswith('512" - - 0 0s')


async def test_an_error_goes_on_to_the_server():
    plugin: Any = set_up("log")
    plugin._write = lambda _: None
    with pytest.raises(ServeError, match="broken"):
        await plugin.serve(request(), failing("broken"))


async def test_the_size_of_a_reply_is_that_before_compression():
    records = (Record(NAME, RRType.MX, 60, b"\0\1" + OTHER), Record(NAME, RRType.CNAME, 60, OTHER))
    (line,) = await lines_of("log . {rsize}", request(), answering(*records, authorities=[SOA]))
    fixed = len(NAME) + 10
    assert int(line) == 12 + len(NAME) + 4 + 3 * fixed + 2 + 2 * len(OTHER) + 2 * len(NAME) + 20


@pytest.mark.parametrize(
    ("classes", "kinds"),
    [
        ("all", {"success", "denial", "nodata", "servfail"}),
        ("success", {"success"}),
        ("denial", {"denial", "nodata"}),
        ("error", {"servfail"}),
        ("denial error", {"denial", "nodata", "servfail"}),
        ("success all", {"success", "denial", "nodata", "servfail"}),
    ],
)
async def test_classes_limit_what_is_logged(classes: str, kinds: set[str]):
    handlers = {
        "success": answering(ADDRESS),
        "denial": answering(rcode=3, authorities=[SOA]),
        "nodata": answering(authorities=[SOA]),
        "servfail": answering(rcode=2),
    }
    found = {
        kind for kind, handler in handlers.items() if await lines_of(f"log {{\nclass {classes}\n}}", request(), handler)
    }
    assert found == kinds


async def test_the_first_scope_decides_even_where_its_classes_do_not_meet():
    directive = "log a.test {\nclass error\n}\nlog . other {type}"
    assert await lines_of(directive, request("x.a.test")) == []
    assert await lines_of(directive, request("b.test")) == ["A"]


async def test_a_single_argument_is_a_scope_whatever_it_looks_like():
    assert await lines_of("log {combined}", request()) == []
    assert len(await lines_of("log A.test", request("x.a.test"))) == 1
    assert await lines_of("log b.test c.test {type}", request("x.c.test")) == ["A"]
    assert await lines_of("log b.test c.test {type}", request("x.d.test")) == []


def test_durations_are_written_in_as_few_digits_as_say_them():
    for nanoseconds, text in (
        (66649, "0.000066649s"),
        (2_001_000_000, "2.001s"),
        (10**9, "1s"),
        (0, "0s"),
        (1, "0.000000001s"),
    ):
        exchange = log_plugin.Exchange(request(), None, nanoseconds)
        assert log_plugin.PLACEHOLDERS["{duration}"](exchange) == text


def test_the_table_answers_alone_where_it_never_makes_a_line():
    assert actions("log . {\nclass error\n}") == {"cluster.local.": 1, "in-addr.arpa.": 1}
    assert actions("log") == {"cluster.local.": 0, "in-addr.arpa.": 0}
    assert actions("log example.org") == {"cluster.local.": 1, "in-addr.arpa.": 1}
    assert actions("log svc.cluster.local") == {"cluster.local.": 0, "in-addr.arpa.": 1}
    assert actions("log local") == {"cluster.local.": 0, "in-addr.arpa.": 1}
    assert actions("log . {\nclass error denial\n}") == {"cluster.local.": 0, "in-addr.arpa.": 0}


def test_the_first_rule_decides_what_the_table_may_answer():
    errors_first = "log local {\nclass error\n}\nlog"
    assert actions(errors_first) == {"cluster.local.": 1, "in-addr.arpa.": 0}


def test_errors_that_were_kept_are_logged_too():
    (listener,) = build("cluster.local {\nlog . {\nclass error\n}\nkubernetes\n}").listeners
    assert [route.error_is_miss for route in listener.routes()] == [True]


def actions(directives: str) -> dict[str, int]:
    (listener,) = build(f"cluster.local in-addr.arpa {{\n{directives}\nkubernetes\n}}").listeners
    return {names.to_text(route.suffix): route.action for route in listener.routes()}


def test_mistakes_are_refused_in_coredns_words():
    start = "plugin/log: "
    assert refused("log {\nclass some\n}") == f"{start}invalid Class: some"
    wrong = f"{start}Corefile:3 - Error during parsing: Wrong argument count or unexpected line ending after 'class'"
    assert refused("log {\nclass\n}") == wrong
    assert refused("log {\nother all\n}").startswith(
        f"{start}Corefile:3 - Error during parsing: unknown property 'other'"
    )


async def test_lines_of_one_turn_go_out_together_and_before_other_events(capfdbinary: pytest.CaptureFixture[bytes]):
    log.configure()
    try:
        log.write_soon("one")
        log.write_soon("two")
        assert capfdbinary.readouterr().out == b""
        log.logger().info("three")
        assert capfdbinary.readouterr().out == b"[INFO] one\n[INFO] two\n[INFO] three\n"
        log.write_soon("four")
        await asyncio.sleep(0)
        assert capfdbinary.readouterr().out == b"[INFO] four\n"
    finally:
        log.logger().handlers.clear()
        log.logger().propagate = True


async def test_more_lines_than_a_pipe_takes_whole_are_written_in_several(monkeypatch: pytest.MonkeyPatch):
    class Raw(io.RawIOBase):
        def __init__(self) -> None:
            self.writes: list[bytes] = []

        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            self.writes.append(bytes(data))
            return len(data)

    raw = Raw()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BufferedWriter(raw)))
    lines = [f"{n} " + "x" * 200 for n in range(log.MAX_WAITING)]
    for line in lines:
        log.write_soon(line)  # the last one does not wait
    assert b"".join(raw.writes).decode() == "".join(f"[INFO] {line}\n" for line in lines)
    assert len(raw.writes) > 1
    assert all(len(write) <= log.MAX_WRITE and write.endswith(b"\n") for write in raw.writes)
