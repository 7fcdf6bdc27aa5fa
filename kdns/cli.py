"""The command line: CoreDNS's flags with one dash as they are, kdns's own with two."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

from kdns import __version__, log, resolver
from kdns.corefile import decode, default_corefile, format_duration, parse, parse_duration
from kdns.errors import CorefileError, KdnsError, StartError
from kdns.metrics import CounterTable
from kdns.plugins import ORDER, SETUPS
from kdns.plugins.plugin import Surroundings
from kdns.server.addresses import local_addresses
from kdns.server.context import ServerContext
from kdns.server.cpus import usable_cpus
from kdns.server.endpoints import HttpEndpoints
from kdns.server.sockets import bind_listener
from kdns.server.state import DEFAULT_MAX_AGE_SECONDS, MIN_MAX_AGE_SECONDS, open_state
from kdns.server.supervisor import Supervisor
from kdns.table.epochs import ReaderEpochs

COREDNS_VERSION = "1.14.7"  # whose behaviour and output kdns follows
DEFAULT_PORT = 53
MAX_PORT = 65535
MAX_WORKERS = 256  # processes; far beyond what one pod is given
TRUE, FALSE = ("1", "t", "T", "true", "TRUE", "True"), ("0", "f", "F", "false", "FALSE", "False")  # as Go reads them
SWITCHES = ("plugins", "version", "quiet")  # flags that are there or not; a value comes behind `=`
# Flags shown with two dashes; any may be written with one or two.
OWN = ("manifests", "workers", "state-dir", "state-max-age", "help")

EXAMPLES = """\
examples:
  kdns -conf examples/Corefile -dns.port 1053 --manifests examples/cluster
  kubectl get services,endpointslices,namespaces,pods -A -o yaml | kdns -dns.port 1053 --manifests -
  dig @127.0.0.1 -p 1053 kubernetes.default.svc.cluster.local
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run kdns; the exit status."""
    _open_standard_streams()
    options = _parse_arguments(sys.argv[1:] if arguments is None else arguments)
    if options.version:
        print(version_text())  # noqa: T201
        return 0
    if options.plugins:
        print(plugins_text())  # noqa: T201
        return 0
    log.configure()
    try:
        supervisor = _prepare(options)
    except KdnsError as error:
        print(error, file=sys.stderr)  # noqa: T201
        if hint := getattr(error, "hint", ""):
            print(hint, file=sys.stderr)  # noqa: T201
        return 1
    return supervisor.run()


def _open_standard_streams() -> None:
    """Put something on descriptors 0 to 2 that were closed: the next socket would become standard output."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)
    for name, fd, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(fd, mode, closefd=False))


def version_text() -> str:
    """What `-version` prints: two lines, the first as CoreDNS begins it."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return (
        f"CoreDNS-{COREDNS_VERSION} (kdns {__version__})\n"
        f"linux/{machine}, Python {platform.python_version()}, uvloop {version('uvloop')}"
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


def _max_age(text: str) -> float:
    try:
        seconds = parse_duration(text)
    except CorefileError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if seconds < MIN_MAX_AGE_SECONDS:
        raise argparse.ArgumentTypeError(f"age {text}, expected at least {format_duration(MIN_MAX_AGE_SECONDS)}")
    return seconds


def _prepare(options: argparse.Namespace) -> Supervisor:
    """Check everything that can be checked, and bind every socket. Raises KdnsError."""
    text, file_name = _read_corefile(options.conf)
    surroundings = Surroundings(local_addresses(), options.manifests is not None, dict(os.environ))
    warn = log.logger().warning
    blocks = parse(text, file_name, ORDER, os.environ, warn)
    if not blocks:
        blocks = parse(default_corefile(options.port, SETUPS), file_name, ORDER, os.environ, warn)
    built = resolver.build(blocks, surroundings, options.port)
    state = None
    if options.state_dir is not None:
        state = open_state(options.state_dir, options.state_max_age, surroundings, options.manifests)
    workers = options.workers or usable_cpus()
    sockets = tuple(bind_listener(listener.host, listener.port, workers) for listener in built.listeners)
    http = HttpEndpoints(surroundings)
    http.bind()
    if options.manifests == "-":
        _keep_stdin()
    context = ServerContext(
        resolver=built,
        sockets=sockets,
        workers=workers,
        counters=CounterTable(workers),
        epochs=ReaderEpochs(workers + 1),
        manifests=options.manifests,
        state=state,
    )

    def on_started() -> None:
        if options.pidfile:
            _write_pidfile(Path(options.pidfile))
        if not options.quiet:
            for listener in built.listeners:
                print("\n".join(listener.zone_texts))  # noqa: T201
            print(version_text(), flush=True)  # noqa: T201

    def on_ended() -> None:
        if options.pidfile:
            with suppress(OSError):
                Path(options.pidfile).unlink()

    return Supervisor(context, http, on_started, on_ended)


def _read_corefile(path: str) -> tuple[str, str]:
    """(text, the name errors cite). Raises StartError."""
    try:
        if path == "stdin":
            return decode(sys.stdin.buffer.read()), "stdin"
        if path:
            return decode(Path(path).read_bytes()), path
        if Path("Corefile").exists():
            return decode(Path("Corefile").read_bytes()), "Corefile"
    except OSError as error:
        verb = "read" if isinstance(error, IsADirectoryError) else "open"
        reason = os.strerror(error.errno or 0).lower()
        raise StartError(f"loading Caddyfile via flag: {verb} {path or 'Corefile'}: {reason}") from error
    return "", "Corefile"


def _keep_stdin() -> None:
    """Put what standard input holds where every informer can read it again, from the start."""
    fd = os.memfd_create("kdns-manifests")
    with os.fdopen(fd, "wb", closefd=False) as copy:
        shutil.copyfileobj(sys.stdin.buffer, copy)
    os.dup2(fd, 0)
    os.close(fd)


def _write_pidfile(path: Path) -> None:
    try:
        path.write_text(f"{os.getpid()}\n")
    except OSError as error:
        log.logger().error("Could not write pidfile: open %s: %s", path, os.strerror(error.errno or 0).lower())
