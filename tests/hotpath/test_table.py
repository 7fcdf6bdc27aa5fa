"""The response table against a dictionary; what it refuses to map; what it promises its readers."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from kdns.hotpath.table import Table
from kdns.hotpath.table_writer import MAX_LOAD, TableFull, TableWriter
from kdns.table.epochs import ReaderEpochs
from kdns.table.render import ALIAS, HAS_PORTS, INDEXED, SPELLS_ZONE, Response
from tests.harness.examples import examples

HEADER = 4096  # octets of the header page
PAGE = 65536
LARGEST_SMALL_BLOB = 32768
LARGE_UNIT = 4096
SEED = bytes(range(16))
NAMES = [b"\1%c\0" % octet for octet in b"abcdef"] + [b"\0", b"\x3f" + b"l" * 63 + b"\0", b"\1a\1a\0"]
NAMES.append(b"".join(b"\x3f" + b"m" * 63 for _ in range(3)) + b"\x3d" + b"m" * 61 + b"\0")
TYPES = (1, 2, 5, 6, 12, 16, 28, 33)

bodies = st.binary(max_size=40) | st.integers(1000, 40_000).map(lambda size: bytes((size & 255,)) * size)
node_flags = st.sampled_from((0, 0, HAS_PORTS))


@st.composite
def responses(draw: st.DrawFn) -> Response:
    """A response of one type; the table does not look into its body."""
    answers = draw(st.integers(0, 20))
    offsets = draw(st.none() | st.just(struct.pack(f"={answers}I", *range(answers))))
    return Response(
        draw(st.sampled_from(TYPES)),
        draw(st.sampled_from((0, SPELLS_ZONE))) | (0 if offsets is None else INDEXED),
        draw(st.integers(0, 255)),
        answers,
        draw(st.integers(0, 65535)),
        draw(st.integers(0, 65535)),
        draw(bodies),
        offsets,
    )


nodes = st.one_of(
    st.lists(responses(), max_size=4, unique_by=lambda response: response.rtype),
    st.sampled_from(NAMES).map(lambda name: [Response(0, ALIAS, 0, 0, 0, 0, name, None)]),
)


def entry_of(response: Response, flags: int) -> tuple[object, ...]:
    """What `lookup` gives for a response."""
    offsets = None if response.record_offsets is None else [
        value for (value,) in struct.iter_unpack("=I", response.record_offsets)
    ]  # fmt: skip
    return (response.rtype, response.flags | flags, *response[2:7], offsets)


def blob_size(name: bytes, response: Response) -> int:
    """The octets of a response's room: header, name and body, and the offsets, each up to a multiple of eight."""
    offsets = 0 if response.record_offsets is None else len(response.record_offsets)
    is_named_inside = response.rtype == 33 and response.body[18 : 18 + len(name)] == name
    content = len(response.body) + (0 if is_named_inside else len(name))
    size = 16 + sum((size + 7) & ~7 for size in (content, offsets))
    return size if size <= LARGEST_SMALL_BLOB else (size + LARGE_UNIT - 1) // LARGE_UNIT * LARGE_UNIT


NODATA = Response(0, 0, 0, 0, 0, 0, b"", None)


class TableMachine(RuleBasedStateMachine):
    """Nodes come and go, in a table and in a dictionary; a reader of its own sees the same in both."""

    @initialize(readers=st.integers(0, 2))
    def create(self, readers: int) -> None:
        self.model: dict[tuple[bytes, int], tuple[int, list[Response]]] = {}
        self.epochs = ReaderEpochs(readers).all_rows() if readers else None
        self.table = TableWriter.create(1, 0, 0, SEED, self.epochs)
        self.reader = Table(self.table.fd)
        self.generation = 1

    def _replace(self, name: bytes, view: int, flags: int, found: list[Response] | None) -> bool:
        self.table.reclaim()
        try:
            return self.table.replace_node(name, view, flags, found)
        except TableFull:
            self._begin_generation()
            return self.table.replace_node(name, view, flags, found)
        finally:
            self.table.seal()

    def _begin_generation(self) -> None:
        old, self.generation = self.table, self.generation + 1
        used = old.statistics()
        table = TableWriter.create(
            self.generation,
            2 * int(used["slots"]),
            2 * int(used["used_bytes"]),
            random.Random(self.generation).randbytes(16),
            self.epochs,
        )
        old.copy_live(table)
        self.table, self.reader = table, Table(table.fd)
        assert table.statistics()["retired_bytes"] == 0

    @rule(name=st.sampled_from(NAMES), view=st.sampled_from((0, 1, 63)), flags=node_flags, found=nodes)
    def replace(self, name, view, flags, found):
        before = self.model.get((name, view))
        changed = self._replace(name, view, flags, found)
        if before == (flags, found):
            assert not changed
        elif before is None or before[0] != flags or sorted(before[1], key=repr) != sorted(found, key=repr):
            assert changed
        self.model[name, view] = flags, found

    @rule(name=st.sampled_from(NAMES), view=st.sampled_from((0, 1, 63)))
    def remove(self, name, view):
        assert self._replace(name, view, 0, None) is (self.model.pop((name, view), None) is not None)

    @rule(count=st.integers(1, 300), view=st.sampled_from((0, 1)), size=st.sampled_from((4, 400)))
    def add_many(self, count, view, size):
        """Enough for full buckets and full pages."""
        for n in range(count):
            found = [Response(1, 0, 0, 1, 0, 0, bytes((n & 255,)) * size, None)]
            self._replace(b"\2%c%c\0" % divmod(n, 256), view, 0, found)
            self.model[b"\2%c%c\0" % divmod(n, 256), view] = 0, found

    @rule()
    def begin_generation(self):
        self._begin_generation()

    @rule(view=st.integers(0, 63), synced=st.booleans(), serial=st.integers(0, 2**32 - 1))
    def set_state(self, view, synced, serial):
        self.table.set_serial(2 * view + 1, serial)
        self.table.set_synced(view, synced)
        assert self.reader.is_synced(view) is synced
        self._begin_generation()
        assert (self.reader.is_synced(view), self.reader.serial(2 * view + 1)) == (synced, serial)

    @invariant()
    def a_reader_finds_what_the_dictionary_holds(self):
        for name in NAMES:
            for view in (0, 1, 2, 63):
                flags, found = self.model.get((name, view), (0, None))
                present = {} if found is None else {response.rtype: entry_of(response, flags) for response in found}
                for qtype in (*TYPES, 255):
                    assert self.reader.lookup(name, qtype, view) == present.get(qtype)
                exists = self.reader.lookup(name, 0, view)
                if found is None:
                    assert exists is None
                elif found:
                    assert exists in present.values()
                else:
                    assert exists == entry_of(NODATA, flags)

    @invariant()
    def keys_and_statistics_are_those_of_the_dictionary(self):
        expected = {(name, 0, view) for name, view in self.model}
        expected |= {(name, r.rtype, view) for (name, view), (_, found) in self.model.items() for r in found}
        keys = self.reader.keys()
        assert len(keys) == len(set(keys))
        assert set(keys) == expected
        numbers = self.reader.statistics()
        blobs = [(name, r) for (name, _), (_, found) in self.model.items() for r in found or [NODATA]]
        assert numbers["slots"] == len(expected)
        assert numbers["blobs"] == len(blobs)
        assert numbers["generation"] == self.generation
        sizes = [blob_size(name, response) for name, response in blobs]
        written = numbers["used_bytes"] - HEADER - numbers["index_bytes"] - 8
        wasted = written - numbers["retired_bytes"] - sum(sizes)
        assert 0 <= wasted <= (written // PAGE) * PAGE // 2, "only the ends of pages are left over"


TestTableMachine = TableMachine.TestCase
TestTableMachine.settings = settings(max_examples=examples(40), stateful_step_count=25, deadline=None)


def test_random_keys_never_overflow_below_the_load_limit():
    """Of two buckets of eight the emptier is taken; at load 0.6 none is full on both sides."""
    rng = random.Random(2024)
    for _ in range(3):
        table = TableWriter.create(1, 20_000, 1 << 22, rng.randbytes(16))
        while table.statistics()["load"] < MAX_LOAD:
            table.replace_node(b"\x08" + rng.randbytes(8) + b"\0", 0, 0, [])


def test_names_that_follow_a_pattern_never_overflow_below_the_load_limit():
    rng = random.Random(7)
    for _ in range(3):
        table = TableWriter.create(1, 20_000, 1 << 22, rng.randbytes(16))
        numbers = iter(range(1 << 20))
        while table.statistics()["load"] < MAX_LOAD:
            table.replace_node(b"\x08%08d\3web\4shop\3svc\0" % next(numbers), 0, 0, [])


def test_a_full_table_stays_right():
    table = TableWriter.create(1, 0, 0, SEED)
    written: dict[bytes, bytes] = {}

    def fill(count: int, rtype: int, size: int) -> None:
        for n in range(count):
            name, body = b"\x04%04d\0" % n, b"%d" % n * size
            table.replace_node(name, 0, 0, [Response(rtype, 0, 0, 1, 0, 0, body, None)])
            written[name] = body

    with pytest.raises(TableFull, match="two full buckets in generation 1"):
        fill(1000, 1, 1)
    assert len(written) > 200
    for name, body in written.items():
        assert table.lookup(name, 1, 0)[6] == body
    assert table.replace_node(next(iter(written)), 0, 0, None), "removal needs no room"
    with pytest.raises(TableFull, match="no room for 40960 octets"):
        fill(10, 1, 40_000)


@pytest.mark.parametrize(("call", "error"), [
    (lambda table: table.replace_node(b"", 0, 0, []), ValueError),
    (lambda table: table.replace_node(bytes(256), 0, 0, []), ValueError),
    (lambda table: table.replace_node(b"\0", 0, 0, [Response(65, 0, 0, 1, 0, 0, b"", None)]), ValueError),
    (lambda table: table.replace_node(b"\0", 0, 0, [Response(33, INDEXED, 0, 2, 0, 0, b"", bytes(4))]), ValueError),
    (lambda table: table.replace_node(b"\0", 0, 0, [Response(1, 0, 0, 65536, 0, 0, b"", None)]), OverflowError),
    (lambda table: table.lookup(b"", 1, 0), ValueError),
    (lambda table: table.set_synced(64, True), ValueError),
    (lambda table: table.set_serial(128, 1), ValueError),
    (lambda table: TableWriter.create(1, 0, 0, b"short"), ValueError),
    (lambda table: TableWriter(table.fd), ValueError),
])  # fmt: skip
def test_what_the_writer_cannot_keep_is_refused(call, error):
    table = TableWriter.create(1, 0, 0, SEED)
    with pytest.raises(error):
        call(table)
    assert table.keys() == []
    assert (table.is_synced(64), table.unlisted(64), table.serial(128)) == (False, 255, 0)


def test_a_view_is_synced_when_it_lacks_nothing():
    table = TableWriter.create(1, 0, 0, SEED)
    reader = Table(table.fd)
    assert (reader.unlisted(3), reader.is_synced(3)) == (255, False)
    table.set_unlisted(3, 5)
    assert (reader.unlisted(3), reader.is_synced(3), reader.unlisted(2)) == (5, False, 255)
    table.set_unlisted(3, 0)
    assert (reader.unlisted(3), reader.is_synced(3)) == (0, True)
    with pytest.raises(ValueError, match="view 64, expected less than"):
        table.set_unlisted(64, 0)


def test_a_view_that_is_left_out_of_a_copy_begins_with_nothing():
    table = TableWriter.create(1, 200, 1 << 16, SEED)
    for view in (0, 1, 63):
        table.replace_node(b"\3web\0", view, 0, [(1, 0, 0, 1, 0, 0, b"%d" % view, None)])
        table.replace_node(b"\3ent\0", view, 0, [])
        table.set_unlisted(view, view)
        table.set_serial(2 * view, view + 7)
    copy = TableWriter.create(2, 200, 1 << 16, SEED[::-1])
    table.copy_live(copy, without=[1])
    assert {view for _, _, view in copy.keys()} == {0, 63}  # noqa: SIM118 - no dict
    assert len(copy.keys()) == copy.statistics()["slots"] == 6
    assert [copy.unlisted(view) for view in (0, 1, 63)] == [0, 255, 63]
    assert [copy.serial(2 * view) for view in (0, 1, 63)] == [7, 0, 70]
    found = copy.lookup(b"\3web\0", 1, 63)
    assert found is not None
    assert found[6] == b"63"


# Visiting


def test_scanning_meets_each_key_of_a_view_once():
    table = TableWriter.create(1, 2000, 1 << 16, SEED)
    rng = random.Random(4)
    expected = {}
    for number in range(300):
        name = bytes((3,)) + b"%03d" % number + b"\3abc\0"
        view = number % 2
        body = rng.randbytes(8)
        table.replace_node(name, view, 0, [Response(1, 0, 0, 1, 0, 0, body, None)])
        if view:
            expected[name] = body
    table.replace_node(b"\xffnote", 1, 0, [Response(0, ALIAS, 0, 0, 0, 0, b"said", None)])
    table.replace_node(b"\1e\0", 1, 0, [])
    step = 7
    found = [entry for first in range(0, table.buckets, step) for entry in table.scan(1, first, step)]
    assert len(found) == len(expected) + 2
    assert {name: entry[6] for name, entry in found} == expected | {b"\xffnote": b"said", b"\1e\0": b""}
    by_prefix = table.scan(1, 0, table.buckets, prefix=b"\xff")
    assert [(name, entry[6]) for name, entry in by_prefix] == [(b"\xffnote", b"said")]
    by_suffix = table.scan(1, 0, table.buckets, suffix=b"\3abc\0")
    assert {name: entry[6] for name, entry in by_suffix} == expected
    assert table.scan(1, table.buckets, step) == []
    assert table.scan(1, 0, table.buckets, prefix=bytes(300)) == []
