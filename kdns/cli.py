"""The command line: CoreDNS's flags with one dash as they are, kdns's own with two."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import uvloop

from kdns import COREDNS_VERSION, __version__, log
from kdns.cluster.access import DEFAULT_RESYNC_SECONDS, MIN_RESYNC_SECONDS
from kdns.corefile import format_duration, parse_duration
from kdns.errors import CorefileError, KdnsError, StartError
from kdns.plugins import SETUPS
from kdns.server.cache_memory import parse_size
from kdns.server.configuration import Arguments, start_up
from kdns.server.cpus import usable_cpus
from kdns.server.endpoints import HttpEndpoints
from kdns.server.instance import Feed, Instance
from kdns.server.processes import Processes
from kdns.server.reloading import Reloader
from kdns.server.state import DEFAULT_MAX_AGE_SECONDS, MIN_MAX_AGE_SECONDS
from kdns.server.supervisor import Supervisor
from kdns.table.preload import Preload

DEFAULT_PORT = 53
MAX_PORT = 65535
COPY_BYTES = 2**20  # of standard input at a time
MAX_WORKERS = 256  # processes; far beyond what one pod is given
TRUE, FALSE = ("1", "t", "T", "true", "TRUE", "True"), ("0", "f", "F", "false", "FALSE", "False")  # as Go reads them
SWITCHES = ("plugins", "version", "quiet")  # flags that are there or not; a value comes behind `=`
# Flags shown with two dashes; any may be written with one or two.
OWN = ("manifests", "workers", "state-dir", "state-max-age", "resync", "cache-size", "help")

EXAMPLES = """\
examples:
  kdns -conf examples/Corefile -dns.port 1053 --manifests examples/cluster
  kubectl get services,endpointslices,namespaces,pods -A -o yaml | kdns -dns.port 1053 --manifests -
  dig @127.0.0.1 -p 1053 kubernetes.default.svc.cluster.local
"""


def main(arguments: Sequence[str] | None = None, preload: Preload | None = None) -> int:
    """Run kdns; the exit status. `preload` is the kept table, where it is being read already."""
    options = _parse_arguments(sys.argv[1:] if arguments is None else arguments)
    if options.version:
        print(version_text())  # noqa: T201
        return 0
    if options.plugins:
        print(plugins_text())  # noqa: T201
        return 0
    log.configure()
    for number in (signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)  # until there is something to reload: it would end the process
    try:
        supervisor = _prepare(options, preload)
    except KdnsError as error:
        print(error, file=sys.stderr)  # noqa: T201
        if hint := getattr(error, "hint", ""):
            print(hint, file=sys.stderr)  # noqa: T201
        return 1
    return supervisor.run()


def version_text() -> str:
    """What `-version` prints: two lines, the first as CoreDNS has it, the second as it begins it."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    python = sys.version.partition(" ")[0]
    return (
        f"CoreDNS-{COREDNS_VERSION}\n"
        f"linux/{machine}, kdns {__version__}, Python {python}, uvloop {uvloop.__version__}"  # type: ignore[attr-defined]
    )


def plugins_text() -> str:
    """What `-plugins` prints: the directives of this build, sorted."""
    return "\n".join(sorted(SETUPS))


class _Parser(argparse.ArgumentParser):
    """argparse that says what is wrong in one line, and exits with 1."""

    def error(self, message: str) -> NoReturn:
        print(message, file=sys.stderr)  # noqa: T201
        raise SystemExit(1)


def _split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Flags, each one word with its value, and what Go's flag package leaves: from the first other word on.

    Raises StartError.
    """
    flags: list[str] = []
    left = list(arguments)
    while left and left[0].startswith("-") and left[0] != "-":
        word = left.pop(0)
        if word == "--":
            break
        name, equals, value = word.removeprefix("-").removeprefix("-").partition("=")
        flag = f"--{name}" if name in OWN else f"-{name}"
        if name in SWITCHES:
            flags = [kept for kept in flags if kept != flag]
            if equals and value not in TRUE + FALSE:
                raise StartError(f'invalid boolean value "{value}" for -{name}: expected true or false')
            if not equals or value in TRUE:
                flags.append(flag)
        elif equals or name in ("h", "help") or not left:
            flags.append(flag + equals + value)
        else:
            flags.append(f"{flag}={left.pop(0)}")
    return flags, left


def _parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(
        prog="kdns",
        description="Cluster DNS for Kubernetes: CoreDNS's Corefile and answers, from a precomputed table.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    coredns = parser.add_argument_group("as CoreDNS")
    coredns.add_argument(
        "-conf",
        default="",
        metavar="FILE",
        help="the Corefile; `stdin` reads standard input (default: ./Corefile, or a built-in one)",
    )
    coredns.add_argument(
        "-dns.port",
        "-p",
        dest="port",
        type=_port,
        default=DEFAULT_PORT,
        metavar="PORT",
        help="port of server blocks that name none (default 53)",
    )
    coredns.add_argument("-pidfile", default="", metavar="FILE", help="write the process id there")
    coredns.add_argument("-plugins", action="store_true", help="list the directives of this build")
    coredns.add_argument("-version", action="store_true", help="show the version")
    coredns.add_argument("-quiet", action="store_true", help="do not print zones and version at start")
    own = parser.add_argument_group("kdns")
    own.add_argument(
        "--manifests",
        metavar="PATH",
        help="take Kubernetes objects from a file, a folder (watched) or `-`, instead of an API server",
    )
    own.add_argument(
        "--workers",
        type=_worker_count,
        default=None,
        metavar="N",
        help="worker processes (default: the processors this process may use)",
    )
    own.add_argument(
        "--resync",
        type=_resync,
        default=DEFAULT_RESYNC_SECONDS,
        metavar="DURATION",
        help="compare what is served with the API server this often, 0 for never (default 5m)",
    )
    own.add_argument(
        "--state-dir",
        metavar="DIR",
        help="keep the table in this folder, and answer from it at once after a restart",
    )
    own.add_argument(
        "--state-max-age",
        type=_max_age,
        default=DEFAULT_MAX_AGE_SECONDS,
        metavar="DURATION",
        help="the greatest age at which a kept table is used, as Go writes durations (default 24h)",
    )
    own.add_argument(
        "--cache-size",
        type=_cache_size,
        default=None,
        metavar="SIZE",
        help="the most memory the answer cache takes, for all workers, such as 64M (default: 256 octets for each entry "
        "of the Corefile's capacities, at least 4M and at most 256M)",
    )
    try:
        flags, extra = _split_arguments(arguments)
    except StartError as error:
        parser.error(str(error))
    options, unknown = parser.parse_known_args(flags)
    if unknown:
        name = unknown[0].partition("=")[0]
        parser.error(f"flag provided but not defined: {name}; kdns --help lists those there are")
    if extra:
        parser.error(f"extra command line arguments: [{' '.join(extra)}]")
    return options


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= MAX_PORT:
        raise argparse.ArgumentTypeError(f"port {text!r}, expected 1 to {MAX_PORT}")
    return int(text)


def _worker_count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= MAX_WORKERS:
        raise argparse.ArgumentTypeError(f"worker count {text!r}, expected 1 to {MAX_WORKERS}")
    return int(text)


def _resync(text: str) -> float:
    seconds = _duration(text)
    if seconds and seconds < MIN_RESYNC_SECONDS:
        least = format_duration(MIN_RESYNC_SECONDS)
        raise argparse.ArgumentTypeError(f"interval {text}, expected at least {least}, or 0 for never")
    return seconds


def _duration(text: str) -> float:
    try:
        return parse_duration(text)
    except CorefileError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _max_age(text: str) -> float:
    seconds = _duration(text)
    if seconds < MIN_MAX_AGE_SECONDS:
        raise argparse.ArgumentTypeError(f"age {text}, expected at least {format_duration(MIN_MAX_AGE_SECONDS)}")
    return seconds


def _cache_size(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _prepare(options: argparse.Namespace, preload: Preload | None) -> Supervisor:
    """Check everything that can be checked, and bind every socket. Raises KdnsError."""
    arguments = Arguments(
        conf=options.conf,
        port=options.port,
        workers=options.workers or usable_cpus(),
        manifests=options.manifests,
        state_dir=options.state_dir,
        state_max_age_seconds=options.state_max_age,
        cache_size_bytes=options.cache_size,
        resync_seconds=options.resync,
    )
    context, tried = start_up(arguments)
    surroundings = context.resolver.surroundings
    http = HttpEndpoints(surroundings)
    http.bind()
    if options.manifests == "-":
        _keep_stdin()

    def on_started() -> None:
        if options.pidfile:
            _write_pidfile(Path(options.pidfile))
        if not options.quiet:
            for listener in context.resolver.listeners:
                print("\n".join(listener.zone_texts))  # noqa: T201
        if surroundings.reload is not None:
            log.plugin_logger("reload").info("Running configuration SHA512 = %s", context.corefile.digest)
        if not options.quiet:
            print(version_text(), flush=True)  # noqa: T201

    def on_ended() -> None:
        if options.pidfile:
            with suppress(OSError):
                Path(options.pidfile).unlink()

    reloader = Reloader(arguments, tried, surroundings.metrics)
    return Supervisor(Processes(Instance(context, Feed(context))), http, on_started, on_ended, reloader, preload)


def _keep_stdin() -> None:
    """Put what standard input holds where every informer can read it again, from the start."""
    fd = os.memfd_create("kdns-manifests")
    with os.fdopen(fd, "wb", closefd=False) as copy:
        while piece := sys.stdin.buffer.read(COPY_BYTES):
            copy.write(piece)
    os.dup2(fd, 0)
    os.close(fd)


def _write_pidfile(path: Path) -> None:
    try:
        path.write_text(f"{os.getpid()}\n")
    except OSError as error:
        log.logger().error("Could not write pidfile: open %s: %s", path, os.strerror(error.errno or 0).lower())
