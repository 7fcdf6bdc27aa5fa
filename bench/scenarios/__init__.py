"""What happens to answers when something happens: changes, faults and ends, under a steady load.

One module a part: what is watched (`watcher`), on what stage (`stage`), what is told of it (`outcome`), and the
scenarios themselves (`events`, `upstream`, `sizes`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.errors import BenchError
from bench.scenarios import events, upstream
from bench.scenarios.outcome import Outcome
from bench.scenarios.stage import Settings

SIZES = "sizes"  # the one scenario of another shape: many clusters, no load


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario; `play` raises BenchError where it does not apply to a server."""

    name: str
    about: str
    play: Callable[[str, Settings], Outcome]


SCENARIOS: Mapping[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        Scenario("churn", "changes at a steady pace: how soon each is answered, and what answers take", events.churn),
        Scenario("reload", "the Corefile changes and the server is told to read it again", events.reload),
        Scenario("relist", "every watch ends, every version is old: all must be listed again", events.relist),
        Scenario("kill", "kill -9 of one worker of two", events.kill),
        Scenario("api-gone", "the API server refuses connections, then is back", events.api_gone),
        Scenario(
            "upstream-gone", "the server that questions are forwarded to falls silent, then is back", upstream.gone
        ),
    )
}


def parse_scenarios(text: str) -> list[str]:
    """The scenarios named in `text`, separated by commas; "all" is all of them."""
    known = [*SCENARIOS, SIZES]
    names = known if text == "all" else [name.strip() for name in text.split(",")]
    for name in names:
        if name not in known:
            raise BenchError(f"unknown scenario {name!r}: expected some of {', '.join(known)}")
    return names
