"""`chaos`: tells who answers, to questions of class CH for version, authors and host name."""

from __future__ import annotations

import random
import socket
import struct

from kdns import COREDNS_VERSION
from kdns.dns import names
from kdns.dns.codes import RRClass, RRType
from kdns.dns.compression import OWNER, Body
from kdns.dns.reply import Reply
from kdns.plugins.plugin import Handler, Request, Setup

MAX_TEXT = 255  # octets of a character string (RFC 1035, 3.3)

_AUTHORS = names.from_text("authors.bind")
_VERSION = frozenset({names.from_text("version.bind"), names.from_text("version.server")})
_HOST_NAME = frozenset({names.from_text("hostname.bind"), names.from_text("id.server")})


class Chaos:
    """Answers TXT questions of class CH for the names that name servers have agreed on."""

    transparent = True  # the table answers class IN alone

    def __init__(self, version: str, authors: list[str]) -> None:
        self._version = _text(version)
        self._authors = [_text(author) for author in authors]

    async def serve(self, request: Request, next_handler: Handler) -> Reply:
        """Answer what is about this server, and hand on everything else."""
        query = request.query
        if query.qclass != RRClass.CH or query.qtype != RRType.TXT:
            return await next_handler(request)
        if query.qname in _VERSION:
            texts = [self._version]
        elif query.qname in _HOST_NAME:
            texts = [_text(socket.gethostname())]
        elif query.qname == _AUTHORS:
            texts = random.sample(self._authors, len(self._authors))
        else:
            return await next_handler(request)
        return Reply(body=Body(b"".join(map(_record, texts)), len(texts)), authoritative=False, writer="chaos")


def setup(setup: Setup) -> Chaos:
    """`chaos [VERSION [AUTHORS...]]`; of several lines the first of less than two words counts, else the last."""
    directive = setup.directive
    version, authors = "", list[str]()
    for _ in directive.occurrences():
        arguments = directive.remaining_args()
        if not arguments:
            version, authors = f"CoreDNS-{COREDNS_VERSION}", []
            break
        version, *rest = arguments
        authors = list(dict.fromkeys(rest))
        if not authors:
            break
    setup.block.takes_other_classes = True
    return Chaos(version, authors)


def _text(text: str) -> bytes:
    """A character string, cut where it is too long for one."""
    octets = text.encode("utf-8", "surrogateescape")[:MAX_TEXT]
    return bytes([len(octets)]) + octets


def _record(text: bytes) -> bytes:
    return OWNER + struct.pack("!HHIH", RRType.TXT, RRClass.CH, 0, len(text)) + text
