"""`multisocket`: a number that is checked, and no more."""

from __future__ import annotations

import pytest

from tests.fakes.directives import refused, set_up


@pytest.mark.parametrize("directive", ["multisocket", "multisocket 1", "multisocket 1024"])
def test_is_accepted(directive: str):
    assert set_up(directive) is None


@pytest.mark.parametrize(
    ("directive", "text"),
    [
        ("multisocket x", 'invalid num sockets: strconv.Atoi: parsing "x": invalid syntax'),
        ("multisocket 0", "num sockets can not be zero or negative: 0"),
        ("multisocket -1", "num sockets can not be zero or negative: -1"),
        ("multisocket 1025", "num sockets exceeds maximum (1024): 1025"),
    ],
)
def test_mistakes_are_refused_in_coredns_words(directive: str, text: str):
    assert refused(directive) == f"plugin/multisocket: {text}"


def test_once_in_a_block_only():
    assert refused("multisocket\nmultisocket").startswith(
        "plugin/multisocket: Corefile:3 - Error during parsing: Wrong arg"
    )
