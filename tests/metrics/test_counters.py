"""Counters in shared memory: one row a worker, summed over all."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from kdns.hotpath.answer import Responder
from kdns.hotpath.stream import StreamResponder
from kdns.metrics import COUNTERS, OUTCOMES, CounterTable, increment

ANSWER_PXD = Path(__file__).parents[2] / "kdns" / "hotpath" / "answer.pxd"


def test_outcomes_have_the_order_of_the_compiled_path():
    found = dict(re.findall(r"^ +OUTCOME_(\w+) = (\d+)$", ANSWER_PXD.read_text(), re.MULTILINE))
    assert {name.lower(): int(number) for name, number in found.items()} == {
        name: number for number, name in enumerate(OUTCOMES)
    }
    assert f"OUTCOMES = {len(OUTCOMES)}\n" in ANSWER_PXD.read_text()


def test_rows_are_summed():
    table = CounterTable(3)
    for index in range(3):
        for _ in range(index + 1):
            increment(table.row(index), "miss")
    increment(table.row(1), "drop_overload")
    totals = table.totals()
    assert (totals["miss"], totals["drop_overload"]) == (6, 1)
    assert sum(totals.values()) == 7
    assert tuple(totals) == COUNTERS


def test_counters_count_far_beyond_32_bits():
    table = CounterTable(1)
    row = table.row(0)
    row[:8] = (2**40 - 1).to_bytes(8, sys.byteorder)
    increment(row, "answer")
    assert table.totals()["answer"] == 2**40


def test_the_compiled_path_counts_in_the_row_it_is_given():
    table = CounterTable(2)
    answer = StreamResponder(Responder([], counters=table.row(1))).answer
    answer(bytes((0, 12)) + bytes(12))
    assert table.totals() == dict.fromkeys(COUNTERS, 0) | {"formerr": 1}
    assert not any(table.row(0))


def test_what_a_killed_worker_counted_stays():
    table = CounterTable(2)
    child = os.fork()
    if child == 0:
        increment(table.row(1), "answer")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert table.totals()["answer"] == 1


def test_an_unknown_counter_is_an_error():
    with pytest.raises(ValueError, match="not in tuple"):
        increment(CounterTable(1).row(0), "typo")


def test_a_process_without_a_row_counts_for_nobody():
    table = CounterTable(1)
    increment(table.row(None), "answer")
    assert not any(table.totals().values())
