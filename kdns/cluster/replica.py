"""What is known of one resource, and the events that lead from there to what its API server says.

The objects themselves are in the store; here is the stamp of each, one string made of its version and UID. That is
enough to make events of a list, to leave alone what has not changed, and to drop repetitions.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import NamedTuple

from kdns import log
from kdns.cluster.objects import EndpointSlice, Event
from kdns.cluster.raw import EVERYTHING, decode_json, decode_shape
from kdns.cluster.resources import Resource
from kdns.cluster.shapes import RawObject
from kdns.cluster.tally import ResourceStatistics, Tally
from kdns.cluster.trigger import trigger_time
from kdns.cluster.view import Needs
from kdns.cluster.watching import Change, Key, WatchLine

MAX_TOLD = 1000  # different problems with objects that are logged
DISTRUSTED = ""  # the stamp of an object whose state may be of another history: equal to none


OnProgrammed = Callable[[str, str, float], None]  # namespace, Service, Unix seconds when the change began


class Listed(NamedTuple):
    """An object of a list. Without an event it is there, and there is nothing new or usable to say about it."""

    stamp: str
    event: Event | None


class Replica:
    """The state of one resource. Its events go to `on_events` in batches.

    `on_listed` is called after each list that is complete, and when it turns out that there is none to be had;
    `on_programmed` after the events of a watch were told, for each slice of a Service that says when its change began.
    """

    def __init__(
        self,
        resource: Resource,
        clock: Callable[[], float],
        on_events: Callable[[list[Event]], None],
        on_listed: Callable[[], None],
        needs: Needs = EVERYTHING,
        on_programmed: OnProgrammed = lambda namespace, service, triggered_at: None,
    ) -> None:
        self.resource = resource
        self.tally = Tally(resource, clock)
        self._on_events = on_events
        self._on_listed = on_listed
        self.needs = needs
        self._on_programmed = on_programmed
        self._triggered: list[tuple[str, str, float]] = []  # by events not yet told
        self._stamps: dict[Key, str] = {}
        self._passed: dict[Key, str] = {}  # of states that changed nothing: unusable ones, Pods on their way out
        self._events: list[Event] = []  # applied, not yet told
        self._told: set[str] = set()  # problems
        self._log = log.plugin_logger("kubernetes")

    def __len__(self) -> int:
        return len(self._stamps)

    def stamp(self, key: Key) -> str | None:
        """The stamp of the last state seen of an object; None: it is not there."""
        passed = self._passed.get(key)
        return self._stamps.get(key) if passed is None else passed

    def stamps(self) -> list[tuple[Key, str]]:
        """Those of all objects."""
        return list({**self._stamps, **self._passed}.items())

    def count_missing(self, keys: Container[Key]) -> int:
        """How many known objects are not among these."""
        return sum(key not in keys for key in self._stamps)

    def collect(
        self, listed: dict[Key, Listed], key: Key | None, stamp: str, text: bytes, shape: RawObject | None = None
    ) -> None:
        """Take an object into a list that is being read. What has not changed is not even decoded."""
        if key is not None and self._is_current(key, stamp):
            listed[key] = Listed(stamp, None)
            return
        event = self._decode(text, shape)
        if key is not None:
            listed[key] = Listed(stamp, event)

    def replace(self, listed: Mapping[Key, Listed]) -> None:
        """Take over a complete list, and tell in one batch what that changes, first what is gone."""
        self.flush()
        kind, before = self.resource.kind, self._stamps
        self._events = [Event(kind, *key, None) for key in before if key not in listed]
        self._stamps, self._passed = {}, {}
        for key, (stamp, event) in listed.items():
            if event is not None:
                self._events.append(event)
                self._stamps[key] = stamp
                continue
            if key in before:  # what cannot be used now stays what it was
                self._stamps[key] = before[key]
            if before.get(key) != stamp:
                self._passed[key] = stamp
        self.flush()
        self.tally.is_synced = True
        self._on_listed()

    def apply(self, line: WatchLine) -> None:
        """Take in a line of a watch. Repetitions change nothing."""
        key = line.key
        if line.change is Change.DELETE:
            if key is not None:
                self._remove(key)
        elif line.change is Change.IGNORED:
            self.tally.malformed += 1
        elif line.change is Change.PUT:
            is_news = key is None or not self._is_current(key, line.stamp)
            if is_news and self._put(key, line.stamp, line.text, line.shape):
                self._note_trigger(line.text)

    def repair(self, key: Key, known: str | None, found: tuple[str, bytes] | None) -> bool:
        """Take over an object as it was found, by its stamp and text, or that it is not there; whether that changes it.

        Where its stamp is not the one that was `known` before, news have come since, and count.
        """
        if self.stamp(key) != known or (found is not None and found[0] == known):
            return False
        changed = self._remove(key) if found is None else self._put(key, *found)
        self.flush()
        return changed

    def flush(self) -> None:
        """Tell what was applied: nothing more comes for the moment."""
        events, self._events = self._events, []
        triggered, self._triggered = self._triggered, []
        if events:
            self._on_events(events)
        for namespace, service, triggered_at in triggered:
            self._on_programmed(namespace, service, triggered_at)

    def note_refusal(self) -> None:
        """Note that the server does not hand the resource out."""
        if not self.tally.is_refused:
            self.tally.is_refused = True
            self._on_listed()

    def distrust(self) -> None:
        """Keep what is known, and take every object for changed when it is seen next."""
        self._events, self._triggered = [], []
        self._stamps = dict.fromkeys(self._stamps, DISTRUSTED)
        self._passed = {}

    def statistics(self) -> ResourceStatistics:
        """Everything that is counted."""
        return self.tally.statistics(len(self))

    def _is_current(self, key: Key, stamp: str) -> bool:
        return bool(stamp) and self._stamps.get(key) == stamp

    def _put(self, key: Key | None, stamp: str, text: bytes, shape: RawObject | None = None) -> bool:
        event = self._decode(text, shape)
        if key is None:
            return False
        if event is None:
            self._passed[key] = stamp
            return False
        self._passed.pop(key, None)
        self._stamps[key] = stamp
        self._note(event)
        return True

    def _remove(self, key: Key) -> bool:
        self._passed.pop(key, None)
        if self._stamps.pop(key, None) is None:
            return False
        self._note(Event(self.resource.kind, *key, None))
        return True

    def _note(self, event: Event) -> None:
        self.tally.events += 1
        self._events.append(event)

    def _note_trigger(self, text: bytes) -> None:
        changed = self._events[-1].object
        if isinstance(changed, EndpointSlice) and changed.service and (began := trigger_time(text)) is not None:
            self._triggered.append((changed.namespace, changed.service, began))

    def _decode(self, text: bytes, shape: RawObject | None) -> Event | None:
        if shape is not None:
            decoded = decode_shape(self.resource.kind, shape, self.needs)
        else:
            decoded = decode_json(self.resource.kind, text, self.needs)
        if decoded.problems:
            self.tally.malformed += 1
        for problem in decoded.problems:
            if problem not in self._told and len(self._told) < MAX_TOLD:
                self._told.add(problem)
                self._log.warning("%s", problem)
        return decoded.event
