"""The table's image on disk: what comes back is what was saved, and anything else is refused with its reason."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdns.errors import TableError
from kdns.hotpath.table import Table
from kdns.hotpath.table_writer import TableWriter
from kdns.table import image as module
from kdns.table.epochs import ReaderEpochs
from kdns.table.image import (
    CHUNK,
    HEADER_SIZE,
    IMAGE_NAME,
    ImageHeader,
    Snapshot,
    load_image,
    pack_header,
    remove_drafts,
    save_image,
    unpack_header,
)
from kdns.table.render import Response
from tests.fakes.small_table import make_table

FINGERPRINT = bytes(range(32))
NOW = 1_700_000_000 * 10**9  # nanoseconds
HOUR = 3600.0
LARGE = 40_000  # octets: a blob that lies at the end of the table


def name_of(number: int) -> bytes:
    return b"\x08%08d\0" % number


def put(table: TableWriter, number: int, body: bytes) -> None:
    table.replace_node(name_of(number), 0, 0, [Response(1, 0, 0, 1, 0, 0, body, None)])


def body_of(table: Table, number: int) -> bytes | None:
    found = table.lookup(name_of(number), 1, 0)
    return None if found is None else found[6]


def contents(table: Table) -> dict[object, object]:
    """Everything a reader can find."""
    keys = table.keys()
    return {key: table.lookup(*key) for key in keys}


def save(folder: Path, table: Table, current_ns: int = NOW) -> Path:
    with Snapshot(table) as snapshot:
        save_image(folder, snapshot, FINGERPRINT, current_ns)
    return folder / IMAGE_NAME


def load(folder: Path, now_ns: int = NOW, max_age_seconds: float = HOUR, fingerprint: bytes = FINGERPRINT) -> Table:
    loaded = load_image(folder, fingerprint, now_ns, max_age_seconds)
    assert loaded is not None
    try:
        return Table(loaded.fd)
    finally:
        os.close(loaded.fd)


def with_header(octets: bytes, change: Callable[[ImageHeader], ImageHeader]) -> bytes:
    """An image whose header says something else, and agrees with its checksum."""
    return pack_header(change(unpack_header(octets))) + octets[HEADER_SIZE:]


# What comes back


def test_every_answer_comes_back_with_the_state_of_its_view(tmp_path: Path):
    table = make_table()
    save(tmp_path, table)
    loaded = load(tmp_path)
    assert contents(loaded) == contents(table)
    assert (loaded.is_synced(0), loaded.is_synced(1), loaded.serial(0)) == (True, False, table.serial(0))
    assert loaded.statistics() == table.statistics()


def test_large_blobs_come_back_from_the_end_of_the_table(tmp_path: Path):
    table = TableWriter.create(3, 100, 1 << 26, bytes(16))
    bodies = {number: os.urandom(LARGE + 7 * number) for number in range(2 * CHUNK // LARGE)}
    for number, body in bodies.items():
        put(table, number, body)
        put(table, 1000 + number, body[:100])
    path = save(tmp_path, table)
    assert path.stat().st_size == HEADER_SIZE + table.statistics()["used_bytes"], "what is unused is not kept"
    loaded = load(tmp_path)
    for number, body in bodies.items():
        assert body_of(loaded, number) == body
        assert body_of(loaded, 1000 + number) == body[:100]


def test_the_age_is_that_of_what_was_known(tmp_path: Path):
    save(tmp_path, make_table(), NOW)
    for now_ns, expected in ((NOW + 90 * 10**9, 90.0), (NOW, 0.0), (NOW - 10**9, 0.0)):
        loaded = load_image(tmp_path, FINGERPRINT, now_ns, HOUR)
        assert loaded is not None
        os.close(loaded.fd)
        assert loaded.age_seconds == expected


def test_only_the_owner_may_read_it(tmp_path: Path):
    assert stat.S_IMODE(save(tmp_path, make_table()).stat().st_mode) == 0o600


# While the table changes


def test_a_snapshot_is_of_its_moment_while_memory_is_reused(tmp_path: Path):
    epochs = ReaderEpochs(2)
    table = TableWriter.create(1, 100, 1 << 24, bytes(16), epochs.all_rows())

    def change(to: bytes, times: int) -> None:
        for turn in range(times):
            table.reclaim()
            for number in range(20):
                put(table, number, b"%s%04d" % (to, turn) + bytes(100))
            table.seal()

    change(b"old", 3)
    with Snapshot(table, epochs.row(1)) as snapshot:
        change(b"new", 5)
        save_image(tmp_path, snapshot, FINGERPRINT, NOW)
    loaded = load(tmp_path)
    assert {body_of(loaded, number) for number in range(20)} == {b"old0002" + bytes(100)}
    assert {body_of(table, number) for number in range(20)} == {b"new0004" + bytes(100)}


def test_memory_is_reused_again_once_a_snapshot_is_copied(tmp_path: Path):
    epochs = ReaderEpochs(1)
    table = TableWriter.create(1, 100, 1 << 20, bytes(16), epochs.all_rows())

    def growth() -> float:
        before = table.statistics()["used_bytes"]
        for turn in range(100):
            table.reclaim()
            put(table, 1, b"%08d" % turn)
            table.seal()
        return table.statistics()["used_bytes"] - before

    assert growth() < 200
    with Snapshot(table, epochs.row(0)):
        held = growth()
    assert held > 3000
    assert growth() == 0


def test_a_copier_that_was_killed_does_not_confuse_its_successor():
    epochs = ReaderEpochs(1)
    epochs.row(0)[:8] = struct.pack("=Q", 7)
    table = TableWriter.create(1, 100, 1 << 20, bytes(16), epochs.all_rows())
    with Snapshot(table, epochs.row(0)):
        assert struct.unpack("=Q", epochs.row(0)[:8])[0] & 1
    assert not struct.unpack("=Q", epochs.row(0)[:8])[0] & 1


# Replacing


def test_a_new_image_replaces_the_old_one_and_leaves_nothing_else(tmp_path: Path):
    table = TableWriter.create(1, 100, 1 << 20, bytes(16))
    for body in (b"one", b"two"):
        put(table, 1, body)
        save(tmp_path, table)
        assert body_of(load(tmp_path), 1) == body
    assert os.listdir(tmp_path) == [IMAGE_NAME]


def test_what_a_killed_writer_left_is_not_used_and_removed_by_the_next(tmp_path: Path):
    table = TableWriter.create(1, 100, 1 << 20, bytes(16))
    put(table, 1, b"one")
    save(tmp_path, table)
    put(table, 1, b"two")
    pid = os.fork()
    if pid == 0:  # ends where the draft is complete and not yet in its place
        module.os.replace = lambda *_: os._exit(9)  # type: ignore[assignment]
        save(tmp_path, table)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    assert len(os.listdir(tmp_path)) == 2
    assert body_of(load(tmp_path), 1) == b"one"
    (tmp_path / "somebody's.new").touch()
    remove_drafts(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["somebody's.new", IMAGE_NAME]


def test_a_failure_leaves_the_old_image_and_no_draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    table = make_table()
    save(tmp_path, table)
    before = (tmp_path / IMAGE_NAME).read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save(tmp_path, table, NOW + 1)
    assert os.listdir(tmp_path) == [IMAGE_NAME]
    assert (tmp_path / IMAGE_NAME).read_bytes() == before


# Refusals


def test_no_image_is_no_error(tmp_path: Path):
    assert load_image(tmp_path, FINGERPRINT, NOW, HOUR) is None


MUTATIONS = [
    (lambda o: o[: HEADER_SIZE - 1], f"damaged: {HEADER_SIZE - 1} octets, expected at least {HEADER_SIZE}"),
    (lambda o: b"", f"damaged: 0 octets, expected at least {HEADER_SIZE}"),
    (lambda o: b"KDNSTBL1" + o[8:], "not an image of a response table"),
    (lambda o: o[:8] + b"\x07\0\0\0" + o[12:], "image of version 7, expected 1"),
    (lambda o: o[:20] + bytes([o[20] ^ 1]) + o[21:], "damaged: the header does not match its checksum"),
    (lambda o: o[:-1], "damaged: {less} octets, expected {size} by its header"),
    (lambda o: o + b"\0", "damaged: {more} octets, expected {size} by its header"),
    (lambda o: o[:-9] + bytes([o[-9] ^ 16]) + o[-8:], "damaged: the table does not match its checksum"),
    (
        lambda o: with_header(o, lambda h: h._replace(table_size=1 << 60)),
        f"damaged: a table of {1 << 60} octets, expected {{kept}} to {module.MAX_TABLE}",
    ),
    (
        lambda o: with_header(o, lambda h: h._replace(table_size=4096)),
        "damaged: a table of 4096 octets, expected {kept}",
    ),
    (
        lambda o: with_header(o, lambda h: h._replace(table_size=h.table_size + 4096)),
        "table of {bigger} octets, expected {table} by its header",
    ),
]


@pytest.mark.parametrize(("mutate", "reason"), MUTATIONS)
def test_a_damaged_or_foreign_image_is_refused(tmp_path: Path, mutate: Callable[[bytes], bytes], reason: str):
    path = save(tmp_path, make_table())
    octets = path.read_bytes()
    header = unpack_header(octets)
    path.write_bytes(mutate(octets))
    with pytest.raises(TableError) as refusal:
        load(tmp_path)
    size, table = len(octets), header.table_size
    kept = size - HEADER_SIZE
    expected = reason.format(size=size, less=size - 1, more=size + 1, kept=kept, table=table, bigger=table + 4096)
    assert str(refusal.value).startswith(expected)


def test_an_image_for_another_corefile_is_refused(tmp_path: Path):
    save(tmp_path, make_table())
    with pytest.raises(TableError, match=r"^made for another Corefile or another source of objects$"):
        load(tmp_path, fingerprint=bytes(32))


def test_an_image_that_is_too_old_is_refused(tmp_path: Path):
    save(tmp_path, make_table())
    load(tmp_path, NOW + int(HOUR) * 10**9)
    with pytest.raises(TableError, match=r"^too old: 3601 s, expected at most 3600 s$"):
        load(tmp_path, NOW + (int(HOUR) + 1) * 10**9)


def test_an_image_of_the_future_is_refused(tmp_path: Path):
    save(tmp_path, make_table())
    with pytest.raises(TableError, match=r"^120 s ahead of this machine's clock, so that its age is unknown$"):
        load(tmp_path, NOW - 120 * 10**9)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.mkdir(), "not a regular file"),
        (lambda path: os.mkfifo(path), "not a regular file"),
        (lambda path: path.symlink_to(path.name), "cannot be read: too many levels of symbolic links"),
    ],
)
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, make: Callable[[Path], None], reason: str):
    make(tmp_path / IMAGE_NAME)
    with pytest.raises(TableError) as refusal:
        load(tmp_path)
    assert str(refusal.value) == reason


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return save(tmp_path_factory.mktemp("saved"), make_table()).read_bytes()


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_any_changed_octets_are_refused(saved: bytes, tmp_path: Path, data: st.DataObject):
    # Half of them in the first page, where the sizes are.
    places = st.one_of(st.integers(0, HEADER_SIZE + 100), st.integers(0, len(saved) - 1))
    changed = bytearray(saved)
    at, value = data.draw(places), data.draw(st.integers(1, 255))
    changed[at] ^= value
    (tmp_path / IMAGE_NAME).write_bytes(changed)
    with pytest.raises(TableError):
        load(tmp_path)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.builds(
        ImageHeader,
        st.sampled_from([b"KDNSIMG1", b"\0" * 8]),
        st.integers(0, 2),
        st.integers(0, 2**32 - 1),
        st.sampled_from([FINGERPRINT, bytes(32)]),
        st.one_of(st.just(NOW), st.integers(-(2**63), 2**63 - 1)),
        st.integers(0, 2**64 - 1),
        st.integers(0, 2**64 - 1),
        st.integers(0, 2**64 - 1),
    ),
    st.binary(max_size=200),
)
def test_any_header_is_refused_for_a_reason(tmp_path: Path, header: ImageHeader, rest: bytes):
    (tmp_path / IMAGE_NAME).write_bytes(pack_header(header) + rest)
    with pytest.raises(TableError) as refusal:
        load(tmp_path)
    assert str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_refusals_leave_no_descriptor_open(saved: bytes, tmp_path: Path):
    open_before = len(os.listdir("/proc/self/fd"))
    for octets in (saved[:-1], saved[:-1] + bytes([saved[-1] ^ 1]), b""):
        (tmp_path / IMAGE_NAME).write_bytes(octets)
        with pytest.raises(TableError):
            load(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == open_before
