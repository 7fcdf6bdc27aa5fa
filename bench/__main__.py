"""The command line of the bench: `python -m bench --help`."""

from __future__ import annotations

import argparse
import signal
import sys
from types import FrameType

from bench.commands import against, parts, reports, run, scenario, whole
from bench.errors import BenchError

_EXAMPLES = """\
examples:
  python -m bench run                                      every load, three peers: 25 minutes
  python -m bench run hits,nxdomain --peers knot,kdns      two loads, two peers: two minutes
  python -m bench run hits --rounds 1 --seconds 1 --services 100 --endpoints 500 --headless 5 --largest 50
  python -m bench against 127.0.0.1:5300 --replay queries.pcap --latency
  python -m bench scenario churn,kill                      what becomes of answers under changes, without a worker
  python -m bench report results/*.json                    a page with plots; what differs between the first and last
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
    except OSError as error:
        # A file or folder that cannot be written, a socket that may not be opened: not ours to explain further.
        where = f"{error.filename}: " if error.filename else ""
        print(f"bench: {where}{error.strerror or error}", file=sys.stderr)
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="What a query costs kdns, beside its peers with the same names in the same minutes.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in (run, against, scenario):
        module.add_command(commands)
    for several in (whole, reports, parts):
        several.add_commands(commands)
    return parser


def _on_terminate(number: int, frame: FrameType | None) -> None:
    """End as Ctrl-C does, so that the servers are stopped."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
