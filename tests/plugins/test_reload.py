"""`reload`: its arguments, and what is wrong with them."""

from __future__ import annotations

import pytest

from kdns.plugins.plugin import ReloadSettings, Surroundings
from tests.fakes.directives import build, refused, set_up


def settings_of(directive: str) -> ReloadSettings | None:
    surroundings = Surroundings(has_manifests=True)
    assert set_up(directive, surroundings) is None
    return surroundings.reload


@pytest.mark.parametrize(
    ("directive", "interval", "jitter"),
    [
        ("reload", 30, 15),
        ("reload 10s", 10, 5),
        ("reload 2s", 2, 1),
        ("reload 1m 10s", 60, 10),
        ("reload 10s 10s", 10, 5),
        ("reload 10s 0s", 10, 0),
        ("reload 10s 0", 10, 0),
        ("reload 1m30s 1s", 90, 1),
        ("reload 5s\nreload 9s", 5, 2.5),
    ],
)
def test_interval_and_jitter_which_is_half_the_interval_at_the_most(directive: str, interval: float, jitter: float):
    assert settings_of(directive) == ReloadSettings(interval, jitter)


def test_of_several_blocks_the_last_one_counts():
    surroundings = Surroundings(has_manifests=True)
    build("a.test {\nreload 5s\n}\nb.test {\nreload 9s\n}\nc.test {\nwhoami\n}\n", surroundings)
    assert surroundings.reload == ReloadSettings(9.0, 4.5)


@pytest.mark.parametrize(
    ("directive", "said"),
    [
        ("reload 10", 'plugin/reload: time: missing unit in duration "10"'),
        ("reload 10s 5", 'plugin/reload: time: missing unit in duration "5"'),
        ("reload soon", 'plugin/reload: time: invalid duration "soon"'),
        ("reload 1s", "plugin/reload: interval value must be greater or equal to 2s"),
        ("reload -5s", "plugin/reload: interval value must be greater or equal to 2s"),
        ("reload 10s 999ms", "plugin/reload: jitter value must be greater or equal to 1s"),
        ("reload 10s -1s", "plugin/reload: jitter value must be greater or equal to 1s"),
        (
            "reload 10s 5s 1s",
            "plugin/reload: Corefile:2 - Error during parsing: "
            "Wrong argument count or unexpected line ending after '1s'",
        ),
    ],
)
def test_what_is_refused(directive: str, said: str):
    assert refused(directive) == said
