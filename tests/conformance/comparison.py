"""How a reply differs from the one expected.

Sections are multisets; TTLs are exact; the serial of an SOA does not count; a CNAME stands before the records of its
target. Over TCP a reply that UDP would cut arrives whole: the records it may choose from are then all expected.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import dns.edns
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdatatype

from tests.conformance.cases import SECTIONS, TCP, TRANSFERS, Query, ResourceRecord

MIN_UDP_PAYLOAD = 512  # octets every client takes (RFC 1035, 4.2.1)
MAX_UDP_PAYLOAD = 1232  # octets kdns sends at most
_SHOWN = 3  # records of a difference shown
_EDNS_DO = 0x8000
_HEADER_Z = 0x0040


def differences(query: Query, sent: dns.message.Message, wire: Sequence[bytes], transport: str) -> list[str]:
    """What is wrong with a reply, one message or the many of a transfer; empty if nothing is."""
    if not wire:
        return ["no reply"]
    try:
        replies = [dns.message.from_wire(part, one_rr_per_rrset=True, xfr=True) for part in wire]
    except Exception as error:  # dnspython raises many kinds, and any of them is a finding
        return [f"the reply is no message: {error!r}"]
    first = replies[0]
    found = _header_differences(query, sent, first, transport)
    if transport != TCP and len(wire[0]) > _udp_limit(query):
        found.append(f"{len(wire[0])} octets over UDP, at most {_udp_limit(query)}")
    for name in SECTIONS:
        got = [record for reply in replies for record in _records(reply, name)]
        found += _section_differences(query, name, got, transport)
    if query.qtype in TRANSFERS and query.rcode == "NOERROR":
        found += _transfer_differences(replies)
    return found + _opt_differences(query, first)


def _header_differences(
    query: Query, sent: dns.message.Message, reply: dns.message.Message, transport: str
) -> list[str]:
    found = []
    rcode = dns.rcode.to_text(reply.rcode())
    if rcode != query.rcode:
        found.append(f"rcode {rcode}, expected {query.rcode}")
    if reply.id != sent.id:
        found.append("another id")
    if reply.opcode() != dns.opcode.QUERY:
        found.append(f"opcode {reply.opcode()}")
    expected = {
        "QR": True,
        "AA": query.aa,
        "TC": query.tc and transport != TCP,
        "RD": True,
        "CD": False,
    }
    if not query.is_forwarding:
        expected |= {"RA": False, "AD": False}
    for flag, value in expected.items():
        if bool(reply.flags & dns.flags.Flag[flag]) != value:
            found.append(f"{flag} is {'clear' if value else 'set'}")
    if reply.flags & _HEADER_Z:
        found.append("Z is set")
    asked, echoed = ([str(question) for question in message.question] for message in (sent, reply))
    if asked != echoed:
        found.append(f"question {echoed}, asked {asked}")
    return found


def _section_differences(query: Query, name: str, got: list[ResourceRecord], transport: str) -> list[str]:
    found = []
    if name in query.subset and transport != TCP:
        extra, _ = _difference(query, got, query.subset[name])
        if name == "answer" and not got:
            found.append("answer: empty, though some records fit")
        missing: list[ResourceRecord] = []
    else:
        expected = query.exact[name] if name in query.exact else query.subset[name]
        extra, missing = _difference(query, got, expected)
    found += [
        f"{name}: {word} {_shown(records)}"
        for word, records in (("unexpected", extra), ("missing", missing))
        if records
    ]
    if not _targets_follow(got):
        found.append(f"{name}: a CNAME after the records of its target")
    return found


def _difference(
    query: Query, got: Iterable[ResourceRecord], expected: Iterable[ResourceRecord]
) -> tuple[list[ResourceRecord], list[ResourceRecord]]:
    """The records too many and too few, as multisets."""
    if not query.is_case_sensitive:
        got, expected = (record.folded() for record in got), (record.folded() for record in expected)
    found, wanted = Counter(got), Counter(expected)
    return sorted((found - wanted).elements()), sorted((wanted - found).elements())


def _targets_follow(records: Sequence[ResourceRecord]) -> bool:
    for position, alias in enumerate(records):
        if alias.rtype == "CNAME":
            target = alias.rdata.lower()
            if any(record.owner.lower() == target for record in records[:position]):
                return False
    return True


def _transfer_differences(replies: Sequence[dns.message.Message]) -> list[str]:
    types = [rrset.rdtype for reply in replies for rrset in reply.answer]
    if types and types[0] == types[-1] == dns.rdatatype.SOA:
        return []
    return ["answer: a transfer begins and ends with the SOA"]


def _opt_differences(query: Query, reply: dns.message.Message) -> list[str]:
    is_expected = query.opt is not None if query.is_opt_given else query.edns is not None
    if (reply.edns >= 0) != is_expected:
        return ["no OPT" if is_expected else "OPT though none was sent or expected"]
    if reply.edns < 0:
        return []
    found = []
    if reply.edns != 0:
        found.append(f"EDNS version {reply.edns}")
    if reply.ednsflags & 0x7FFF:
        found.append(f"EDNS flags {reply.ednsflags:#06x}")
    expected = query.opt or {}
    got = {
        "bufsize": reply.payload,
        "do": bool(reply.ednsflags & _EDNS_DO),
        "options": sorted(int(option.otype) for option in reply.options if option.otype != dns.edns.EDE),
        "ede": sorted(int(option.code) for option in reply.options if isinstance(option, dns.edns.EDEOption)),
    }
    found += [f"OPT {key} {got[key]}, expected {value}" for key, value in expected.items() if got[key] != value]
    return found


def _records(reply: dns.message.Message, section: str) -> list[ResourceRecord]:
    return [ResourceRecord.of(rrset.name, rrset.ttl, rdata) for rrset in getattr(reply, section) for rdata in rrset]


def _udp_limit(query: Query) -> int:
    size = MIN_UDP_PAYLOAD if query.edns is None else query.edns.get("bufsize", MAX_UDP_PAYLOAD)
    return max(MIN_UDP_PAYLOAD, min(size, MAX_UDP_PAYLOAD))


def _shown(records: Sequence[ResourceRecord]) -> str:
    lines = [f"{r.owner} {r.ttl} {r.rclass} {r.rtype} {r.rdata}" for r in records[:_SHOWN]]
    more = len(records) - len(lines)
    return f"{lines}" + (f" and {more} more" if more else "")
