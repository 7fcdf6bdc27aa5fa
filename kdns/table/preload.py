"""The kept table, read while the rest of the program is imported: they take as long, and want nothing of each other.

What is read beforehand is the same file, and checked in the same way; whether it may be used is decided later, when
the Corefile is known (`image.load_image`).
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence

from kdns.errors import TableError
from kdns.table import image

FLAG = "state-dir"
SWITCH_SECONDS = 0.0005  # between threads while there are two: each of a few dozen steps has to wait for its turn


class Preload:
    """An image on its way into memory."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._identity: tuple[int, ...] | None = None  # of the file that was read
        self._is_wanted = True
        self._fd = -1  # of its table; -1: it cannot be read, or somebody has it
        self._switch_seconds = sys.getswitchinterval()
        self._thread = threading.Thread(target=self._read, name="preload", daemon=True)
        sys.setswitchinterval(SWITCH_SECONDS)
        self._thread.start()

    @classmethod
    def of(cls, arguments: Sequence[str]) -> Preload | None:
        """The image these arguments lead to; only a guess, for they have not been checked yet."""
        for at, word in enumerate(arguments):
            name, equals, value = word.partition("=")
            if name in ("-" + FLAG, "--" + FLAG):
                folder = value if equals else "".join(arguments[at + 1 : at + 2])
                return cls(os.path.join(folder, image.IMAGE_NAME))
        return None

    def take(self, opened: int) -> int | None:
        """The table of the image that is `opened`, as a file the caller owns; None where another one was read, or none.

        Whoever gets None reads it and sees why.
        """
        self._join()
        if self._fd < 0 or self._identity != _identity(opened):
            return None
        fd, self._fd = self._fd, -1
        return fd

    def drop(self) -> None:
        """Let go of what nobody took. No thread of this is left: the process may fork."""
        self._is_wanted = False
        self._join()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _join(self) -> None:
        self._thread.join()
        sys.setswitchinterval(self._switch_seconds)

    def _read(self) -> None:
        try:
            opened = image.open_image(self._path)
        except OSError:
            return
        try:
            identity = _identity(opened)
            self._fd = image.read_table(opened, image.read_header(opened), lambda: self._is_wanted)
            self._identity = identity
        except (OSError, TableError):
            return
        finally:
            os.close(opened)


def _identity(fd: int) -> tuple[int, ...]:
    """What tells a file, and the time it was written at, from all others."""
    status = os.fstat(fd)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
