"""Zones on their way out (RFC 5936), and who may have them.

A transfer is a stream of messages of moderate size, made one after the other while the client reads: what is in memory
is one message, whatever the zone's size, and between two of them others are served. An incremental transfer (RFC 1995)
is answered with the whole zone, or with its SOA record alone where the client has the current serial.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass

from kdns import log
from kdns.dns import names
from kdns.dns.codes import Rcode, RRType
from kdns.dns.compression import Body, Compressor, write_body
from kdns.dns.reply import Reply
from kdns.errors import ServeError
from kdns.plugins.plugin import Handler, Plugin, Request, Surroundings, TransferringPlugin, ZoneTransfer
from kdns.plugins.transfer.notify import Notifier, Peer

MESSAGE_OCTETS = 16_000  # of records, and one more: names within a pointer's reach, about 1 ms of work
MAX_TRANSFERS = 16  # at a time, of one worker and directive

_LOG = log.plugin_logger("transfer")


@dataclass(frozen=True, slots=True)
class Stanza:
    """One `transfer` directive: zones, and the name servers that may have what is in them and are notified."""

    zones: tuple[bytes, ...]
    peers: tuple[Peer, ...]
    is_open: bool  # anybody may have them
    source: str = ""  # the address notifications are sent from; empty: whichever leads there

    def allows(self, client: str) -> bool:
        """Whether a client may have these zones."""
        address = names.pack_address(client.partition("%")[0])
        return self.is_open or any(names.pack_address(peer.host) == address for peer in self.peers)


class Transfer:
    """Answers AXFR and IXFR for the zones of the block's other plugins."""

    transparent = True  # the compiled path leaves transfers alone

    def __init__(self, stanzas: Sequence[Stanza], surroundings: Surroundings) -> None:
        self._stanzas = stanzas
        self._surroundings = surroundings
        self._sources: list[TransferringPlugin] = []
        self._running = 0

    def connect(self, plugins: Mapping[str, Plugin]) -> None:
        """Find the plugins whose zones can be transferred, in the order of the chain."""
        self._sources = [plugin for plugin in plugins.values() if hasattr(plugin, "transfer")]  # type: ignore[misc]

    async def serve(self, request: Request, next_handler: Handler) -> Reply:
        """Begin a transfer, or hand on what is none."""
        query = request.query
        if query.qtype not in (RRType.AXFR, RRType.IXFR):
            return await next_handler(request)
        if not request.stream:
            raise ServeError("", Rcode.REFUSED)
        stanza = self._stanza_of(query.qname)
        if stanza is None:
            return await next_handler(request)
        if not stanza.allows(request.client[0]):
            return Reply(Rcode.REFUSED, authoritative=False, writer="transfer")
        if query.qtype == RRType.IXFR and query.serial is None:
            raise ServeError("", Rcode.SERVFAIL)
        found = self._find(query.qname)
        if found is None:
            return await next_handler(request)
        if query.qtype == RRType.IXFR and query.serial == found.serial:
            return Reply(body=write_body(query.name, [found.soa]), authoritative=False, writer="transfer")
        if self._running >= MAX_TRANSFERS:
            raise ServeError(f"{MAX_TRANSFERS} transfers are under way", Rcode.SERVFAIL)
        more = self._bodies(request, found)
        return Reply(body=await anext(more), writer="transfer", more=more)

    async def run(self) -> None:
        """Notify name servers of changed zones: the first worker does it for all."""
        if self._surroundings.worker != 0:
            return
        wanted = [
            (zone, source, stanza)
            for source in self._sources
            for zone in source.zones
            if (stanza := self._stanza_of(zone)) is not None and stanza.peers
        ]
        if wanted:
            async with asyncio.TaskGroup() as group:
                for zone, source, stanza in wanted:
                    group.create_task(Notifier(zone, source, stanza.peers, stanza.source).run())

    def _stanza_of(self, name: bytes) -> Stanza | None:
        """The directive with the longest zone that holds a name."""
        zone = names.longest_zone(name, tuple(zone for stanza in self._stanzas for zone in stanza.zones))
        return next((stanza for stanza in self._stanzas if zone in stanza.zones), None)

    def _find(self, zone: bytes) -> ZoneTransfer | None:
        found = (source.transfer(zone) for source in self._sources)
        return next((transfer for transfer in found if transfer is not None), None)

    async def _bodies(self, request: Request, transfer: ZoneTransfer) -> AsyncGenerator[Body, None]:
        """The records of a zone, in as many messages as they take; the SOA record first and last."""
        name, soa, total = request.query.name, transfer.soa, 0
        self._running += 1
        try:
            writer, count = Compressor(name), 1
            writer.put(soa)
            for record in transfer.records:
                if record is None:
                    await asyncio.sleep(0)
                    continue
                writer.put(record)
                count += 1
                if writer.size >= MESSAGE_OCTETS:
                    yield Body(writer.octets(), count)
                    total += count
                    await asyncio.sleep(0)
                    writer, count = Compressor(name), 0
            writer.put(soa)
            yield Body(writer.octets(), count + 1)
            total += count + 1
            _LOG.info(
                'Outgoing transfer of %d records of zone "%s" to %s for %d SOA serial',
                total, names.to_text(request.query.qname), request.client[0], transfer.serial,
            )  # fmt: skip
        finally:
            self._running -= 1
