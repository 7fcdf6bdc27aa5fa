"""Names the compiled path leaves to the chain."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.dns import names
from kdns.hotpath.detours import Detours

LABELS = st.sampled_from([b"a", b"b", b"ab", b"*", b"xyz" * 21])
NAMES = st.lists(LABELS, max_size=3).map(names.from_labels)


def held_by(found: set[bytes], name: bytes) -> bool:
    """What a set with wildcards holds, said plainly."""
    return name in found or (len(name) > 1 and b"\x01*" + name[1 + name[0] :] in found)


@given(st.sets(NAMES, max_size=20), st.lists(NAMES, max_size=20))
def test_holds_its_names_and_those_its_wildcards_stand_for(held: set[bytes], asked: list[bytes]):
    found = Detours()
    found.replace(held)
    assert len(found) == len(held)
    for name in [*held, *asked]:
        assert (name in found) == held_by(held, name)


def test_holds_nothing_before_it_was_told_to_and_forgets():
    found = Detours()
    assert (len(found), names.ROOT in found, names.from_text("a.test") in found) == (0, False, False)
    found.replace([names.from_text("a.test")])
    found.replace([names.from_text("*.b.test")])
    assert names.from_text("a.test") not in found
    assert names.from_text("x.b.test") in found
    found.replace([])
    assert (len(found), names.from_text("x.b.test") in found) == (0, False)


def test_many_names_are_held():
    held = [names.from_text(f"n{number}.test") for number in range(5000)]
    found = Detours()
    found.replace(held)
    assert all(name in found for name in held)
    assert not any(names.from_text(f"m{number}.test") in found for number in range(5000))


@pytest.mark.parametrize("name", [b"", bytes(256)])
def test_what_is_no_name_is_refused_and_changes_nothing(name: bytes):
    found = Detours()
    found.replace([names.from_text("a.test")])
    with pytest.raises(ValueError, match="octets, expected 1 to 255"):
        found.replace([names.from_text("b.test"), name])
    assert names.from_text("a.test") in found
    assert names.from_text("b.test") not in found
