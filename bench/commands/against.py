"""`against`: any server that runs already."""

from __future__ import annotations

import argparse
import socket
from pathlib import Path

from bench.against import check_answers, measure_stranger
from bench.cluster import generate
from bench.commands.arguments import (
    Commands,
    add_kept,
    add_latency,
    add_load,
    add_sizes,
    kept_or_temporary,
    load_options,
    place,
    positive,
    sizes_of,
)
from bench.errors import BenchError
from bench.load import check_dnsperf
from bench.loads import LOADS, Load, Sender, parse_loads, recorded_load, write_questions
from bench.processes import check_cores
from bench.replay import read_recorded
from bench.results import Results
from bench.run import say
from bench.target import Stranger

DEFAULT_LOAD = "mix"


def add_command(commands: Commands) -> None:
    """Add it."""
    command = commands.add_parser(
        "against",
        help="queries per second, latencies and rcodes of any server that runs already",
        description="Put a load or recorded questions to a server. Its answers are counted, not judged; see `diff`.",
        epilog="with --pid, the server's CPU time per query is told too; otherwise what the client can see.",
    )
    command.set_defaults(command=_against)
    command.add_argument("server", type=place, metavar="ADDRESS:PORT")
    source = command.add_mutually_exclusive_group()
    source.add_argument("--load", default=DEFAULT_LOAD, help="of a generated cluster (default: %(default)s)")
    source.add_argument("--replay", type=Path, metavar="FILE", help="questions, a query log or a pcap file instead")
    command.add_argument("--pid", type=positive, help="the server's first process")
    command.add_argument("--rounds", type=positive, default=3, help="(default: %(default)s)")
    command.add_argument("--seconds", type=positive, default=4, help="of each (default: %(default)s)")
    add_load(command)
    add_latency(command)
    add_sizes(command)
    add_kept(command)


def _against(options: argparse.Namespace) -> int:
    check_dnsperf()
    check_cores(options.load_core)
    server = Stranger(_numeric(options.server[0]), options.server[1], options.pid)
    cluster = generate(sizes_of(options))
    if options.replay is not None:
        load = recorded_load(read_recorded(options.replay))
    else:
        load = _unjudged(parse_loads(options.load)[0])
    questions = load.questions(cluster)
    if load.sender is not Sender.MALFORMED:
        say(f"{server.name} answers: {check_answers(server, questions)}")
    with kept_or_temporary(options.folder) as folder:
        path = folder / f"{load.name}.questions"
        write_questions(questions, path)
        settings = load_options(options, options.seconds)
        found = measure_stranger(server, load, path, options.rounds, options.latency, settings, say)
    print(found.render())
    results = Results({"server": server.name, "load": load.name, "rounds": options.rounds, "pid": options.pid})
    results.against = found.as_json()
    say(f"every sample: {results.write(options.results)}")
    return 0


def _unjudged(load: Load) -> Load:
    """The load with whatever rcodes: the server need not know the generated cluster."""
    if load.per_second:
        names = ", ".join(name for name, other in LOADS.items() if not other.per_second)
        raise BenchError(f"{load.name} asks what nobody asked before, so it is for `run`; expected one of {names}")
    return Load(load.name, load.about, load.draw, load.sender, frozenset(), load.clients, is_judged=False)


def _numeric(address: str) -> str:
    try:
        found = socket.getaddrinfo(address, None, type=socket.SOCK_DGRAM)
    except OSError as error:
        raise BenchError(f"{address}: {error.strerror}; expected an address, or a name that has one") from error
    return str(found[0][4][0])
