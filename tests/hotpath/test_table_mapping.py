"""Files that are mapped as tables, or refused: an unharmed one, foreign ones, damaged ones."""

from __future__ import annotations

import gc
import os
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdns.errors import TableError
from kdns.hotpath.table import Table
from kdns.hotpath.table_writer import TableFull, TableWriter
from kdns.table.render import Response
from tests.harness.examples import examples

HEADER = 4096  # octets of the header page
PAGE = 65536
SEED = bytes(range(16))


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
