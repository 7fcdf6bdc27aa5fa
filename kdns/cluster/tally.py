"""What is counted about following one resource; it outlives the tasks that follow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from kdns.cluster.resources import Resource


@dataclass(frozen=True, slots=True)
class ResourceStatistics:
    """How following one resource goes, at one moment."""

    resource: str  # as RBAC names it
    is_synced: bool
    is_refused: bool  # the server works, and does not hand it out
    objects: int
    seconds_since_contact: float | None  # since the server last said anything about it; None: never
    events: int
    malformed: int  # objects and lines left out or cut because of what is in them
    relists: Mapping[str, int]  # by cause
    errors: Mapping[str, int]  # by kind
    restarts: int  # of a task that died


@dataclass(slots=True)
class Tally:
    """The counters behind it."""

    resource: Resource
    clock: Callable[[], float]
    is_synced: bool = False
    is_refused: bool = False
    events: int = 0
    malformed: int = 0
    restarts: int = 0
    relists: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    contact_at: float | None = None

    def note_contact(self) -> None:
        """Note that the server has said something about the resource just now."""
        self.contact_at = self.clock()

    def statistics(self, objects: int) -> ResourceStatistics:
        """Everything as it now is."""
        since = None if self.contact_at is None else max(0.0, self.clock() - self.contact_at)
        return ResourceStatistics(
            self.resource.full_name,
            self.is_synced,
            self.is_refused,
            objects,
            since,
            self.events,
            self.malformed,
            dict(self.relists),
            dict(self.errors),
            self.restarts,
        )
