"""What the tests of a whole server ask, and where: the same for the real server and for the fakes that prove them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from tests.harness.exchange import Peer
from tests.harness.places import Loopback, Place

T = TypeVar("T")

IPV4, IPV6 = "127.0.0.1", "::1"
FAMILIES = {"ipv4": IPV4, "ipv6": IPV6}


@dataclass(frozen=True, slots=True)
class Target:
    """A running server and the names it has."""

    place: Place
    port: int
    host: str  # a name with one address
    many: str  # a name with 200 addresses

    def peer(self, family: str) -> Peer:
        """Where to ask over an address family."""
        return Peer(FAMILIES[family], self.port)

    def run(self, job: Callable[[], T]) -> T:
        """Run `job` where the server can be reached."""
        return self.place.run(job)


def loopback_target(port: int, host: str, many: str) -> Target:
    """A server on the loopback of the machine."""
    return Target(Loopback(), port, host, many)
