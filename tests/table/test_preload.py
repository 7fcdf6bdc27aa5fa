"""The kept table, read before anybody knows whether it may be used."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from kdns.errors import TableError
from kdns.hotpath.table import Table
from kdns.hotpath.table_writer import TableWriter
from kdns.table.image import IMAGE_NAME, Snapshot, load_image, save_image
from kdns.table.preload import Preload

FINGERPRINT = bytes(range(32))
NOW = 1_000_000_000_000
HOUR = 3600.0
OWNER = b"\x01a\x07cluster\x05local\x00"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With an image of one name."""
    table = TableWriter.create(1, 1000, 1 << 16, bytes(16))
    table.replace_node(OWNER, 0, 0, [(1, 0, 0, 1, 0, 0, b"an answer", None)])
    with Snapshot(table) as snapshot:
        save_image(tmp_path, snapshot, FINGERPRINT, NOW)
    return tmp_path


def load(folder: Path, preload: Preload, fingerprint: bytes = FINGERPRINT) -> int:
    found = load_image(folder, fingerprint, NOW, HOUR, preload.take)
    assert found is not None
    return found.fd


def test_what_was_read_is_the_table(folder: Path) -> None:
    preload = Preload(str(folder / IMAGE_NAME))
    fd = load(folder, preload)
    assert Table(fd).lookup(OWNER, 1, 0) is not None
    os.close(fd)
    assert preload.take(os.open(folder / IMAGE_NAME, os.O_RDONLY)) is None  # it is somebody's
    preload.drop()


def test_nothing_is_read_twice(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    preload = Preload(str(folder / IMAGE_NAME))
    preload._join()
    monkeypatch.setattr("kdns.table.image.read_table", None)
    os.close(load(folder, preload))


def test_another_file_is_read_again(folder: Path, tmp_path: Path) -> None:
    preload = Preload(str(folder / IMAGE_NAME))
    preload._join()
    table = TableWriter.create(2, 1000, 1 << 16, bytes(16))
    with Snapshot(table) as snapshot:
        save_image(folder, snapshot, FINGERPRINT, NOW)
    fd = load(folder, preload)
    assert Table(fd).lookup(OWNER, 1, 0) is None
    os.close(fd)
    held = preload._fd
    preload.drop()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(held)


def test_what_may_not_be_used_is_let_go(folder: Path) -> None:
    preload = Preload(str(folder / IMAGE_NAME))
    with pytest.raises(TableError, match="another Corefile"):
        load(folder, preload, bytes(32))
    preload.drop()
    assert preload._fd == -1


@pytest.mark.parametrize("damage", ["missing", "cut", "flipped", "folder"])
def test_what_cannot_be_read_is_told_by_who_reads_it_next(folder: Path, damage: str) -> None:
    path = folder / IMAGE_NAME
    octets = bytearray(path.read_bytes())
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "missing":
        octets[-1] ^= 1
        path.write_bytes(octets[:-1] if damage == "cut" else octets)
    preload = Preload(str(path))
    if damage == "missing":
        assert load_image(folder, FINGERPRINT, NOW, HOUR, preload.take) is None
    else:
        with pytest.raises(TableError):
            load_image(folder, FINGERPRINT, NOW, HOUR, preload.take)
    preload.drop()
    preload.drop()


def test_no_thread_is_left_and_none_changes_how_threads_take_turns(folder: Path) -> None:
    before = sys.getswitchinterval()
    Preload(str(folder / IMAGE_NAME)).drop()
    assert sys.getswitchinterval() == before
    assert "preload" not in [thread.name for thread in threading.enumerate()]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--state-dir", "{}"], True),
        (["-conf", "x", "-state-dir={}"], True),
        (["--state-dir={}", "-quiet"], True),
        (["-conf", "x"], False),
        ([], False),
    ],
)
def test_the_folder_is_found_among_the_arguments(arguments: list[str], expected: bool, folder: Path) -> None:
    preload = Preload.of([word.format(folder) for word in arguments])
    assert (preload is not None) == expected
    if preload is not None:
        os.close(load(folder, preload))
        preload.drop()


def test_a_flag_without_its_folder_is_no_folder() -> None:
    preload = Preload.of(["--state-dir"])
    assert preload is not None
    preload.drop()
