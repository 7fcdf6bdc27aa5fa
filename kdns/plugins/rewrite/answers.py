"""What rules do to a reply on its way back to the client."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from kdns.dns import names
from kdns.dns.codes import RRClass, RRType
from kdns.dns.compression import HEADER_SIZE, OWNER, Body, write_body
from kdns.dns.query import Query
from kdns.dns.records import read_answers, read_sections, with_classes
from kdns.dns.reply import Reply
from kdns.dns.rrset import Record
from kdns.errors import Dropped
from kdns.plugins.plugin import Request
from kdns.plugins.rewrite.name_maps import NameMap

# Octets before the name in the data of the types whose name a rule may change; behind it come what else there is.
_VALUE_AT = {
    RRType.CNAME: 0,
    RRType.DNAME: 0,
    RRType.NS: 0,
    RRType.PTR: 0,
    RRType.SOA: 0,
    RRType.MX: 2,
    RRType.SRV: 6,
}
_NAPTR_TEXTS_AT = 4  # octets before the three texts of a NAPTR record (RFC 3403, 4.1)
_ADDRESS_RECORD_SIZES = (16, 28)  # octets of an A and an AAAA record whose owner is a pointer


@dataclass(slots=True)
class Answered:
    """A reply while rules change it. `fetched` are answers of another question, which rules leave alone."""

    rcode: int
    truncated: bool
    answers: list[Record]
    authorities: list[Record]
    additionals: list[Record]
    fetched: list[Record] = field(default_factory=list)

    def change_records(self, change: Callable[[Record], Record]) -> None:
        """Put another record in each one's place."""
        self.answers = [change(record) for record in self.answers]
        self.authorities = [change(record) for record in self.authorities]
        self.additionals = [change(record) for record in self.additionals]


class ResponseRule:
    """Something to do to a reply; this one does nothing."""

    changes_records = True

    def rewrite_rcode(self, rcode: int) -> int:
        """What a response code becomes."""
        return rcode

    def apply(self, answered: Answered) -> None:
        """Change the records."""

    async def fetch(self, answered: Answered, request: Request) -> None:
        """Change the records by what the server says to other questions; `request` is the one the reply is for."""
        self.apply(answered)


@dataclass(frozen=True, slots=True)
class MapNames(ResponseRule):
    """`answer auto`, `answer name`, `answer value`: owners, and names in the data, become others."""

    names: NameMap
    owners: bool = True
    values: bool = True

    @property
    def restores(self) -> bool:
        """Whether it undoes what was done to the question's name, and nothing else."""
        return self.owners and self.names.restores

    def apply(self, answered: Answered) -> None:
        """Change the records."""
        answered.change_records(self._map)

    def _map(self, record: Record) -> Record:
        owner = self.names.map(record.owner) if self.owners else record.owner
        rdata = _map_value(record, self.names) if self.values else record.rdata
        if owner is record.owner and rdata is record.rdata:
            return record
        return record._replace(owner=owner, rdata=rdata)


@dataclass(frozen=True, slots=True)
class ClampTtl(ResponseRule):
    """`ttl`: no TTL is below or above these."""

    least: int  # seconds
    most: int

    def apply(self, answered: Answered) -> None:
        """Change the records."""
        answered.change_records(lambda record: record._replace(ttl=min(max(record.ttl, self.least), self.most)))


@dataclass(frozen=True, slots=True)
class ReplaceRcode(ResponseRule):
    """`rcode`: one response code becomes another."""

    was: int
    becomes: int
    changes_records = False

    def rewrite_rcode(self, rcode: int) -> int:
        """What a response code becomes."""
        return self.becomes if rcode == self.was else rcode


@dataclass(frozen=True, slots=True)
class RetargetCname(ResponseRule):
    """`cname`: a CNAME's target becomes another, and what the server knows of that one follows it."""

    retarget: Callable[[str], bytes | None]  # the new target of a target's text; None: it stays

    async def fetch(self, answered: Answered, request: Request) -> None:
        """The first CNAME whose target the rule is for ends the answers; the new target's stand behind it."""
        for index, record in enumerate(answered.answers):
            if record.rtype != RRType.CNAME:
                continue
            target = self.retarget(names.to_text(record.rdata))
            if target is None:
                continue
            query = request.query.with_question(target, request.query.qtype)
            try:
                inner = await request.resolve(replace(request, query=query, depth=request.depth + 1))
            except Dropped:
                return
            chain = [before for before in answered.answers[:index] if before.rtype == RRType.CNAME]
            answered.answers = [*chain, record._replace(rdata=target)]
            answered.fetched = read_answers(query.head, inner.body)
            answered.truncated = inner.truncated
            return


async def revert(asked: Query, request: Request, reply: Reply, rules: Sequence[ResponseRule]) -> Reply:
    """The reply to `request`, which came of `asked`, made one to `asked`; the rules apply from the last to the first.

    Raises FormatError where the reply cannot be read.
    """
    rcode = reply.rcode
    for rule in reversed(rules):
        rcode = rule.rewrite_rcode(rcode)
    changing = [rule for rule in rules if rule.changes_records]
    same_name = request.query.name == asked.name
    if not reply.body.octets or (same_name and not changing):
        return replace(reply, rcode=rcode)
    if _is_addresses_of_question(reply.body) and all(isinstance(rule, MapNames) for rule in changing):
        owner = names.lower(_map_owner(request.query.qname, changing))
        # Pointers to the question's name are right for any name.
        body = reply.body if owner == asked.qname else _spell_owners(reply.body, owner, asked.qname)
        return replace(reply, rcode=rcode, body=body)
    answered = Answered(rcode, reply.truncated, *read_sections(request.query.head, reply.body))
    for rule in reversed(changing):
        await rule.fetch(answered, request)
    # Names that lead in a circle would come around again until the server stops asking (RFC 2181, 5: no duplicates).
    answers = list(dict.fromkeys([*answered.answers, *answered.fetched])) if answered.fetched else answered.answers
    body = write_body(asked.name, answers, answered.authorities, answered.additionals)
    if request.query.qclass not in (RRClass.IN, RRClass.ANY):
        body = with_classes(body, [request.query.qclass] * (body.answers + body.authorities + body.additionals))
    return replace(reply, rcode=rcode, truncated=answered.truncated, body=body)


def _map_owner(owner: bytes, rules: Sequence[ResponseRule]) -> bytes:
    for rule in reversed(rules):
        if isinstance(rule, MapNames) and rule.owners:
            owner = rule.names.map(owner)
    return owner


def _map_value(record: Record, by: NameMap) -> bytes:
    """The data of a record with its name mapped; the very same where nothing changes."""
    rdata = record.rdata
    if record.rtype == RRType.NAPTR:
        start = _NAPTR_TEXTS_AT
        for _ in range(3):
            if start >= len(rdata):
                return rdata
            start += 1 + rdata[start]
    else:
        known = _VALUE_AT.get(record.rtype)  # type: ignore[call-overload]
        if known is None:
            return rdata
        start = known
    end = _name_end(rdata, start)
    if end is None:
        return rdata
    name = rdata[start:end]
    mapped = by.map(name)
    return rdata if mapped == name else rdata[:start] + mapped + rdata[end:]


def _name_end(rdata: bytes, at: int) -> int | None:
    """The offset behind the name at `at`; None where none stands there."""
    while at < len(rdata) and rdata[at] <= names.MAX_LABEL:
        if rdata[at] == 0:
            return at + 1
        at += 1 + rdata[at]
    return None


def _spell_owners(body: Body, owner: bytes, question: bytes) -> Body:
    """Addresses of the question made addresses of another owner. Each spells it, so that any may be the first."""
    known = names.parents(question)[:-1]
    above = next((name for name in names.parents(owner)[:-1] if name in known), None)
    spelled = owner
    if above is not None:
        pointer = 0xC000 | (HEADER_SIZE + len(question) - len(above))
        spelled = owner[: len(owner) - len(above)] + pointer.to_bytes(2, "big")
    size = len(body.octets) // body.answers
    records = [spelled + body.octets[at + 2 : at + size] for at in range(0, len(body.octets), size)]
    length = len(spelled) - 2 + size if body.answers > 1 else 0
    return Body(b"".join(records), body.answers, record_length=length)


def _is_addresses_of_question(body: Body) -> bool:
    """Whether all there is are addresses, each owned by a pointer to the question's name."""
    if body.authorities or body.additionals or not body.answers:
        return False
    octets = body.octets
    size, rest = divmod(len(octets), body.answers)
    if rest or size not in _ADDRESS_RECORD_SIZES:
        return False
    owners = range(0, len(octets), size)
    rtype = b"\0\x01" if size == _ADDRESS_RECORD_SIZES[0] else b"\0\x1c"
    return all(octets[at : at + 4] == OWNER + rtype for at in owners)
