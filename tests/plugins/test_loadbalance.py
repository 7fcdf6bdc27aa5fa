"""`loadbalance`: which of a name's addresses stands first."""

from __future__ import annotations

import os
import random
from collections import Counter
from ipaddress import ip_address
from pathlib import Path

import pytest

from kdns.corefile import parse_duration
from kdns.dns import names
from kdns.dns.codes import RRType
from kdns.dns.compression import Body, write_body
from kdns.dns.records import read_sections
from kdns.dns.reply import Reply
from kdns.dns.rrset import Record
from kdns.errors import CorefileError
from kdns.plugins.loadbalance import RoundRobin, Weighted
from kdns.plugins.plugin import Handler, Plugin, Request
from tests.fakes.clock import HeldLoop, run_held
from tests.fakes.directives import answering, answers_of, refusal_of, refused, request, set_up
from tests.fakes.logs import collected

NAME = names.from_text("a.test")
OWNER = names.from_text("web.test")
FIVE = tuple(f"192.0.2.{n}" for n in range(1, 6))


def address(text: str, owner: bytes = NAME) -> Record:
    packed = ip_address(text).packed
    return Record(owner, RRType.A if len(packed) == 4 else RRType.AAAA, 60, packed)


def replying(body: Body) -> Handler:
    async def handler(_request: Request) -> Reply:
        return Reply(body=body)

    return handler


async def order(plugin: Plugin, handler: Handler) -> list[str]:
    asked = request()
    reply = await plugin.serve(asked, handler)
    return [
        names.address_text(record.rdata) if record.rtype in (RRType.A, RRType.AAAA) else str(RRType(record.rtype).name)
        for record in answers_of(asked, reply)
    ]


async def firsts(plugin: Plugin, handler: Handler, times: int) -> Counter[str]:
    random.seed(7)
    return Counter([(await order(plugin, handler))[0] for _ in range(times)])


# round_robin


@pytest.mark.parametrize("text", ["loadbalance", "loadbalance round_robin", "loadbalance {\n}"])
async def test_round_robin_lets_the_reply_rotate(text: str):
    plugin = set_up(text)
    reply = await plugin.serve(request(), answering(*map(address, FIVE)))
    assert plugin.transparent
    assert reply.rotates


async def test_round_robin_leaves_errors_alone():
    assert not (await set_up("loadbalance").serve(request(), answering(rcode=3))).rotates


MX = tuple(Record(NAME, RRType.MX, 60, b"\0\x0a" + names.from_text(f"{host}.test")) for host in "abc")


async def test_mail_exchanges_are_shuffled_with_the_addresses_beside_them():
    plugin, asked = set_up("loadbalance"), request(rtype="MX")
    body = write_body(asked.query.name, MX, (), [address(text, OWNER) for text in FIVE])
    random.seed(7)
    orders: tuple[set[object], set[object]] = set(), set()
    for _ in range(60):
        answers, _, additionals = read_sections(asked.query.head, (await plugin.serve(asked, replying(body))).body)
        assert sorted(answers) == sorted(MX)
        assert {names.address_text(record.rdata) for record in additionals} == set(FIVE)
        orders[0].add(tuple(answers))
        orders[1].add(tuple(additionals))
    assert len(orders[0]) == 6
    assert len(orders[1]) > 20


async def test_addresses_among_other_records_keep_their_order():
    text = Record(NAME, RRType.TXT, 60, b"\1t")
    handler = answering(address(FIVE[0]), text, address(FIVE[1]))
    seen = [await order(set_up("loadbalance"), handler) for _ in range(20)]
    assert {tuple(found) for found in seen} == {(FIVE[0], "TXT", FIVE[1])}


async def test_other_records_are_passed_on_as_they_are():
    handler = answering(*(Record(NAME, RRType.TXT, 60, b"\1" + text) for text in (b"a", b"b", b"c")))
    reply = await set_up("loadbalance").serve(request(), handler)
    assert reply.body == (await handler(request())).body


# prefer


async def test_preferred_networks_come_first_in_their_order():
    plugin = set_up("loadbalance round_robin {\nprefer 10.9.0.0/16 10.8.0.0/16\nprefer 2001:db8::/32\n}")
    assert not plugin.transparent
    handler = answering(*map(address, ("10.1.1.1", "2001:db8::1", "10.8.1.1", "10.9.1.1", "10.1.1.2", "10.9.1.2")))
    seen = {tuple(await order(plugin, handler)) for _ in range(60)}
    for found in seen:
        assert set(found[:2]) == {"10.9.1.1", "10.9.1.2"}
        assert found[2:4] == ("10.8.1.1", "2001:db8::1")
        assert set(found[4:]) == {"10.1.1.1", "10.1.1.2"}
    assert len(seen) == 4  # those of one network, and those of none, take turns


async def test_a_network_is_cut_to_its_prefix():
    plugin = set_up("loadbalance {\nprefer 10.9.77.88/16\n}")
    assert set(await firsts(plugin, answering(*map(address, ("10.1.0.1", "10.9.0.1"))), 20)) == {"10.9.0.1"}


async def test_aliases_stay_before_the_addresses_they_lead_to():
    alias = Record(NAME, RRType.CNAME, 60, OWNER)
    plugin = set_up("loadbalance {\nprefer 10.9.0.0/16\n}")
    handler = answering(alias, address("10.1.0.1", OWNER), address("10.9.0.1", OWNER))
    assert await order(plugin, handler) == ["CNAME", "10.9.0.1", "10.1.0.1"]


async def test_replies_with_other_sections_are_passed_on_as_they_are():
    plugin = set_up("loadbalance {\nprefer 10.9.0.0/16\n}")
    ns = Record(names.from_text("test"), RRType.NS, 60, OWNER)
    handler = answering(address("10.1.0.1"), address("10.9.0.1"), authorities=[ns])
    assert await order(plugin, handler) == ["10.1.0.1", "10.9.0.1"]


# weighted


def weighted(path: Path, text: str, option: str = "") -> Weighted:
    path.write_text(text)
    plugin = set_up(f"loadbalance weighted {path}" + (f" {{\n{option}\n}}" if option else ""))
    assert isinstance(plugin, Weighted)
    return plugin


async def test_the_first_address_is_drawn_by_weight(tmp_path: Path):
    plugin = weighted(tmp_path / "w", "# of the web\nA.test\n192.0.2.1 6\n192.0.2.2 3 # spare\n\n192.0.2.3 1\n")
    found = await firsts(plugin, answering(*map(address, FIVE[:3])), 2000)
    assert 1120 < found["192.0.2.1"] < 1280  # 1200, give or take four standard deviations
    assert 518 < found["192.0.2.2"] < 682
    assert 146 < found["192.0.2.3"] < 254
    assert not plugin.transparent


async def test_an_address_without_a_weight_counts_as_one(tmp_path: Path):
    plugin = weighted(tmp_path / "w", "a.test.\n192.0.2.1 3\n2001:db8::1 9\n")
    found = await firsts(plugin, answering(*map(address, FIVE[:2])), 2000)
    assert 1420 < found["192.0.2.1"] < 1580


async def test_a_name_without_weights_is_drawn_from_evenly(tmp_path: Path):
    plugin = weighted(tmp_path / "w", "other.test\n192.0.2.1 9\n")
    found = await firsts(plugin, answering(*map(address, FIVE[:2])), 2000)
    assert 910 < found["192.0.2.1"] < 1090


async def test_all_addresses_stay_in_the_answer(tmp_path: Path):
    plugin = weighted(tmp_path / "w", "a.test\n192.0.2.4 255\n")
    for _ in range(20):
        assert sorted(await order(plugin, answering(*map(address, FIVE)))) == list(FIVE)


def test_the_file_is_read_again_when_it_has_changed(tmp_path: Path):
    async def check(loop: HeldLoop) -> None:
        path = tmp_path / "w"
        plugin = weighted(path, "a.test\n192.0.2.1 200\n192.0.2.2 1\n", "reload 5s")
        task = loop.create_task(plugin.run())
        handler = answering(*map(address, FIVE[:2]))
        await loop.advance(5)
        assert (await firsts(plugin, handler, 50)).most_common(1)[0][0] == "192.0.2.1"
        path.write_text("a.test\n192.0.2.1 1\n192.0.2.2 200\n")
        os.utime(path, ns=(1, 1))
        await loop.advance(4.9)
        assert (await firsts(plugin, handler, 50)).most_common(1)[0][0] == "192.0.2.1"
        await loop.advance(0.2)
        assert (await firsts(plugin, handler, 50)).most_common(1)[0][0] == "192.0.2.2"
        task.cancel()

    run_held(check)


def test_what_cannot_be_read_leaves_the_old_weights(tmp_path: Path):
    path = tmp_path / "w"
    plugin = weighted(path, "a.test\n192.0.2.1 200\n")
    for change in (lambda: path.write_text("192.0.2.1 1"), path.unlink):
        change()
        with collected() as lines:
            plugin.reload()
        (line,) = lines
        assert line.startswith("[WARNING] plugin/loadbalance: ")
        assert str(path) in line
        assert line.endswith("; the weights read before stay")
    assert plugin._weights == {NAME: {ip_address("192.0.2.1").packed: 200}}


def test_reload_zero_reads_the_file_once(tmp_path: Path):
    async def check(loop: HeldLoop) -> None:
        await weighted(tmp_path / "w", "a.test\n", "reload 0s").run()

    run_held(check)


def test_a_file_that_is_not_there_yet_is_tried_again(tmp_path: Path):
    path = tmp_path / "w"
    with collected() as lines:
        plugin = set_up(f"loadbalance weighted {path}")
    (line,) = lines
    assert line.startswith("[WARNING] plugin/loadbalance: Failed to open weight file: ")
    assert line.endswith("Will try again in 30s")
    path.write_text("a.test\n192.0.2.1 2\n")
    assert isinstance(plugin, Weighted)
    plugin.reload()
    assert plugin._weights


def test_a_file_that_is_not_there_and_never_will_be_ends_the_start(tmp_path: Path):
    text = refused(f"loadbalance weighted {tmp_path}/w {{\nreload 0s\n}}")
    assert text.startswith("plugin/loadbalance: weight file open error: ")
    assert "No such file" in text


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("192.0.2.1 3\n", 1),  # of no name
        ("a.test\n192.0.2.1\n", 2),  # an address without a weight is no name
        ("a.test\n\n192.0.2.1 0\n", 3),
        ("a.test\n192.0.2.1 256\n", 2),
        ("a.test\n192.0.2.1 -1\n", 2),
        ("a.test\n192.0.2.1 \u00b2\n", 2),
        ("a.test\n192.0.2.1 99999999999999999999\n", 2),
        ("a.test\n192.0.2.300 1\n", 2),
        ("a.test\n192.0.2.1 1 1\n", 2),
        ("a..test\n", 1),
    ],
)
def test_a_damaged_file_ends_the_start_with_the_line(text: str, line: int, tmp_path: Path):
    path = tmp_path / "w"
    path.write_text(text)
    said = refused(f"loadbalance weighted {path}")
    assert said.startswith(f"plugin/loadbalance: weight file {path}:{line}: ")


def test_a_file_that_is_no_text_ends_the_start(tmp_path: Path):
    (tmp_path / "w").write_bytes(b"\xff\xfe")
    assert refused(f"loadbalance weighted {tmp_path}/w").startswith(f"plugin/loadbalance: weight file {tmp_path}/w: ")


# setup

PARSING = "Corefile:{} - Error during parsing: "


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        ("loadbalance round_robin x", 2, "unknown property for round_robin"),
        ("loadbalance weighted", 2, "missing weight file argument"),
        ("loadbalance weighted a b", 2, "unexpected argument(s)"),
        ("loadbalance {\nbogus\n}", 3, "unknown property 'bogus'"),
        ("loadbalance {\nreload 5s\n}", 3, "unknown property 'reload'"),
        ("loadbalance weighted w {\nprefer 10.0.0.0/8\n}", 3, "unknown property 'prefer'"),
        ("loadbalance weighted w {\nreload\n}", 3, "reload duration value is missing"),
        ("loadbalance weighted w {\nreload 5s 6s\n}", 3, "unexpected argument"),
        ("loadbalance weighted w {\nreload soon\n}", 3, "invalid reload duration 'soon'"),
        ("loadbalance weighted w {\nreload -5s\n}", 3, "invalid reload duration '-5s'"),
        ("loadbalance {\nprefer 10.0.0.0/33\n}", 3, 'invalid CIDR "10.0.0.0/33": invalid CIDR address: 10.0.0.0/33'),
        ("loadbalance {\nprefer 10.0.0.1\n}", 3, 'invalid CIDR "10.0.0.1": invalid CIDR address: 10.0.0.1'),
        (
            "loadbalance {\nprefer 10.0.0.0/8 10.0.0.0/255.0.0.0\n}",
            3,
            'invalid CIDR "10.0.0.0/255.0.0.0": invalid CIDR address: 10.0.0.0/255.0.0.0',
        ),
    ],
)
def test_refused_forms(text: str, line: int, expected: str):
    assert refused(text) == f"plugin/loadbalance: {PARSING.format(line)}{expected}"


def test_an_unknown_policy_is_refused():
    assert refused("loadbalance fastest") == "plugin/loadbalance: unknown policy: fastest"


def test_a_slip_is_answered_with_the_option_it_is_near():
    assert refusal_of(". {\nloadbalance {\nprefre 10.0.0.0/8\n}\n}").hint == "did you mean 'prefer'?"


def test_prefer_without_networks_is_plain_round_robin():
    plugin = set_up("loadbalance {\nprefer\n}")
    assert isinstance(plugin, RoundRobin)
    assert plugin.transparent


def test_the_file_is_looked_at_as_often_as_asked(tmp_path: Path):
    plain = weighted(tmp_path / "w", "")
    asked = weighted(tmp_path / "w", "", "reload 1m30s")
    assert (plain.reload_seconds, asked.reload_seconds) == (30.0, parse_duration("1m30s"))
    with pytest.raises(CorefileError):
        weighted(tmp_path / "w", "x y")
