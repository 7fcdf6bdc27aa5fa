"""Does the bench itself work, and is kdns about as dear as it was? For CI: small, short, and never a failure.

Costs differ from machine to machine, ratios to Knot DNS much less. So what is kept, in kept.json, are ratios, measured
by the same short run on a quiet machine; a ratio that is more than `DEARER` times the kept one is told of.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.cluster import Sizes
from bench.errors import BenchError
from bench.load import Options
from bench.loads import parse_loads
from bench.peers import Kdns, Knot
from bench.results import BASE, Results, machine, summary
from bench.run import Run, say
from bench.scenarios import SCENARIOS
from bench.scenarios.stage import Settings

KEPT = Path(__file__).parent / "kept.json"
DEARER = 1.3  # times the kept ratio; short runs on shared machines differ by less than that
LOADS = "hits,nxdomain,nodata"
ROUNDS = 3
SECONDS = 1
SIZES = Sizes(services=1_000, endpoints=10_000, headless=50, largest=200)
CHURN_SECONDS = 2.0
CALM_SECONDS = 1.0
CHURN_SIZES = Sizes(services=200, endpoints=2_000, headless=20, largest=100)


def run_quick(folder: Path, results: Path, options: Options) -> Results:
    """Measure kdns beside Knot DNS, then churn under a load; what cannot be done here is told of."""
    bench = Run(SIZES, ROUNDS, replace(options, seconds=SECONDS), folder)
    bench.measure(parse_loads(LOADS), [Knot, Kdns], results)
    settings = Settings(
        CHURN_SIZES, folder / "churn", seconds=CHURN_SECONDS, calm_seconds=CALM_SECONDS, options=options
    )
    say("churn on kdns")
    try:
        outcome = SCENARIOS["churn"].play(Kdns.name, settings)
    except BenchError as error:
        bench.found.excluded["kdns in churn"] = str(error)
    else:
        bench.found.scenarios["churn"] = {Kdns.name: outcome.as_json()}
        for line in outcome.render():
            say(line)
    return bench.found


def ratios(found: Results) -> dict[str, float]:
    """The cost of kdns beside Knot DNS, by load."""
    return {
        load: summary(by_peer[Kdns.name])["cost_us"] / summary(by_peer[BASE])["cost_us"]
        for load, by_peer in found.samples.items()
        if by_peer.keys() >= {BASE, Kdns.name}
    }


def warnings(found: dict[str, float], kept: dict[str, Any], noisy: Collection[str] = ()) -> list[str]:
    """What is dearer than it was, in a line each; `noisy` are loads whose figures are not to be trusted."""
    return [
        f"warning: {load}: kdns costs {ratio:.2f} x Knot DNS, kept is {kept['ratios'][load]:.2f} ({kept['from']})"
        + ("; it was noisy: repeat" if load in noisy else "")
        for load, ratio in found.items()
        if load in kept["ratios"] and ratio > DEARER * kept["ratios"][load]
    ]


def read_kept(path: Path = KEPT) -> dict[str, Any]:
    """What is kept; raises BenchError if that cannot be read."""
    try:
        kept = json.loads(path.read_text())
        kept["ratios"].items(), kept["from"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BenchError(f"{path}: {error}; `python -m bench quick --keep` writes it") from error
    return dict(kept)


def write_kept(found: Results, path: Path = KEPT) -> None:
    """Keep the ratios of a quick run, and where they are from."""
    if not ratios(found):
        raise BenchError("no ratio of kdns to Knot DNS was measured: nothing is kept")
    origin = f"{found.started:%Y-%m-%d}, {machine()['processor']}"
    kept = {"from": origin, "ratios": {load: round(ratio, 3) for load, ratio in ratios(found).items()}}
    path.write_text(json.dumps(kept, indent=1) + "\n")
