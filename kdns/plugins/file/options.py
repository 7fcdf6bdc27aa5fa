"""The options of the `file` directive."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from kdns import log
from kdns.corefile import Dispenser, format_duration, parse_duration
from kdns.dns import names
from kdns.errors import CorefileError, KdnsError
from kdns.plugins.file.zone_file import ZoneFile, read_problem
from kdns.plugins.file.zones import FileZones
from kdns.plugins.plugin import Setup
from kdns.plugins.zones import parse_zones

DEFAULT_RELOAD = 60.0  # seconds between two looks at a file, as CoreDNS

_LOG = log.plugin_logger("file")


@dataclass(slots=True)
class _Options:
    """What the block of one directive says."""

    reload_seconds: float = DEFAULT_RELOAD
    reloads_by_time: bool = False
    fallthrough: list[bytes] = field(default_factory=list)


def setup(setup: Setup) -> FileZones:
    """`file DB [ZONES...] { reload DURATION; reload_by_mtime; fallthrough [ZONES...] }`, any number of times."""
    directive = setup.directive
    files: dict[bytes, ZoneFile] = {}
    fallthrough: dict[bytes, tuple[bytes, ...]] = {}
    for _ in directive.occurrences():
        arguments = directive.remaining_args()
        if not arguments:
            raise directive.arg_error()
        path = Path(setup.block.folder, arguments[0])
        zones = parse_zones(arguments[1:]) if len(arguments) > 1 else setup.zones
        options = _parse_block(directive)
        for zone in zones:
            files[zone] = ZoneFile(path, zone, options.reload_seconds, options.reloads_by_time)
            fallthrough[zone] = tuple(options.fallthrough)
    for file in files.values():
        _read(file)
    return FileZones(files, fallthrough)


def _parse_block(directive: Dispenser) -> _Options:
    options = _Options()
    for option in directive.block():
        match option:
            case "reload":
                options.reload_seconds = _parse_reload(directive)
            case "reload_by_mtime":
                if directive.remaining_args():
                    raise directive.arg_error()
                options.reloads_by_time = True
            case "fallthrough":
                options.fallthrough = list(parse_zones(directive.remaining_args()) or (names.ROOT,))
            case "upstream":  # an option of old versions: CNAMEs are always followed now
                directive.remaining_args()
            case _:
                raise directive.error(f"unknown property '{option}'")
    return options


def _parse_reload(directive: Dispenser) -> float:
    arguments = directive.remaining_args()
    if len(arguments) != 1:
        raise directive.error("reload duration value is expected")
    seconds = parse_duration(arguments[0])
    if seconds < 0:
        raise directive.error("invalid duration: " + arguments[0])
    return seconds


def _read(file: ZoneFile) -> None:
    """Read a zone for the start; a file that is not there may come later, if it is looked at again."""
    try:
        file.read()
    except OSError as error:
        problem = read_problem(file.path, error)
        if not file.reload_seconds:
            raise CorefileError(problem) from error
        _LOG.warning('Failed to open "%s": trying again in %s', problem, format_duration(file.reload_seconds))
    except KdnsError as error:
        raise CorefileError(str(error)) from error
