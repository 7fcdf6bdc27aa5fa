"""Lists of metadata, taken apart while they come in."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.cluster.api_errors import ApiError
from kdns.cluster.metadata_list import MAX_ITEM_BYTES, MetadataList

texts = st.text(st.sampled_from('ab"\\{}[],:é }')) | st.sampled_from(('},{"metadata":{', '"items":[', "]}", "}"))
values = st.recursive(texts | st.none() | st.integers(), lambda inner: st.lists(inner, max_size=3)
                      | st.dictionaries(texts, inner, max_size=3), max_leaves=6)  # fmt: skip
metadata = st.fixed_dictionaries(
    {"name": st.text("abc-", min_size=1), "resourceVersion": st.integers(1, 999).map(str)},
    optional={"annotations": st.dictionaries(texts, texts, max_size=3), "managedFields": st.lists(values, max_size=2)},
)
forms = st.sampled_from(("plain", "typed"))


def listed(items: list[dict[str, Any]], form: str = "plain", version: str = "7") -> bytes:
    kind = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"} if form == "typed" else {}
    found = {
        "kind": "PartialObjectMetadataList",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": version},
        "items": [{**kind, "metadata": item} for item in items],
    }
    return json.dumps(found, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def read(octets: bytes, size: int) -> tuple[list[Any], str]:
    found: list[Any] = []
    incoming = MetadataList(lambda text: found.append(json.loads(text)["metadata"]))
    for start in range(0, len(octets), size):
        incoming.feed(octets[start : start + size])
    return found, incoming.finish()


@given(items=st.lists(metadata, max_size=6), form=forms, size=st.integers(1, 200))
def test_items_are_the_same_however_they_come(items: list[dict[str, Any]], form: str, size: int) -> None:
    assert read(listed(items, form), size) == (items, "7")


def test_a_list_without_items_has_a_version() -> None:
    assert read(listed([]), 1000) == ([], "7")
    octets = b'{"kind":"PartialObjectMetadataList","metadata":{"resourceVersion":"8"},"items":null}'
    assert read(octets, 1000) == ([], "8")


def version_of(octets: bytes, size: int) -> str:
    incoming = MetadataList(lambda text: None)
    for start in range(0, len(octets), size):
        incoming.feed(octets[start : start + size])
    return incoming.finish()


@given(items=st.lists(metadata, max_size=3), cut=st.integers(3, 60), size=st.integers(1, 99))
def test_not_all_of_a_list_is_an_error(items: list[dict[str, Any]], cut: int, size: int) -> None:
    octets = listed(items)[:-cut]
    with pytest.raises(ApiError):
        version_of(octets, size)


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"{}",
        b"[]",
        b'{"kind":"Status","metadata":{"resourceVersion":"7"},"items":[]}',
        b'{"kind":"PodList","metadata":{"resourceVersion":"7"}}',
        b'{"kind":"PodList","metadata":{},"items":[]}',
        b'{"kind":"Table","metadata":{"resourceVersion":"7"},"rows":[]}',
    ],
)
def test_what_is_no_list_is_an_error(octets: bytes) -> None:
    with pytest.raises(ApiError):
        version_of(octets, 1000)


@given(octets=st.binary(max_size=200), size=st.integers(1, 99))
def test_any_octets_give_a_version_or_an_error(octets: bytes, size: int) -> None:
    try:
        assert version_of(octets, size)
    except ApiError:
        return


def test_an_item_without_an_end_is_given_up() -> None:
    incoming = MetadataList(lambda text: None)
    incoming.feed(listed([])[:-3])
    incoming.feed(b'{"metadata":{' + b"x" * (MAX_ITEM_BYTES - 100))
    with pytest.raises(ApiError, match="without the end of an item"):
        incoming.feed(b"x" * 2**16)


def test_no_more_than_a_piece_and_an_item_are_held() -> None:
    held = 0
    count = 0

    def take(text: bytes) -> None:
        nonlocal count
        count += 1

    incoming = MetadataList(take)
    octets = listed([{"name": f"n{number}", "resourceVersion": "5"} for number in range(5000)], "typed")
    for start in range(0, len(octets), 4096):
        incoming.feed(octets[start : start + 4096])
        held = max(held, len(incoming._waiting))
    assert incoming.finish() == "7"
    assert count == 5000
    assert held < 4096 + 200
