"""`diff`, `memory`, `table` and `cluster`: tools beside the measurement of loads."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from bench.cluster import generate
from bench.commands.arguments import Commands, add_kept, add_sizes, kept_or_temporary, place, positive, sizes_of
from bench.diff import BATCH, compare_servers
from bench.errors import BenchError
from bench.loads import LOADS, QUESTIONS, parse_loads, write_questions
from bench.manifests import write_manifests
from bench.memory import measure_example, measure_generated, render
from bench.records import Question
from bench.replay import read_recorded
from bench.results import Results
from bench.run import say
from bench.table import measure_table
from bench.table import render as render_table
from bench.zones import write_zones

DIFF_LOADS = "hits,ndots,musl,nxdomain,nodata,srv,endpoints,ptr,headless-20,srv-20,mix"
DIFF_PROGRESS = 20_000  # questions between two lines of progress


def add_commands(commands: Commands) -> None:
    """Add them."""
    command = commands.add_parser(
        "diff",
        help="whether two running servers answer the same",
        description="Put questions to two servers and compare the replies; exit status 1 where they differ.",
    )
    command.set_defaults(command=_diff)
    command.add_argument("one", type=place, metavar="ADDRESS:PORT")
    command.add_argument("other", type=place, metavar="ADDRESS:PORT")
    command.add_argument("--questions", type=Path, metavar="FILE", help="or a log, or a pcap (default: generated)")
    command.add_argument("--count", type=positive, default=200_000, help="of generated ones (default: %(default)s)")
    command.add_argument("--loads", default=DIFF_LOADS, help="they are drawn from (default: %(default)s)")
    command.add_argument("--ttl", action="store_true", help="compare TTLs too")
    add_sizes(command)

    command = commands.add_parser("memory", help="what kdns occupies, all processes together")
    command.set_defaults(command=_memory)
    command.add_argument("--workers", type=positive, default=2, help="(default: %(default)s)")
    command.add_argument("--example", type=Path, help="a folder of manifests to measure as well")
    command.add_argument(
        "--example-question",
        nargs=2,
        metavar=("NAME", "TYPE"),
        default=("kubernetes.default.svc.cluster.local.", "A"),
        help="that the example has an answer to (default: kubernetes.default.svc.cluster.local. A)",
    )
    add_sizes(command)
    add_kept(command)

    command = commands.add_parser("table", help="what kdns's table costs to build and to change")
    command.set_defaults(command=_table)
    add_sizes(command)
    add_kept(command)

    command = commands.add_parser("cluster", help="write a generated cluster: manifests, zone files, questions")
    command.set_defaults(command=_cluster)
    command.add_argument("target", type=Path, help="the folder to write to")
    command.add_argument("--questions", type=positive, default=QUESTIONS, help="in each file (default: %(default)s)")
    add_sizes(command)


def _diff(options: argparse.Namespace) -> int:
    if options.questions is not None:
        questions = read_recorded(options.questions)
    else:
        cluster, loads = generate(sizes_of(options)), parse_loads(options.loads)
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
    sizes = sizes_of(options)
    with kept_or_temporary(options.folder) as folder:
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
    sizes = sizes_of(options)
    costs = measure_table(sizes)
    print(render_table(costs))
    results = Results({"sizes": asdict(sizes)})
    results.table_costs = costs.as_dict()
    say(f"everything: {results.write(options.results)}")
    return 0


def _cluster(options: argparse.Namespace) -> int:
    cluster = generate(sizes_of(options))
    count = write_manifests(cluster, options.target / "manifests")
    zones = write_zones(cluster, options.target / "zones")
    for load in LOADS.values():
        try:
            write_questions(load.questions(cluster, options.questions), options.target / f"{load.name}.questions")
        except BenchError as error:
            say(f"{load.name}: {error}")
    print(json.dumps({"objects": count, "zones": {zone: str(path) for zone, path in zones.items()}}))
    return 0
