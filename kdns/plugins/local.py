"""`local`: answers what is about the host itself, so that it goes nowhere else (RFC 6303, RFC 6761)."""

from __future__ import annotations

import json
import struct
from dataclasses import replace

from kdns.dns import names
from kdns.dns.codes import Rcode, RRType
from kdns.dns.compression import write_body
from kdns.dns.reply import Reply
from kdns.dns.rrset import Record
from kdns.plugins.plugin import Handler, Request, Setup

TTL = 604800  # seconds, a week, as CoreDNS

LOCALHOST = names.from_text("localhost")
PREFIX = LOCALHOST[:-1]
LOOPBACK_NAME = names.from_text("1.0.0.127.in-addr.arpa")
REVERSE_ZONES = tuple(names.from_text(f"{octet}.in-addr.arpa") for octet in (0, 127, 255))
_LOOPBACK = {RRType.A: bytes((127, 0, 0, 1)), RRType.AAAA: bytes(15) + b"\x01"}
_SOA = LOCALHOST + names.from_text("root.localhost") + struct.pack("!IIIII", 1, 0, 0, 0, TTL)


class Local:
    """Answers for localhost, and for the reverse zones of addresses that never leave a host."""

    transparent = False  # `localhost.` may stand before a cluster's name

    def __init__(self, setup: Setup, has_prefix: bool) -> None:
        self._has_prefix = has_prefix
        self._count = setup.surroundings.metrics.counter(
            "coredns_local_localhost_requests_total", "Counter of localhost.<domain> requests."
        )

    async def serve(self, request: Request, next_handler: Handler) -> Reply:
        """Answer these names, and hand on all others."""
        query = request.query
        if names.is_below(query.qname, LOCALHOST):
            return replace(_localhost(query.name, query.qtype), writer="local")
        if self._has_prefix and query.qname.startswith(PREFIX):
            self._count.add()
            return replace(_address(query.name, query.qtype), writer="local")
        zone = names.longest_zone(query.qname, REVERSE_ZONES)
        if zone is None:
            return await next_handler(request)
        return replace(_reverse(query.name, query.qname, query.qtype, zone), writer="local")


def setup(setup: Setup) -> Local:
    """`local { localhost_prefix on|off }`."""
    directive = setup.directive
    has_prefix = True
    for _ in directive.occurrences():
        if directive.remaining_args():
            raise directive.arg_error()
        for option in directive.block():
            if option != "localhost_prefix":
                raise directive.unknown_property(("localhost_prefix",))
            arguments = directive.remaining_args()
            if len(arguments) != 1:
                raise directive.arg_error()
            if arguments[0] not in ("on", "off"):
                raise directive.error(f"localhost_prefix expects 'on' or 'off', got {json.dumps(arguments[0])}")
            has_prefix = arguments[0] == "on"
    return Local(setup, has_prefix)


def _localhost(name: bytes, qtype: int) -> Reply:
    """What localhost answers, and every name below it (RFC 6761, 6.3)."""
    if len(name) == len(LOCALHOST) and qtype in (RRType.SOA, RRType.NS):
        return _apex(name, qtype)
    return _address(name, qtype)


def _address(name: bytes, qtype: int) -> Reply:
    address = _LOOPBACK.get(qtype)  # type: ignore[call-overload]
    return _nodata(name, name) if address is None else _answer(name, qtype, address)


def _reverse(name: bytes, qname: bytes, qtype: int, zone: bytes) -> Reply:
    apex = name[len(name) - len(zone) :]
    if qname == zone:
        return _apex(name, qtype) if qtype in (RRType.SOA, RRType.NS) else _nodata(name, name)
    if qname == LOOPBACK_NAME:
        return _answer(name, qtype, LOCALHOST) if qtype == RRType.PTR else _nodata(name, apex)
    return _nodata(name, apex, Rcode.NXDOMAIN)


def _apex(name: bytes, qtype: int) -> Reply:
    return _answer(name, qtype, _SOA if qtype == RRType.SOA else LOCALHOST)


def _answer(name: bytes, qtype: int, rdata: bytes) -> Reply:
    return Reply(body=write_body(name, [Record(name, qtype, TTL, rdata)]), authoritative=False)


def _nodata(name: bytes, origin: bytes, rcode: int = Rcode.NOERROR) -> Reply:
    return Reply(rcode, write_body(name, (), [Record(origin, RRType.SOA, TTL, _SOA)]), authoritative=False)
