"""The one writer: nodes into the table, and when the next generation begins."""

from __future__ import annotations

import random
import struct

import pytest

from kdns.dns import names
from kdns.dns.codes import RRType
from kdns.dns.rrset import Answer, Node
from kdns.hotpath.table import Table
from kdns.hotpath.table_writer import MAX_LOAD, TableWriter
from kdns.table import builder
from kdns.table.builder import FIRST_SLOTS, TableBuilder, ZoneSettings
from kdns.table.render import HAS_SERIAL

ZONE = names.from_text("cluster.local")


def node(text: str, *addresses: str, **rest: object) -> Node:
    answers = (Answer(RRType.A, 5, tuple(map(names.pack_address, addresses))),) if addresses else ()
    return Node(names.from_text(text), answers, **rest)  # type: ignore[arg-type]


class Bench:
    """A builder of two views, and the generations it told of."""

    def __init__(self, **rest: int) -> None:
        self.generations: list[TableWriter] = []
        rng = random.Random(5)
        zones = [ZoneSettings(frozenset({ZONE}), 5), ZoneSettings(frozenset(), 30)]
        self.builder = TableBuilder(zones, rng.randbytes, self.generations.append, **rest)

    def addresses(self, text: str, view: int = 0) -> list[bytes] | None:
        found = self.builder.table.lookup(names.from_text(text), RRType.A, view)
        return None if found is None else [found[6][at + 12 : at + 16] for at in range(0, len(found[6]), 16)]


def test_changes_are_published_in_place():
    bench = Bench()
    bench.builder.load(0, [node("a", "10.0.0.1")])
    bench.builder.announce()
    assert bench.builder.publish(0, [node("a", "10.0.0.2"), node("b", "10.0.0.3")]) == 2
    assert bench.addresses("a") == [b"\x0a\0\0\x02"]
    assert bench.addresses("b") == [b"\x0a\0\0\x03"]
    assert bench.builder.publish(0, [Node(names.from_text("a"), None)]) == 1
    assert bench.addresses("a") is None
    assert bench.generations == [bench.builder.table]


def test_what_is_the_same_is_not_written_again():
    bench = Bench()
    nodes = [node("a", "10.0.0.1", "10.0.0.2"), node("b"), node("c", alias_of=ZONE), node("d", has_ports=True)]
    assert bench.builder.publish(0, nodes) == 4
    before = bench.builder.table.statistics()
    assert bench.builder.publish(0, nodes) == 0
    assert bench.builder.publish(0, [Node(names.from_text("nowhere"), None)]) == 0
    assert bench.builder.table.statistics() == before


def test_views_do_not_see_each_other():
    bench = Bench()
    bench.builder.load(0, [node("a", "10.0.0.1")])
    bench.builder.load(1, [node("a", "10.0.0.2")])
    assert bench.addresses("a", 0) == [b"\x0a\0\0\x01"]
    assert bench.addresses("a", 1) == [b"\x0a\0\0\x02"]


def test_the_zones_own_name_gets_an_soa_record_in_its_view_only():
    bench = Bench()
    for view in (0, 1):
        bench.builder.load(view, [Node(ZONE, ())])
    soa = bench.builder.table.lookup(ZONE, RRType.SOA, 0)
    assert soa is not None
    assert soa[1] & HAS_SERIAL
    assert struct.unpack_from("!I", soa[6], 6)[0] == 5, "the view's TTL"
    assert bench.builder.table.lookup(ZONE, RRType.SOA, 1) is None
    assert bench.builder.table.lookup(names.from_text("a"), RRType.SOA, 0) is None


def test_state_is_published_for_each_view():
    bench = Bench()
    bench.builder.set_state(1, serial=7, multicluster_serial=8)
    table = Table(bench.builder.table.fd)
    assert [table.is_synced(view) for view in (0, 1, 2)] == [False, True, False]
    assert [table.serial(index) for index in range(4)] == [0, 0, 7, 8]
    assert table.statistics()["heartbeat_ns"] == 0
    bench.builder.beat()
    assert table.statistics()["heartbeat_ns"] > 0


@pytest.mark.parametrize("expected_keys", [0, 40_000])
def test_a_large_cluster_grows_through_complete_generations(expected_keys):
    count = 20_000
    bench = Bench(expected_keys=expected_keys)
    bench.builder.set_state(0, serial=9, multicluster_serial=10)
    bench.builder.load(0, (node(f"n{n}", f"10.0.{n >> 8}.{n & 255}") for n in range(count)))
    assert bench.generations == [], "nobody reads a table while it is loaded"
    table = bench.builder.table
    assert (table.statistics()["generation"] == 1) is (expected_keys > 0)
    assert table.statistics()["slots"] == 2 * count > FIRST_SLOTS
    assert table.statistics()["load"] <= MAX_LOAD
    assert (table.is_synced(0), table.serial(0), table.serial(1)) == (True, 9, 10)
    for n in range(0, count, 97):
        assert bench.addresses(f"n{n}") == [bytes((10, 0, n >> 8, n & 255))]


def test_readers_are_told_of_a_new_generation_once_it_is_complete():
    bench = Bench()
    bench.builder.load(0, [node("a", "10.0.0.1")])
    bench.builder.announce()
    first = Table(bench.generations[0].fd)
    bench.builder.publish(0, [node(f"n{n}", "10.0.0.2") for n in range(FIRST_SLOTS)])
    assert len(bench.generations) == 2
    assert bench.generations[-1] is bench.builder.table
    assert bench.builder.table.lookup(names.from_text(f"n{FIRST_SLOTS - 1}"), RRType.A, 0) is not None
    assert first.lookup(names.from_text("a"), RRType.A, 0) == bench.builder.table.lookup(
        names.from_text("a"), RRType.A, 0
    )


def test_waste_is_compacted(monkeypatch):
    monkeypatch.setattr(builder, "MIN_RETIRED", 1 << 16)
    bench = Bench()
    bench.builder.load(0, [node("keep", "10.9.9.9")])
    for n in range(2000):
        bench.builder.publish(0, [node("busy", *(f"10.0.{n >> 8}.{n & 255}" for _ in range(20)))])
    assert len(bench.generations) > 1
    statistics = bench.builder.table.statistics()
    assert statistics["retired_bytes"] <= builder.MAX_RETIRED_SHARE * statistics["used_bytes"] + builder.MIN_RETIRED
    assert bench.addresses("keep") == [b"\x0a\x09\x09\x09"]
    assert bench.addresses("busy") == [bytes((10, 0, 1999 >> 8, 1999 & 255))] * 20
    assert [t.statistics()["generation"] for t in bench.generations] == [n + 2 for n in range(len(bench.generations))]


def test_each_generation_hashes_with_a_seed_of_its_own():
    asked = []

    def random_bytes(size: int) -> bytes:
        asked.append(size)
        return random.Random(len(asked)).randbytes(size)

    built = TableBuilder([ZoneSettings(frozenset(), 5)], random_bytes, lambda table: None)
    built.load(0, [node(f"n{n}") for n in range(3 * FIRST_SLOTS)])
    assert asked == [16] * int(built.table.statistics()["generation"])
    assert len(asked) > 1
