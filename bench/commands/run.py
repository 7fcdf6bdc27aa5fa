"""`run`: what a query costs every peer under every load."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.commands.arguments import (
    Commands,
    add_binaries,
    add_kept,
    add_latency,
    add_load,
    add_sizes,
    kept_or_temporary,
    load_options,
    positive,
    sizes_of,
)
from bench.errors import BenchError
from bench.latency import table as render_latencies
from bench.loads import LOADS, Load, parse_loads, recorded_load
from bench.peers import PEERS, parse_peers, use_binaries
from bench.replay import read_recorded
from bench.results import Results
from bench.run import OVERHEAD_SECONDS, WARM_UP_SECONDS, Run, say

DEFAULT_PEERS = "knot,nsd,kdns"
START_SECONDS = 60.0  # of a run in which servers start; for fitting it into a number of minutes
MAX_FITTED_SECONDS = 10  # of a sample: longer ones tell nothing more


def add_command(commands: Commands) -> None:
    """Add it."""
    loads = "".join(f"  {load.name:<15}{load.about}\n" for load in LOADS.values())
    command = commands.add_parser(
        "run",
        help="CPU per query of every peer under every load",
        description="Measure the CPU that each peer spends on a query.",
        epilog=f"loads:\n{loads}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(command=_run)
    command.add_argument("loads", nargs="?", default="all", help="loads, separated by commas (default: %(default)s)")
    command.add_argument("--peers", default=DEFAULT_PEERS, help=f"of {', '.join(PEERS)}, or all (default: %(default)s)")
    command.add_argument(
        "--replay", type=Path, metavar="FILE", help="questions, a query log or a pcap file as the load"
    )
    command.add_argument("--rounds", type=positive, default=5, help="samples each (default: %(default)s)")
    command.add_argument("--seconds", type=positive, default=4, help="of each sample (default: %(default)s)")
    command.add_argument("--minutes", type=positive, help="choose the seconds so that all takes about so long")
    add_binaries(command)
    add_load(command)
    add_latency(command)
    add_sizes(command)
    add_kept(command)


def _run(options: argparse.Namespace) -> int:
    use_binaries(options.binary)
    loads, peers = chosen_loads(options.loads, options.replay), parse_peers(options.peers)
    seconds = options.seconds
    if options.minutes:
        installed = sum(peer.is_installed() for peer in peers)
        seconds = fit_seconds(options.minutes, len(loads) * max(1, installed), options.rounds)
        say(f"{seconds} s a sample, to be done in about {options.minutes} minutes")
    with kept_or_temporary(options.folder) as folder:
        bench = Run(sizes_of(options), options.rounds, load_options(options, seconds), folder, options.latency)
        try:
            bench.measure(loads, peers, options.results)
        finally:
            show(bench.found, options.results)
    return 0 if bench.found.samples else 1


def chosen_loads(names: str, recording: Path | None) -> list[Load]:
    """The loads that are named; with a recording, that alone."""
    if recording is None:
        return parse_loads(names)
    if names != "all":
        raise BenchError("--replay is a load of its own: name no other loads beside it")
    return [recorded_load(read_recorded(recording))]


def fit_seconds(minutes: int, pairs: int, rounds: int) -> int:
    """The seconds of a sample with which so many pairs of load and peer take about so many minutes; at least 1."""
    left = minutes * 60 - START_SECONDS - pairs * (WARM_UP_SECONDS + OVERHEAD_SECONDS)
    return max(1, min(MAX_FITTED_SECONDS, int(left / (pairs * rounds) - OVERHEAD_SECONDS)))


def show(found: Results, folder: Path) -> None:
    """Print and keep what was found, however the run ended."""
    if not found.samples:
        for what, reason in found.excluded.items():
            say(f"left out: {what}: {reason}")
        return
    print(found.table())
    if found.latencies:
        print(render_latencies(found.latencies))
    if noisy := found.to_repeat():
        print("noisy, and better measured again on a quieter machine:")
        print(
            "".join(f"  python -m bench run {load} --peers {','.join(peers)}\n" for load, peers in noisy.items()),
            end="",
        )
    say(f"every sample: {found.write(folder)}")
