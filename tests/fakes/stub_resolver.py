"""The resolver a forwarding server asks: knows a few records, follows its own CNAMEs, never sets AA."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

_MAX_ALIASES = 8


class StubResolver:
    """The answer function of a name server with these records, given as zone-file lines."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._rrsets: dict[tuple[dns.name.Name, int], dns.rrset.RRset] = {}
        for line in lines:
            owner, ttl, rclass, rtype, rdata = line.split(None, 4)
            made = dns.rrset.from_text(owner, int(ttl), rclass, rtype, rdata)
            kept = self._rrsets.setdefault((made.name, made.rdtype), made)
            kept.update(made)  # type: ignore[no-untyped-call]
        self._names = {name for name, _ in self._rrsets}

    def __call__(self, wire: bytes, transport: str) -> Sequence[bytes]:
        """NXDOMAIN for a name it does not know, no data for a type it does not."""
        query = dns.message.from_wire(wire)
        reply = dns.message.make_response(query, recursion_available=True)
        name, rtype = query.question[0].name, query.question[0].rdtype
        for _ in range(_MAX_ALIASES):
            if (name, rtype) in self._rrsets:
                reply.answer.append(self._rrsets[name, rtype])
                break
            alias = self._rrsets.get((name, dns.rdatatype.CNAME))
            if alias is None:
                if name not in self._names and not reply.answer:
                    reply.set_rcode(dns.rcode.NXDOMAIN)
                break
            reply.answer.append(alias)
            name = alias[0].target
        return [reply.to_wire(max_size=65_535)]
