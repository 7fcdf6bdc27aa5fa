"""The response table on disk: a new process serves from it until it has read the cluster.

    +-------------+-----------------------------------+-------------------------------+
    | ImageHeader | the table's file from its start   | the table's file, large blobs |
    |             | on: header page, index, blobs     | at its end                    |
    +-------------+-----------------------------------+-------------------------------+

What lies between the two parts is unused and not kept. The header has a checksum of its own, so that an image too old
or of another configuration is refused for the right reason, and not read to its end.

An image is taken while the table changes. The index is copied at once, in the process that writes the table and between
two changes; this takes 4 ms for 500,000 keys. Blobs do not change once they are published, so they are copied behind
the writer's back; for so long the copier is a reader like any other, whose epoch is odd, and no room of a blob in its
index is used again. (Writing everything at once would hold up changes for the 50 to 90 ms that the rest takes; without
the epoch a copy could have blobs that were written over those its index means.)

Checksums tell of accidents, not of intent: who may write the folder decides what is served. Only its owner may read the
file, for it holds the secret of the table's hash.
"""

from __future__ import annotations

import contextlib
import os
import stat
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self
from zlib import crc32

from kdns.errors import TableError
from kdns.hotpath.table import Table

VERSION = 1  # of the image's own format; the table's layout is checked by Table
IMAGE_NAME = "table.image"
DRAFT_PREFIX, DRAFT_SUFFIX = f"{IMAGE_NAME}.", ".new"
CHUNK = 1 << 20  # octets copied at a time
READ_CHUNK = 1 << 23  # octets read at a time, each in a few steps during which others may run
MAX_TABLE = (1 << 35) + (1 << 38) + 4096  # octets; no table is larger (hotpath/table.pxd)
MAX_AHEAD_SECONDS = 60.0  # clocks are set back by seconds; beyond it nobody can tell how old an image is

_MAGIC = b"KDNSIMG1"
_SECOND = 1_000_000_000  # nanoseconds
# The first fields of TableHeader in hotpath/table.pxd: magic, layout, generation, seed, buckets, data_size,
# heartbeat_ns, last_change_ns, small_end, large_start.
_TABLE_HEADER = struct.Struct("=QQQ16sQQQQQQ")
_TABLE_HEADER_PAGE, _BUCKET = 4096, 64  # octets


class ImageHeader(NamedTuple):
    """What stands before the table. Sizes are in octets."""

    magic: bytes
    version: int
    checksum: int  # CRC-32 of everything behind the header
    fingerprint: bytes  # of what the table was made for
    current_ns: int  # CLOCK_REALTIME when the table was last known to be current
    table_size: int
    front_size: int
    back_size: int


_HEADER = struct.Struct("<8sII32sqQQQ")
_CHECKSUM = struct.Struct("<I")
HEADER_SIZE = _HEADER.size + _CHECKSUM.size


class Snapshot:
    """The state of a table at one moment, held for copying until this context is left.

    Made by the process that writes the table, between two changes; `epoch` is a row of ReaderEpochs of its own.
    """

    def __init__(self, table: Table, epoch: memoryview | None = None) -> None:
        self._epoch = epoch
        self._fd = os.dup(table.fd)
        self._set_reading(True)
        self.size = os.fstat(self._fd).st_size
        fields = _TABLE_HEADER.unpack(os.pread(self._fd, _TABLE_HEADER.size, 0))
        buckets, data_size, small_end, large_start = fields[4], fields[5], fields[8], fields[9]
        self.head = os.pread(self._fd, _TABLE_HEADER_PAGE + _BUCKET * buckets, 0)
        self.front_size = len(self.head) + small_end
        self.back_size = data_size - large_start

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._set_reading(False)
        os.close(self._fd)

    def chunks(self) -> Iterator[bytes | memoryview]:
        """The octets of the image behind its header; each chunk is good until the next."""
        yield self.head
        buffer = memoryview(bytearray(CHUNK))
        for start, end in ((len(self.head), self.front_size), (self.size - self.back_size, self.size)):
            at = start
            while at < end:
                count = os.preadv(self._fd, [buffer[: min(CHUNK, end - at)]], at)
                if count == 0:
                    raise TableError(f"table that ends after {at} octets, expected {end}")
                yield buffer[:count]
                at += count

    def _set_reading(self, is_reading: bool) -> None:
        """Make the epoch odd while blobs are held; that of a copier who was killed is odd already."""
        if self._epoch is not None:
            numbers = self._epoch.cast("Q")
            if (numbers[0] & 1) != is_reading:
                numbers[0] += 1


class LoadedImage(NamedTuple):
    """A table in memory, as a file whose descriptor the caller owns, and its age."""

    fd: int
    age_seconds: float


def save_image(folder: Path, snapshot: Snapshot, fingerprint: bytes, current_ns: int) -> None:
    """Replace the image in `folder`, all of it or not at all. Raises OSError."""
    import tempfile  # 3 ms of every start, for one process that needs it much later

    fd, draft = tempfile.mkstemp(prefix=DRAFT_PREFIX, suffix=DRAFT_SUFFIX, dir=folder)
    try:
        with os.fdopen(fd, "wb", buffering=0) as file:
            file.seek(HEADER_SIZE)
            checksum = 0
            for chunk in snapshot.chunks():
                checksum = crc32(chunk, checksum)
                _write_all(file.write, chunk)
            file.seek(0)
            header = ImageHeader(
                _MAGIC,
                VERSION,
                checksum,
                fingerprint,
                current_ns,
                snapshot.size,
                snapshot.front_size,
                snapshot.back_size,
            )
            _write_all(file.write, pack_header(header))
            os.fsync(fd)
        os.replace(draft, folder / IMAGE_NAME)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(draft)
        raise
    _sync_folder(folder)


def remove_drafts(folder: Path) -> None:
    """Remove what a writer left that was killed. One of another process may go too: that one saves again."""
    for draft in folder.glob(f"{DRAFT_PREFIX}*{DRAFT_SUFFIX}"):
        with contextlib.suppress(OSError):
            draft.unlink()


def load_image(
    folder: Path,
    fingerprint: bytes,
    now_ns: int,
    max_age_seconds: float,
    take_read: Callable[[int], int | None] = lambda image: None,
) -> LoadedImage | None:
    """The table of the image in `folder`; None where there is none.

    `take_read` gives the table of an open image that was read already. Raises TableError with the reason where the
    image cannot be used.
    """
    try:
        fd = open_image(folder / IMAGE_NAME)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(error) from error
    try:
        header = read_header(fd)
        if header.fingerprint != fingerprint:
            raise TableError("made for another Corefile or another source of objects")
        age_seconds = (now_ns - header.current_ns) / _SECOND
        if age_seconds < -MAX_AHEAD_SECONDS:
            raise TableError(f"{-age_seconds:.0f} s ahead of this machine's clock, so that its age is unknown")
        if age_seconds > max_age_seconds:
            raise TableError(f"too old: {age_seconds:.0f} s, expected at most {max_age_seconds:.0f} s")
        table = take_read(fd)
        return LoadedImage(read_table(fd, header) if table is None else table, max(0.0, age_seconds))
    except OSError as error:
        raise _unreadable(error) from error
    finally:
        os.close(fd)


def open_image(path: str | Path) -> int:
    """A descriptor of an image. Raises OSError."""
    # Not to be stuck where somebody put a pipe.
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


def pack_header(header: ImageHeader) -> bytes:
    """The octets of a header, its checksum behind it."""
    octets = _HEADER.pack(*header)
    return octets + _CHECKSUM.pack(crc32(octets))


def unpack_header(octets: bytes) -> ImageHeader:
    """The header that `octets` begin with. Raises TableError."""
    if len(octets) < HEADER_SIZE:
        raise TableError(f"damaged: {len(octets)} octets, expected at least {HEADER_SIZE}")
    header = ImageHeader._make(_HEADER.unpack_from(octets))
    if header.magic != _MAGIC:
        raise TableError("not an image of a response table")
    if header.version != VERSION:
        raise TableError(f"image of version {header.version}, expected {VERSION}")
    if _CHECKSUM.unpack_from(octets, _HEADER.size)[0] != crc32(octets[: _HEADER.size]):
        raise TableError("damaged: the header does not match its checksum")
    return header


def read_header(fd: int) -> ImageHeader:
    """The header of an open image. Raises TableError where the file is none, or not all of it is there, and OSError."""
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise TableError("not a regular file")
    header = unpack_header(os.read(fd, HEADER_SIZE))
    kept = header.front_size + header.back_size
    if status.st_size != HEADER_SIZE + kept:
        raise TableError(f"damaged: {status.st_size} octets, expected {HEADER_SIZE + kept} by its header")
    if not kept <= header.table_size <= MAX_TABLE:
        raise TableError(f"damaged: a table of {header.table_size} octets, expected {kept} to {MAX_TABLE}")
    return header


def read_table(image: int, header: ImageHeader, is_wanted: Callable[[], bool] = lambda: True) -> int:
    """A file in memory with the table behind the header, checked. Raises TableError and OSError.

    It is given up once it is not `is_wanted` any more.
    """
    fd = os.memfd_create("kdns-table")
    try:
        os.ftruncate(fd, header.table_size)
        checksum = _copy(image, fd, 0, header.front_size, 0, is_wanted)
        checksum = _copy(image, fd, header.table_size - header.back_size, header.table_size, checksum, is_wanted)
        if checksum != header.checksum:
            raise TableError("damaged: the table does not match its checksum")
        Table(fd)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _copy(image: int, fd: int, start: int, end: int, checksum: int, is_wanted: Callable[[], bool]) -> int:
    """Put what comes next in the image at `start` to `end` of `fd`; the checksum with it."""
    buffer = memoryview(bytearray(min(READ_CHUNK, end - start)))
    at = start
    while at < end:
        if not is_wanted():
            raise TableError("not wanted any more")
        count = os.readv(image, [buffer[: min(READ_CHUNK, end - at)]])
        if count == 0:
            raise TableError(f"damaged: {end - at} octets are missing")
        checksum = crc32(buffer[:count], checksum)
        written = 0
        while written < count:
            written += os.pwrite(fd, buffer[written:count], at + written)
        at += count
    return checksum


def _write_all(write: Callable[[memoryview], int | None], octets: bytes | memoryview) -> None:
    left = memoryview(octets)
    while left:
        left = left[write(left) or 0 :]


def _sync_folder(folder: Path) -> None:
    """Make the new name last, where the file system can; the image is whole either way."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):
            os.fsync(fd)
    finally:
        os.close(fd)


def _unreadable(error: OSError) -> TableError:
    return TableError(f"cannot be read: {os.strerror(error.errno or 0).lower()}")
