"""What can go wrong between an API server and its clients, by name; the package's docstring is the table of it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

from tests.harness.waiting import POLL_SECONDS


class Stage(Enum):
    """Where a fault acts."""

    CONNECTION = "connection"
    REQUEST = "request"  # before anything else is looked at, for lists, watches and single objects alike
    LIST = "list"
    WATCH = "watch"  # when a watch is opened
    STREAM = "stream"  # between two events of an open watch
    EVENT = "event"  # in what is sent of an object
    AT_ONCE = "at once"  # when it is added, and again when it is removed


class Spec(NamedTuple):
    """A fault: which faults of the reference it stands for, where it acts, and its parameters with their defaults."""

    rows: tuple[int, ...]
    stage: Stage
    parameters: Mapping[str, Any] = {}
    choices: tuple[str, ...] = ()  # of the parameter `how`; the first is the default


FAULTS: Mapping[str, Spec] = {
    "held": Spec((1, 23, 28), Stage.REQUEST),
    "watch-list-missing": Spec((2,), Stage.WATCH, choices=("refused", "ignored", "endless")),
    "continue-expired": Spec((3,), Stage.LIST, {"page": 2}),
    "list-gone": Spec((4,), Stage.LIST),
    "version-too-large": Spec((4,), Stage.LIST, choices=("cause", "message")),
    "watch-gone": Spec((5,), Stage.STREAM, {"after": 0}, ("event", "status", "bare")),
    "watch-end": Spec((6,), Stage.STREAM, {"after": 0}),
    "short-watch": Spec((7,), Stage.WATCH),
    "cut": Spec((8,), Stage.STREAM, {"after": 0}, ("reset", "half-line", "chunk", "tls-alert")),
    "stall": Spec((9,), Stage.STREAM, {"after": 0}),
    "frozen": Spec((9,), Stage.REQUEST),
    "bookmark": Spec((10,), Stage.STREAM, {"after": 0}, ("plain", "bare", "null")),
    "mistyped": Spec((11,), Stage.EVENT, {}, ("duplicate", "added-known", "modified-unknown", "deleted-unknown")),
    "replay": Spec((12,), Stage.EVENT),
    "gap": Spec((13, 14), Stage.AT_ONCE, {"compact": True}),
    "stale-list": Spec((14,), Stage.LIST, {"behind": 1}),
    "rewind": Spec((15,), Stage.AT_ONCE, {"to": 0}),
    "compaction": Spec((16,), Stage.LIST, {"page": 1}),
    "refused": Spec((17, 27, 32), Stage.AT_ONCE),
    "throttled": Spec((18,), Stage.REQUEST, {"retry_after": "1"}),
    "status": Spec((19, 32), Stage.REQUEST, {"code": 500}, ("status", "html", "empty")),
    "wrong-answer": Spec((20,), Stage.REQUEST, {}, ("redirect", "gzip", "content-type", "table")),
    "token-rotated": Spec((21,), Stage.AT_ONCE, {"token": ""}),
    "certificate-rotated": Spec((22,), Stage.AT_ONCE, {}, ("authority", "certificate")),
    "slow": Spec((23,), Stage.REQUEST, {"bytes_per_second": 1024}),
    "slow-handshake": Spec((23,), Stage.CONNECTION, {"seconds": 2.0}),
    "huge": Spec((24,), Stage.EVENT, {"octets": 1_572_864, "name": ""}),
    "malformed": Spec((25,), Stage.EVENT, {"damage": "null-metadata", "name": ""}),
    "flip": Spec(
        (26,), Stage.AT_ONCE, {"namespace": "default", "name": ""}, ("headless", "external-name", "recreated")
    ),
    "emptied-list": Spec((13, 29), Stage.LIST, {"kept": 0}),
    "relist": Spec((29,), Stage.AT_ONCE),
    "poison": Spec(
        (30,), Stage.STREAM, {"after": 0}, ("null-object", "no-type", "not-an-object", "not-json", "nested")
    ),
    "client-stopped": Spec((31,), Stage.AT_ONCE, {"pid": 0}),
}


@dataclass(eq=False, slots=True)
class Fault:
    """One fault added; `met` counts how often something ran into it."""

    name: str
    kind: str
    verb: str
    times: int | None
    parameters: Mapping[str, Any]
    registry: Faults = field(repr=False)
    met: int = 0
    is_removed: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event, repr=False)  # set in the loop of the server

    @property
    def how(self) -> str:
        """The form of the fault."""
        return str(self.parameters["how"])

    @property
    def is_active(self) -> bool:
        """Whether it has not been removed, nor met as often as it should be."""
        return self in self.registry

    def remove(self) -> None:
        """End the fault: what waited for that goes on."""
        self.registry.remove(self)

    def wait_met(self, times: int = 1, timeout_seconds: float = 10.0) -> None:
        """Wait until something has run into the fault that often."""
        deadline = time.monotonic() + timeout_seconds
        while self.met < times:
            if time.monotonic() >= deadline:
                raise AssertionError(f"after {timeout_seconds:g} s, {self.name} met {self.met} times, not {times}")
            time.sleep(POLL_SECONDS)


class Faults:
    """The faults of a server. `on_change` is called, in the thread of the caller, with each that comes or goes."""

    def __init__(self, on_change: Callable[[Fault, bool], None]) -> None:
        self._on_change = on_change
        self._active: list[Fault] = []
        self._lock = threading.Lock()

    def __contains__(self, fault: object) -> bool:
        return fault in self._active

    def add(self, name: str, /, kind: str = "", verb: str = "", times: int | None = None, **parameters: Any) -> Fault:
        """Let a fault happen: to every kind and verb or to one, `times` times or until it is removed."""
        if name not in FAULTS:
            raise ValueError(f"no fault is named {name!r}: there are {', '.join(sorted(FAULTS))}")
        spec = FAULTS[name]
        known = dict(spec.parameters, **({"how": spec.choices[0]} if spec.choices else {}))
        if unknown := parameters.keys() - known.keys():
            raise ValueError(f"{name} has no parameter {sorted(unknown)}: it has {sorted(known)}")
        if spec.choices and parameters.get("how", spec.choices[0]) not in spec.choices:
            raise ValueError(f"{name} has no form {parameters['how']!r}: it has {', '.join(spec.choices)}")
        fault = Fault(name, kind, verb, times, {**known, **parameters}, self)
        with self._lock:
            self._active.append(fault)
        self._on_change(fault, True)
        return fault

    def remove(self, fault: Fault) -> None:
        """End a fault; a second time changes nothing."""
        with self._lock:
            if fault.is_removed:
                return
            fault.is_removed = True
            if fault in self._active:
                self._active.remove(fault)
        self._on_change(fault, False)

    def clear(self) -> None:
        """End every fault."""
        for fault in tuple(self._active):
            self.remove(fault)

    def find(self, name: str, kind: str = "", verb: str = "", **at: int) -> Fault | None:
        """The fault of that name that strikes here, without it counting as met."""
        if not self._active:
            return None
        with self._lock:
            return next((fault for fault in self._active if _strikes(fault, name, kind, verb, at)), None)

    def take(self, name: str, kind: str = "", verb: str = "", **at: int) -> Fault | None:
        """The fault of that name that strikes here, which counts as met. `at` says how far things are."""
        fault = self.find(name, kind, verb, **at)
        if fault is not None:
            self.meet(fault)
        return fault

    def meet(self, fault: Fault) -> None:
        """Count that something ran into a fault."""
        fault.met += 1
        if fault.times is not None and fault.met >= fault.times:
            with self._lock:
                if fault in self._active:
                    self._active.remove(fault)


def _strikes(fault: Fault, name: str, kind: str, verb: str, at: Mapping[str, int]) -> bool:
    return (
        fault.name == name
        and fault.kind in ("", kind)
        and fault.verb in ("", verb)
        and at.get("page", 0) == fault.parameters.get("page", 0)
        and at.get("after", 0) >= fault.parameters.get("after", 0)
    )
