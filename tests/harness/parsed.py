"""Messages and sections as dnspython, an independent reader, sees them."""

from __future__ import annotations

import struct
from typing import NamedTuple

import dns.flags
import dns.message
import dns.rrset

from kdns.dns.compression import Body
from kdns.dns.rrset import Record


class Sections(NamedTuple):
    """The records of a message, names whole, in their order."""

    answer: list[Record]
    authority: list[Record]
    additional: list[Record]


def sections_of(message: bytes) -> Sections:
    """The records of a message; raises what dnspython raises for a message that is not one, or has octets left over."""
    parsed = dns.message.from_wire(message, one_rr_per_rrset=True)
    return Sections(*(list(map(_record, section)) for section in (parsed.answer, parsed.authority, parsed.additional)))


def sections_behind(question_name: bytes, body: Body) -> Sections:
    """The records of a body behind a question of this name."""
    counts = struct.pack("!HHHH", 1, body.answers, body.authorities, body.additionals)
    return sections_of(b"\0\x01\x84\0" + counts + question_name + b"\0\x01\0\x01" + body.octets)


def _record(found: dns.rrset.RRset) -> Record:
    (rdata,) = found
    return Record(found.name.to_wire(), int(found.rdtype), found.ttl, rdata.to_wire())
