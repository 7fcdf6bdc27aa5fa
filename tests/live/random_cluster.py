"""A cluster that changes at random, the names to ask about it, and the faults it may meet meanwhile."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from typing import Any

from tests.fakes.apiserver import FakeApiServer, Key
from tests.fakes.apiserver.faults import Fault
from tests.fakes_selftest.objects import KubernetesObject, endpoint_slice, namespace, pod, service

SIZE = 16  # objects of each sort
MAX_ENDPOINTS = 4
MAX_AWAY_SECONDS = 0.5  # an API server that is away comes back before there are too many states to try

# What a follower must survive without a wrong answer: the server ends, delays or repeats things, but what it says is
# true, or was. Each is met so often, or removed after a while. A history set back is not among them: where versions are
# given as fast as here, they are past those seen before anybody is there to notice.
FAULTS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("relist", {}),
    ("gap", {"compact": True}),
    ("gap", {"compact": False}),
    ("refused", {}),
    ("watch-gone", {"how": "event", "times": 2}),
    ("watch-gone", {"how": "status", "times": 2}),
    ("watch-end", {"times": 2}),
    ("cut", {"how": "reset", "times": 2}),
    ("cut", {"how": "half-line", "times": 2}),
    ("cut", {"how": "chunk", "times": 2}),
    ("cut", {"how": "tls-alert", "times": 2}),
    ("bookmark", {"how": "null", "times": 3}),
    ("mistyped", {"how": "duplicate", "times": 3}),
    ("mistyped", {"how": "added-known", "times": 3}),
    ("mistyped", {"how": "modified-unknown", "times": 3}),
    ("replay", {"times": 2}),
    ("stale-list", {"times": 1}),
    ("version-too-large", {"times": 1}),
    ("throttled", {"times": 1}),
    ("status", {"code": 503, "how": "html", "times": 2}),
)
_LASTING = ("gap", "refused")


class RandomCluster:
    """Changes the objects of an API server, `size` of each sort; the same seed gives the same changes."""

    def __init__(self, api: FakeApiServer, seed: int, size: int = SIZE) -> None:
        self._api = api
        self._random = random.Random(seed)
        self._size = size
        self._cluster_ips = [f"db-{number}" for number in range(size)]
        self._headless = [f"set-{number}" for number in range(size)]
        self._lasting: list[tuple[float, Fault]] = []
        self.begun: list[Fault] = []
        api.put(namespace())
        for name in (*self._cluster_ips, *self._headless):
            api.put(self._service(name))
        for _ in range(6 * size):
            self.change()

    def change(self) -> None:
        """Make one change."""
        self._random.choices((self._change_service, self._change_slice, self._change_pod), (3, 6, 2))[0]()

    def begin_fault(self) -> Fault | None:
        """Let something go wrong, unless the server is away: one absence at a time."""
        name, parameters = self._random.choice(FAULTS)
        seconds = self._random.uniform(0.1, MAX_AWAY_SECONDS)
        if self._lasting:
            return None
        fault = self._api.faults.add(name, **parameters)
        self.begun.append(fault)
        if name in _LASTING:
            self._lasting.append((time.monotonic() + seconds, fault))
        return fault

    def end_faults(self, everything: bool = False) -> None:
        """End what has lasted long enough."""
        for until, fault in tuple(self._lasting):
            if everything or time.monotonic() >= until:
                fault.remove()
                self._lasting.remove((until, fault))
        if everything:
            self._api.faults.clear()

    def question(self) -> tuple[str, str]:
        """A name to ask for, and a type."""
        name = self._random.choice((*self._cluster_ips, *self._headless))
        below = f"{name}.shop.svc.cluster.local."
        kind, number = self._random.randrange(8), self._random.randrange(self._size)
        if kind == 0:
            return f"_http._tcp.{below}", "SRV"
        if kind == 1:
            address = self._random.choice((self._service_address(number), self._endpoint_address(number)))
            return ".".join(reversed(address.split("."))) + ".in-addr.arpa.", "PTR"
        if kind == 2:
            return f"{self._endpoint_address(number).replace('.', '-')}.shop.pod.cluster.local.", "A"
        return below, self._random.choice(("A", "A", "AAAA", "SRV"))

    def every_question(self) -> list[tuple[str, str]]:
        """The names of all Services."""
        return [
            (f"{name}.shop.svc.cluster.local.", qtype)
            for name in (*self._cluster_ips, *self._headless)
            for qtype in ("A", "SRV")
        ]

    def _change_service(self) -> None:
        name = self._random.choice((*self._cluster_ips, *self._headless))
        self._put_or_delete(Key("Service", "shop", name), lambda: self._service(name), 0.3)

    def _change_slice(self) -> None:
        number = self._random.randrange(self._size)
        owner, name = f"set-{number}", f"set-{number}-{self._random.randrange(2)}"
        addresses = sorted({self._endpoint_address(number) for _ in range(self._random.randint(0, MAX_ENDPOINTS))})
        self._put_or_delete(
            Key("EndpointSlice", "shop", name), lambda: endpoint_slice(owner, *addresses, name=name), 0.2
        )

    def _change_pod(self) -> None:
        number = self._random.randrange(self._size)
        phase = self._random.choice(("Running", "Running", "Succeeded"))
        made = pod(f"pod-{number}", phase, self._endpoint_address(number))
        self._put_or_delete(Key("Pod", "shop", f"pod-{number}"), lambda: made, 0.3)

    def _put_or_delete(self, key: Key, make: Callable[[], KubernetesObject], deletions: float) -> None:
        if self._api.storage.get(key) is not None and self._random.random() < deletions:
            self._api.storage.delete(key)
        else:
            self._api.put(make())

    def _service(self, name: str) -> KubernetesObject:
        sort, _, number = name.partition("-")
        return service(name, self._service_address(int(number)) if sort == "db" else "None")

    # Neighbours may have the same address, but not everybody: what decides a name must be few enough to try.

    def _service_address(self, number: int) -> str:
        return f"10.96.{self._near(number)}.{self._random.randrange(4)}"

    def _endpoint_address(self, number: int) -> str:
        return f"10.1.{self._near(number)}.{self._random.randrange(8)}"

    def _near(self, number: int) -> int:
        return (number + self._random.randrange(2)) % self._size
