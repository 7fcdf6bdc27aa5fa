"""Arguments that several commands take, and what their texts may be."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.cluster import Sizes
from bench.latency import SHARES
from bench.load import Options

Commands = Any  # what add_subparsers returns has no public name
MAX_PORT = 65_535


def add_kept(command: argparse.ArgumentParser) -> None:
    """Where results and generated files go."""
    command.add_argument("--results", type=Path, default=Path("results"), help="their folder (default: %(default)s)")
    command.add_argument("--folder", type=Path, help="keep generated files and logs here (default: a temporary folder)")


def add_sizes(command: argparse.ArgumentParser, sizes: Sizes | None = None) -> None:
    """How large the generated cluster is."""
    default = sizes or Sizes()
    command.add_argument("--services", type=positive, default=default.services, help="(default: %(default)s)")
    command.add_argument("--endpoints", type=positive, default=default.endpoints, help="(default: %(default)s)")
    command.add_argument(
        "--headless", type=int, default=default.headless, help="Services of them (default: %(default)s)"
    )
    command.add_argument("--largest", type=positive, default=default.largest, help="endpoints (default: %(default)s)")
    command.add_argument("--seed", type=int, default=default.seed, help="(default: %(default)s)")


def add_load(command: argparse.ArgumentParser) -> None:
    """How a load is sent, and where it and the servers run."""
    command.add_argument("--clients", type=positive, default=1, help="sockets of the load (default: %(default)s)")
    command.add_argument("--outstanding", type=positive, default=100, help="queries under way (default: %(default)s)")
    add_cores(command)


def add_cores(command: argparse.ArgumentParser) -> None:
    """Where servers and the load run."""
    command.add_argument(
        "--server-cores",
        "--server-core",
        type=cores,
        default=(0,),
        metavar="CORES",
        help="of the servers, such as 0 or 0-3,6; each is configured for as many (default: 0)",
    )
    command.add_argument("--load-core", type=int, default=1, help="the core of the load (default: %(default)s)")


def add_latency(command: argparse.ArgumentParser) -> None:
    """Whether latencies are measured, and at which rates."""
    command.add_argument(
        "--latency",
        type=shares,
        nargs="?",
        const=SHARES,
        default=(),
        metavar="SHARES",
        help=f"percentiles as well, at these percentages of a server's maximum ({','.join(map(str, SHARES))})",
    )


def add_binaries(command: argparse.ArgumentParser) -> None:
    """Where programs are that are not on PATH."""
    command.add_argument(
        "--binary", action="append", default=[], metavar="PEER=PATH", help="the program of a peer that is not on PATH"
    )


def sizes_of(options: argparse.Namespace) -> Sizes:
    """The sizes that the arguments ask for."""
    return Sizes(options.services, options.endpoints, options.headless, options.largest, options.seed)


def load_options(options: argparse.Namespace, seconds: int) -> Options:
    """How loads are to be sent."""
    return Options(seconds, options.clients, options.outstanding, options.server_cores, options.load_core)


def place(text: str) -> tuple[str, int]:
    """An address and a port."""
    address, colon, port = text.rpartition(":")
    if not colon or not address or not port.isdecimal() or not 0 < int(port) <= MAX_PORT:
        raise argparse.ArgumentTypeError(f"{text}: expected ADDRESS:PORT, such as 127.0.0.1:5300")
    return address.strip("[]"), int(port)


def cores(text: str) -> tuple[int, ...]:
    """Numbers and ranges of numbers, separated by commas."""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise argparse.ArgumentTypeError(f"{text}: expected cores, such as 0 or 0-3,6")
        found += range(int(first), int(last if dash else first) + 1)
    return tuple(sorted(set(found)))


def shares(text: str) -> tuple[int, ...]:
    """Percentages, separated by commas."""
    found = tuple(positive(part) for part in text.split(","))
    if max(found) >= 100:
        raise argparse.ArgumentTypeError(f"{text}: expected percentages below 100, such as 30,50,70,90")
    return found


def positive(text: str) -> int:
    """A number from 1 on."""
    if not text.strip().isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a number, 1 or more")
    return int(text)


@contextmanager
def kept_or_temporary(chosen: Path | None) -> Iterator[Path]:
    """The folder for generated files: the chosen one, which stays, or a temporary one."""
    if chosen is not None:
        chosen.mkdir(parents=True, exist_ok=True)
        yield chosen
        return
    with tempfile.TemporaryDirectory(prefix="kdns-bench-") as name:
        yield Path(name)
