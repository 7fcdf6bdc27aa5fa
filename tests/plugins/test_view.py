"""`view`: blocks that share their zones."""

from __future__ import annotations

import pytest

from kdns.dns import names
from tests.fakes.directives import build, refusal_of, refused


def test_blocks_with_a_view_may_have_the_same_zones_and_the_first_one_answers():
    whoami, template = ".:53 {\nview x {\n}\nwhoami\n}\n", ".:53 {\ntemplate ANY ANY\n}\n"
    (listener,) = build(whoami + template).listeners
    assert [name for name, _ in listener.zones[names.ROOT].plugins] == ["whoami"]
    assert "cannot serve dns://.:53 - it is already defined" in str(refusal_of(template + template))


@pytest.mark.parametrize(
    ("directive", "said"),
    [
        ("view", "Corefile:2 - Error during parsing: Wrong argument count or unexpected line ending after 'view'"),
        ("view x y", "Corefile:2 - Error during parsing: Wrong argument count or unexpected line ending after 'y'"),
        ("view x {\nother\n}", "Corefile:3 - Error during parsing: unknown property 'other'"),
        (
            "view x {\nexpr name() == 'a.test.'\n}",
            "Corefile:3 - Error during parsing: the expressions of 'view' are not available in kdns",
        ),
        ("view x\nview y", "this plugin can only be used once per Server Block"),
    ],
)
def test_what_would_filter_queries_is_refused(directive: str, said: str):
    assert refused(f"{directive}\nwhoami") == f"plugin/view: {said}"
