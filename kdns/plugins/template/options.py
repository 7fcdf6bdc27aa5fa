"""From the words of `template` directives to templates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from kdns.corefile import Dispenser
from kdns.dns import names
from kdns.dns.codes import Rcode, class_number, rcode_number, type_number
from kdns.plugins.go_numbers import parse_uint
from kdns.plugins.pattern import Pattern, PatternError, PatternTooLong
from kdns.plugins.plugin import Setup
from kdns.plugins.template.language import Template, TemplateSyntaxError
from kdns.plugins.template.templates import RecordTemplate, Responder, TemplateMetrics, Templates
from kdns.plugins.zones import parse_zones

_SECTIONS = ("answer", "additional", "authority")  # in the order they are carried out


@dataclass(slots=True)
class _Block:
    """What the lines of one directive's block have said so far."""

    patterns: list[Pattern] = field(default_factory=list)
    records: list[RecordTemplate] = field(default_factory=list)
    rcode: int = Rcode.NOERROR
    extended_error: tuple[int, str] | None = None
    fallthrough: tuple[bytes, ...] = ()


def setup(setup: Setup) -> Templates:
    """`template CLASS TYPE [ZONES...] { ... }`, any number of them."""
    directive = setup.directive
    responders = [_responder(directive, setup.zones) for _ in directive.occurrences()]
    return Templates(responders, TemplateMetrics.register(setup.surroundings.metrics))


def _responder(directive: Dispenser, block_zones: tuple[bytes, ...]) -> Responder:
    qclass = class_number(_argument(directive))
    if qclass is None:
        raise directive.error(f"invalid query class {directive.val}")
    qtype = type_number(_argument(directive))
    if qtype is None:
        raise directive.error(f"invalid RR class {directive.val}")
    arguments = directive.remaining_args()
    zones = parse_zones(arguments) if arguments else block_zones
    block = _Block()
    for option in directive.block():
        parse = _OPTIONS.get(option)
        if parse is None:
            raise directive.arg_error()
        parse(directive, block)
    return Responder(
        qclass,
        qtype,
        zones,
        tuple(block.patterns),
        tuple(sorted(block.records, key=lambda record: _SECTIONS.index(record.section))),
        block.rcode,
        block.extended_error,
        block.fallthrough,
    )


def _argument(directive: Dispenser) -> str:
    if not directive.next_arg():
        raise directive.arg_error()
    return directive.val


def _arguments(directive: Dispenser) -> list[str]:
    arguments = directive.remaining_args()
    if not arguments:
        raise directive.arg_error()
    return arguments


def _match(directive: Dispenser, block: _Block) -> None:
    for text in _arguments(directive):
        try:
            block.patterns.append(Pattern(text))
        except PatternTooLong as error:
            raise directive.error(str(error)) from error
        except PatternError as error:
            raise directive.error(f"could not parse regex: {text}, {error}") from error


def _record(directive: Dispenser, block: _Block) -> None:
    section = directive.val
    for text in _arguments(directive):
        try:
            block.records.append(RecordTemplate(section, Template(section, text)))
        except TemplateSyntaxError as error:
            raise directive.error(f"could not compile template: {directive.val}, {error}") from error


def _rcode(directive: Dispenser, block: _Block) -> None:
    rcode = rcode_number(_argument(directive))
    if rcode is None:
        raise directive.error(f"unknown rcode {directive.val}")
    block.rcode = rcode


def _extended_error(directive: Dispenser, block: _Block) -> None:
    arguments = directive.remaining_args()
    if len(arguments) not in (1, 2):
        raise directive.arg_error()
    try:
        code = parse_uint(arguments[0], 10, 16)
    except ValueError as error:
        raise directive.error(f"error parsing extended DNS error code {directive.val}, {error}") from error
    reason = arguments[1] if len(arguments) == 2 else ""
    block.extended_error = (code, reason.encode("utf-8", "replace").decode())


def _fallthrough(directive: Dispenser, block: _Block) -> None:
    arguments = directive.remaining_args()
    block.fallthrough = parse_zones(arguments) if arguments else (names.ROOT,)


def _upstream(directive: Dispenser, block: _Block) -> None:
    """An option of old versions: CNAMEs are always followed now."""
    directive.remaining_args()


_OPTIONS: dict[str, Callable[[Dispenser, _Block], None]] = {
    "match": _match,
    "answer": _record,
    "additional": _record,
    "authority": _record,
    "rcode": _rcode,
    "ederror": _extended_error,
    "fallthrough": _fallthrough,
    "upstream": _upstream,
}
