"""The response table against a dictionary; what it refuses to map; what it promises its readers."""

from __future__ import annotations

import gc
import mmap
import os
import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from kdns.errors import TableError
from kdns.hotpath.table import MAX_LOAD, Table, TableFull, TableWriter
from kdns.table.render import ALIAS, HAS_PORTS, INDEXED, SPELLS_ZONE, Response
from tests.harness.examples import examples

HEADER = 4096  # octets of the header page
PAGE = 65536
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
    """The octets a response takes: header, name, body and offsets, each up to a multiple of eight."""
    offsets = 0 if response.record_offsets is None else len(response.record_offsets)
    return 16 + sum((size + 7) & ~7 for size in (len(name), len(response.body), offsets))


NODATA = Response(0, 0, 0, 0, 0, 0, b"", None)


class TableMachine(RuleBasedStateMachine):
    """Nodes come and go, in a table and in a dictionary; a reader of its own sees the same in both."""

    @initialize()
    def create(self) -> None:
        self.model: dict[tuple[bytes, int], tuple[int, list[Response]]] = {}
        self.table = TableWriter.create(1, 0, 0, SEED)
        self.reader = Table(self.table.fd)
        self.generation = 1

    def _replace(self, name: bytes, view: int, flags: int, found: list[Response] | None) -> bool:
        try:
            return self.table.replace_node(name, view, flags, found)
        except TableFull:
            self._begin_generation()
            return self.table.replace_node(name, view, flags, found)

    def _begin_generation(self) -> None:
        old, self.generation = self.table, self.generation + 1
        used = old.statistics()
        table = TableWriter.create(
            self.generation,
            2 * int(used["slots"]),
            2 * int(used["used_bytes"]),
            random.Random(self.generation).randbytes(16),
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
    written = {}
    with pytest.raises(TableFull, match="in generation 1"):
        for n in range(1000):
            name = b"\x04%04d\0" % n
            table.replace_node(name, 0, 0, [Response(1, 0, 0, 1, 0, 0, b"%d" % n, None)])
            written[name] = b"%d" % n
    assert len(written) > 200
    for name, body in written.items():
        assert table.lookup(name, 1, 0)[6] == body
    assert table.replace_node(next(iter(written)), 0, 0, None), "removal needs no room"
    with pytest.raises(TableFull, match="no room for 40024 octets"):
        for size in range(100):
            table.replace_node(b"\1z\0", 0, 0, [Response(16, 0, 0, 1, 0, 0, bytes((size,)) * 40_000, None)])


def test_published_blobs_never_change():
    """What has been written stays, octet for octet, however much is published afterwards."""
    rng = random.Random(3)
    table = TableWriter.create(1, 0, 1 << 20, SEED)

    def churn(rounds: int) -> None:
        for _ in range(rounds):
            name = rng.choice(NAMES)
            if rng.random() < 0.3:
                table.replace_node(name, 0, 0, None)
            else:
                sizes = rng.sample(range(1, 200), 2)
                found = [
                    Response(rtype, 0, 0, 1, 0, 0, rng.randbytes(size), None)
                    for rtype, size in zip((1, 28), sizes, strict=True)
                ]
                table.replace_node(name, 0, 0, found)

    churn(500)
    numbers = table.statistics()
    start = HEADER + int(numbers["index_bytes"])
    end = int(numbers["used_bytes"])
    with mmap.mmap(table.fd, 0, access=mmap.ACCESS_READ) as mapping:
        before = mapping[start:end]
        churn(1000)
        assert mapping[start:end] == before
    assert table.statistics()["used_bytes"] > numbers["used_bytes"]


def test_small_blobs_never_cross_a_page():
    table = TableWriter.create(1, 512, 1 << 24, SEED)
    for n in range(300):
        table.replace_node(b"\x04%04d\0" % n, 0, 0, [Response(1, 0, 0, 1, 0, 0, b"%06d" % n + bytes(3000), None)])
    start = HEADER + int(table.statistics()["index_bytes"])
    with mmap.mmap(table.fd, 0, access=mmap.ACCESS_READ) as mapping:
        for n in range(300):
            at = mapping.find(b"%06d" % n + bytes(3000)) - start
            assert at // PAGE == (at + 3005) // PAGE


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
    assert (table.is_synced(64), table.serial(128)) == (False, 0)


def _file(octets: bytes, size: int | None = None) -> int:
    fd = os.memfd_create("test-table")
    os.write(fd, octets)
    os.ftruncate(fd, len(octets) if size is None else size)
    return fd


def _image() -> tuple[bytes, int]:
    """The used octets of a table's file, and its whole size."""
    table = TableWriter.create(1, 0, 0, SEED)
    table.replace_node(b"\1a\0", 0, 0, [Response(1, 0, 0, 1, 0, 0, b"body", None)])
    used = HEADER + int(table.statistics()["index_bytes"]) + 4096
    return os.pread(table.fd, used, 0), os.fstat(table.fd).st_size


IMAGE, IMAGE_SIZE = _image()


def _map(octets: bytes, size: int = IMAGE_SIZE, *, kind: type[Table] = Table) -> Table:
    fd = _file(octets, size)
    try:
        return kind(fd, kind is TableWriter)
    finally:
        os.close(fd)


def test_an_unharmed_file_is_mapped():
    for kind in (Table, TableWriter):
        table = _map(IMAGE, kind=kind)
        assert table.lookup(b"\1a\0", 1, 0)[6] == b"body"
        assert table.writable is (kind is TableWriter)


@given(st.integers(0, IMAGE_SIZE + PAGE).filter(lambda size: size != IMAGE_SIZE))
@settings(max_examples=examples(100), deadline=None)
def test_a_file_of_another_size_is_refused(size):
    with pytest.raises(TableError, match="octets"):
        _map(IMAGE[:size], size)


@given(st.binary(min_size=0, max_size=9000))
@settings(max_examples=examples(100), deadline=None)
def test_a_foreign_file_is_refused(octets):
    with pytest.raises(TableError):
        _map(octets, len(octets))


@given(st.sampled_from((0, 8, 40, 48)), st.integers(0, 2**64 - 1))
@settings(max_examples=examples(200), deadline=None)
def test_a_header_with_another_magic_layout_or_size_is_refused(at, value):
    """Offsets of magic, layout, buckets and data_size in struct TableHeader."""
    changed = IMAGE[:at] + struct.pack("=Q", value) + IMAGE[at + 8 :]
    if changed == IMAGE:
        return
    with pytest.raises(TableError):
        _map(changed)


@given(st.lists(st.tuples(st.integers(0, 512), st.integers(0, 255)), min_size=1, max_size=4))
@settings(max_examples=examples(300), deadline=None)
def test_any_header_is_mapped_safely_or_refused(changes):
    octets = bytearray(IMAGE)
    for at, value in changes:
        octets[at] = value
    for kind in (Table, TableWriter):
        try:
            table = _map(bytes(octets), kind=kind)
        except TableError:
            continue
        assert table.lookup(b"\1b\0", 1, 0) is None
        assert len(table.keys()) == 2
        if kind is TableWriter:
            try:
                table.replace_node(b"\1b\0", 0, 0, [Response(1, 0, 0, 1, 0, 0, b"new", None)])
                assert table.lookup(b"\1b\0", 1, 0)[6] == b"new"
            except TableFull:
                pass


def test_a_file_that_cannot_be_mapped_is_refused():
    reading, writing = os.pipe()
    try:
        with pytest.raises(TableError):
            Table(reading)
    finally:
        os.close(reading)
        os.close(writing)
    with pytest.raises(OSError, match="Bad file descriptor"):
        Table(reading)


def test_a_table_owns_its_descriptor_and_gives_it_back():
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    table = TableWriter.create(1, 0, 0, SEED)
    reader = Table(table.fd)
    assert len({table.fd, reader.fd}) == 2
    del table
    assert reader.lookup(b"\1a\0", 1, 0) is None, "the memory lives as long as anybody maps it"
    del reader
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before
