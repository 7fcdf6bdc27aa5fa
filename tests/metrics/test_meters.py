"""The numbering of meters, and the sum of their rows."""

from __future__ import annotations

import pytest

from kdns.metrics import MeterTable, meters
from kdns.metrics.meters import FIELDS, METER_SIZE, NUMBERS, labelled_requests


def test_a_zone_keeps_its_number():
    table = MeterTable(1)
    assert [table.number("dns://:53", zone) for zone in ("a.", "b.", "a.")] == [0, 1, 0]
    assert table.number("dns://:54", "a.") == 2


def test_beyond_the_last_meter_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meters, "MAX_METERS", 2)
    table = MeterTable(1)
    assert [table.number("dns://:53", zone) for zone in "abca"] == [0, 1, None, 0]


def test_rows_are_summed():
    table = MeterTable(2)
    table.number("dns://:53", "a.")
    table.number("dns://:53", "b.")
    for row, count in ((0, 2), (1, 5)):
        numbers = table.row(row).cast("Q")
        numbers[NUMBERS + FIELDS["dnssec_ok"].at] = count
    sums = {zone: numbers[FIELDS["dnssec_ok"].at] for _, zone, numbers in table.read()}
    assert sums == {"a.": 0, "b.": 7}


def test_a_row_has_the_meters_that_are_numbered_and_never_none():
    table = MeterTable(1)
    assert len(table.row(0)) == METER_SIZE
    for zone in "abc":
        table.number("dns://:53", zone)
    assert len(table.row(0)) == len(table.row(None)) == 3 * METER_SIZE


def test_fields_follow_each_other_without_a_gap():
    ends = [field.at + field.count for field in FIELDS.values()]
    assert [field.at for field in FIELDS.values()] == [0, *ends[:-1]]
    assert ends[-1] == NUMBERS
    assert len(labelled_requests()) == FIELDS["requests"].count
