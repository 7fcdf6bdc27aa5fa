"""What the fake API server did and when: the versions of every object, what was sent of them, and every request."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable
from typing import NamedTuple

from tests.fakes.apiserver.storage import Key, Version


class RequestRecord(NamedTuple):
    """One request as it came."""

    time: float
    client: str  # User-Agent
    verb: str
    kind: str
    query: str


class Span(NamedTuple):
    """How long a version may be believed: `until` is when the next was told, None while nothing has been."""

    version: Version | None  # None: before the object was first put
    since: float
    until: float | None


class Journal:
    """Times are seconds on time.monotonic. A version counts as told once anything newer cannot be unknown.

    An object's version is told when an event with it has been sent, or a list of its kind that is at least as new.
    """

    def __init__(self) -> None:
        self.requests: list[RequestRecord] = []
        self._lock = threading.Lock()
        self._observers: list[Callable[[Version], None]] = []
        self._versions: defaultdict[Key, list[Version]] = defaultdict(list)
        self._sent: defaultdict[Key, list[tuple[float, Version]]] = defaultdict(list)
        self._shortened: set[Key] = set()  # whose first versions are forgotten
        self._listed: defaultdict[str, list[tuple[int, float]]] = defaultdict(list)  # sequence, time; both growing

    def commit(self, version: Version) -> None:
        """Note that an object has a new version."""
        with self._lock:
            self._versions[version.key].append(version)
            for observer in self._observers:
                observer(version)

    def observe(self, observer: Callable[[Version], None]) -> None:
        """Call `observer` with every version there was and will be, in the thread that commits it."""
        with self._lock:
            for versions in self._versions.values():
                for version in versions:
                    observer(version)
            self._observers.append(observer)

    def send(self, version: Version) -> None:
        """Note that a watch was told of a version."""
        with self._lock:
            self._sent[version.key].append((time.monotonic(), version))

    def tell_list(self, kind: str, sequence: int) -> None:
        """Note that all of a kind was told as it was at a sequence number."""
        with self._lock:
            listed = self._listed[kind]
            if not listed or listed[-1][0] < sequence:
                listed.append((sequence, time.monotonic()))

    def objects(self) -> list[Key]:
        """The objects there are or were."""
        with self._lock:
            return list(self._versions)

    def newest(self, key: Key) -> list[Version]:
        """The versions kept of an object, oldest first."""
        with self._lock:
            return list(self._versions.get(key, ()))

    def spans(self, key: Key, by_commit: bool = False) -> list[Span]:
        """When each version of an object could be believed, oldest first.

        `by_commit` asks for more: that a version is dropped when the next is there, told or not.
        """
        with self._lock:
            versions = self._versions.get(key, [])
            sent = list(self._sent.get(key, ()))
            spans = []
            for index, version in enumerate([None, *versions]):
                if version is None and key in self._shortened:
                    continue
                since = version.committed if version else 0.0
                later = versions[index:]
                if not later:
                    until = None
                elif by_commit:
                    until = later[0].committed
                else:
                    until = self._told(key.kind, later[0].sequence, sent)
                spans.append(Span(version, since, until))
            for index, (told, version) in enumerate(sent):
                if index and version.sequence < sent[index - 1][1].sequence:  # told again, after a newer one
                    spans.append(Span(version, told, next((at for at, other in sent[index + 1 :]), None)))
            return spans

    def forget(self, before: float) -> None:
        """Drop what can not matter to a moment after `before` any more."""
        with self._lock:
            for key, versions in self._versions.items():
                sent = self._sent[key]
                while len(versions) > 1:
                    told = self._told(key.kind, versions[1].sequence, sent)
                    if told is None or told >= before:
                        break
                    del versions[0]
                    self._shortened.add(key)
                self._sent[key] = [(at, version) for at, version in sent if at >= before or version is versions[0]]
            self.requests[:] = [request for request in self.requests if request.time >= before]

    def _told(self, kind: str, sequence: int, sent: list[tuple[float, Version]]) -> float | None:
        times = [at for at, version in sent if version.sequence >= sequence]
        listed = self._listed[kind]
        found = bisect_left(listed, (sequence, 0.0))
        if found < len(listed):
            times.append(listed[found][1])
        return min(times, default=None)
