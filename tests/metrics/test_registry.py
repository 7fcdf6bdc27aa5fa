"""Families with labels: a row for each process, read as one by whoever has the registry."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from kdns.metrics import Registry, registry

LABELS = ("server", "zone")
PLACE = ("dns://:53", ".")
FAMILIES = 5000  # so many that somebody reads while they are added


def in_child(work: Callable[[], None]) -> None:
    """Do something in a process of its own."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


def test_what_processes_count_is_summed():
    metrics = Registry(3)
    hits = metrics.counter("hits_total", "", LABELS)
    hits.add(1, PLACE)

    def work() -> None:
        metrics.attach(metrics.take_row())
        hits.add(2, PLACE)
        hits.add(5, ("dns://:54", "."))

    in_child(work)
    assert metrics.read()["hits_total"] == {PLACE: [3.0], ("dns://:54", "."): [5.0]}
    assert hits.total(PLACE) == 3.0
    assert hits.total(("dns://:55", ".")) == 0.0


def test_a_family_asked_for_twice_is_one():
    metrics = Registry()
    assert metrics.counter("hits_total", "one") is metrics.counter("hits_total", "other")
    with pytest.raises(AssertionError):
        metrics.counter("hits_total", "", ("label",))


def test_a_histogram_counts_a_bound_into_its_bucket():
    metrics = Registry()
    sizes = metrics.histogram("size", "", (0, 100, 200))
    for value in (0, 1, 100, 100.5, 300):
        sizes.observe(value)
    assert metrics.read()["size"] == {(): [1, 2, 1, 1, 501.5]}


def test_a_successor_goes_on_in_the_row_of_a_process_that_ended():
    metrics = Registry(2)
    hits, held = metrics.counter("hits_total", ""), metrics.gauge("held", "")
    for count in (1, 2):
        row = metrics.take_row()
        assert metrics.take_row() is None

        def work(row: int | None = row) -> None:
            metrics.attach(row)
            assert held.total() == 0.0
            hits.add()
            held.add(3)

        in_child(work)
        assert (hits.total(), held.total()) == (count, 3)
        metrics.release_row(row)
        assert (hits.total(), held.total()) == (count, 0)
        assert metrics.read() == {"hits_total": {(): [count]}, "held": {}}


def test_gauges_of_a_process_begin_at_nothing_when_it_attaches():
    metrics = Registry(2)
    held = metrics.gauge("held", "")
    held.set(5)
    metrics.attach(1)
    assert held.total() == 5
    metrics.attach(0)
    assert held.total() == 0
    held.add(2)
    assert held.total() == 2


def test_a_gauge_may_show_the_greatest_value_instead_of_the_sum():
    metrics = Registry(2)
    entries = metrics.gauge("entries", "", merge="max")
    for row, value in ((0, 4), (1, 9)):
        metrics.attach(row)
        entries.set(value)
    assert entries.total() == 9
    assert metrics.read()["entries"] == {(): [9]}


def test_a_gauge_that_was_removed_is_not_shown_until_it_is_set_again():
    metrics = Registry()
    age = metrics.gauge("age", "", ("resource",))
    age.set(5, ("pods",))
    age.remove(("pods",))
    assert metrics.read() == {"age": {}}
    age.set(6, ("pods",))
    assert metrics.read() == {"age": {("pods",): [6]}}


def test_a_process_without_a_row_counts_for_nobody():
    metrics = Registry()
    hits = metrics.counter("hits_total", "")
    metrics.attach(None)
    hits.add()
    assert hits.total() == 0


def test_label_sets_without_end_take_no_memory_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "MAX_SERIES", 10)
    metrics = Registry()
    hits, other = metrics.counter("hits_total", "", ("name",)), metrics.counter("other_total", "", ("name",))
    for number in range(100):
        hits.add(1, (str(number),))
    other.add(1, ("mine",))
    assert len(metrics.read()["hits_total"]) == 10
    assert len(hits._places) == 10
    assert metrics.lost == 90
    assert other.total(("mine",)) == 1
    hits.add(1, ("3",))
    assert hits.total(("3",)) == 2


def test_a_row_that_is_full_loses_what_is_new_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "ROW_SIZE", 4096)
    metrics = Registry(2)
    hits = metrics.histogram("hits", "", tuple(range(20)), ("name",))
    for number in range(40):
        hits.observe(1, (str(number),))
    kept = metrics.read()["hits"]
    assert 0 < len(kept) < 40
    assert metrics.lost == 40 - len(kept)
    assert all(sum(values[:-1]) == 1 for values in kept.values())
    hits.observe(1, ("0",))
    assert metrics.read()["hits"][("0",)][-1] == 2


def test_odd_label_values_keep_their_cells_apart():
    metrics = Registry()
    hits = metrics.counter("hits_total", "", ("name",))
    for name in ("", "a\0b", "\udcff", "ä", "x" * 1000):
        hits.add(1, (name,))
    found = metrics.read()["hits_total"]
    assert len(found) == 5
    assert all(value == [1] for value in found.values())
    assert max(len(name) for (name,) in found) == registry.MAX_LABEL


def test_families_this_process_does_not_know_are_passed_over():
    metrics = Registry()
    metrics.counter("known_total", "").add()

    def work() -> None:
        metrics.attach(0)
        metrics.counter("unknown_total", "").add()

    in_child(work)
    assert metrics.read() == {"known_total": {(): [1]}}


# A reload sets plugins up in a thread of the supervisor, who shows metrics and counts meanwhile.


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Have threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_families_may_be_added_while_metrics_are_read(hasty_threads: None):
    registry = Registry()
    is_reading = threading.Event()

    def set_up() -> None:
        is_reading.wait()
        for number in range(FAMILIES):
            registry.counter(f"kdns_test_{number}_total", "A test.")

    thread = threading.Thread(target=set_up)
    thread.start()
    while thread.is_alive():
        is_reading.set()
        registry.read()
    assert len(registry.read()) == FAMILIES


def test_meters_may_be_added_while_they_are_read():
    meters = Registry().meters
    meters.number("dns://:53", "a.")
    meters.number("dns://:53", "b.")
    seen = []
    for server, zone, _ in meters.read():
        meters.number("dns://:54", zone)
        seen.append((server, zone))
    assert seen == [("dns://:53", "a."), ("dns://:53", "b.")]


def test_two_threads_may_count_into_new_cells(hasty_threads: None):
    registry = Registry()
    family = registry.counter("kdns_test_total", "A test.", ("thread", "number"))

    def count(name: str) -> None:
        for number in range(800):
            family.add(1, (name, str(number)))

    threads = [threading.Thread(target=count, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = {(name, str(number)): [1.0] for name in "ab" for number in range(800)}
    assert registry.read()["kdns_test_total"] == expected
