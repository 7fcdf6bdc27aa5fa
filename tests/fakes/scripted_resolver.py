"""A resolver that answers out of records, or as a script says, and remembers what it was asked.

    records: [www.test. 60 IN A 192.0.2.1, ...]
    script:  {"name.", "name. TYPE" or "*": behaviour, or behaviours that follow each other, of which the last stays}
    down, mute: nobody listens; nobody answers
    soa, ra, aa: the SOA of negative answers (empty for none); flags of every reply

A behaviour is rcode, answer, authority, additional (lines of records), aa, ra, ad, `tc` over UDP (which keeps the first
`keep` answers), `delay` in seconds, and `do`: what is otherwise when the query has DO set.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from tests.fakes.upstream import Seen
from tests.harness.exchange import UDP

PAYLOAD = 1232  # octets, in its OPT
MAX_ALIASES = 8  # of a chain followed
_SOA_DATA = "ns.upstream.test. root.upstream.test. 1 7200 1800 86400 40"
_SPEC_KEYS = frozenset({"records", "script", "down", "mute", "soa", "ra", "aa", "port", "tls"})
_BEHAVIOUR_KEYS = frozenset(
    {"rcode", "answer", "authority", "additional", "aa", "ra", "ad", "tc", "keep", "delay", "do"}
)
_SILENT_RCODES = frozenset({"SERVFAIL", "REFUSED", "NOTIMP", "FORMERR"})  # come without records

Behaviour = Mapping[str, Any]


class ScriptedResolver:
    """What one upstream says, and was asked since the last mark."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self.is_down = False
        self._is_mute = False
        self._asked: list[Mapping[str, Any]] = []
        self._spec: dict[str, Any] = {}
        self._records: dict[tuple[dns.name.Name, str], list[dns.rrset.RRset]] = {}
        self._script: dict[str, list[Behaviour]] = {}
        self.change(spec)

    def change(self, spec: Mapping[str, Any]) -> None:
        """Take over what is given; the rest stays."""
        _refuse_unknown(spec, _SPEC_KEYS)
        self._spec |= spec
        self.is_down = bool(self._spec.get("down"))
        self._is_mute = bool(self._spec.get("mute"))
        if "records" in spec:
            self._records = {}
            for rrset in _rrsets(spec["records"]):
                key = rrset.name, dns.rdatatype.to_text(rrset.rdtype)
                self._records.setdefault(key, []).append(rrset)
        if "script" in spec:
            self._script = {name.lower(): _behaviours(found) for name, found in spec["script"].items()}

    def mark(self) -> None:
        """Forget what was asked."""
        self._asked = []

    def seen(self, where: Mapping[str, Any]) -> int:
        """How many queries since the mark have all these: a field's value, or one of a list of them.

        The fields: name, below, type, class, proto, src, rd, cd, ad, edns, do, bufsize, and optN, an option in hex.
        """
        return sum(all(_has(query, name, value) for name, value in where.items()) for query in tuple(self._asked))

    async def __call__(self, seen: Seen) -> Sequence[bytes]:
        """The replies to one query."""
        query = seen.message
        self._asked.append(_fields(seen, query, "tls" if self._spec.get("tls") else seen.transport))
        if self._is_mute:
            return []
        behaviour = self._next_behaviour(query)
        if delay_seconds := behaviour.get("delay"):
            await asyncio.sleep(delay_seconds)
        return [self._reply(query, behaviour, seen.transport).to_wire(max_size=65_535)]

    def _next_behaviour(self, query: dns.message.Message) -> Behaviour:
        question = query.question[0]
        name = question.name.to_text().lower()
        for key in (f"{name} {dns.rdatatype.to_text(question.rdtype).lower()}", name, "*"):
            if found := self._script.get(key):
                behaviour = found.pop(0) if len(found) > 1 else found[0]
                return {**behaviour, **behaviour["do"]} if _has_do(query) and "do" in behaviour else behaviour
        return {}

    def _reply(self, query: dns.message.Message, behaviour: Behaviour, transport: str) -> dns.message.Message:
        reply = dns.message.make_response(query, our_payload=PAYLOAD)
        if _has_do(query):
            reply.ednsflags |= dns.flags.DO
        flags = {"ra": True, **self._spec, **behaviour}
        for name in ("aa", "ra", "ad"):
            if flags.get(name):
                reply.flags |= dns.flags.Flag[name.upper()]
        rcode = behaviour.get("rcode", "NOERROR")
        reply.set_rcode(dns.rcode.from_text(rcode))
        if not behaviour.keys().isdisjoint({"answer", "authority", "additional"}):
            for name in ("answer", "authority", "additional"):
                setattr(reply, name, list(_rrsets(behaviour.get(name, ()))))
        elif rcode not in _SILENT_RCODES:
            self._look_up(query.question[0], reply)
        if behaviour.get("tc") and transport == UDP:
            reply.flags |= dns.flags.TC
            reply.answer = reply.answer[: behaviour.get("keep", 0)]
            reply.authority, reply.additional = [], []
        return reply

    def _look_up(self, question: dns.rrset.RRset, reply: dns.message.Message) -> None:
        """Put the records there are into the reply, or the SOA of a negative one."""
        rtype, owner, name = dns.rdatatype.to_text(question.rdtype), question.name, _folded(question.name)
        for _ in range(MAX_ALIASES):
            if found := self._records.get((name, rtype)):
                reply.answer += [_owned_by(owner, rrset) for rrset in found]
                return
            aliases = self._records.get((name, "CNAME"))
            if aliases is None:
                break
            reply.answer.append(_owned_by(owner, aliases[0]))
            owner = aliases[0][0].target
            name = _folded(owner)
        is_known = any(known == name for known, _ in self._records)
        if not is_known and not reply.answer and reply.rcode() == dns.rcode.NOERROR:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        soa = self._spec.get("soa", f"{_apex(question.name)} 60 IN SOA {_SOA_DATA}")
        reply.authority.extend(_rrsets([soa] if soa else []))


def _fields(seen: Seen, query: dns.message.Message, transport: str) -> Mapping[str, Any]:
    question = query.question[0]
    return {
        "proto": transport,
        "src": seen.client[0],
        "name": question.name.to_text().lower(),
        "type": dns.rdatatype.to_text(question.rdtype),
        "class": dns.rdataclass.to_text(question.rdclass),
        **{name: bool(query.flags & dns.flags.Flag[name.upper()]) for name in ("rd", "cd", "ad")},
        "edns": query.edns >= 0,
        "do": _has_do(query),
        "bufsize": query.payload if query.edns >= 0 else 0,
        **{f"opt{int(option.otype)}": (option.to_wire() or b"").hex() for option in query.options},
    }


def _has(query: Mapping[str, Any], name: str, value: Any) -> bool:
    if name == "below":
        return f".{query['name']}".endswith(f".{value.lower()}")
    values = [found.lower() for found in _listed(value)] if name == "name" else _listed(value)
    return query.get(name) in values


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _behaviours(found: Behaviour | list[Behaviour]) -> list[Behaviour]:
    behaviours = [behaviour or {} for behaviour in _listed(found)]
    for behaviour in behaviours:
        _refuse_unknown(behaviour, _BEHAVIOUR_KEYS)
    return behaviours


def _rrsets(lines: Iterable[str]) -> Iterable[dns.rrset.RRset]:
    # One RRset for each record: dnspython shuffles the records of one.
    for line in lines:
        owner, ttl, rclass, rtype, rdata = line.split(None, 4)
        yield dns.rrset.from_text(owner, int(ttl), rclass, rtype, rdata)


def _owned_by(owner: dns.name.Name, rrset: dns.rrset.RRset) -> dns.rrset.RRset:
    return dns.rrset.from_rdata(owner, rrset.ttl, rrset[0])


def _apex(name: dns.name.Name) -> dns.name.Name:
    return name.split(min(3, len(name)))[1]


def _folded(name: dns.name.Name) -> dns.name.Name:
    return name.canonicalize()


def _has_do(query: dns.message.Message) -> bool:
    return bool(query.ednsflags & dns.flags.DO)


def _refuse_unknown(found: Mapping[str, Any], known: frozenset[str]) -> None:
    unknown = set(found) - known
    if unknown:
        raise ValueError(f"unknown keys {sorted(unknown)} of an upstream")
