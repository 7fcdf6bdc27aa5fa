"""The options of the `hosts` directive."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import replace
from pathlib import Path

from kdns import log
from kdns.corefile import Dispenser, parse_duration
from kdns.dns import names
from kdns.errors import CorefileError
from kdns.plugins.hosts.entries import HostEntries
from kdns.plugins.hosts.static_hosts import HostOptions, StaticHosts
from kdns.plugins.plugin import Setup
from kdns.plugins.zones import parse_zones

DEFAULT_PATH = "/etc/hosts"  # read even where all entries are inline, as CoreDNS does
MAX_TTL = 65535  # seconds, as CoreDNS

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_LOG = log.plugin_logger("hosts")


def setup(setup: Setup) -> StaticHosts:
    """`hosts [FILE [ZONES...]] { entries and options }`, once per block."""
    directive = setup.directive
    for _ in directive.only_occurrence():
        arguments = directive.remaining_args()
        path = Path(DEFAULT_PATH)
        if arguments:
            path = Path(setup.block.folder, arguments.pop(0))
            _check_path(directive, path)
        options, lines = _parse_block(directive, HostOptions(path, parse_zones(arguments) or setup.zones))
    inline = HostEntries(options.zones, has_reverse=options.has_reverse)
    inline.add(lines)
    return StaticHosts(options, inline, setup.surroundings.metrics)


def _parse_block(directive: Dispenser, options: HostOptions) -> tuple[HostOptions, list[bytes]]:
    """The options, and the lines that are none: they are entries, as long as `fallthrough` has not been met."""
    lines: list[bytes] = []
    for option in directive.block():
        match option:
            case "fallthrough":
                options = replace(options, fallthrough=parse_zones(directive.remaining_args()) or (names.ROOT,))
            case "fallthrough_unsupported":
                options = replace(options, passes_other_types=True)
            case "no_reverse":
                options = replace(options, has_reverse=False)
            case "ttl":
                options = replace(options, ttl=_parse_ttl(directive))
            case "reload":
                options = replace(options, reload_seconds=_parse_reload(directive))
            case _ if options.fallthrough:
                raise directive.error(f"unknown property '{option}'")
            case _:
                line = " ".join([option, *directive.remaining_args()])
                lines += line.encode("utf-8", "surrogateescape").split(b"\n")
    return options, lines


def _check_path(directive: Dispenser, path: Path) -> None:
    """Warn of a file that is not there yet; one that must not be looked at is an error."""
    try:
        status = path.stat()
    except FileNotFoundError:
        _LOG.warning("File does not exist: %s", path)
        return
    except OSError as error:
        reason = f"stat {path}: {os.strerror(error.errno or 0).lower()}"
        raise directive.error(f"unable to access hosts file '{path}': {reason}") from error
    if stat.S_ISDIR(status.st_mode):
        _LOG.warning('Hosts file "%s" is a directory', path)


def _parse_ttl(directive: Dispenser) -> int:
    arguments = directive.remaining_args()
    if not arguments:
        raise directive.error("ttl needs a time in second")
    if not _INTEGER.fullmatch(arguments[0]):
        raise directive.error("ttl needs a number of second")
    ttl = int(arguments[0])
    if not 0 < ttl <= MAX_TTL:
        raise directive.error("ttl provided is invalid")
    return ttl


def _parse_reload(directive: Dispenser) -> float:
    arguments = directive.remaining_args()
    if len(arguments) != 1:
        raise directive.error("reload needs a duration (zero seconds to disable)")
    try:
        seconds = parse_duration(arguments[0])
    except CorefileError as error:
        raise directive.error(f"invalid duration for reload '{arguments[0]}'") from error
    if seconds < 0:
        raise directive.error(f"invalid negative duration for reload '{arguments[0]}'")
    return seconds
