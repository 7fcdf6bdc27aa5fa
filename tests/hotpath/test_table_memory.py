"""Memory of the table: what is published stays, rooms are reused once no reader can hold them."""

from __future__ import annotations

import mmap
import random
import struct

import pytest

from kdns.hotpath.table import Table
from kdns.hotpath.table_writer import TableWriter
from kdns.table.epochs import ROW_SIZE, ReaderEpochs
from kdns.table.render import Response

HEADER = 4096  # octets of the header page
PAGE = 65536
SEED = bytes(range(16))
NAMES = [b"\1%c\0" % octet for octet in b"abcdef"]


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


class Rooms:
    """The memory of a table, read as another process reads it."""

    def __init__(self, table: TableWriter) -> None:
        numbers = table.statistics()
        self._start = HEADER + int(numbers["index_bytes"])
        self._mapping = mmap.mmap(table.fd, 0, access=mmap.ACCESS_READ)

    def published(self) -> dict[int, bytes]:
        """The octets of each blob a slot leads to, by their offset."""
        found = {}
        for (slot,) in struct.iter_unpack("=Q", self._mapping[HEADER : self._start]):
            if slot:
                at = self._start + ((slot & 0xFFFFFFFF) << 3)
                body, _, name = struct.unpack_from("=IHB", self._mapping, at)
                found[at] = self._mapping[at : at + 16 + (name + 7 & ~7) + body]
        return found

    def are_as_in(self, seen: dict[int, bytes]) -> bool:
        return all(self._mapping[at : at + len(octets)] == octets for at, octets in seen.items())


@pytest.mark.parametrize("readers", [1, 3])
def test_memory_is_reused_but_never_under_a_reader_in_a_batch(readers):
    """Readers enter and leave at random; what was published at any time since one entered stays while it is in."""
    rng = random.Random(readers)
    epochs = ReaderEpochs(readers)
    table = TableWriter.create(1, 0, 1 << 22, SEED, epochs.all_rows())
    rooms = Rooms(table)
    numbers = [0] * readers
    held: list[dict[int, bytes]] = [{} for _ in range(readers)]
    written = 0
    for step in range(4000):
        reader = rng.randrange(readers)
        if rng.random() < 0.3:
            numbers[reader] += 1
            epochs.row(reader)[:8] = struct.pack("=Q", numbers[reader])
            held[reader] = rooms.published() if numbers[reader] & 1 else {}
        table.reclaim()
        name = rng.choice(NAMES)
        if rng.random() < 0.2:
            table.replace_node(name, 0, 0, None)
        else:
            body = struct.pack("=Q", step) * rng.choice((1, 10, 10, 200))
            written += len(body)
            table.replace_node(name, 0, 0, [Response(1, 0, 0, 1, 0, 0, body, None)])
            assert table.lookup(name, 1, 0)[6] == body
        table.seal()
        published = rooms.published()
        for reader in range(readers):
            assert rooms.are_as_in(held[reader])
            if numbers[reader] & 1:
                held[reader].update(published)
    statistics = table.statistics()
    used = statistics["used_bytes"] - statistics["index_bytes"] - HEADER
    assert used < written / 10, "memory is reused"


def test_a_reader_that_was_killed_in_a_batch_only_holds_memory_back():
    epochs = ReaderEpochs(2)
    table = TableWriter.create(1, 0, 1 << 20, SEED, epochs.all_rows())

    def churn() -> float:
        before = table.statistics()["used_bytes"]
        for n in range(200):
            table.reclaim()
            table.replace_node(b"\1a\0", 0, 0, [Response(1, 0, 0, 1, 0, 0, b"%08d" % n, None)])
            table.seal()
        return table.statistics()["used_bytes"] - before

    assert churn() < 200
    epochs.row(1)[:8] = struct.pack("=Q", 7)
    assert churn() >= 190 * 32
    Table(table.fd).read_under(epochs.row(1))
    assert struct.unpack("=Q", epochs.row(1)[:8]) == (8,), "its successor says that nothing is held"
    assert churn() < 200


def test_an_epoch_has_room_for_its_number():
    table = TableWriter.create(1, 0, 0, SEED)
    with pytest.raises(ValueError, match="octets of epoch"):
        table.read_under(bytearray(7))
    assert len(ReaderEpochs(3).all_rows()) == 3 * ROW_SIZE


def test_a_look_up_leaves_its_epoch_even():
    epochs = ReaderEpochs(1)
    table = TableWriter.create(1, 0, 0, SEED, epochs.all_rows())
    table.replace_node(b"\1a\0", 0, 0, [Response(1, 0, 0, 1, 0, 0, b"body", None)])
    reader = Table(table.fd)
    reader.read_under(epochs.row(0))
    for count in range(1, 4):
        reader.lookup(b"\1a\0", 1, 0)
        assert struct.unpack("=Q", epochs.row(0)[:8]) == (2 * count,)


def test_small_blobs_never_cross_a_page():
    table = TableWriter.create(1, 512, 1 << 24, SEED)
    for n in range(300):
        table.replace_node(b"\x04%04d\0" % n, 0, 0, [Response(1, 0, 0, 1, 0, 0, b"%06d" % n + bytes(3000), None)])
    start = HEADER + int(table.statistics()["index_bytes"])
    with mmap.mmap(table.fd, 0, access=mmap.ACCESS_READ) as mapping:
        for n in range(300):
            at = mapping.find(b"%06d" % n + bytes(3000)) - start
            assert at // PAGE == (at + 3005) // PAGE
