"""`quick`, `full` and `cores`: measurements of several parts with one command."""

from __future__ import annotations

import argparse
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from bench.cluster import Sizes
from bench.commands.arguments import (
    Commands,
    add_binaries,
    add_cores,
    add_kept,
    add_latency,
    add_load,
    add_sizes,
    kept_or_temporary,
    load_options,
    positive,
    sizes_of,
)
from bench.commands.run import show
from bench.commands.scenario import DEFAULT_SIZES, play_all
from bench.errors import BenchError
from bench.latency import SHARES
from bench.load import Options, check_dnsperf
from bench.loads import parse_loads
from bench.peers import PEERS, Kdns, Knot, parse_peers, use_binaries
from bench.processes import check_cores
from bench.quick import KEPT, ratios, read_kept, run_quick, warnings, write_kept
from bench.readme import write_readme
from bench.results import Results, summary
from bench.run import Run, say
from bench.scenarios import parse_scenarios
from bench.scenarios.sizes import SERVICES
from bench.scenarios.stage import Settings

FULL_LATENCY_LOADS = ("hits", "ndots", "mix", "cached")  # latencies of every load would take an hour
DEFAULT_CORES_LOADS = "hits,ndots"


def add_commands(commands: Commands) -> None:
    """Add them."""
    command = commands.add_parser(
        "quick",
        help="a smoke test of less than 90 seconds, for CI",
        description="Measure a little of everything; warn, and never fail, where kdns became dearer than is kept.",
    )
    command.set_defaults(command=_quick)
    command.add_argument("--keep", action="store_true", help=f"keep the ratios found, in {KEPT.name}")
    add_cores(command)
    add_kept(command)

    command = commands.add_parser(
        "full",
        help="everything, then bench/README.md with its figures: an hour or more on a quiet machine",
        description="Every load on every peer that is there, latencies, scenarios and sizes; then the figures' page.",
    )
    command.set_defaults(command=_full)
    command.add_argument("--rounds", type=positive, default=5, help="(default: %(default)s)")
    command.add_argument("--seconds", type=positive, default=4, help="of each sample (default: %(default)s)")
    command.add_argument("--loads", default="all", help="(default: %(default)s)")
    command.add_argument("--peers", default="all", help="(default: %(default)s)")
    command.add_argument("--no-readme", action="store_true", help="leave bench/README.md and kept.json as they are")
    add_binaries(command)
    add_load(command)
    add_sizes(command)
    add_kept(command)

    command = commands.add_parser(
        "cores",
        help="cost against the number of cores, from one to all of --server-cores",
        description="The same loads on servers of one core, of two, and so on, up to all of --server-cores.",
    )
    command.set_defaults(command=_cores)
    command.add_argument("loads", nargs="?", default=DEFAULT_CORES_LOADS, help="(default: %(default)s)")
    command.add_argument("--peers", default="knot,kdns", help=f"of {', '.join(PEERS)} (default: %(default)s)")
    command.add_argument("--rounds", type=positive, default=5, help="(default: %(default)s)")
    command.add_argument("--seconds", type=positive, default=4, help="of each sample (default: %(default)s)")
    add_binaries(command)
    add_load(command)
    add_latency(command)
    add_sizes(command)
    add_kept(command)


def _quick(options: argparse.Namespace) -> int:
    """Always 0 but for Ctrl-C and faults of the bench itself: what a machine cannot do is no fault."""
    try:
        check_dnsperf()
        for peer in (Knot, Kdns):
            peer.find()
        check_cores(*options.server_cores, options.load_core)
    except BenchError as error:
        say(f"nothing is measured: {error}")
        return 0
    settings = Options(server_cores=options.server_cores, load_core=options.load_core)
    with kept_or_temporary(options.folder) as folder:
        try:
            found = run_quick(folder, options.results, settings)
        except BenchError as error:
            say(f"warning: {error}")
            return 0
    show(found, options.results)
    if options.keep:
        write_kept(found)
        say(f"kept: {KEPT}")
        return 0
    try:
        dearer = warnings(ratios(found), read_kept(), found.to_repeat())
    except BenchError as error:
        dearer = [f"warning: nothing to compare with: {error}"]
    for line in dearer:
        say(line)
    return 0


def _full(options: argparse.Namespace) -> int:
    use_binaries(options.binary)
    loads = parse_loads(options.loads)
    peers = [peer for peer in parse_peers(options.peers) if peer.is_installed()]
    settings = load_options(options, options.seconds)
    with kept_or_temporary(options.folder) as folder:
        bench = Run(sizes_of(options), options.rounds, settings, folder, SHARES, FULL_LATENCY_LOADS)
        found = bench.found
        try:
            bench.measure(loads, peers, options.results)
            _play(found, folder, settings, [peer.name for peer in peers if peer.name in ("kdns", "coredns")])
        finally:
            show(found, options.results)
        path = found.write(options.results)
        if not options.no_readme:
            with suppress(BenchError):
                write_kept(run_quick(folder / "quick", options.results, settings))
            for written in write_readme([path]):
                say(f"written: {written}")
    return 0 if found.samples else 1


def _play(found: Results, folder: Path, options: Options, names: list[str]) -> None:
    """Every scenario, on those that follow an API server."""
    settings = Settings(replace(DEFAULT_SIZES, seed=Sizes().seed), folder / "scenarios", options=options)
    play_all(parse_scenarios("all"), names, settings, SERVICES, found)


def _cores(options: argparse.Namespace) -> int:
    use_binaries(options.binary)
    loads, peers = parse_loads(options.loads), parse_peers(options.peers)
    check_cores(*options.server_cores, options.load_core)
    results = Results({"rounds": options.rounds, "seconds": options.seconds, "server_cores": options.server_cores})
    with kept_or_temporary(options.folder) as folder:
        try:
            for count in range(1, len(options.server_cores) + 1):
                say(f"with {count} of {len(options.server_cores)} cores")
                settings = replace(load_options(options, options.seconds), server_cores=options.server_cores[:count])
                bench = Run(sizes_of(options), options.rounds, settings, folder / f"cores-{count}", options.latency)
                bench.measure(loads, peers, folder / "parts")
                _take(bench.found, count, results)
        finally:
            path = results.write(options.results)
    for load, by_peer in results.by_cores.items():
        for peer, by_count in by_peer.items():
            costs = (
                f"{count}: {row['cost_us']:.2f} us, {row['most_per_second']:,.0f}/s" for count, row in by_count.items()
            )
            print(f"{load:<14} {peer:<10} {'; '.join(costs)}")
    say(f"everything: {path}")
    return 0 if results.by_cores else 1


def _take(found: Results, count: int, results: Results) -> None:
    """Put what a run of so many cores found among the others."""
    results.versions |= found.versions
    results.excluded |= {f"{what} with {count} cores": reason for what, reason in found.excluded.items()}
    for load, by_peer in found.samples.items():
        for peer, samples in by_peer.items():
            results.by_cores.setdefault(load, {}).setdefault(peer, {})[str(count)] = summary(samples)
