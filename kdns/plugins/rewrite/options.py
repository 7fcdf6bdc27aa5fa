"""From the words of `rewrite` lines to rules. Complaints are CoreDNS's, which cite no line."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kdns.dns.codes import class_number, rcode_number, type_number
from kdns.errors import CorefileError
from kdns.plugins.go_numbers import parse_uint, quoted
from kdns.plugins.pattern import Pattern, PatternError, PatternTooLong, Replacement, groups_used
from kdns.plugins.plugin import Setup
from kdns.plugins.rewrite.answers import ClampTtl, MapNames, ReplaceRcode, ResponseRule, RetargetCname
from kdns.plugins.rewrite.edns_options import edns_rule
from kdns.plugins.rewrite.matching import MatchType, NameMatch, fqdn, to_wire
from kdns.plugins.rewrite.name_maps import PatternMap, SuffixMap
from kdns.plugins.rewrite.rewriting import Rewrite
from kdns.plugins.rewrite.rules import ClassRule, NameRule, ReplyRule, Rule, TypeRule, substitute

MAX_TTL = 2**31 - 1  # seconds (RFC 2181, 8)
MAX_RCODE = 23  # the highest response code that can be named by its number, as CoreDNS

_MODES = ("continue", "stop")


def setup(setup: Setup) -> Rewrite:
    """`rewrite [continue|stop] FIELD ...`, or its words in a block; each occurrence is one rule."""
    directive = setup.directive
    rules = []
    for _ in directive.occurrences():
        words = directive.remaining_args()
        if len(words) < 2:
            words += directive.block()
        rules.append(parse_rule(words))
    return Rewrite(rules)


def parse_rule(words: Sequence[str]) -> Rule:
    """The rule of one line's words. Raises CorefileError."""
    if not words:
        raise CorefileError("no rule type specified for rewrite")
    mode, arguments = "stop", list(words)
    if words[0].lower() in _MODES:
        mode, arguments = words[0].lower(), list(words[1:])
        if not arguments:
            raise CorefileError(f"{mode} rule must begin with a rule type")
    stops, field, arguments = mode == "stop", arguments[0].lower(), arguments[1:]
    match field:
        case "answer":
            raise CorefileError("response rewrites must begin with a name rule")
        case "name":
            return _name_rule(stops, arguments)
        case "type":
            return TypeRule(stops, *_two_mnemonics(field, arguments, type_number))
        case "class":
            return ClassRule(stops, *_two_mnemonics(field, arguments, class_number))
        case "edns0":
            return edns_rule(stops, arguments)
        case "ttl":
            return _ttl_rule(stops, arguments)
        case "cname":
            return _cname_rule(stops, arguments)
        case "rcode":
            return _rcode_rule(stops, arguments)
    raise CorefileError(f"invalid rule type {quoted(words[0])}")


def _name_rule(stops: bool, arguments: list[str]) -> NameRule:
    if len(arguments) < 2:
        raise CorefileError("too few arguments for a name rule")
    kind, was, becomes = arguments[:3] if len(arguments) > 2 else ["exact", *arguments]
    kind = kind.lower()
    # Answer rules are complained about first, as CoreDNS does.
    auto, answers = _answer_rules(kind, arguments[3:]) if len(arguments) > 3 else (False, [])
    if kind not in tuple(MatchType):
        raise CorefileError(
            "name rule supports only exact, prefix, suffix, substring, and regex name matching, "
            f"received: {kind}"
        )  # fmt: skip
    if kind == MatchType.REGEX:
        pattern = _pattern_for(was, becomes)
        match = NameMatch.by_pattern(pattern)
        return NameRule(stops, match, becomes, auto, tuple(answers), Replacement(fqdn(becomes), pattern.groups))
    was, becomes = fqdn(was), fqdn(becomes)
    match = NameMatch.by_text(MatchType(kind), was)
    if match.kind is MatchType.EXACT:
        _pattern_for(becomes, was)
        auto = True
    elif match.kind is MatchType.SUFFIX and auto:
        answers.insert(0, MapNames(SuffixMap(becomes, was)))
        auto = False
    return NameRule(stops, match, becomes, auto, tuple(answers))


def _answer_rules(kind: str, words: list[str]) -> tuple[bool, list[ResponseRule]]:
    """`answer auto`, `[answer] name RE TO`, `[answer] value RE TO`, in any number: (auto, the others)."""
    if len(words) < 2:
        raise CorefileError(f"invalid arguments for {kind} rule")
    if words[0] != "answer":
        raise CorefileError(f"exceeded the number of arguments for a non-answer rule argument for {kind} rule")
    auto, names_owners, rules, at = False, False, [], 0
    while at < len(words):
        if words[at] == "answer":
            at += 1
        if at == len(words):
            raise CorefileError(f"type missing for answer rule for {kind} rule")
        what = words[at]
        at += 1
        if what == "auto":
            auto = True
            continue
        if what not in ("name", "value"):
            raise CorefileError(f"invalid type {quoted(what)} for answer rule for {kind} rule")
        if len(words) - at < 2:
            raise CorefileError(f"{what} answer rule for {kind} rule: 2 arguments required")
        was, becomes = words[at : at + 2]
        at += 2
        try:
            pattern = _pattern_for(was, becomes)
        except CorefileError as error:
            raise CorefileError(f"{what} answer rule for {kind} rule: {error}") from error
        by = PatternMap(pattern, Replacement(fqdn(becomes), pattern.groups))
        rules.append(MapNames(by, owners=what == "name", values=what == "value"))
        names_owners = names_owners or what == "name"
    if auto and names_owners:
        # The word as CoreDNS spells it.
        raise CorefileError("auto name answer rule cannot be combined with explicit name anwer rules")
    return auto, list(rules)


def _pattern_for(text: str, replacement: str) -> Pattern:
    """The expression `text`, with groups enough for a replacement. Raises CorefileError."""
    try:
        pattern = Pattern(text)
    except PatternTooLong:
        raise
    except PatternError as error:
        raise CorefileError(f"invalid regex matching pattern: {text}", hint=str(error)) from error
    if groups_used(replacement) > pattern.groups:
        raise CorefileError(
            f"the rewrite regex pattern ({replacement}) uses more subexpressions than its corresponding "
            f"matching regex pattern ({text})"
        )
    return pattern


def _two_mnemonics(field: str, arguments: list[str], number: Callable[[str], int | None]) -> tuple[int, int]:
    if len(arguments) != 2:
        raise CorefileError(f"{field} rules must have exactly two arguments")
    numbers = []
    for text in arguments:
        value = number(text.upper())
        if value is None:
            raise CorefileError(f"invalid {field} {quoted(text.upper())}")
        numbers.append(value)
    return numbers[0], numbers[1]


def _condition(field: str, arguments: list[str]) -> NameMatch:
    """The match of a `ttl` or `rcode` rule: a name, or a kind of match and what it compares with."""
    if len(arguments) == 1:
        return NameMatch.by_text(MatchType.EXACT, fqdn(arguments[0]))
    kind, text = arguments[0].lower(), arguments[1]
    if kind not in tuple(MatchType):
        raise CorefileError(
            f"{field} rule supports only exact, prefix, suffix, substring, and regex name matching"
        )  # fmt: skip
    if kind != MatchType.REGEX:
        return NameMatch.by_text(MatchType(kind), fqdn(text))
    try:
        return NameMatch.by_pattern(Pattern(text))
    except PatternTooLong as error:
        said = str(error).replace("too long", f"too long in a {field} rule")
        raise CorefileError(said) from error
    except PatternError as error:
        raise CorefileError(f"invalid regex pattern in a {field} rule: {text}", hint=str(error)) from error


def _ttl_rule(stops: bool, arguments: list[str]) -> ReplyRule:
    if len(arguments) < 2:
        raise CorefileError(f"too few ({len(arguments)}) arguments for a ttl rule")
    text = arguments[-1] if len(arguments) <= 3 else ""
    limits = _ttl_limits(text)
    if limits is None:
        raise CorefileError(f"invalid TTL '{text}' for a ttl rule")
    return ReplyRule(stops, _condition("ttl", arguments[:-1]), ClampTtl(*limits))


def _ttl_limits(text: str) -> tuple[int, int] | None:
    """`N`, `MIN-MAX`, `-MAX`, `MIN-`."""
    first, dash, last = text.partition("-")
    try:
        if not dash:
            return (parse_uint(first, 10, 32),) * 2
        if not first and not last:
            return None
        least = parse_uint(first, 10, 32) if first else 0
        most = parse_uint(last, 10, 32) if last else MAX_TTL
    except ValueError:
        return None
    return (least, most) if least <= most else None


def _rcode_rule(stops: bool, arguments: list[str]) -> ReplyRule:
    if len(arguments) < 3:
        raise CorefileError(f"too few ({len(arguments)}) arguments for a rcode rule")
    texts = arguments[-2:] if len(arguments) <= 4 else ["", ""]
    was, becomes = _rcode(texts[0]), _rcode(texts[1])
    if was is None:
        raise CorefileError(f"invalid matching RCODE '{texts[0]}' for a rcode rule")
    if becomes is None:
        raise CorefileError(f"invalid replacement RCODE '{texts[1]}' for a rcode rule")
    return ReplyRule(stops, _condition("rcode", arguments[:-2]), ReplaceRcode(was, becomes))


def _rcode(text: str) -> int | None:
    try:
        number = parse_uint(text, 10, 32)
    except ValueError:
        return rcode_number(text.upper())
    return number if number <= MAX_RCODE else None


def _cname_rule(stops: bool, arguments: list[str]) -> ReplyRule:
    if len(arguments) not in (2, 3):
        raise CorefileError(f"too few ({len(arguments)}) arguments for a cname rule")
    kind, was, becomes = arguments if len(arguments) == 3 else ["exact", *arguments]
    kind = kind.lower()
    if kind not in tuple(MatchType):
        raise CorefileError(f"unknown cname rewrite type: {kind}")
    if kind == MatchType.REGEX:
        return ReplyRule(stops, None, RetargetCname(_retarget_by_pattern(was, becomes)))
    if kind == MatchType.EXACT:
        was, becomes = fqdn(was), fqdn(becomes)
    match = NameMatch.by_text(MatchType(kind), was.lower())
    return ReplyRule(stops, None, RetargetCname(_retarget(match, becomes.lower())))


def _retarget(match: NameMatch, becomes: str) -> Callable[[str], bytes | None]:
    def retarget(target: str) -> bytes | None:
        lowered = target.lower()
        if not match.text or not becomes or not match.meets(lowered):
            return None
        return to_wire(substitute(match, lowered, becomes))

    return retarget


def _retarget_by_pattern(was: str, becomes: str) -> Callable[[str], bytes | None]:
    try:
        pattern = Pattern(was)
    except PatternTooLong as error:
        raise CorefileError(str(error).replace("too long", "too long in a cname rule")) from error
    except PatternError as error:
        raise CorefileError(f"invalid cname rewrite regex pattern: {error}") from error
    replacement = Replacement(becomes.lower(), pattern.groups)

    def retarget(target: str) -> bytes | None:
        groups = pattern.search(target)
        return None if groups is None or not becomes else to_wire(replacement.expand(groups))

    return retarget
