"""`scenario`: what happens to answers when something happens."""

from __future__ import annotations

import argparse

from bench.cluster import Sizes
from bench.commands.arguments import (
    Commands,
    add_binaries,
    add_cores,
    add_kept,
    add_sizes,
    kept_or_temporary,
    positive,
    sizes_of,
)
from bench.errors import BenchError
from bench.load import Options, check_dnsperf
from bench.peers import parse_peers, use_binaries
from bench.processes import check_cores
from bench.results import Results
from bench.run import say
from bench.scenarios import SCENARIOS, SIZES, parse_scenarios
from bench.scenarios.sizes import SERVICES, measure_sizes
from bench.scenarios.sizes import render as render_sizes
from bench.scenarios.stage import Settings

DEFAULT_PEERS = "kdns,coredns"
DEFAULT_SIZES = Sizes(services=1_000, endpoints=15_000, headless=100, largest=1_000)


def add_command(commands: Commands) -> None:
    """Add it."""
    about = "".join(f"  {scenario.name:<15}{scenario.about}\n" for scenario in SCENARIOS.values())
    about += f"  {SIZES:<15}the time, CPU and memory to follow clusters of several sizes\n"
    command = commands.add_parser(
        "scenario",
        help="changes, faults and ends under a steady load: what is lost, wrong, late",
        description="Let something happen to a server under a steady load, and tell what became of its answers.",
        epilog=f"scenarios:\n{about}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(command=_scenario)
    command.add_argument("scenarios", help="separated by commas, or all")
    command.add_argument("--peers", default=DEFAULT_PEERS, help="(default: %(default)s)")
    command.add_argument("--share", type=positive, default=50, help="percent of the maximum (default: %(default)s)")
    command.add_argument("--seconds", type=positive, default=10, help="of the event (default: %(default)s)")
    command.add_argument("--changes", type=positive, default=100, help="a second, of churn (default: %(default)s)")
    command.add_argument(
        "--sizes",
        type=_counts,
        default=SERVICES,
        metavar="SERVICES",
        help=f"of `sizes` (default: {','.join(map(str, SERVICES))}; 100000 takes a quarter of an hour)",
    )
    add_binaries(command)
    add_cores(command)
    add_sizes(command, DEFAULT_SIZES)
    add_kept(command)


def _scenario(options: argparse.Namespace) -> int:
    use_binaries(options.binary)
    names = parse_scenarios(options.scenarios)
    peers = [peer.name for peer in parse_peers(options.peers)]
    check_dnsperf()
    check_cores(*options.server_cores, options.load_core)
    with kept_or_temporary(options.folder) as folder:
        settings = Settings(
            sizes_of(options),
            folder,
            options.share,
            float(options.seconds),
            float(options.changes),
            options=Options(server_cores=options.server_cores, load_core=options.load_core),
        )
        results = Results({"share": options.share, "seconds": options.seconds, "changes": options.changes})
        try:
            play_all(names, peers, settings, options.sizes, results)
        finally:
            if results.scenarios:
                say(f"everything: {results.write(options.results)}")
    return 0 if results.scenarios else 1


def play_all(names: list[str], peers: list[str], settings: Settings, counts: tuple[int, ...], results: Results) -> None:
    """Play scenarios on servers; one that cannot be played is told of, and the rest goes on."""
    usable = []
    for peer in parse_peers(",".join(peers)):
        try:
            results.versions[peer.name] = peer.version()
            usable.append(peer.name)
        except BenchError as error:
            _leave_out(peer.name, error, results)
    for name in names:
        if name == SIZES:
            found = measure_sizes(usable, counts, settings, say)
            if any(found.values()):
                results.scenarios[SIZES] = found
                print(render_sizes(found), flush=True)
            continue
        for peer_name in usable:
            say(f"{name} on {peer_name}")
            try:
                outcome = SCENARIOS[name].play(peer_name, settings)
            except BenchError as error:
                _leave_out(f"{peer_name} in {name}", error, results)
                continue
            results.scenarios.setdefault(name, {})[peer_name] = outcome.as_json()
            print(f"{name}, {peer_name}", *outcome.render(), sep="\n", flush=True)


def _leave_out(what: str, error: BenchError, results: Results) -> None:
    results.excluded[what] = str(error)
    say(f"{what} is left out: {error}")


def _counts(text: str) -> tuple[int, ...]:
    return tuple(positive(part) for part in text.split(","))
