"""The query that goes to an upstream, out of the one a client sent."""

from __future__ import annotations

import struct

from kdns.dns.codes import HOP_BY_HOP, RRType
from kdns.dns.query import HEADER_SIZE, Edns, Query

_OPT = struct.Struct("!BHHBBHH")


def render_query(query: Query) -> bytes:
    """All of the query but its id: RD, AD and CD, the question, and EDNS as the client sent it, or none."""
    head, edns = query.head, query.edns
    flags = bytes((head[2] & 0x01, head[3] & 0x30))
    if edns is None:
        return flags + b"\0\1\0\0\0\0\0\0" + head[HEADER_SIZE:]
    return flags + b"\0\1\0\0\0\0\0\1" + head[HEADER_SIZE:] + _render_opt(edns)


def _render_opt(edns: Edns) -> bytes:
    options = b"".join(
        struct.pack("!HH", code, len(data)) + data for code, data in edns.options if code not in HOP_BY_HOP
    )
    flags = 0x8000 if edns.dnssec_ok else 0
    return _OPT.pack(0, RRType.OPT, edns.payload_size, 0, 0, flags, len(options)) + options
