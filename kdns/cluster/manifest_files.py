"""The files of a manifest source, and which of them changed: a folder, one file, or a stream that is read once.

A folder is looked at again and again. inotify would save the looking, but says nothing on network and overlay file
systems, must be told of each subfolder, and needs the same comparison after an overflow; a `stat` of some hundred files
takes a millisecond. What changed is believed when two looks see the same: an editor that writes in place, or
removes and renames, is then through with it.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from typing import NamedTuple

from kdns.errors import ManifestError

SUFFIXES = (".yaml", ".yml", ".json")
STDIN = "-"


class Signature(NamedTuple):
    """What a file is recognised by; a link is its target, so that the switch of a mounted ConfigMap shows."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int  # of the inode: a file may become readable, or keep its time of modification


class ManifestFiles:
    """The manifests under `path`, by name: relative to a folder; the path itself where it is no folder."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._known: dict[str, Signature] = {}
        self._unsettled: dict[str, Signature | None] = {}
        self.is_stream = path == STDIN

    @property
    def is_settling(self) -> bool:
        """Whether something changed that one more look must confirm."""
        return bool(self._unsettled)

    def first_names(self) -> list[str]:
        """The names of all files, in order. Raises ManifestError where there are none."""
        if not self.is_stream:
            try:
                mode = os.stat(self._path).st_mode
            except OSError as error:
                raise _unreadable(self._path, error) from error
            self.is_stream = not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)
        if self.is_stream:
            return [self._path]
        self._known = self._look()
        if not self._known:
            raise self._empty()
        return sorted(self._known)

    def changed_names(self) -> list[str]:
        """The names of files that changed, came or went, and are settled, in order.

        Raises ManifestError where the path cannot be looked at, or holds no manifest any more: then nothing changes.
        """
        if self.is_stream:
            return []
        seen = self._look()
        differing = {name for name in seen.keys() | self._known.keys() if seen.get(name) != self._known.get(name)}
        settled = {name for name in differing if self._unsettled.get(name, ()) == seen.get(name)}
        if settled and not seen:
            raise self._empty()
        self._unsettled = {name: seen.get(name) for name in differing - settled}
        for name in settled:
            if name in seen:
                self._known[name] = seen[name]
            else:
                del self._known[name]
        return sorted(settled)

    def is_there(self, name: str) -> bool:
        """Whether the file was there at the last look."""
        return self.is_stream or name in self._known

    def read(self, name: str) -> bytes:
        """The content of a file. Raises ManifestError."""
        try:
            if self._path == STDIN:
                return sys.stdin.buffer.read()
            with open(self.full_path(name), "rb") as file:
                return file.read()
        except OSError as error:
            raise ManifestError(f"cannot be read: {error.strerror}") from error

    def full_path(self, name: str) -> str:
        """The path of a file as an operator would write it."""
        if self._path == STDIN:
            return "standard input"
        return self._path if name == self._path else os.path.join(self._path, name)

    def _look(self) -> dict[str, Signature]:
        try:
            status = os.stat(self._path)
            if not stat.S_ISDIR(status.st_mode):
                # One file is what it is, whatever its name ends in.
                with open(self._path, "rb"):
                    return {self._path: _signature(status)}
            return dict(_walk(self._path, "", {(status.st_dev, status.st_ino)}))
        except OSError as error:
            raise _unreadable(self._path, error) from error

    def _empty(self) -> ManifestError:
        kinds = ", ".join(f"*{suffix}" for suffix in SUFFIXES)
        return ManifestError(f"{self._path}: met no manifest, expected at least one file {kinds} in this folder")


def _walk(folder: str, prefix: str, above: set[tuple[int, int]]) -> Iterator[tuple[str, Signature]]:
    """The manifests in a folder and below; hidden names, temporary files and links into a circle are passed over."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                status = entry.stat()
            except OSError:  # a link to nowhere or to itself, or a file that has just gone
                continue
            identity = (status.st_dev, status.st_ino)
            if stat.S_ISDIR(status.st_mode):
                if identity not in above:
                    yield from _walk(entry.path, f"{prefix}{entry.name}/", above | {identity})
            elif stat.S_ISREG(status.st_mode) and entry.name.endswith(SUFFIXES):
                yield prefix + entry.name, _signature(status)


def _signature(status: os.stat_result) -> Signature:
    return Signature(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _unreadable(path: str, error: OSError) -> ManifestError:
    if isinstance(error, FileNotFoundError):
        return ManifestError(
            f"{path}: no such file or folder; give --manifests a file, a folder or - for standard input"
        )
    return ManifestError(f"{error.filename or path}: cannot be read: {error.strerror}")
