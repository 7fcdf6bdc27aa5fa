"""The command line of the bench: `python -m bench --help`."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType

from bench.cluster import Sizes, generate
from bench.diff import BATCH, compare_servers, read_questions
from bench.errors import BenchError
from bench.latency import SHARES
from bench.latency import table as render_latencies
from bench.load import Options
from bench.loads import LOADS, QUESTIONS, parse_loads, write_questions
from bench.manifests import write_manifests
from bench.memory import measure_example, measure_generated, render
from bench.peers import PEERS, parse_peers, use_binaries
from bench.records import Question
from bench.report import write_report
from bench.results import Results
from bench.run import Run, say
from bench.table import measure_table
from bench.table import render as render_table
from bench.zones import write_zones

DEFAULT_PEERS = "knot,nsd,kdns"
DIFF_LOADS = "hits,ndots,nxdomain,nodata,srv,endpoints,ptr,headless-20,srv-20,mix"
DIFF_PROGRESS = 20_000  # questions between two lines of progress

_EXAMPLES = """\
examples:
  python -m bench run                                      every load, every peer: 25 minutes
  python -m bench run hits,nxdomain --peers knot,kdns      two loads, two peers: two minutes
  python -m bench run hits --rounds 1 --seconds 1 --services 100 --endpoints 500 --headless 5 --largest 50
  python -m bench memory                                   what kdns occupies
  python -m bench table                                    what its table costs to build and to change
  python -m bench cluster /tmp/cluster                     the generated cluster, to look at or to serve

Costs are microseconds of the server's CPU for each query it answered, from /proc; bench/README.md states the method.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the bench; returns the exit status."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _on_terminate)
    try:
        status: int = options.command(options)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 130
    return status


def _run(options: argparse.Namespace) -> int:
    settings = Options(
        seconds=options.seconds,
        clients=options.clients,
        outstanding=options.outstanding,
        server_core=options.server_core,
        load_core=options.load_core,
    )
    use_binaries(options.binary)
    loads, peers = parse_loads(options.loads), parse_peers(options.peers)
    with _folder(options.folder) as folder:
        bench = Run(_sizes(options), options.rounds, settings, folder, options.latency)
        bench.measure(loads, peers, options.results)
    print(bench.found.table())
    if bench.found.latencies:
        print(render_latencies(bench.found.latencies))
    if not bench.found.samples:
        return 1
    say(f"every sample: {bench.found.write(options.results)}")
    return 0


def _report(options: argparse.Namespace) -> int:
    print(write_report(options.results, options.to))
    return 0


def _diff(options: argparse.Namespace) -> int:
    if options.questions is not None:
        try:
            questions = list(read_questions(options.questions.read_text().splitlines()))
        except OSError as error:
            raise BenchError(f"{options.questions}: {error.strerror}") from error
    else:
        cluster, loads = generate(_sizes(options)), parse_loads(options.loads)
        share = -(-options.count // len(loads))
        questions = [question for load in loads for question in load.questions(cluster, share)]

    def on_progress(asked: int) -> None:
        if asked % DIFF_PROGRESS < BATCH or asked == len(questions):
            say(f"{asked:,} of {len(questions):,} questions")

    found = compare_servers(options.one, options.other, questions, options.ttl, on_progress)
    kinds = ", ".join(f"{kind}: {count:,}" for kind, count in found.kinds.most_common())
    print(f"{found.asked:,} questions, {found.count:,} answered differently" + (f" ({kinds})" if kinds else ""))
    for example in found.examples:
        print(example)
    return 1 if found.count else 0


def _memory(options: argparse.Namespace) -> int:
    sizes = _sizes(options)
    with _folder(options.folder) as folder:
        found = [measure_generated(sizes, options.workers, folder)]
        if options.example:
            question = Question(*options.example_question)
            found.append(measure_example(options.example, question, options.workers, folder))
    print(render(found))
    results = Results({"sizes": asdict(sizes), "workers": options.workers})
    results.memory = {entry["what"]: entry for entry in found}
    say(f"everything: {results.write(options.results)}")
    return 0


def _table(options: argparse.Namespace) -> int:
    sizes = _sizes(options)
    costs = measure_table(sizes)
    print(render_table(costs))
    results = Results({"sizes": asdict(sizes)})
    results.table_costs = costs.as_dict()
    say(f"everything: {results.write(options.results)}")
    return 0


def _cluster(options: argparse.Namespace) -> int:
    cluster = generate(_sizes(options))
    count = write_manifests(cluster, options.target / "manifests")
    zones = write_zones(cluster, options.target / "zones")
    for load in LOADS.values():
        try:
            write_questions(load.questions(cluster, options.questions), options.target / f"{load.name}.questions")
        except BenchError as error:
            say(f"{load.name}: {error}")
    print(json.dumps({"objects": count, "zones": {zone: str(path) for zone, path in zones.items()}}))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="What a query costs kdns, beside Knot DNS and NSD with the same names in the same minutes.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

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
    command.add_argument("--peers", default=DEFAULT_PEERS, help=f"of {', '.join(PEERS)} (default: %(default)s)")
    command.add_argument(
        "--binary", action="append", default=[], metavar="PEER=PATH", help="the program of a peer that is not on PATH"
    )
    command.add_argument("--rounds", type=_positive, default=5, help="samples each (default: %(default)s)")
    command.add_argument("--seconds", type=_positive, default=4, help="of each sample (default: %(default)s)")
    command.add_argument("--clients", type=_positive, default=1, help="sockets of the load (default: %(default)s)")
    command.add_argument("--outstanding", type=_positive, default=100, help="queries under way (default: %(default)s)")
    command.add_argument(
        "--latency",
        type=_shares,
        nargs="?",
        const=SHARES,
        default=(),
        metavar="SHARES",
        help=f"percentiles as well, at these percentages of each server's maximum ({','.join(map(str, SHARES))})",
    )
    command.add_argument("--server-core", type=int, default=0, help="the core of the servers (default: %(default)s)")
    command.add_argument("--load-core", type=int, default=1, help="the core of the load (default: %(default)s)")
    _add_common(command)

    command = commands.add_parser(
        "diff",
        help="whether two running servers answer the same",
        description="Put questions to two servers and compare the replies; exit status 1 where they differ.",
    )
    command.set_defaults(command=_diff)
    command.add_argument("one", type=_place, metavar="ADDRESS:PORT")
    command.add_argument("other", type=_place, metavar="ADDRESS:PORT")
    command.add_argument("--questions", type=Path, metavar="FILE", help="as dnsperf reads it (default: generated)")
    command.add_argument("--count", type=_positive, default=200_000, help="of generated ones (default: %(default)s)")
    command.add_argument("--loads", default=DIFF_LOADS, help="they are drawn from (default: %(default)s)")
    command.add_argument("--ttl", action="store_true", help="compare TTLs too")
    _add_sizes(command)

    command = commands.add_parser("report", help="kept results as a page with plots; of two or more, what differs")
    command.set_defaults(command=_report)
    command.add_argument("results", nargs="+", type=Path, metavar="RESULTS", help="files that a run has written")
    command.add_argument("--to", type=Path, default=Path("results/report"), help="the folder (default: %(default)s)")

    command = commands.add_parser("memory", help="what kdns occupies, all processes together")
    command.set_defaults(command=_memory)
    command.add_argument("--workers", type=_positive, default=2, help="(default: %(default)s)")
    command.add_argument("--example", type=Path, help="a folder of manifests to measure as well")
    command.add_argument(
        "--example-question",
        nargs=2,
        metavar=("NAME", "TYPE"),
        default=("kubernetes.default.svc.cluster.local.", "A"),
        help="that the example has an answer to (default: kubernetes.default.svc.cluster.local. A)",
    )
    _add_common(command)

    command = commands.add_parser("table", help="what kdns's table costs to build and to change")
    command.set_defaults(command=_table)
    _add_common(command)

    command = commands.add_parser("cluster", help="write a generated cluster: manifests, zone files, questions")
    command.set_defaults(command=_cluster)
    command.add_argument("target", type=Path, help="the folder to write to")
    command.add_argument("--questions", type=_positive, default=QUESTIONS, help="in each file (default: %(default)s)")
    _add_sizes(command)
    return parser


def _add_common(command: argparse.ArgumentParser) -> None:
    _add_sizes(command)
    command.add_argument("--results", type=Path, default=Path("results"), help="their folder (default: %(default)s)")
    command.add_argument("--folder", type=Path, help="keep generated files and logs here (default: a temporary folder)")


def _add_sizes(command: argparse.ArgumentParser) -> None:
    sizes = Sizes()
    command.add_argument("--services", type=_positive, default=sizes.services, help="(default: %(default)s)")
    command.add_argument("--endpoints", type=_positive, default=sizes.endpoints, help="(default: %(default)s)")
    command.add_argument("--headless", type=int, default=sizes.headless, help="Services of them (default: %(default)s)")
    command.add_argument("--largest", type=_positive, default=sizes.largest, help="endpoints (default: %(default)s)")
    command.add_argument("--seed", type=int, default=sizes.seed, help="(default: %(default)s)")


def _sizes(options: argparse.Namespace) -> Sizes:
    return Sizes(options.services, options.endpoints, options.headless, options.largest, options.seed)


def _place(text: str) -> tuple[str, int]:
    address, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal():
        raise argparse.ArgumentTypeError(f"{text}: expected ADDRESS:PORT, such as 127.0.0.1:5300")
    return address.strip("[]"), int(port)


def _shares(text: str) -> tuple[int, ...]:
    shares = tuple(_positive(part) for part in text.split(","))
    if max(shares) >= 100:
        raise argparse.ArgumentTypeError(f"{text}: expected percentages below 100, such as 30,50,70,90")
    return shares


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number}: expected 1 or more")
    return number


@contextmanager
def _folder(chosen: Path | None) -> Iterator[Path]:
    """The folder for generated files: the chosen one, which stays, or a temporary one."""
    if chosen is not None:
        chosen.mkdir(parents=True, exist_ok=True)
        yield chosen
        return
    with tempfile.TemporaryDirectory(prefix="kdns-bench-") as name:
        yield Path(name)


def _on_terminate(number: int, frame: FrameType | None) -> None:
    """End as Ctrl-C does, so that the servers are stopped."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
