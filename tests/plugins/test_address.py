"""Addresses of HTTP endpoints, as Go's net package splits them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.errors import CorefileError
from kdns.plugins.address import check_address, split_address


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (":8080", ("", "8080")),
        ("127.0.0.1:8080", ("127.0.0.1", "8080")),
        ("[::1]:8080", ("::1", "8080")),
        ("localhost:http", ("localhost", "http")),
        ("localhost:", ("localhost", "")),
    ],
)
def test_an_address_is_a_host_and_a_port(address: str, expected: tuple[str, str]) -> None:
    assert split_address(address) == expected


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("8181", "missing port in address"),
        ("", "missing port in address"),
        ("[::1]", "missing port in address"),
        ("[::1]8080", "missing port in address"),
        ("::1:8080", "too many colons in address"),
        ("[::1]x:80", "missing port in address"),
        ("[::1]:80:80", "too many colons in address"),
        ("[::1:8080", "missing ']' in address"),
        ("a[b:80", "unexpected '[' in address"),
        ("a]b:80", "unexpected ']' in address"),
    ],
)
def test_an_address_that_is_none_is_told_in_the_words_of_coredns(address: str, problem: str) -> None:
    with pytest.raises(CorefileError) as caught:
        split_address(address)
    assert str(caught.value) == f"address {address}: {problem}"


def test_an_address_that_is_one_is_taken_as_it_stands():
    assert check_address("[::1]:8080") == "[::1]:8080"


@given(st.text(alphabet="[]:a1.", max_size=12))
def test_any_text_is_an_address_or_none(text: str) -> None:
    try:
        host, port = split_address(text)
    except CorefileError:
        return
    assert text in (f"{host}:{port}", f"[{host}]:{port}")
