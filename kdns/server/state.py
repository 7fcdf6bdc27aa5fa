"""The folder of `--state-dir`: whose image is in it, and the informer's task of keeping that image current."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kdns import log
from kdns.cluster.access import ApiAccess
from kdns.cluster.view import View
from kdns.errors import StartError, TableError
from kdns.hotpath.table import Table
from kdns.plugins.plugin import Surroundings
from kdns.table.image import IMAGE_NAME, LoadedImage, Snapshot, load_image, remove_drafts, save_image
from kdns.table.preload import Preload

DEFAULT_MAX_AGE_SECONDS = 86_400.0
MIN_MAX_AGE_SECONDS = 60.0  # an image is that old at times while everything is as it should be
SAVE_SECONDS = 30.0  # between images of a table that changes: a few dozen MB each in a large cluster
# Between images of a table that does not change, whose age would grow; less where the greatest age is small.
REFRESH_SECONDS = 600.0
LOOK_SECONDS = 1.0  # between looks whether an image is due

# What the image does not depend on. A pod's successor has another address, and that should not cost it the warm start:
# only the names of the DNS service itself depend on it, until the cluster has been read.
_NOT_IN_FINGERPRINT = ("local_addresses",)


@dataclass(frozen=True, slots=True)
class StateFolder:
    """Where the image is, and what makes it usable."""

    folder: Path
    max_age_seconds: float
    fingerprint: bytes

    @property
    def image(self) -> Path:
        """The image's path."""
        return self.folder / IMAGE_NAME

    def load(self, preload: Preload | None = None) -> LoadedImage | None:
        """The image's table, or None; a refusal is a line in the log."""
        take_read = preload.take if preload is not None else lambda image: None
        try:
            return load_image(self.folder, self.fingerprint, time.time_ns(), self.max_age_seconds, take_read)
        except TableError as error:
            log.logger().warning("%s is not used: %s", self.image, error)
            return None


def check_folder(folder: str) -> Path:
    """The folder of `--state-dir`. Raises StartError."""
    path = Path(folder)
    if not path.exists():
        raise StartError(f"--state-dir {folder}: no such folder")
    if not path.is_dir():
        raise StartError(f"--state-dir {folder}: not a folder")
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise StartError(f"--state-dir {folder}: not writable")
    return path


def open_state(
    folder: str, max_age_seconds: float, surroundings: Surroundings, manifests: str | None
) -> StateFolder:  # fmt: skip
    """Check the folder. Raises StartError."""
    path = check_folder(folder)
    made_for = fingerprint_of(surroundings.views, surroundings.accesses, surroundings.environ, manifests)
    return StateFolder(path, max_age_seconds, made_for)


def fingerprint_of(
    views: Sequence[View], accesses: Sequence[ApiAccess], environ: Mapping[str, str], manifests: str | None
) -> bytes:
    """32 octets that are equal where the same table would be made of the same cluster."""
    lines = [f"manifests={manifests!r}"]
    for view in views:
        for field in dataclasses.fields(view):
            if field.name not in _NOT_IN_FINGERPRINT:
                value = getattr(view, field.name)
                # The order of a set is another in each process.
                lines.append(f"{field.name}={sorted(value) if isinstance(value, frozenset) else value!r}")
    for access in accesses if manifests is None else ():
        kubeconfig = access.kubeconfig or ("" if access.endpoint else environ.get("KUBECONFIG", ""))
        lines.append(f"endpoint={access.endpoint!r} kubeconfig={kubeconfig!r} context={access.context!r}")
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).digest()


class ImageKeeper:
    """Saves the table: when it is complete for the first time, after changes, and now and then without any.

    `current_table` is the table where it is complete and published, else None; `unheard_seconds` how long ago the
    sources were last known to say what is in it, or None. `epoch` is the keeper's row of ReaderEpochs.
    """

    def __init__(
        self,
        state: StateFolder,
        current_table: Callable[[], Table | None],
        unheard_seconds: Callable[[], float | None],
        epoch: memoryview | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._state = state
        self._current_table = current_table
        self._unheard_seconds = unheard_seconds
        self._epoch = epoch
        self._clock_ns = clock_ns
        self._refresh_seconds = min(REFRESH_SECONDS, state.max_age_seconds / 4)
        self._tried_at = float("-inf")
        self._saved: tuple[float, float] | None = None  # generation and last change of what the image holds
        self._saved_current_ns = 0
        self._writing: asyncio.Future[None] | None = None
        self._told = ""

    async def run(self) -> None:
        """Keep the image current until cancelled."""
        remove_drafts(self._state.folder)
        while True:
            if self._is_due(SAVE_SECONDS):
                await self._save()
            await asyncio.sleep(LOOK_SECONDS)

    async def finish(self) -> None:
        """Save what has changed since the last image: the service ends."""
        if self._writing is not None:  # begun before this one's task was cancelled
            await asyncio.gather(self._writing, return_exceptions=True)
        if self._is_due(0.0):
            await self._save()

    def _is_due(self, save_seconds: float) -> bool:
        table, current_ns = self._current_table(), self._current_ns()
        if table is None or current_ns is None or time.monotonic() - self._tried_at < save_seconds:
            return False
        has_aged = (current_ns - self._saved_current_ns) / 1e9 >= self._refresh_seconds
        return has_aged or _state_of(table) != self._saved

    def _current_ns(self) -> int | None:
        """When the table was last known to be current, by the clock on the wall."""
        unheard = self._unheard_seconds()
        return None if unheard is None else self._clock_ns() - round(unheard * 1e9)

    async def _save(self) -> None:
        table, current_ns = self._current_table(), self._current_ns()
        assert table is not None
        assert current_ns is not None
        self._tried_at = time.monotonic()
        state, snapshot = _state_of(table), Snapshot(table, self._epoch)
        # A thread: it waits for the disk, and lets go of the interpreter while it copies.
        self._writing = asyncio.get_running_loop().run_in_executor(None, self._write, snapshot, current_ns)
        try:
            await asyncio.shield(self._writing)  # once begun it is done: a thread cannot be cancelled
        except OSError as error:
            self._tell(os.strerror(error.errno or 0).lower())
        except TableError as error:
            self._tell(str(error))
        else:
            self._saved, self._saved_current_ns, self._told = state, current_ns, ""

    def _write(self, snapshot: Snapshot, current_ns: int) -> None:
        with snapshot:
            save_image(self._state.folder, snapshot, self._state.fingerprint, current_ns)

    def _tell(self, trouble: str) -> None:
        if trouble != self._told:
            self._told = trouble
            log.logger().warning("%s cannot be written: %s; a start may have to wait", self._state.image, trouble)


def _state_of(table: Table) -> tuple[float, float]:
    numbers = table.statistics()
    return numbers["generation"], numbers["last_change_ns"]
