"""Answers from zone files."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from kdns.dns import names
from kdns.dns.codes import Rcode, RRType
from kdns.dns.compression import Body, write_body
from kdns.dns.records import read_answers
from kdns.dns.reply import Reply
from kdns.dns.rrset import Record
from kdns.errors import Dropped, FormatError, ServeError
from kdns.plugins.file.zone import Found, Zone
from kdns.plugins.file.zone_file import ZoneFile
from kdns.plugins.plugin import Handler, Plugin, Request, ZoneTransfer


class FileZones:
    """Answers the names of its zones; the longest zone that holds a name has it."""

    transparent = False

    def __init__(self, files: Mapping[bytes, ZoneFile], fallthrough: Mapping[bytes, tuple[bytes, ...]]) -> None:
        self._files = files
        self._fallthrough = fallthrough  # by zone
        self._is_last = False

    @property
    def zones(self) -> tuple[bytes, ...]:
        """The zones it has."""
        return tuple(self._files)

    def touches(self) -> tuple[bytes, ...]:
        """The suffixes of the names it may answer."""
        return self.zones

    def connect(self, plugins: Mapping[str, Plugin]) -> None:
        """Find out whether there is anybody to hand on to."""
        self._is_last = next(reversed(list(plugins))) == "file"

    def transfer(self, zone: bytes) -> ZoneTransfer | None:
        """The records of a zone. Raises ServeError where its file has not been there yet."""
        if zone not in self._files:
            return None
        known = self._zone(zone)
        return ZoneTransfer(known.soa, known.serial, known.records())

    async def run(self) -> None:
        """Follow the files."""
        async with asyncio.TaskGroup() as group:
            for file in self._files.values():
                group.create_task(file.run())

    async def serve(self, request: Request, next_handler: Handler) -> Reply:
        """Answer what is asked of a zone, and hand on what is not in one."""
        qname, qtype = request.query.qname, request.query.qtype
        origin = self._zone_of(qname, qtype)
        if origin is None:
            if self._is_last:
                raise ServeError("", Rcode.REFUSED)
            return await next_handler(request)
        if qtype in (RRType.AXFR, RRType.IXFR):  # `transfer` has not taken it
            raise ServeError("", Rcode.REFUSED)
        zone = self._zone(origin)
        if (body := zone.rendered.get((qname, qtype))) is not None:
            return Reply(body=body, writer="file")
        found = zone.find(qname, qtype)
        if not found.answers and self._falls_through(request, zone, found):
            return await next_handler(request)
        if found.target is not None:
            return await self._go_on(request, zone, found, found.target)
        body = write_body(qname, found.answers, found.authorities, found.additionals)
        if found.answers and found.rcode == Rcode.NOERROR:
            zone.keep(qname, qtype, body)
        return _reply(found, body)

    def _zone_of(self, qname: bytes, qtype: int) -> bytes | None:
        """The longest zone that holds a name; DS records of a zone are in the one above it (RFC 4035, 3.1.4.1)."""
        origin = names.longest_zone(qname, self.zones)
        if qtype == RRType.DS and origin == qname != names.ROOT:
            return names.longest_zone(qname[1 + qname[0] :], self.zones) or origin
        return origin

    def _zone(self, origin: bytes) -> Zone:
        zone = self._files[origin].zone
        if zone is None:
            raise ServeError("", Rcode.SERVFAIL)
        return zone

    def _falls_through(self, request: Request, zone: Zone, found: Found) -> bool:
        """Whether another plugin may know more of a name: only of one that has no records here."""
        name = request.query.qname
        if found.rcode != Rcode.NXDOMAIN and (found.is_referral or not zone.is_only_above(name)):
            return False
        return names.longest_zone(name, self._fallthrough[zone.origin]) is not None

    async def _go_on(self, request: Request, zone: Zone, found: Found, target: bytes) -> Reply:
        """An answer whose CNAMEs lead out of the zone: the server is asked what they lead to."""
        rcode, more, truncated = await _resolve(request, target)
        # Whoever cannot learn what the name is can still learn what it is called.
        rcode = rcode if rcode == Rcode.NXDOMAIN else Rcode.NOERROR
        body = write_body(request.query.qname, (*found.answers, *more), zone.name_servers)
        return replace(_reply(found, body), rcode=rcode, truncated=truncated)


def _reply(found: Found, body: Body) -> Reply:
    return Reply(found.rcode, body, authoritative=not found.is_referral, writer="file")


async def _resolve(request: Request, target: bytes) -> tuple[int, list[Record], bool]:
    """(rcode, answers, whether they were cut) of what the server says to the same question about another name."""
    query = request.query.with_question(target, request.query.qtype)
    try:
        reply = await request.resolve(replace(request, query=query, depth=request.depth + 1))
        return reply.rcode, read_answers(query.head, reply.body), reply.truncated
    except (Dropped, FormatError):
        return Rcode.SERVFAIL, [], False
