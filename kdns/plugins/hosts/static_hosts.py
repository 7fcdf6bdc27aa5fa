"""Answers from host entries, and the file they come from, looked at again and again."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from kdns import log
from kdns.dns import names
from kdns.dns.codes import Rcode, RRType
from kdns.dns.compression import EMPTY, OWNER, Body, write_body
from kdns.dns.reply import Reply
from kdns.dns.rrset import Record
from kdns.errors import ServeError
from kdns.hotpath.detours import Detours
from kdns.metrics import Registry
from kdns.plugins.hosts.entries import FEW_NAMES, MAX_NAMES, WILDCARD, HostEntries
from kdns.plugins.plugin import Handler, Request, Route

LINES_PER_TURN = 128  # of the file, about a millisecond; then it is another's turn

_LOG = log.plugin_logger("hosts")
_ADDRESS_SIZE = {RRType.A: 4, RRType.AAAA: 16}  # octets


@dataclass(frozen=True, slots=True)
class HostOptions:
    """What the directive says beside its inline entries."""

    path: Path
    zones: tuple[bytes, ...]
    ttl: int = 3600  # seconds
    has_reverse: bool = True
    reload_seconds: float = 5.0  # between two looks at the file; 0: it is read once
    fallthrough: tuple[bytes, ...] = ()
    passes_other_types: bool = False  # of names that are known


@dataclass(frozen=True, slots=True)
class _FileState:
    """What a look at the file compares."""

    modified_ns: int
    size: int


@dataclass(slots=True)
class HostsFile:
    """The file's entries, as they were read last. A file that is gone leaves them."""

    options: HostOptions
    entries: HostEntries = field(default_factory=HostEntries)
    modified_seconds: float = 0.0  # since 1970; 0: it was never read
    _seen: _FileState | None = None

    def read(self) -> None:
        """Read the file if it changed, all at once: for the start."""
        if (found := self._look()) is not None:
            state, lines = found
            entries = self._empty()
            entries.add(lines)
            self._take(state, entries)

    async def reread(self) -> bool:
        """Read the file if it changed, without holding anybody up; whether it had."""
        found = await asyncio.to_thread(self._look)
        if found is None:
            return False
        state, lines = found
        entries = self._empty()
        for start in range(0, len(lines), LINES_PER_TURN):
            entries.add(lines[start : start + LINES_PER_TURN])
            await asyncio.sleep(0)
        self._take(state, entries)
        return True

    def _look(self) -> tuple[_FileState, list[bytes]] | None:
        """The state and the lines of the file; None where it is as it was, or cannot be read."""
        try:
            status = self.options.path.stat()
            state = _FileState(status.st_mtime_ns, status.st_size)
            return None if state == self._seen else (state, self.options.path.read_bytes().split(b"\n"))
        except OSError:
            return None  # it was warned of at start; a file that goes and comes back is nothing unusual

    def _empty(self) -> HostEntries:
        return HostEntries(self.options.zones, has_reverse=self.options.has_reverse)

    def _take(self, state: _FileState, entries: HostEntries) -> None:
        self.entries, self._seen = entries, state
        self.modified_seconds = state.modified_ns / 1e9


class StaticHosts:
    """Answers A, AAAA and PTR from a file and from inline entries, the file's first."""

    transparent = True  # on a route that has its names as detours

    def __init__(self, options: HostOptions, inline: HostEntries, metrics: Registry) -> None:
        self._options = options
        self._file = HostsFile(options)
        self._inline = inline
        self._file.read()
        self._detours = Detours()
        self._suffixes: set[bytes] = set()  # of the routes that have them
        # By reverse name: the 4,000 names of a block list's address take milliseconds to write.
        self._large_bodies: dict[bytes, Body] = {}
        self._entries = metrics.gauge(
            "coredns_hosts_entries",
            "The combined number of entries in hosts and Corefile.",
            ("hostsfile",),
            merge="max",
        )
        self._reloaded = metrics.gauge(
            "coredns_hosts_reload_timestamp_seconds", "The timestamp of the last reload of hosts file.", merge="max"
        )

    async def serve(self, request: Request, next_handler: Handler) -> Reply:
        """Answer names and addresses that are known; unknown names are an error where they do not fall through."""
        query, options = request.query, self._options
        is_here = names.longest_zone(query.qname, options.zones) is not None
        if query.qtype == RRType.PTR:
            pointers = self._pointers_of(query.qname)
            return await next_handler(request) if pointers is None else Reply(body=pointers, writer="hosts")
        if not is_here:
            return await next_handler(request)
        size = _ADDRESS_SIZE.get(query.qtype)  # type: ignore[call-overload]
        addresses = self._addresses_of(query.qname, size) if size else b""
        if addresses:
            return Reply(body=_address_body(query.qtype, options.ttl, addresses, size), writer="hosts")
        if self._is_known(query.qname):
            if options.passes_other_types and not size:
                return await next_handler(request)
            return Reply(body=EMPTY, writer="hosts")
        if any(names.is_below(query.qname, zone) for zone in options.fallthrough):
            return await next_handler(request)
        # NXDOMAIN would need an SOA record, and a hosts file has none.
        raise ServeError("", Rcode.SERVFAIL)

    def adapt_route(self, route: Route) -> Route:
        """The compiled path must leave these names to this plugin, and all of them where unknown ones are errors."""
        options, suffix = self._options, route.suffix
        is_here = any(names.is_below(suffix, zone) or names.is_below(zone, suffix) for zone in options.zones)
        if is_here and not any(names.is_below(suffix, zone) for zone in options.fallthrough):
            return route._replace(is_slow=True)
        if suffix not in self._suffixes:
            self._suffixes.add(suffix)
            self._detours.replace({owner for owner in self._owners() if self._is_detour(owner)})
        return route._replace(detours=self._detours)

    async def run(self) -> None:
        """Look at the file once a period, for as long as the plugin serves."""
        self._tell()
        while self._options.reload_seconds:
            await asyncio.sleep(self._options.reload_seconds)
            if await self._file.reread():
                self._large_bodies.clear()
                await self._renew_detours()
                self._tell()
                _LOG.debug("Parsed hosts file into %d entries", len(self._file.entries))

    async def _renew_detours(self) -> None:
        """Let the compiled path know the names of a file that was read again, in portions as it was read."""
        found: set[bytes] = set()
        for count, owner in enumerate(self._owners(), 1):
            if self._is_detour(owner):
                found.add(owner)
            if count % LINES_PER_TURN == 0:
                await asyncio.sleep(0)
        self._detours.replace(found)

    def _owners(self) -> Iterator[bytes]:
        return chain(self._file.entries.owners(), self._inline.owners())

    def _is_detour(self, owner: bytes) -> bool:
        """Whether a route with detours holds a name this owner stands for."""
        if not owner.startswith(WILDCARD):
            return any(names.is_below(owner, suffix) for suffix in self._suffixes)
        parent = owner[len(WILDCARD) :]
        return any(names.is_below(parent, suffix) or suffix[1 + suffix[0] :] == parent for suffix in self._suffixes)

    def _tell(self) -> None:
        """Set the gauges."""
        if self._file.modified_seconds:
            self._entries.set(len(self._inline) + len(self._file.entries), (str(self._options.path),))
            self._reloaded.set(self._file.modified_seconds)

    def _addresses_of(self, name: bytes, size: int) -> bytes:
        """The addresses of a name, or else of the wildcard that stands for it."""
        entries, inline = self._file.entries, self._inline
        found = entries.addresses(name, size) + inline.addresses(name, size)
        return found or entries.wildcard_addresses(name, size) + inline.wildcard_addresses(name, size)

    def _is_known(self, name: bytes) -> bool:
        return bool(self._addresses_of(name, 4) or self._addresses_of(name, 16))

    def _pointers_of(self, reverse_name: bytes) -> Body | None:
        """The body of PTR records of an address; None where it has no name."""
        if (known := self._large_bodies.get(reverse_name)) is not None:
            return known
        address = names.reversed_address(reverse_name)
        if address is None:
            return None
        owners = [*self._file.entries.names_of(address), *self._inline.names_of(address)][:MAX_NAMES]
        if not owners:
            return None
        records = [Record(reverse_name, RRType.PTR, self._options.ttl, owner) for owner in owners]
        body = write_body(reverse_name, records)
        if len(owners) > FEW_NAMES:
            self._large_bodies[reverse_name] = body
        return body


def _address_body(rtype: int, ttl: int, addresses: bytes, size: int) -> Body:
    """A body of address records of the question's name."""
    fixed = OWNER + struct.pack("!HHIH", rtype, 1, ttl, size)
    count = len(addresses) // size
    octets = b"".join([fixed + addresses[at : at + size] for at in range(0, len(addresses), size)])
    return Body(octets, count, record_length=len(fixed) + size if count > 1 else 0)
