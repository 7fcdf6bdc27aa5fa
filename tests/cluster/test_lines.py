"""Lines out of a stream that is cut anywhere, and what they say."""

from __future__ import annotations

import json
import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.cluster.api_errors import ApiError, ErrorKind
from kdns.cluster.lines import LineSplitter
from kdns.cluster.objects import Kind
from kdns.cluster.raw import decode_json, decode_shape
from kdns.cluster.view import Needs
from kdns.cluster.watching import Change, WatchLine, read_line


@given(st.lists(st.binary(max_size=20)), st.lists(st.integers(1, 30)))
def test_pieces_make_the_lines_they_were_cut_from(texts: list[bytes], sizes: list[int]) -> None:
    lines = [text.replace(b"\n", b"").replace(b"\r", b"") for text in texts]
    octets = b"".join(line + b"\n" for line in lines) + b"no end"
    splitter, found = LineSplitter(), []
    for size in [*sizes, len(octets)]:
        found += splitter.feed(octets[:size])
        octets = octets[size:]
    assert found == [line for line in lines if line]
    assert splitter.oversize == 0


@given(st.lists(st.integers(0, 40), max_size=12), st.integers(1, 50))
def test_lines_beyond_the_limit_are_left_out_and_counted(lengths: list[int], size: int) -> None:
    octets = b"".join(b"x" * length + b"\n" for length in lengths)
    splitter, found = LineSplitter(max_line_bytes=20), []
    for start in range(0, len(octets), size):
        found += splitter.feed(octets[start : start + size])
    assert [len(line) for line in found] == [length for length in lengths if 0 < length <= 20]
    assert splitter.oversize == sum(length > 20 for length in lengths)


def test_endless_line_takes_no_memory() -> None:
    splitter = LineSplitter(max_line_bytes=1000)
    for _ in range(1000):
        assert splitter.feed(b"x" * 999) == []
    assert len(b"".join(splitter._pieces)) <= 1000
    assert splitter.feed(b"\nshort\n") == [b"short"]
    assert splitter.oversize == 1


def test_event_says_its_key_and_version() -> None:
    metadata = {"name": "web", "namespace": "shop", "resourceVersion": "7"}
    line = json.dumps({"type": "ADDED", "object": {"kind": "Service", "metadata": metadata}}).encode()
    found = read_line(Kind.SERVICE, line)
    assert (found.change, found.key, found.version) == (Change.PUT, ("shop", "web"), "7")
    assert json.loads(found.text)["metadata"] == metadata


def test_order_of_fields_and_unknown_ones_do_not_matter() -> None:
    line = b'{"x":[{}],"object":{"metadata":{"resourceVersion":"7","name":"a","z":1}},"type":"DELETED"}'
    found = read_line(Kind.NAMESPACE, line)
    assert (found.change, found.key, found.version) == (Change.DELETE, ("", "a"), "7")


def test_wrongly_typed_object_still_has_its_name_and_version() -> None:
    line = b'{"type":"ADDED","object":{"kind":7,"metadata":{"name":"a","namespace":"n","resourceVersion":"7"}}}'
    assert read_line(Kind.SERVICE, line)[2:4] == (("n", "a"), "7")
    line = b'{"type":"ADDED","object":{"metadata":{"name":["a"],"resourceVersion":"7"}}}'
    assert read_line(Kind.SERVICE, line)[2:4] == (None, "7")


@pytest.mark.parametrize("found", ["Table", "Status", "Pod"])
def test_object_of_another_kind_is_no_event(found: str) -> None:
    line = json.dumps({"type": "ADDED", "object": {"kind": found, "metadata": {"name": "a"}}}).encode()
    with pytest.raises(ApiError) as caught:
        read_line(Kind.SERVICE, line)
    assert caught.value.kind is ErrorKind.PROTOCOL


def test_deeply_nested_line_is_refused() -> None:
    with pytest.raises(ApiError):
        read_line(Kind.SERVICE, b'{"type":"ADDED","object":' + b"[" * 100_000)


@given(st.binary() | st.text().map(str.encode))
def test_any_line_is_an_event_or_an_error(line: bytes) -> None:
    for text in (line, b'{"type":"ADDED","object":' + line + b"}", b'{"type":"ERROR","object":' + line + b"}"):
        with suppress(ApiError):
            read_line(Kind.SERVICE, text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["metadata", "name", "namespace", "resourceVersion", "annotations", "kind", "code"]), inner
        )
    ),
    max_leaves=10,
)


@given(st.sampled_from(["ADDED", "DELETED", "BOOKMARK", "ERROR", "", 7]), json_values)
def test_any_object_is_an_event_or_an_error(kind: object, found: object) -> None:
    line = json.dumps({"type": kind, "object": found}).encode()
    try:
        read = read_line(Kind.SERVICE, line)
    except ApiError:
        return
    assert isinstance(read.version, str)
    assert read.key is None or all(isinstance(part, str) for part in read.key)


NEEDS = (Needs(), Needs(pod_names=False, zones=False))
parts_of_slices = st.fixed_dictionaries(
    {},
    optional={
        "addresses": st.lists(st.sampled_from(["10.0.0.1", "fd00::1", "fd00::0001", "www.example.com", "x", None, 7])),
        "conditions": st.sampled_from([None, {}, {"ready": True}, {"ready": False}, {"ready": "yes"}, 7]),
        "hostname": st.sampled_from([None, "", "a", "not a label", 7]),
        "targetRef": st.sampled_from([None, {}, {"name": "pod-1"}, {"name": 7}, 7]),
        "zone": st.sampled_from([None, "", "eu-1a", "no zone", 7]),
    },
)
metadata_of_slices = st.fixed_dictionaries(
    {"name": st.sampled_from(["web-1", "", "No", None, 7])},
    optional={
        "namespace": st.sampled_from(["shop", None, 7]),
        "resourceVersion": st.sampled_from(["7", None, 7]),
        "uid": st.sampled_from(["0123456789", None, 7]),
        "labels": st.sampled_from([None, {"kubernetes.io/service-name": "web"}, {"a": None}, {"a": []}, 7]),
        "annotations": st.sampled_from([{"k8s.io/initial-events-end": "true"}, 7]),
    },
)
objects = st.fixed_dictionaries(
    {"kind": st.sampled_from(["EndpointSlice", "EndpointSlice", "EndpointSlice", None, "Status", 7])},
    optional={
        "metadata": metadata_of_slices,
        "addressType": st.sampled_from(["IPv4", "FQDN", 7]),
        "endpoints": st.lists(parts_of_slices | st.just(None), max_size=3),
        "ports": st.lists(st.sampled_from([{"name": "http", "port": 80}, {"port": "http"}, None]), max_size=2),
    },
)


@given(st.sampled_from(["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR", "", 7]), objects, st.sampled_from(NEEDS))
def test_an_object_that_is_decoded_along_is_the_same(kind: object, found: object, needs: Needs) -> None:
    line = json.dumps({"type": kind, "object": found}).encode()
    try:
        alone = read_line(Kind.ENDPOINT_SLICE, line)
    except ApiError as error:
        with pytest.raises(ApiError, match=f"^{re.escape(str(error))}$"):
            read_line(Kind.ENDPOINT_SLICE, line, needs)
        return
    along = read_line(Kind.ENDPOINT_SLICE, line, needs)
    if along.shape is None:
        assert along == alone
        return
    assert along[2:5] == alone[2:5]
    assert (along.change, along.text) == (Change.PUT, line)
    assert decode_shape(Kind.ENDPOINT_SLICE, along.shape, needs) == decode_json(Kind.ENDPOINT_SLICE, alone.text, needs)


def test_what_is_nothing_special_is_decoded_along() -> None:
    def read(kind: str) -> WatchLine:
        found = {"kind": "EndpointSlice", "metadata": {"name": "web-1", "namespace": "shop"}, "endpoints": []}
        return read_line(Kind.ENDPOINT_SLICE, json.dumps({"type": kind, "object": found}).encode(), Needs())

    assert read("ADDED").shape is not None
    assert read("MODIFIED").shape is not None
    assert read("DELETED").shape is None
