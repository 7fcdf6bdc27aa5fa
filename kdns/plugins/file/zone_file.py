"""The file of a zone, looked at again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from kdns import log
from kdns.dns import names
from kdns.dns.codes import RRType
from kdns.dns.rrset import Record
from kdns.errors import KdnsError
from kdns.plugins.file.zone import Zone, ZoneError, serial_of
from kdns.plugins.file.zone_text import parse_zone_text

MAX_OCTETS = 1 << 28  # of a zone file, some millions of records

_LOG = log.plugin_logger("file")


@dataclass(slots=True)
class ZoneFile:
    """A zone, as its file had it when it was last read well. One that cannot be read leaves the zone as it is."""

    path: Path
    origin: bytes
    reload_seconds: float  # between two looks; 0: it is read once
    reloads_by_time: bool = False  # whenever the file was written, not only when its serial is another
    zone: Zone | None = None  # None: there has been no file yet
    _seen: tuple[int, int] | None = None  # time of the last change in ns, octets
    _problem: str = ""  # what came of the last look; told once for as long as it stays so

    def read(self) -> None:
        """Read the file all at once: for the start. Raises OSError, and KdnsError where it holds no zone."""
        text = self._look()
        if text is not None:
            for _ in self._take(text):
                pass

    async def run(self) -> None:
        """Read the file again when it has changed, without holding anybody up, until cancelled."""
        while self.reload_seconds:
            await asyncio.sleep(self.reload_seconds)
            try:
                text = await asyncio.to_thread(self._look)
                if text is not None:
                    for _ in self._take(text):
                        await asyncio.sleep(0)
                self._problem = ""
            except OSError as error:
                self._tell(read_problem(self.path, error))
            except KdnsError as error:
                self._tell(str(error))

    def _look(self) -> str | None:
        """The file's text; None where it holds what is served."""
        state = self._state()
        if state == self._seen:
            return None
        if state[1] > MAX_OCTETS:
            raise ZoneError(f"{state[1]} octets, expected at most {MAX_OCTETS}")
        text = self.path.read_text("utf-8", "surrogateescape")
        if self._state() != state and self.reload_seconds:
            return None  # somebody is writing it: the next look will find it whole
        self._seen = state
        if self.zone is not None and not self.reloads_by_time:
            soa = self._first_soa(text)
            return None if soa is not None and serial_of(soa) == self.zone.serial else text
        return text

    def _state(self) -> tuple[int, int]:
        status = self.path.stat()
        return status.st_mtime_ns, status.st_size

    def _take(self, text: str) -> Generator[None, None, None]:
        """Serve the zone of a text; gives way to others in between."""
        made = None
        try:
            for made in Zone.build(self.origin, parse_zone_text(text, self.origin, str(self.path))):  # noqa: B007
                yield
        except ZoneError as error:
            raise ZoneError(f'file "{self.path}" has {error}') from error
        assert made is not None
        is_first, self.zone = self.zone is None, made
        self._tell_of(made, is_first)

    def _first_soa(self, text: str) -> Record | None:
        """The SOA record of a text, which is its first record as a rule."""
        records = parse_zone_text(text, self.origin, str(self.path))
        return next((one for one in records if one.rtype == RRType.SOA and one.owner == self.origin), None)

    def _tell_of(self, zone: Zone, is_first: bool) -> None:
        name = names.to_text(self.origin)
        if not is_first:
            _LOG.info('Successfully reloaded zone "%s" in "%s" with %d SOA serial', name, self.path, zone.serial)
        if zone.unsigned:
            _LOG.warning('zone "%s" in "%s": left out %d records of its signature', name, self.path, zone.unsigned)
        if zone.ignored:
            _LOG.warning('zone "%s" in "%s": left out %d records of other zones', name, self.path, zone.ignored)

    def _tell(self, problem: str) -> None:
        if problem != self._problem:
            _LOG.error('Failed to read zone "%s": %s', names.to_text(self.origin), problem)
        self._problem = problem


def read_problem(path: Path, error: OSError) -> str:
    """What is said of a file that cannot be read."""
    return f"open {path}: {(error.strerror or str(error)).lower()}"
