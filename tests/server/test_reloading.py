"""Which table a new configuration answers from, and when it may take over."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.metrics import Registry
from kdns.plugins.plugin import ReloadSettings
from kdns.server.configuration import Arguments, parse_corefile, set_up
from kdns.server.context import ServerContext
from kdns.server.endpoints import HttpEndpoints
from kdns.server.instance import Feed, Instance
from kdns.server.processes import Processes
from kdns.server.reloading import Reloader
from kdns.server.supervisor import Supervisor
from tests.fakes.processes import Tables

ARGUMENTS = Arguments("Corefile", 53, 1, "", None, 60.0)
DIRECTIVES = (
    "kubernetes cluster.local",
    "kubernetes cluster.local {\nttl 30\n}",
    "kubernetes sub.cluster.local",
    "kubernetes other.local",
)


def configured(directives: Sequence[str]) -> ServerContext:
    """A configuration with a block for each directive."""
    blocks = (f".:{53 + at} {{\n{directive}\n}}\n" for at, directive in enumerate(directives))
    return set_up(parse_corefile("".join(blocks) or ". {\nwhoami\n}\n", ARGUMENTS), ARGUMENTS)


def reloader_of(context: ServerContext) -> Reloader:
    """A reloader of a service that runs a configuration, on paper."""
    processes = Processes(Instance(context, Feed(context)))
    made = Reloader(ARGUMENTS, "", Registry())
    made._supervisor = Supervisor(processes, HttpEndpoints(context.resolver.surroundings))
    made._processes = processes
    return made


@given(st.lists(st.lists(st.sampled_from(DIRECTIVES), max_size=3), min_size=2, max_size=5))
def test_no_configuration_ever_answers_from_a_table_of_other_views(sequence: list[list[str]]):
    """Whatever Corefiles follow one another, a feed is shared only while number and view mean the same."""
    reloader = reloader_of(configured(sequence[0]))
    processes = reloader._processes
    for former, directives in pairwise(sequence):
        before = processes.current
        context = configured(directives)
        processes.candidate = candidate = Instance(context, reloader._feed_for(context))
        made_for = candidate.feed.context.resolver.surroundings
        assert made_for.views == context.resolver.surroundings.views
        assert made_for.accesses == context.resolver.surroundings.accesses
        if directives == former:
            assert candidate.feed is before.feed
        processes.change_over(candidate)


def test_equal_views_share_the_informer_and_its_table():
    reloader = reloader_of(configured(DIRECTIVES[:1]))
    assert reloader._feed_for(configured(DIRECTIVES[:1])) is reloader._processes.current.feed
    for other in ((DIRECTIVES[1],), (DIRECTIVES[3],), DIRECTIVES[:2], ()):
        assert reloader._feed_for(configured(other)) is not reloader._processes.current.feed


@pytest.mark.parametrize(
    ("directives", "answered"),
    [
        (DIRECTIVES[1:2], [True]),  # the same zone with another TTL
        (DIRECTIVES[2:3], [True]),  # a part of it
        (DIRECTIVES[3:4], [False]),
        ((DIRECTIVES[3], DIRECTIVES[0]), [False, True]),
    ],
    ids=["ttl", "below", "other", "both"],
)
def test_what_is_answered_from_a_complete_table_must_be_complete_in_the_next(
    directives: Sequence[str], answered: list[bool]
):
    reloader = reloader_of(configured(DIRECTIVES[:1]))
    views = configured(directives).resolver.surroundings.views
    assert [reloader._is_answered(view) for view in views] == [False] * len(answered)
    tables = Tables(reloader._processes)
    tables.hand_over(False)
    assert [reloader._is_answered(view) for view in views] == [False] * len(answered)
    tables.hand_over(True)
    assert [reloader._is_answered(view) for view in views] == answered
    reloader._processes.current.feed.close()


def test_the_interval_is_drawn_anew_around_what_the_directive_says():
    context = configured(())
    reloader = reloader_of(context)
    reloader._draw_interval()
    assert reloader._interval is None
    context.resolver.surroundings.reload = ReloadSettings(30.0, 15.0)
    drawn = set()
    for _ in range(200):
        reloader._draw_interval()
        assert reloader._interval is not None
        assert 22.5 <= reloader._interval <= 37.5
        drawn.add(reloader._interval)
    assert max(drawn) - min(drawn) > 5
    context.resolver.surroundings.reload = ReloadSettings(2.0, 0.0)
    reloader._draw_interval()
    assert reloader._interval == 2.0
