"""Answers a scenario's queries with the very replies the data expects; a mutation makes one reply wrong."""

from __future__ import annotations

import copy
import struct
from collections.abc import Callable, Sequence

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

from tests.conformance.cases import SECTIONS, Query, ResourceRecord, Scenario, Step
from tests.harness.exchange import TCP

Mutation = Callable[[dns.message.Message, Query], None]
_PAYLOAD = 1232
_SRV_TARGET = 6  # octets of SRV data before the target
_MAX_POINTER = 0x3FFF


class ScriptedCluster:
    """A cluster whose changes are seen only after some queries, as a real one's are."""

    def __init__(self, delay_queries: int = 0) -> None:
        self._delay = delay_queries
        self._pending = 0
        self._step = 0
        self._changes = 0

    def change(self, step: Step) -> None:
        """Begin the next step."""
        self._changes += 1
        self._pending = self._delay

    def visible_step(self) -> int:
        """The step a query sees now."""
        if self._pending:
            self._pending -= 1
        else:
            self._step = self._changes
        return self._step


class ExpectedReplies:
    """The answer function of a name server that does everything right, until told otherwise."""

    def __init__(
        self, scenario: Scenario, cluster: ScriptedCluster, mutations: dict[str, Mutation] | None = None
    ) -> None:
        self._cluster = cluster
        self._mutations = mutations or {}
        self._queries = {
            _key(query.step, query.message(), transport): query
            for query in scenario.queries
            for transport in query.transports
        }

    def __call__(self, wire: bytes, transport: str) -> Sequence[bytes]:
        """The expected messages, or silence for a query not in the data."""
        sent = dns.message.from_wire(wire)
        query = self._queries.get(_key(self._cluster.visible_step(), sent, transport))
        if query is None:  # a query of another step: a server that does not know the name yet
            unknown = dns.message.make_response(sent)
            unknown.set_rcode(dns.rcode.SERVFAIL)
            return [render(unknown)]
        reply = expected_reply(query, sent, transport)
        if query.id in self._mutations:
            self._mutations[query.id](reply, query)
        return [render(reply)]


def expected_reply(query: Query, sent: dns.message.Message, transport: str) -> dns.message.Message:
    """The reply the data expects, as dnspython's message with one record to each RRset."""
    reply = dns.message.make_response(sent)
    reply.question = [copy.copy(asked) for asked in sent.question]
    reply.use_edns(False)
    reply.flags = dns.flags.QR | dns.flags.RD | (dns.flags.AA if query.aa else 0)
    is_cut = query.tc and transport != TCP
    if is_cut:
        reply.flags |= dns.flags.TC
    for name in SECTIONS:
        records = query.exact[name] if name in query.exact else query.subset[name]
        if is_cut and name in query.subset:
            records = records[:2] if name == "answer" else ()
        setattr(reply, name, [rrset_of(record) for record in records])
    opt = query.opt or {}
    if query.opt is not None if query.is_opt_given else query.edns is not None:
        errors: list[dns.edns.Option] = [dns.edns.EDEOption(code) for code in opt.get("ede", [])]
        reply.use_edns(0, dns.flags.DO if opt.get("do") else 0, opt.get("bufsize", _PAYLOAD), options=errors)
    reply.set_rcode(dns.rcode.from_text(query.rcode))
    return reply


def rrset_of(record: ResourceRecord) -> dns.rrset.RRset:
    """The record as an RRset of one."""
    return dns.rrset.from_text(record.owner, record.ttl, record.rclass, record.rtype, record.rdata)


def render(reply: dns.message.Message) -> bytes:
    """The reply in wire form, its records in the order they have.

    dnspython compresses names whatever their letter case, which would change it; here only equal bytes are shared.
    """
    additional = [*reply.additional, *([reply.opt] if reply.opt is not None else [])]
    sections = (reply.answer, reply.authority, additional)
    out = bytearray(struct.pack("!HH4H", reply.id, reply.flags, len(reply.question), *map(len, sections)))
    seen: dict[bytes, int] = {}
    for question in reply.question:
        out += _shared(_wire_of(question.name), seen, len(out)) + struct.pack("!HH", question.rdtype, question.rdclass)
    for rrset in (rrset for section in sections for rrset in section):
        (rdata,) = rrset
        out += _shared(_wire_of(rrset.name), seen, len(out))
        value = rdata.to_wire()
        out += struct.pack("!HHIH", rrset.rdtype, rdata.rdclass, rrset.ttl, len(value))
        if rrset.rdtype == dns.rdatatype.SRV:
            _shared(value[_SRV_TARGET:], seen, len(out) + _SRV_TARGET)
        out += value
    return bytes(out)


def _wire_of(name: dns.name.Name) -> bytes:
    wire = name.to_wire()
    assert wire is not None
    return wire


def _shared(name: bytes, seen: dict[bytes, int], at: int) -> bytes:
    """`name` with a pointer to what stands in the message already; notes where its parts stand from now on."""
    position = 0
    while name[position]:
        suffix = name[position:]
        if suffix in seen:
            return name[:position] + (0xC000 | seen[suffix]).to_bytes(2, "big")
        if at + position <= _MAX_POINTER:
            seen[suffix] = at + position
        position += name[position] + 1
    return name


def _key(step: int, message: dns.message.Message, transport: str) -> tuple[object, ...]:
    question = message.question[0]
    options = tuple((option.otype, option.to_wire()) for option in message.options)
    return (
        step,
        question.name.to_text(),
        question.rdtype,
        question.rdclass,
        message.edns,
        message.ednsflags,
        message.payload if message.edns >= 0 else 0,
        options,
        transport,
    )
