"""The command line: CoreDNS's flags with one dash as they are, kdns's own with two."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

from kdns import __version__, log, resolver
from kdns.corefile import decode, default_corefile, parse
from kdns.errors import KdnsError, StartError
from kdns.metrics import CounterTable
from kdns.plugins import ORDER, SETUPS
from kdns.plugins.plugin import Surroundings
from kdns.server.addresses import local_addresses
from kdns.server.context import ServerContext
from kdns.server.cpus import usable_cpus
from kdns.server.endpoints import HttpEndpoints
from kdns.server.sockets import bind_listener
from kdns.server.supervisor import Supervisor

COREDNS_VERSION = "1.14.7"  # whose behaviour and output kdns follows
DEFAULT_PORT = 53
MAX_PORT = 65535
MAX_WORKERS = 256  # processes; far beyond what one pod is given

EXAMPLES = """\
examples:
  kdns -conf examples/Corefile -dns.port 1053 --manifests examples/cluster
  kubectl get services,endpointslices,namespaces,pods -A -o yaml | kdns -dns.port 1053 --manifests -
  dig @127.0.0.1 -p 1053 kubernetes.default.svc.cluster.local
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run kdns; the exit status."""
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


def version_text() -> str:
    """What `-version` prints: two lines, the first as CoreDNS begins it."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return (
        f"CoreDNS-{COREDNS_VERSION} (kdns {__version__})\n"
        f"linux/{machine}, Python {platform.python_version()}, uvloop {version('uvloop')}"
    )


def plugins_text() -> str:
    """What `-plugins` prints: the directives of this build, sorted."""
    return "Server types:\n  dns\n\nOther plugins:\n" + "\n".join(f"  dns.{name}" for name in sorted(SETUPS))


class _Parser(argparse.ArgumentParser):
    """argparse with Go's ways: `-flag`, `--flag` and `-flag=value` alike; exit status 1 for what is wrong."""

    def error(self, message: str) -> NoReturn:
        print(f"{message}\n{self.format_usage()}try kdns --help", file=sys.stderr)  # noqa: T201
        raise SystemExit(1)


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
        "--conf",
        default="",
        metavar="FILE",
        help="the Corefile; `stdin` reads standard input (default: ./Corefile, or a built-in one)",
    )
    coredns.add_argument(
        "-dns.port",
        "--dns.port",
        "-p",
        "--p",
        dest="port",
        type=_port,
        default=DEFAULT_PORT,
        metavar="PORT",
        help="port of server blocks that name none (default 53)",
    )
    coredns.add_argument("-pidfile", "--pidfile", default="", metavar="FILE", help="write the process id there")
    coredns.add_argument("-plugins", "--plugins", action=_Flag, help="list the directives of this build")
    coredns.add_argument("-version", "--version", action=_Flag, help="show the version")
    coredns.add_argument("-quiet", "--quiet", action=_Flag, help="do not print zones and version at start")
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
    options, extra = parser.parse_known_args(arguments)
    unknown = [word for word in extra if word.startswith("-") and word != "-"]
    if unknown:
        parser.error(f"flag provided but not defined: {unknown[0]}")
    if extra:
        parser.error(f"extra command line arguments: [{' '.join(extra)}]")
    return options


class _Flag(argparse.Action):
    """A Go boolean: `-x`, `-x=true` or `-x=false`."""

    def __init__(self, option_strings: Sequence[str], dest: str, **settings: object) -> None:
        super().__init__(option_strings, dest, nargs=0, default=False, help=str(settings.get("help", "")))

    def __call__(
        self, parser: object, namespace: argparse.Namespace, values: object, option_string: object = None
    ) -> None:
        setattr(namespace, self.dest, True)


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= MAX_PORT:
        raise argparse.ArgumentTypeError(f"port {text!r}, expected 1 to {MAX_PORT}")
    return int(text)


def _worker_count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= MAX_WORKERS:
        raise argparse.ArgumentTypeError(f"worker count {text!r}, expected 1 to {MAX_WORKERS}")
    return int(text)


def _prepare(options: argparse.Namespace) -> Supervisor:
    """Check everything that can be checked, and bind every socket. Raises KdnsError."""
    text, file_name = _read_corefile(options.conf)
    surroundings = Surroundings(local_addresses(), options.manifests is not None, dict(os.environ))
    warn = log.logger().warning
    blocks = parse(text, file_name, ORDER, os.environ, warn)
    if not blocks:
        blocks = parse(default_corefile(options.port, SETUPS), file_name, ORDER, os.environ, warn)
    built = resolver.build(blocks, surroundings, options.port)
    if surroundings.views and options.manifests is None:
        raise StartError(
            "plugin/kubernetes: following an API server is not available in kdns yet; "
            "give its objects with --manifests PATH"
        )
    workers = options.workers or usable_cpus()
    sockets = tuple(bind_listener(listener.host, listener.port, workers) for listener in built.listeners)
    http = HttpEndpoints(surroundings)
    http.bind()
    if options.manifests == "-":
        _keep_stdin()
    context = ServerContext(built, sockets, workers, CounterTable(workers), options.manifests or "")

    def on_started() -> None:
        if options.pidfile:
            _write_pidfile(Path(options.pidfile))
        if not options.quiet:
            for listener in built.listeners:
                print("\n".join(listener.zone_texts))  # noqa: T201
            print(version_text(), flush=True)  # noqa: T201

    return Supervisor(context, http, on_started)


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
        reason = os.strerror(error.errno or 0).lower()
        raise StartError(f"loading Caddyfile via flag: open {path or 'Corefile'}: {reason}") from error
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
        log.logger().error("could not write pidfile %s: %s", path, os.strerror(error.errno or 0).lower())
