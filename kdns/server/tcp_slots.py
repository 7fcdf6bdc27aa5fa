"""Places for TCP connections and for their messages on the slow path: who gets one, who loses one, and when.

Nothing here touches a socket. Each function changes the books and returns what must be closed or may go on; the
caller does the rest.
"""

from __future__ import annotations

import resource
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Generic, Protocol, TypeVar

MAX_CONNECTIONS = 16_384  # of a process, however many descriptors it may open: runtimes hand out up to 2^30
CONNECTIONS_PER_CLIENT = 64  # of an IP address, in each worker (RFC 7766, 6.2.2; RFC 9210, 4.2)
IDLE_SECONDS = 10.0  # without a query, before the first one too (RFC 7766, 6.2.3); CoreDNS: 3 s, then 10 s
CROWDED_IDLE_SECONDS = 0.2  # the same once more than half of the places are taken; Unbound's rule
MESSAGE_SECONDS = 5.0  # from a message's first octet to its last; CoreDNS: 3 s
UNREAD_SECONDS = 10.0  # without the client taking an octet of what waits for it; CoreDNS: for ever
SWEEP_SECONDS = 0.5  # between two looks at all deadlines; a deadline is kept to within this
MESSAGES_IN_FLIGHT = 2048  # on the slow path, of all connections; some 10 KB each
MESSAGES_PER_CONNECTION = 128  # on the slow path (RFC 7766, 6.2.1.1 asks for pipelining, not for how much)
CROWDED_MESSAGES_PER_CONNECTION = 8  # the same past half of MESSAGES_IN_FLIGHT: 64 connections cannot take the rest


def half_of_descriptors() -> int:
    """Half of the descriptors this process may open, at most MAX_CONNECTIONS: UDP and upstreams keep the other half."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else max(1, min(soft // 2, MAX_CONNECTIONS))


@dataclass(frozen=True, slots=True)
class TcpLimits:
    """What the clients of one worker may take of it over TCP."""

    connections: int = field(default_factory=half_of_descriptors)
    connections_per_client: int = CONNECTIONS_PER_CLIENT
    idle_seconds: float = IDLE_SECONDS
    crowded_idle_seconds: float = CROWDED_IDLE_SECONDS
    message_seconds: float = MESSAGE_SECONDS
    unread_seconds: float = UNREAD_SECONDS
    sweep_seconds: float = SWEEP_SECONDS
    messages_in_flight: int = MESSAGES_IN_FLIGHT
    messages_per_connection: int = MESSAGES_PER_CONNECTION
    crowded_messages_per_connection: int = CROWDED_MESSAGES_PER_CONNECTION
    queries_per_connection: int | None = None  # then it is closed; None: as many as the client likes, as CoreDNS


class TcpEvent(StrEnum):
    """What is counted: the fate of a connection, and trouble on the way."""

    ACCEPTED = "accepted"
    REFUSED_PER_CLIENT = "refused_per_client"
    REFUSED_FULL = "refused_full"
    EVICTED_IDLE = "evicted_idle"
    TIMED_OUT_IDLE = "timed_out_idle"
    TIMED_OUT_MESSAGE = "timed_out_message"
    CLOSED_UNREAD = "closed_unread"
    CLOSED_BY_CLIENT = "closed_by_client"
    CLOSED_BY_DRAIN = "closed_by_drain"
    QUERIES_USED_UP = "queries_used_up"
    STREAM_ERROR = "stream_error"
    SLOW_PATH_ERROR = "slow_path_error"
    PAUSED_ACCEPT = "paused_accept"


@dataclass(frozen=True, slots=True)
class TcpStatistics:
    """What a TCP server holds at the moment, and what has happened since its start."""

    connections: int
    messages_in_flight: int
    events: Mapping[TcpEvent, int]


class Awaits(IntEnum):
    """What a connection waits for, and so which deadline it is under."""

    QUERY = 0  # the client's next one: the connection is idle
    REST = 1  # the rest of a message that has begun
    REPLIES = 2  # the slow path, which keeps its own deadlines
    READER = 3  # the client, to take what has been written for it


class Occupant(Protocol):
    """What the books keep on a connection, written by ConnectionSlots alone, and what they ask it."""

    client: str
    awaits: Awaits
    since: float
    taken: int

    def unsent_octets(self) -> int:
        """How much the kernel has not yet accepted."""

    def sent_octets(self) -> int:
        """How much it has accepted, ever."""


O = TypeVar("O", bound=Occupant)  # noqa: E741 - as in Occupant


class ConnectionSlots(Generic[O]):
    """The connections of a server, the idle ones in the order in which they fell idle."""

    def __init__(self, limits: TcpLimits) -> None:
        self._limits = limits
        self._idle: OrderedDict[O, None] = OrderedDict()
        self._busy: set[O] = set()
        self._per_client: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._idle) + len(self._busy)

    @property
    def is_full(self) -> bool:
        """Whether no further connection has a place."""
        return len(self) >= self._limits.connections

    @property
    def is_crowded(self) -> bool:
        """Whether so many places are taken that idle connections must hurry."""
        return 2 * len(self) > self._limits.connections

    def client_is_full(self, client: str) -> bool:
        """Whether `client` has all the connections one client may have."""
        return self._per_client.get(client, 0) >= self._limits.connections_per_client

    def occupy(self, connection: O, now: float) -> None:
        """Give `connection` a place; it is idle until it says otherwise."""
        self._per_client[connection.client] = self._per_client.get(connection.client, 0) + 1
        self._idle[connection] = None
        connection.awaits = Awaits.QUERY
        connection.since = now

    def move(self, connection: O, awaits: Awaits, now: float) -> None:
        """Note what `connection` waits for from `now` on."""
        if awaits is Awaits.QUERY:
            self._busy.discard(connection)
            self._idle[connection] = None
            self._idle.move_to_end(connection)
        elif connection.awaits is Awaits.QUERY:
            del self._idle[connection]
            self._busy.add(connection)
        if awaits is Awaits.READER:
            connection.taken = connection.sent_octets()
        connection.awaits = awaits
        connection.since = now

    def release(self, connection: O) -> bool:
        """Take the place of `connection` back; False if it has none any more."""
        if connection in self._busy:
            self._busy.remove(connection)
        elif connection in self._idle:
            del self._idle[connection]
        else:
            return False
        left = self._per_client[connection.client] - 1
        if left:
            self._per_client[connection.client] = left
        else:
            del self._per_client[connection.client]
        return True

    def evict(self, now: float) -> O | None:
        """Take the place of the connection that has been idle longest, and name it; None if all are at work."""
        connection = self._longest_idle(now)
        if connection is not None:
            self.release(connection)
        return connection

    def overdue(self, now: float) -> list[tuple[O, TcpEvent]]:
        """Take the places of all connections past their deadline, and name them with the deadline each has missed."""
        found: list[tuple[O, TcpEvent]] = []
        idle_seconds = self._limits.crowded_idle_seconds if self.is_crowded else self._limits.idle_seconds
        while (oldest := self._longest_idle(now)) is not None and now - oldest.since >= idle_seconds:
            found.append((oldest, TcpEvent.TIMED_OUT_IDLE))
            self.release(oldest)
        for connection in tuple(self._busy):
            missed = self._missed(connection, now)
            if missed is not None:
                found.append((connection, missed))
                self.release(connection)
        return found

    def _longest_idle(self, now: float) -> O | None:
        """The first of the idle connections to whom nothing is owed.

        Nobody tells when the last octet of a reply has left, so a connection that only waits for its client to read
        is found out here, and put where it belongs.
        """
        while self._idle:
            connection = next(iter(self._idle))
            if not connection.unsent_octets():
                return connection
            self.move(connection, Awaits.READER, now)
        return None

    def _missed(self, connection: O, now: float) -> TcpEvent | None:
        if connection.awaits is Awaits.REST and now - connection.since >= self._limits.message_seconds:
            return TcpEvent.TIMED_OUT_MESSAGE
        if connection.awaits is not Awaits.READER:
            return None
        if not connection.unsent_octets():
            self.move(connection, Awaits.QUERY, now)
        elif connection.sent_octets() > connection.taken:
            self.move(connection, Awaits.READER, now)
        elif now - connection.since >= self._limits.unread_seconds:
            return TcpEvent.CLOSED_UNREAD
        return None


class MessageSlots(Generic[O]):
    """The messages on the slow path, and the line of connections that have none there and want to.

    A connection with messages there tries again whenever one of them is done, so only those without stand in line.
    While anybody does, every place is taken: a place given back goes to the first in line at once.
    """

    def __init__(self, limits: TcpLimits) -> None:
        self._limits = limits
        self._line: OrderedDict[O, None] = OrderedDict()
        self.in_flight = 0

    def take(self, connection: O, held: int) -> bool:
        """Give a place to `connection`, which holds `held` of them; False: not now."""
        limits = self._limits
        if self.in_flight >= limits.messages_in_flight:
            if not held:
                self._line[connection] = None
            return False
        is_crowded = 2 * self.in_flight > limits.messages_in_flight
        if held >= (limits.crowded_messages_per_connection if is_crowded else limits.messages_per_connection):
            return False
        self.in_flight += 1
        return True

    def give_back(self) -> O | None:
        """Take a place back, and name the connection whose turn it is."""
        self.in_flight -= 1
        return self._line.popitem(last=False)[0] if self._line else None

    def leave(self, connection: O) -> None:
        """Take `connection` out of the line."""
        self._line.pop(connection, None)
