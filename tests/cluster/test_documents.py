"""Documents: YAML and JSON to plain values, or one error that says where."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.cluster.documents import MAX_NESTING, Document, read_documents
from kdns.errors import ManifestError


def value_of(text: str) -> Any:
    [document] = read_documents(text.encode())
    return document.value


def test_documents_are_numbered_and_empty_ones_left_out() -> None:
    assert read_documents(b"# note\n---\na: 1\n---\n---\nb: 2\n...\n") == [Document(1, {"a": 1}), Document(3, {"b": 2})]


@pytest.mark.parametrize("text", [b"", b"\n", b"# only a comment\n", b"---\n", b"null"])
def test_empty_file_has_no_documents(text: bytes) -> None:
    assert read_documents(text) == []


@pytest.mark.parametrize(
    "word", ["on", "off", "yes", "no", "1.10", "0123", "0x1f", "12:30:00", "2026-01-01", "1e3", ".inf"]
)
def test_what_is_no_json_scalar_is_text(word: str) -> None:
    assert value_of(f"a: {word}") == {"a": word}


@pytest.mark.parametrize(
    ("word", "value"),
    [("true", True), ("False", False), ("null", None), ("~", None), ("", None), ("80", 80), ("-1", -1), ("0", 0)],
)
def test_json_scalars(word: str, value: Any) -> None:
    assert value_of(f"a: {word}") == {"a": value}


@pytest.mark.parametrize("word", ['"true"', "'true'", "!!str true", "|-\n  true"])
def test_quoted_scalars_are_text(word: str) -> None:
    assert value_of(f"a: {word}") == {"a": "true"}


def test_keys_are_text() -> None:
    assert value_of("1: a\ntrue: b\non: c") == {"1": "a", "true": "b", "on": "c"}


def test_anchors_and_merged_keys() -> None:
    text = "base: &b {x: 1, y: 2}\none: {<<: *b, y: 3}\ntwo: {y: 4, <<: [*b, {z: 5}]}\nthree: *b"
    assert value_of(text) == {
        "base": {"x": 1, "y": 2},
        "one": {"x": 1, "y": 3},
        "two": {"x": 1, "y": 4, "z": 5},
        "three": {"x": 1, "y": 2},
    }


def test_json_values_may_follow_one_another() -> None:
    assert read_documents(b'{"a": 1}\n{"b": [2]}\n', is_json=True) == [Document(1, {"a": 1}), Document(2, {"b": [2]})]


def test_json_may_begin_with_a_byte_order_mark() -> None:
    assert read_documents(b'\xef\xbb\xbf{"a": 1}', is_json=True) == [Document(1, {"a": 1})]


def test_yaml_in_flow_style_is_not_taken_for_json() -> None:
    assert value_of("{a: [b, c]}") == {"a": ["b", "c"]}


@pytest.mark.parametrize(
    ("text", "is_json", "error"),
    [
        (b"a: 1\n---\nb: [\n", False, "document 2, line 4, column 1: not YAML: "),
        (b"a: b\n c: d\n", False, "document 1, line 2, column 3: not YAML: mapping values are not allowed"),
        (b"a: \xff", False, "document 1: not YAML: invalid"),
        (b"a: \0", False, "document 1: not YAML: control characters"),
        (b"a: b\n---\nc: *d", False, "document 2, line 3: met alias *d, expected its anchor before it"),
        (b"a: &x [*x]", False, "document 1, line 1: met alias *x"),
        (b"? [a]\n: b", False, "document 1, line 1: met list as a key, expected text"),
        (b"a: {<<: 5}", False, "document 1, line 1: met int after <<, expected a mapping"),
        (b'{"a": 1}\n{"b": }', True, "document 2, line 2, column 7: not JSON: "),
        (b"a: b", True, "document 1, line 1, column 1: not JSON: "),
        (b'{"a": "\xff"}', True, "document 1: not JSON: "),
        (b'{"a": ' + b"9" * 5000 + b"} {}", True, "document 1: not JSON: "),
    ],
)
def test_error_says_document_line_and_what_was_met(text: bytes, is_json: bool, error: str) -> None:
    with pytest.raises(ManifestError) as caught:
        read_documents(text, is_json)
    assert str(caught.value).startswith(error)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [b"[" * 100_000, b"{a: " * 50_000, b"- " * 50_000, b"? " * 5_000])
@pytest.mark.parametrize("is_json", [False, True])
def test_nesting_without_end_is_refused(text: bytes, is_json: bool) -> None:
    with pytest.raises(ManifestError):
        read_documents(text, is_json)


def test_nesting_of_real_objects_is_accepted() -> None:
    depth = MAX_NESTING
    assert read_documents(b"[" * depth + b"x" + b"]" * depth)


@given(
    st.binary(max_size=60) | st.text(alphabet="ab:-[]{}&*!|>'\"%@#?,\n \t<~1", max_size=60).map(str.encode),
    st.booleans(),
)
def test_any_bytes_are_documents_or_a_manifest_error(text: bytes, is_json: bool) -> None:
    told = "document "
    documents: list[Document] = []
    try:
        documents = read_documents(text, is_json)
    except ManifestError as error:
        told = str(error)
    assert told.startswith("document ")
    assert all(document.value is not None for document in documents)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(st.characters(codec="utf-8"), max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(VALUES.filter(lambda value: value is not None))
def test_json_reads_back(value: Any) -> None:
    assert read_documents(msgspec.json.encode(value), is_json=True) == [Document(1, value)]
