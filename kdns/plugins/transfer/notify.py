"""Telling other name servers that a zone has changed (RFC 1996).

A cluster's serial may change every second, and each notification costs its receiver a transfer: so there is one at most
in a while, and it tells of all changes before it. A receiver that does not answer is asked again a few times, and then
learns of the change by itself, from the zone's SOA record.
"""

from __future__ import annotations

import asyncio
import secrets
import struct
from dataclasses import dataclass, field
from typing import NamedTuple

from kdns import log
from kdns.dns import names
from kdns.dns.codes import Opcode, Rcode, RRClass, RRType, rcode_text
from kdns.errors import ServeError
from kdns.plugins.plugin import TransferringPlugin

LOOK_SECONDS = 1.0  # between looks at a zone's serial
PAUSE_SECONDS = 5.0  # between two notifications of a zone
TIMEOUT_SECONDS = 2.0  # for an answer; as CoreDNS
TRIES = 3  # as CoreDNS

_FLAGS = Opcode.NOTIFY << 11 | 0x0400  # AA (RFC 1996, 4.5)
_LOG = log.plugin_logger("transfer")


class Peer(NamedTuple):
    """Another name server."""

    host: str  # an IP address
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(slots=True)
class Notifier:
    """Watches the serial of one zone, and notifies its peers of each change and of a start."""

    zone: bytes
    source: TransferringPlugin
    peers: tuple[Peer, ...]
    address: str = ""  # notifications are sent from it; empty: whichever leads there
    look_seconds: float = LOOK_SECONDS
    pause_seconds: float = PAUSE_SECONDS
    _problems: dict[Peer, str] = field(default_factory=dict)  # what came of each peer's last notification, if it failed

    async def run(self) -> None:
        """Watch until cancelled."""
        told: int | None = None
        while True:
            serial = self._serial()
            if serial is None or serial == told:
                await asyncio.sleep(self.look_seconds)
                continue
            told = serial
            await asyncio.gather(*(self._notify(peer) for peer in self.peers))
            await asyncio.sleep(self.pause_seconds)

    def _serial(self) -> int | None:
        """The zone's serial, None while its records are not known."""
        try:
            found = self.source.transfer(self.zone)
        except ServeError:
            return None
        return None if found is None else found.serial

    async def _notify(self, peer: Peer) -> None:
        problem = await send_notify(self.zone, peer, self.address)
        if problem and problem != self._problems.get(peer):  # told once for as long as it stays so
            _LOG.warning('notify for zone "%s" was not accepted by "%s": %s', names.to_text(self.zone), peer, problem)
        self._problems[peer] = problem


async def send_notify(zone: bytes, peer: Peer, address: str = "", timeout_seconds: float = TIMEOUT_SECONDS) -> str:
    """Notify a name server, up to TRIES times; empty once it has accepted, otherwise what came of it last."""
    problem = ""
    for _ in range(TRIES):
        try:
            rcode = await _exchange(zone, peer, address, timeout_seconds)
        except TimeoutError:
            problem = "i/o timeout"
        except OSError as error:
            problem = (error.strerror or str(error)).lower()
        else:
            if rcode == Rcode.NOERROR:
                return ""
            problem = f"rcode was {rcode_text(rcode)}"
    return problem


async def _exchange(zone: bytes, peer: Peer, address: str, timeout_seconds: float) -> int:
    """Send one notification; the rcode of its answer. Raises TimeoutError and OSError."""
    loop = asyncio.get_running_loop()
    question = zone + struct.pack("!HH", RRType.SOA, RRClass.IN)
    identity = secrets.token_bytes(2)
    answer = _Answer(identity, question, loop.create_future())
    transport, _ = await loop.create_datagram_endpoint(
        lambda: answer,
        remote_addr=(peer.host, peer.port),
        local_addr=(address, 0) if address else None,
    )
    try:
        transport.sendto(identity + struct.pack("!HHHHH", _FLAGS, 1, 0, 0, 0) + question)
        async with asyncio.timeout(timeout_seconds):
            return await answer.rcode
    finally:
        transport.close()


class _Answer(asyncio.DatagramProtocol):
    """Waits for the answer to one notification; what else arrives is nobody's."""

    def __init__(self, identity: bytes, question: bytes, rcode: asyncio.Future[int]) -> None:
        self.rcode = rcode
        self._identity = identity
        self._question = question

    def datagram_received(self, data: bytes, addr: tuple[str | object, int]) -> None:
        if len(data) < 12 or data[:2] != self._identity or data[2] >> 3 != 0x10 | Opcode.NOTIFY or self.rcode.done():
            return
        # The question is to come back, but there are servers that send the header alone.
        if names.lower(data[12 : 12 + len(self._question)]) in (b"", names.lower(self._question)):
            self.rcode.set_result(data[3] & 15)

    def error_received(self, exc: Exception) -> None:
        if not self.rcode.done():
            self.rcode.set_exception(exc)
