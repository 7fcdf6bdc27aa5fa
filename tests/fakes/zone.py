"""A small zone served with all the care RFC 8906 asks for, on dnspython: what the probes must find nothing wrong with.

`faults` are the mistakes of real servers, to be found by the probes.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from tests.harness.exchange import TCP

ZONE = dns.name.from_text("cluster.local.")
SOA_TTL = 5
SOA = "ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5"
OWN_PAYLOAD = 1232
_HEADER = 12
_TRANSFERS = frozenset({dns.rdatatype.AXFR, dns.rdatatype.IXFR})


class Fault(Enum):
    """A mistake the server makes on purpose."""

    COPIES_HEADER_FLAGS = auto()
    ECHOES_EDNS_OPTIONS = auto()
    ECHOES_EDNS_FLAGS = auto()
    IGNORES_EDNS_VERSION = auto()
    NXDOMAIN_FOR_TXT = auto()
    ANSWERS_OTHER_OPCODES = auto()
    ANSWERS_RESPONSES = auto()
    ANSWERS_ANY_CLASS = auto()
    ECHOES_MALFORMED = auto()
    ACCEPTS_TWO_OPTS = auto()
    IGNORES_LIMIT = auto()
    EMPTY_WHEN_CUT = auto()
    SENDS_UNASKED_OPT = auto()
    SILENT_ON_TCP_GARBAGE = auto()


class FakeZone:
    """Answers for `cluster.local.`: its SOA, an address at `host.test`, 200 at `many`."""

    def __init__(self, faults: Sequence[Fault] = ()) -> None:
        self._faults = frozenset(faults)
        host, many = (dns.name.from_text(label, ZONE) for label in ("host.test", "many"))
        self._data = {
            (ZONE, dns.rdatatype.SOA): [SOA],
            (host, dns.rdatatype.A): ["10.96.0.1"],
            (many, dns.rdatatype.A): [f"10.244.{number // 100}.{number % 100}" for number in range(200)],
        }
        self._names = {name for name, _ in self._data}

    def __call__(self, wire: bytes, transport: str) -> Sequence[bytes]:
        """The replies to one message."""
        if len(wire) < _HEADER:
            return []
        flags = int.from_bytes(wire[2:4], "big")
        if flags & dns.flags.QR and Fault.ANSWERS_RESPONSES not in self._faults:
            return []
        wire = wire[:2] + bytes([wire[2] & 0x7F]) + wire[3:]
        if dns.opcode.from_flags(flags) != dns.opcode.QUERY and Fault.ANSWERS_OTHER_OPCODES not in self._faults:
            return [self._header_only(wire, dns.rcode.NOTIMP)]
        try:
            query = dns.message.from_wire(wire, ignore_trailing=True, keyring=False)
            if len(query.question) != 1 or query.answer:
                raise dns.exception.FormError
        except dns.message.BadEDNS:
            if Fault.ACCEPTS_TWO_OPTS not in self._faults:
                return [self._header_only(wire, dns.rcode.FORMERR)]
            query = dns.message.from_wire(wire[: _HEADER - 2] + bytes(2) + wire[_HEADER:], ignore_trailing=True)
        except Exception:  # dnspython raises many kinds for bytes that are no query
            return self._refuse_malformed(wire, transport)
        return [self._reply(query, transport)]

    def _refuse_malformed(self, wire: bytes, transport: str) -> Sequence[bytes]:
        if transport == TCP and Fault.SILENT_ON_TCP_GARBAGE in self._faults:
            return []
        if Fault.ECHOES_MALFORMED in self._faults:
            return [wire[:2] + bytes([wire[2] | 0x80, dns.rcode.FORMERR]) + wire[4:] * 2]
        return [self._header_only(wire, dns.rcode.FORMERR)]

    def _header_only(self, wire: bytes, rcode: dns.rcode.Rcode) -> bytes:
        flags = int.from_bytes(wire[2:4], "big")
        kept = flags if Fault.COPIES_HEADER_FLAGS in self._faults else flags & 0x7800
        return wire[:2] + (dns.flags.QR | kept & 0xFFF0 | rcode).to_bytes(2, "big") + bytes(8)

    def _reply(self, query: dns.message.Message, transport: str) -> bytes:
        reply = dns.message.make_response(query)
        reply.use_edns(False)
        if query.edns >= 0 or Fault.SENDS_UNASKED_OPT in self._faults:
            flags = int(query.ednsflags & dns.flags.DO)
            if Fault.ECHOES_EDNS_FLAGS in self._faults:
                flags = query.ednsflags
            options = list(query.options) if Fault.ECHOES_EDNS_OPTIONS in self._faults else []
            reply.use_edns(0, flags, OWN_PAYLOAD, options=options)
        if Fault.COPIES_HEADER_FLAGS in self._faults:
            reply.flags |= query.flags & (dns.flags.AD | dns.flags.RA | 0x0040)
        question = query.question[0]
        if query.edns > 0 and Fault.IGNORES_EDNS_VERSION not in self._faults:
            reply.set_rcode(dns.rcode.BADVERS)
        elif self._is_refused(question):
            reply.set_rcode(dns.rcode.REFUSED)
        else:
            self._answer(question, reply)
        return self._cut(reply, query, transport)

    def _is_refused(self, question: dns.rrset.RRset) -> bool:
        if question.rdclass != dns.rdataclass.IN and Fault.ANSWERS_ANY_CLASS not in self._faults:
            return True
        return question.rdtype in _TRANSFERS or not question.name.is_subdomain(ZONE)

    def _answer(self, question: dns.rrset.RRset, reply: dns.message.Message) -> None:
        reply.flags |= dns.flags.AA
        values = self._data.get((question.name, question.rdtype))
        if values is not None:
            kind = dns.rdatatype.to_text(question.rdtype)
            reply.answer = [dns.rrset.from_text(question.name, 5, "IN", kind, value) for value in values]
            return
        reply.authority = [dns.rrset.from_text(ZONE, SOA_TTL, "IN", "SOA", SOA)]
        is_fault = question.rdtype == dns.rdatatype.TXT and Fault.NXDOMAIN_FOR_TXT in self._faults
        if question.name not in self._names or is_fault:
            reply.set_rcode(dns.rcode.NXDOMAIN)

    def _cut(self, reply: dns.message.Message, query: dns.message.Message, transport: str) -> bytes:
        limit = max(512, min(query.payload, OWN_PAYLOAD)) if query.edns >= 0 else 512
        wire = reply.to_wire(max_size=65_535)
        if transport == TCP or len(wire) <= limit or Fault.IGNORES_LIMIT in self._faults:
            return wire
        reply.flags |= dns.flags.TC
        if Fault.EMPTY_WHEN_CUT in self._faults:
            reply.answer = []
        while len(wire := reply.to_wire(max_size=65_535)) > limit:
            del reply.answer[-1]
        return wire
