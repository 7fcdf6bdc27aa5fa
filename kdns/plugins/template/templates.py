"""The plugin: finds the template a query is for, and makes its records."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from kdns.dns import names
from kdns.dns.codes import Rcode, RRClass, RRType
from kdns.dns.compression import OWNER, Body, write_body
from kdns.dns.query import Query
from kdns.dns.records import read_answers, with_classes
from kdns.dns.reply import Reply
from kdns.dns.rrset import Record
from kdns.errors import Dropped, FormatError, ServeError
from kdns.metrics import Family, Registry
from kdns.plugins.pattern import Pattern
from kdns.plugins.plugin import Handler, Request
from kdns.plugins.template.language import Template, TemplateError
from kdns.plugins.template.query_data import TemplateData, query_labels
from kdns.plugins.template.records import ClassedRecord, RecordSyntaxError, parse_record

_CHASED = frozenset((RRType.A, RRType.AAAA))  # types of question whose CNAME answers are followed
_NAMELESS = frozenset((RRType.A, RRType.AAAA, RRType.TXT))  # types whose data holds no name


@dataclass(frozen=True, slots=True)
class RecordTemplate:
    """The template of one record."""

    section: str
    template: Template


@dataclass(frozen=True, slots=True)
class Responder:
    """One `template` directive."""

    qclass: int
    qtype: int
    zones: tuple[bytes, ...]
    patterns: tuple[Pattern, ...]  # empty: every name is met
    records: tuple[RecordTemplate, ...]  # answers, then additionals, then authorities
    rcode: int
    extended_error: tuple[int, str] | None
    fallthrough: tuple[bytes, ...]

    def is_asked(self, qclass: int, qtype: int) -> bool:
        """Whether a question's class and type are this one's."""
        return (
            RRClass.ANY in (self.qclass, qclass) or self.qclass == qclass
        ) and (RRType.ANY in (self.qtype, qtype) or self.qtype == qtype)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TemplateMetrics:
    """What is counted."""

    matches: Family
    template_failures: Family
    record_failures: Family

    @staticmethod
    def register(registry: Registry) -> TemplateMetrics:
        """The families in a registry."""
        labels = ("server", "zone", "view", "class", "type")
        of_record = (*labels, "section", "template")
        return TemplateMetrics(
            registry.counter("coredns_template_matches_total", "Counter of template regex matches.", labels),
            registry.counter("coredns_template_template_failures_total", "Counter of go template failures.", of_record),
            registry.counter("coredns_template_rr_failures_total", "Counter of mis-templated RRs.", of_record),
        )


class Templates:
    """Answers names of some zones with records made of the question."""

    transparent = False

    def __init__(self, responders: Sequence[Responder], metrics: TemplateMetrics) -> None:
        self._responders = tuple(responders)
        self._metrics = metrics

    def touches(self) -> list[bytes]:
        """The suffixes of the names it may answer."""
        return sorted({zone for responder in self._responders for zone in responder.zones})

    async def serve(self, request: Request, next_handler: Handler) -> Reply:
        """Answer by the first template that is for the question; hand on where none is."""
        query = request.query
        name = ""
        for responder in self._responders:
            zone = names.longest_zone(query.qname, responder.zones)
            if zone is None or not responder.is_asked(query.qclass, query.qtype):
                continue
            name = name or names.to_text(query.qname)
            data = _match(responder, request, name, zone)
            if data is not None:
                return await self._answer(responder, request, data)
            if names.longest_zone(query.qname, responder.fallthrough) is None:
                raise ServeError("", Rcode.SERVFAIL)
        return await next_handler(request)

    async def _answer(self, responder: Responder, request: Request, data: TemplateData) -> Reply:
        query = request.query
        labels = (request.server, data.zone, "", *data.labels)
        self._metrics.matches.add(labels=labels)
        if responder.rcode == Rcode.SERVFAIL:
            raise ServeError("", Rcode.SERVFAIL)
        sections: dict[str, list[ClassedRecord]] = {"answer": [], "authority": [], "additional": []}
        truncated = False
        for template in responder.records:
            made = self._make(template, data, labels)
            section = sections[template.section]
            section.append(made)
            if template.section == "answer" and made.record.rtype == RRType.CNAME and query.qtype in _CHASED:
                found, truncated = await _follow(request, made.record.rdata)
                section += [ClassedRecord(record, RRClass.IN) for record in found]
        return Reply(
            responder.rcode,
            _write(query, *sections.values()),
            truncated=truncated,
            extended_error=responder.extended_error,
            forces_opt=responder.extended_error is not None,
            writer="template",
        )

    def _make(self, template: RecordTemplate, data: TemplateData, labels: tuple[str, ...]) -> ClassedRecord:
        try:
            return parse_record(template.template.render(data))
        except TemplateError as error:
            self._metrics.template_failures.add(labels=(*labels, template.section, str(template.template)))
            raise ServeError(str(error)) from error
        except RecordSyntaxError as error:
            self._metrics.record_failures.add(labels=(*labels, template.section, str(template.template)))
            raise ServeError(str(error)) from error


def _write(
    query: Query, answers: list[ClassedRecord], authorities: list[ClassedRecord], additionals: list[ClassedRecord]
) -> Body:
    """The sections as a body."""
    made = [*answers, *authorities, *additionals]
    if len(made) == 1 and answers and made[0].record.owner == query.qname and made[0].record.rtype in _NAMELESS:
        # Nearly all there is in practice, and there is nothing to compress but the owner.
        (_, rtype, ttl, rdata), rclass = made[0]
        return Body(OWNER + struct.pack("!HHIH", rtype, rclass, ttl, len(rdata)) + rdata, 1)
    body = write_body(query.name, *[[one.record for one in section] for section in (answers, authorities, additionals)])
    if any(one.rclass != RRClass.IN for one in made):
        return with_classes(body, [one.rclass for one in made])
    return body


def _match(responder: Responder, request: Request, name: str, zone: bytes) -> TemplateData | None:
    """What the templates are given, by the first expression the name meets; None where it meets none."""
    regex = ".*"
    groups: tuple[str, ...] = (name,)
    group_names: Mapping[str, int] = {}
    for pattern in responder.patterns:
        found = pattern.search(name)
        if found is not None:
            regex, groups, group_names = pattern.text, found, pattern.names
            break
    else:
        if responder.patterns:
            return None
    labels = query_labels(request.query, responder.qclass, responder.qtype)
    return TemplateData(request, name, names.to_text(zone), regex, groups, group_names, labels)


async def _follow(request: Request, target: bytes) -> tuple[list[Record], bool]:
    """(answers, whether they were cut) of what the server says to the same question about a CNAME's target."""
    query = request.query.with_question(target, request.query.qtype)
    try:
        reply = await request.resolve(replace(request, query=query, depth=request.depth + 1))
        return read_answers(query.head, reply.body), reply.truncated
    except (Dropped, FormatError):
        return [], False
