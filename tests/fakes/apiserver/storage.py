"""What the fake API server stores: objects with all their versions, and the history watches are served from.

Versions are numbered as etcd does, by one counter for everything (`rv`), and besides in the order they were put
(`sequence`), which goes on where the counter is set back. Objects are kept as JSON text, as they are sent.
"""

from __future__ import annotations

import threading
import time
import uuid
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from tests.fakes.apiserver.resources import BY_KIND

DEFAULT_NAMESPACE = "default"


class Key(NamedTuple):
    """What identifies an object; in this order it is listed."""

    kind: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Version:
    """An object as it was from one moment on; `raw` is None where it was gone."""

    key: Key
    rv: int
    sequence: int
    committed: float  # seconds on time.monotonic, the same clock in every process
    raw: Any = None
    text: bytes = b""  # JSON, without `kind`, `apiVersion` and the opening brace


class Commit(NamedTuple):
    """A change as watches see it. For one that deletes, `new.text` is the object's last state."""

    old: Version | None
    new: Version


class Storage:
    """The objects of a cluster. Safe to use from any thread; `on_commit` is called in that of the change."""

    def __init__(self, on_commit: Callable[[Version], None], first_version: int = 1000) -> None:
        self.rv = first_version
        self.compacted = 0  # versions below are gone
        self.dropped = dict.fromkeys(BY_KIND, 0)  # the newest version of a kind that watches can not be sent any more
        self._on_commit = on_commit
        self._sequence = 0
        self._lock = threading.RLock()
        self._versions: dict[str, dict[Key, list[Version]]] = {kind: {} for kind in BY_KIND}
        self._history: dict[str, list[Commit]] = {kind: [] for kind in BY_KIND}

    def put(self, raw: Mapping[str, Any], key: Key | None = None) -> Version:
        """Create an object or replace it. With `key` it is stored as it is, however damaged."""
        with self._lock:
            key = key or key_of(raw)
            stored = msgspec.json.decode(msgspec.json.encode(raw))
            old = self._current(key)
            metadata = stored.get("metadata")
            if isinstance(metadata, dict):
                metadata["resourceVersion"] = str(self.rv + 1)
                metadata.setdefault("name", key.name)
                if key.namespace:
                    metadata.setdefault("namespace", key.namespace)
                metadata.setdefault("uid", _uid_of(old))
                metadata.setdefault("creationTimestamp", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
            return self._commit(key, old, stored)

    def patch(self, key: Key, change: Mapping[str, Any]) -> Version:
        """Change an object by a JSON merge patch (RFC 7386)."""
        with self._lock:
            old = self._current(key)
            if old is None:
                raise KeyError(key)
            return self.put(merge(old.raw, change), key)

    def delete(self, key: Key) -> Version:
        """Delete an object."""
        with self._lock:
            old = self._current(key)
            if old is None:
                raise KeyError(key)
            return self._commit(key, old, None)

    def get(self, key: Key) -> Version | None:
        """An object as it is."""
        with self._lock:
            return self._current(key)

    def snapshot(self, kind: str, at: int | None = None) -> tuple[list[Version], int, int]:
        """The objects of a kind in their order, as they are or were at a version; that version; and the sequence."""
        with self._lock:
            objects = self._versions[kind]
            if at is None:
                found = [versions[-1] for versions in objects.values()]
                sequence = self._sequence
            else:
                found = [version for versions in objects.values() if (version := _at(versions, at)) is not None]
                sequence = max((version.sequence for version in found), default=0)
            return sorted((v for v in found if v.raw is not None), key=lambda v: v.key), at or self.rv, sequence

    def commits(self, kind: str, after: int) -> list[Commit]:
        """The changes of a kind since a version."""
        with self._lock:
            history = self._history[kind]
            return history[bisect_right(history, after, key=lambda commit: commit.new.rv) :]

    def compact(self) -> int:
        """Forget what was; returns the oldest version that can still be asked for."""
        with self._lock:
            self.compacted = self.rv
            for kind, objects in self._versions.items():
                for key, versions in list(objects.items()):
                    del versions[:-1]
                    if versions[0].raw is None:
                        del objects[key]
                if self._history[kind]:
                    self.dropped[kind] = self._history[kind][-1].new.rv
                self._history[kind].clear()
            return self.compacted

    def restore(self, rv: int) -> None:
        """Go back to how everything was at a version, and count on from there, as a restored etcd does."""
        with self._lock:
            if not self.compacted <= rv <= self.rv:
                raise ValueError(f"version {rv} is not kept: {self.compacted} to {self.rv} are")
            for kind, objects in self._versions.items():
                self._history[kind] = [commit for commit in self._history[kind] if commit.new.rv <= rv]
                for key, versions in list(objects.items()):
                    if versions[-1].rv > rv:
                        self._put_back(objects, key, _at(versions, rv))
            self.rv = rv

    def _put_back(self, objects: dict[Key, list[Version]], key: Key, old: Version | None) -> None:
        self._sequence += 1
        made = Version(
            key,
            old.rv if old else 0,
            self._sequence,
            time.monotonic(),
            old.raw if old else None,
            old.text if old else b"",
        )
        if old is None:
            del objects[key]
        else:
            objects[key] = [*(version for version in objects[key] if version.rv < old.rv), made]
        self._on_commit(made)

    def _commit(self, key: Key, old: Version | None, stored: Any) -> Version:
        self.rv += 1
        self._sequence += 1
        text = _text_of(stored) if stored is not None else b""
        if stored is None and old is not None:
            text = _text_of(merge(old.raw, {"metadata": {"resourceVersion": str(self.rv)}}))
        new = Version(key, self.rv, self._sequence, time.monotonic(), stored, text)
        self._versions[key.kind].setdefault(key, []).append(new)
        self._history[key.kind].append(Commit(old, new))
        self._on_commit(new)
        return new

    def _current(self, key: Key) -> Version | None:
        versions = self._versions[key.kind].get(key)
        return versions[-1] if versions and versions[-1].raw is not None else None


def key_of(raw: Mapping[str, Any]) -> Key:
    """The identity of a sound object."""
    kind, metadata = raw["kind"], raw["metadata"]
    namespace = (metadata.get("namespace") or DEFAULT_NAMESPACE) if BY_KIND[kind].namespaced else ""
    return Key(kind, namespace, metadata["name"])


def merge(old: Any, change: Any) -> Any:
    """`old` with a JSON merge patch applied (RFC 7386, 2)."""
    if not isinstance(change, Mapping):
        return change
    merged = dict(old) if isinstance(old, Mapping) else {}
    for field, value in change.items():
        if value is None:
            merged.pop(field, None)
        else:
            merged[field] = merge(merged.get(field), value)
    return merged


def _at(versions: list[Version], rv: int) -> Version | None:
    found = bisect_right(versions, rv, key=lambda version: version.rv)
    return versions[found - 1] if found else None


def _uid_of(old: Version | None) -> str:
    metadata = old.raw.get("metadata") if old is not None else None
    uid = metadata.get("uid") if isinstance(metadata, dict) else None
    return uid or str(uuid.uuid4())


def _text_of(stored: Any) -> bytes:
    body = {field: value for field, value in stored.items() if field not in ("kind", "apiVersion")}
    return msgspec.json.encode(body)[1:]
