import argparse

import pytest

from bench.commands.arguments import cores, place, positive, shares


@pytest.mark.parametrize(("text", "expected"), [("0", (0,)), ("0-3,6", (0, 1, 2, 3, 6)), ("2,1,1", (1, 2))])
def test_cores(text, expected):
    assert cores(text) == expected


@pytest.mark.parametrize(("text", "expected"), [("10.0.0.1:53", ("10.0.0.1", 53)), ("[::1]:5300", ("::1", 5300))])
def test_a_place(text, expected):
    assert place(text) == expected


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (cores, "a"),
        (cores, "3-1"),
        (cores, ""),
        (cores, "1-"),
        (place, "10.0.0.1"),
        (place, ":53"),
        (place, "10.0.0.1:0"),
        (place, "10.0.0.1:65536"),
        (shares, "50,100"),
        (positive, "0"),
        (positive, "many"),
    ],
)
def test_what_cannot_be_is_met_with_what_was_expected(read, text):
    with pytest.raises(argparse.ArgumentTypeError, match="expected"):
        read(text)
