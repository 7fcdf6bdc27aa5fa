"""What is known of one resource, and the events that lead from there to what its API server says.

The objects themselves are in the store; here is their version, one string each. That is enough to make events of a
list, to leave alone what has not changed, and to drop repetitions.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import NamedTuple

from kdns import log
from kdns.cluster.objects import Event
from kdns.cluster.raw import decode_json
from kdns.cluster.resources import Resource
from kdns.cluster.tally import ResourceStatistics, Tally
from kdns.cluster.watching import Change, Key, WatchLine

MAX_TOLD = 1000  # different problems with objects that are logged
DISTRUSTED = ""  # the version of an object whose state may be of another history: equal to none


class Listed(NamedTuple):
    """An object of a list. Without an event it is there, and there is nothing new or usable to say about it."""

    version: str
    event: Event | None


class Replica:
    """The state of one resource. Its events go to `on_events` in batches, each list that is complete to `on_listed`."""

    def __init__(
        self,
        resource: Resource,
        clock: Callable[[], float],
        on_events: Callable[[list[Event]], None],
        on_listed: Callable[[], None],
        keeps_pod_names: bool = True,
    ) -> None:
        self.resource = resource
        self.tally = Tally(resource, clock)
        self._on_events = on_events
        self._on_listed = on_listed
        self._keeps_pod_names = keeps_pod_names
        self._versions: dict[Key, str] = {}
        self._events: list[Event] = []  # applied, not yet told
        self._told: set[str] = set()  # problems
        self._log = log.plugin_logger("kubernetes")

    def __len__(self) -> int:
        return len(self._versions)

    def count_missing(self, keys: Container[Key]) -> int:
        """How many known objects are not among these."""
        return sum(key not in keys for key in self._versions)

    def collect(self, listed: dict[Key, Listed], key: Key | None, version: str, text: bytes) -> None:
        """Take an object into a list that is being read. What has not changed is not even decoded."""
        if key is not None and self._is_current(key, version):
            listed[key] = Listed(version, None)
            return
        event = self._decode(text)
        if key is not None:
            listed[key] = Listed(version, event)

    def replace(self, listed: Mapping[Key, Listed]) -> None:
        """Take over a complete list, and tell in one batch what that changes, first what is gone."""
        self.flush()
        kind, before = self.resource.kind, self._versions
        self._events = [Event(kind, *key, None) for key in before if key not in listed]
        self._versions = {}
        for key, (version, event) in listed.items():
            if event is not None:
                self._events.append(event)
                self._versions[key] = version
            elif key in before:  # what cannot be used now stays what it was
                self._versions[key] = before[key]
        self.flush()
        self.tally.is_synced = True
        self._on_listed()

    def apply(self, line: WatchLine) -> None:
        """Take in a line of a watch. Repetitions change nothing."""
        key = line.key
        if line.change is Change.DELETE:
            if key is not None and self._versions.pop(key, None) is not None:
                self._note(Event(self.resource.kind, *key, None))
        elif line.change is Change.IGNORED:
            self.tally.malformed += 1
        elif line.change is Change.PUT and not (key is not None and self._is_current(key, line.version)):
            event = self._decode(line.text)
            if event is not None and key is not None:
                self._versions[key] = line.version
                self._note(event)

    def flush(self) -> None:
        """Tell what was applied: nothing more comes for the moment."""
        events, self._events = self._events, []
        if events:
            self._on_events(events)

    def distrust(self) -> None:
        """Keep what is known, and take every object for changed when it is seen next."""
        self._events = []
        self._versions = dict.fromkeys(self._versions, DISTRUSTED)

    def statistics(self) -> ResourceStatistics:
        """Everything that is counted."""
        return self.tally.statistics(len(self))

    def _is_current(self, key: Key, version: str) -> bool:
        return bool(version) and self._versions.get(key) == version

    def _note(self, event: Event) -> None:
        self.tally.events += 1
        self._events.append(event)

    def _decode(self, text: bytes) -> Event | None:
        decoded = decode_json(self.resource.kind, text, self._keeps_pod_names)
        if decoded.problems:
            self.tally.malformed += 1
        for problem in decoded.problems:
            if problem not in self._told and len(self._told) < MAX_TOLD:
                self._told.add(problem)
                self._log.warning("%s", problem)
        return decoded.event
