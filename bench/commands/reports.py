"""`report` and `readme`: kept results as pages."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.commands.arguments import Commands
from bench.readme import README, write_readme
from bench.report import write_report


def add_commands(commands: Commands) -> None:
    """Add them."""
    command = commands.add_parser("report", help="kept results as a page with plots; of two or more, what differs")
    command.set_defaults(command=_report)
    command.add_argument("results", nargs="+", type=Path, metavar="RESULTS", help="files that a run has written")
    command.add_argument("--to", type=Path, default=Path("results/report"), help="the folder (default: %(default)s)")

    command = commands.add_parser("readme", help="put the figures of kept results into bench/README.md")
    command.set_defaults(command=_readme)
    command.add_argument(
        "results", nargs="+", type=Path, metavar="RESULTS", help="files; a later one replaces parts of an earlier"
    )
    command.add_argument("--to", type=Path, default=README, help="the page (default: %(default)s)")


def _report(options: argparse.Namespace) -> int:
    print(write_report(options.results, options.to))
    return 0


def _readme(options: argparse.Namespace) -> int:
    for path in write_readme(options.results, options.to):
        print(path)
    return 0
