"""Answers a scenario's queries with the very replies the data expects; a mutation makes one reply wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rrset

from tests.conformance.cases import SECTIONS, Query, ResourceRecord, Scenario, Step
from tests.harness.exchange import TCP

Mutation = Callable[[dns.message.Message, Query], None]
_PAYLOAD = 1232


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

    def __init__(self, scenario: Scenario, cluster: ScriptedCluster, mutations: dict[str, Mutation] | None = None) -> None:
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
        if query is None:
            return []
        reply = expected_reply(query, sent, transport)
        if query.id in self._mutations:
            self._mutations[query.id](reply, query)
        return [render(reply)]


def expected_reply(query: Query, sent: dns.message.Message, transport: str) -> dns.message.Message:
    """The reply the data expects, as dnspython's message with one record to each RRset."""
    reply = dns.message.make_response(sent)
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
    if query.opt is not None if query.is_opt_given else query.edns is not None:
        reply.use_edns(0, dns.flags.DO if (query.opt or {}).get("do") else 0, (query.opt or {}).get("bufsize", _PAYLOAD))
        reply.options = [dns.edns.EDEOption(code) for code in (query.opt or {}).get("ede", [])]
    reply.set_rcode(dns.rcode.from_text(query.rcode))
    return reply


def rrset_of(record: ResourceRecord) -> dns.rrset.RRset:
    """The record as an RRset of one."""
    return dns.rrset.from_text(record.owner, record.ttl, record.rclass, record.rtype, record.rdata)


def render(reply: dns.message.Message) -> bytes:
    """The reply in wire form, its records in the order they have."""
    return reply.to_wire(max_size=65_535)


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
