"""Who gets a place for a connection or a message, who loses one, and when; no loop and no socket."""

from __future__ import annotations

import resource
from dataclasses import dataclass

import pytest

from kdns.server.tcp_slots import (
    MAX_CONNECTIONS,
    Awaits,
    ConnectionSlots,
    MessageSlots,
    TcpEvent,
    TcpLimits,
    half_of_descriptors,
)

LIMITS = TcpLimits(connections=10, connections_per_client=3)


@dataclass(eq=False)
class Occupant:
    client: str
    awaits: Awaits = Awaits.QUERY
    since: float = 0.0
    taken: int = 0
    written: int = 0
    unsent: int = 0

    def unsent_octets(self) -> int:
        return self.unsent

    def sent_octets(self) -> int:
        return self.written - self.unsent


def occupied(slots: ConnectionSlots[Occupant], count: int, now: float = 0.0) -> list[Occupant]:
    occupants = [Occupant(f"192.0.2.{number}") for number in range(count)]
    for occupant in occupants:
        slots.occupy(occupant, now)
    return occupants


def test_a_client_has_its_share_and_gets_it_back_on_release() -> None:
    slots = ConnectionSlots[Occupant](LIMITS)
    mine = [Occupant("192.0.2.1") for _ in range(3)]
    for occupant in mine:
        assert not slots.client_is_full("192.0.2.1")
        slots.occupy(occupant, 0.0)
    assert slots.client_is_full("192.0.2.1")
    assert not slots.client_is_full("192.0.2.2")
    assert slots.release(mine[0])
    assert not slots.client_is_full("192.0.2.1")


def test_a_place_is_released_once() -> None:
    slots = ConnectionSlots[Occupant](LIMITS)
    (occupant,) = occupied(slots, 1)
    assert slots.release(occupant)
    assert not slots.release(occupant)
    assert len(slots) == 0


def test_slots_are_full_at_the_limit_and_crowded_past_half_of_it() -> None:
    slots = ConnectionSlots[Occupant](LIMITS)
    occupied(slots, 5)
    assert not slots.is_crowded
    occupied(slots, 1)
    assert slots.is_crowded
    assert not slots.is_full
    occupied(slots, 4)
    assert slots.is_full


def test_the_one_idle_longest_is_evicted() -> None:
    slots = ConnectionSlots[Occupant](LIMITS)
    first, second, third = occupied(slots, 3)
    slots.move(first, Awaits.QUERY, 1.0)  # has just been answered
    slots.move(second, Awaits.REST, 1.0)
    assert slots.evict(2.0) is third
    assert slots.evict(2.0) is first
    assert slots.evict(2.0) is None
    assert len(slots) == 1


def test_a_connection_with_unsent_octets_is_not_evicted() -> None:
    slots = ConnectionSlots[Occupant](LIMITS)
    first, second = occupied(slots, 2)
    first.written = first.unsent = 100
    assert slots.evict(1.0) is second
    assert slots.evict(1.0) is None
    assert first.awaits is Awaits.READER


def test_an_idle_connection_is_overdue_after_the_idle_time() -> None:
    slots = ConnectionSlots[Occupant](LIMITS)
    first, second = occupied(slots, 2)
    slots.move(second, Awaits.QUERY, 0.5)
    assert slots.overdue(9.9) == []
    assert slots.overdue(10.0) == [(first, TcpEvent.TIMED_OUT_IDLE)]
    assert slots.overdue(10.5) == [(second, TcpEvent.TIMED_OUT_IDLE)]
    assert len(slots) == 0


def test_idle_time_shrinks_while_crowded_only() -> None:
    slots = ConnectionSlots[Occupant](LIMITS)
    occupants = occupied(slots, 6)
    assert slots.overdue(0.1) == []
    # The first departure ends the crowd, but who is judged together is judged alike.
    assert [occupant for occupant, _ in slots.overdue(0.2)] == occupants
    occupied(slots, 5, now=1.0)
    assert slots.overdue(2.0) == []


def test_a_message_is_overdue_after_the_message_time() -> None:
    slots = ConnectionSlots[Occupant](LIMITS)
    (occupant,) = occupied(slots, 1)
    slots.move(occupant, Awaits.REST, 3.0)
    assert slots.overdue(7.9) == []
    assert slots.overdue(8.0) == [(occupant, TcpEvent.TIMED_OUT_MESSAGE)]


def test_a_connection_that_waits_for_the_slow_path_has_no_deadline() -> None:
    slots = ConnectionSlots[Occupant](LIMITS)
    (occupant,) = occupied(slots, 1)
    slots.move(occupant, Awaits.REPLIES, 0.0)
    assert slots.overdue(1000.0) == []


def test_a_reader_is_overdue_once_it_has_taken_nothing_for_the_unread_time() -> None:
    slots = ConnectionSlots[Occupant](LIMITS)
    (occupant,) = occupied(slots, 1)
    occupant.written = occupant.unsent = 1000
    slots.move(occupant, Awaits.READER, 0.0)
    occupant.unsent = 999
    assert slots.overdue(9.0) == []  # one octet of progress
    assert slots.overdue(18.9) == []
    assert slots.overdue(19.0) == [(occupant, TcpEvent.CLOSED_UNREAD)]


def test_a_small_reply_left_unread_is_found_when_the_idle_time_is_over() -> None:
    slots = ConnectionSlots[Occupant](LIMITS)
    (occupant,) = occupied(slots, 1)
    occupant.written = occupant.unsent = 100
    assert slots.overdue(10.0) == []
    assert occupant.awaits is Awaits.READER
    assert slots.overdue(20.0) == [(occupant, TcpEvent.CLOSED_UNREAD)]


def test_a_reader_that_has_taken_all_is_idle_again() -> None:
    slots = ConnectionSlots[Occupant](LIMITS)
    (occupant,) = occupied(slots, 1)
    slots.move(occupant, Awaits.READER, 0.0)
    assert slots.overdue(30.0) == []
    assert (occupant.awaits, occupant.since) == (Awaits.QUERY, 30.0)


def test_messages_of_one_connection_are_limited() -> None:
    messages = MessageSlots[Occupant](TcpLimits(connections=1, messages_in_flight=100, messages_per_connection=2))
    one = Occupant("192.0.2.1")
    assert messages.take(one, held=0)
    assert messages.take(one, held=1)
    assert not messages.take(one, held=2)


def test_messages_per_connection_shrink_past_half_of_all() -> None:
    limits = TcpLimits(
        connections=1, messages_in_flight=8, messages_per_connection=8, crowded_messages_per_connection=1
    )
    messages = MessageSlots[Occupant](limits)
    greedy, modest = Occupant("192.0.2.1"), Occupant("192.0.2.2")
    held = 0
    while messages.take(greedy, held):
        held += 1
    assert held == 5
    assert messages.take(modest, held=0)
    assert not messages.take(modest, held=1)


def test_places_given_back_go_down_the_line() -> None:
    limits = TcpLimits(connections=1, messages_in_flight=1)
    messages = MessageSlots[Occupant](limits)
    first, second, third, fourth = (Occupant(f"192.0.2.{number}") for number in range(4))
    assert messages.take(first, held=0)
    for waiting in (second, third, fourth):
        assert not messages.take(waiting, held=0)
    messages.leave(third)
    assert messages.give_back() is second
    assert messages.take(second, held=0)
    assert messages.give_back() is fourth
    assert messages.take(fourth, held=0)
    assert messages.give_back() is None
    assert messages.in_flight == 0


@pytest.mark.parametrize(
    ("soft", "expected"), [(1024, 512), (10**9, MAX_CONNECTIONS), (resource.RLIM_INFINITY, MAX_CONNECTIONS), (1, 1)]
)
def test_connections_take_half_of_the_descriptors(monkeypatch: pytest.MonkeyPatch, soft: int, expected: int) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (soft, soft))
    assert half_of_descriptors() == expected
    assert TcpLimits().connections == expected
