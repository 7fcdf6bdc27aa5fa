"""When a change began, as an EndpointSlice's annotation says."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.cluster.trigger import ANNOTATION, trigger_time


def slice_with(time: object, **annotations: object) -> bytes:
    metadata = {"name": "web-1", "annotations": {**annotations, ANNOTATION: time}}
    return json.dumps({"metadata": metadata}, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-02T03:04:05Z", 1767323045.0),
        ("2026-01-02T03:04:05.25Z", 1767323045.25),
        ("2026-01-02T03:04:05.123456789Z", 1767323045.123456),
        ("2026-01-02T04:04:05+01:00", 1767323045.0),
    ],
)
def test_the_time_is_read_as_go_writes_it(text: str, expected: float) -> None:
    assert trigger_time(slice_with(text)) == pytest.approx(expected)


@pytest.mark.parametrize("time", ["", "yesterday", "2026-01-02T03:04:05", None, 7, ["2026-01-02T03:04:05Z"], "x" * 90])
def test_what_is_no_time_is_none(time: object) -> None:
    assert trigger_time(slice_with(time)) is None


def test_a_slice_without_the_annotation_has_none() -> None:
    assert trigger_time(b'{"metadata":{"name":"web-1"}}') is None


def test_the_annotation_inside_of_another_does_not_count() -> None:
    """`kubectl apply` keeps a whole object in one."""
    applied = slice_with("2020-01-01T00:00:00Z").decode()
    assert trigger_time(slice_with("2026-01-02T03:04:05Z", applied=applied)) == pytest.approx(1767323045.0)
    whole = json.dumps({"metadata": {"annotations": {"applied": applied}}}, separators=(",", ":")).encode()
    assert trigger_time(whole) is None


@given(octets=st.binary(max_size=60), end=st.binary(max_size=60))
def test_any_octets_give_a_time_or_none(octets: bytes, end: bytes) -> None:
    found = trigger_time(octets + f'"{ANNOTATION}":'.encode() + end)
    assert found is None or isinstance(found, float)
