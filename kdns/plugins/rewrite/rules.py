"""What rules do to a question on its way in, and which rules for the reply come of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from kdns.dns import names
from kdns.dns.query import Query
from kdns.errors import ServeError
from kdns.plugins.pattern import Replacement
from kdns.plugins.plugin import NameRewrite, Request
from kdns.plugins.rewrite.answers import MapNames, ResponseRule
from kdns.plugins.rewrite.matching import MatchType, NameMatch, to_wire
from kdns.plugins.rewrite.name_maps import Restore


class Asked:
    """The question as the rules so far have left it, and who asks."""

    def __init__(self, query: Query, request: Request) -> None:
        self.query = query
        self.request = request

    @cached_property
    def name(self) -> str:
        """The name as rules compare it: text in lower case."""
        return names.to_text(self.query.qname)


Outcome = tuple[Query, Sequence[ResponseRule]]


class Rule(Protocol):
    """One `rewrite` line."""

    @property
    def stops(self) -> bool:
        """Whether the rules behind it are left out where this one applies."""
        ...

    def apply(self, asked: Asked) -> Outcome | None:
        """The question from here on, and what to do to the reply; None where the rule is not for it.

        Raises ServeError where the question becomes none.
        """
        ...

    def touched(self) -> bytes | None:
        """A suffix all names it may be for end in; None where any name may be."""
        ...


@dataclass(frozen=True, slots=True)
class NameRule:
    """`name`: the question's name becomes another."""

    stops: bool
    match: NameMatch
    to: str
    auto: bool  # every name in the reply that the question's became is turned back
    answers: tuple[ResponseRule, ...] = ()
    replacement: Replacement | None = None  # of an expression's match

    def apply(self, asked: Asked) -> Outcome | None:
        """The question with the other name."""
        name = self._rewritten(asked.name)
        if name is None:
            return None
        wire = to_wire(name)
        if wire is None:
            raise ServeError(f"invalid name after rewrite: {name}")
        query = asked.query
        rewritten = query.with_question(wire, query.qtype)
        if not self.auto:
            return rewritten, self.answers
        return rewritten, (MapNames(Restore(rewritten.qname, query.name)), *self.answers)

    def touched(self) -> bytes | None:
        """A suffix all names it may be for end in."""
        return self.match.touched()

    def compiled(self) -> NameRewrite | None:
        """What it does, where that is as simple as the compiled path can do it."""
        match = self.match
        if not self.stops or match.kind not in (MatchType.EXACT, MatchType.SUFFIX) or "\\" in match.text + self.to:
            return None
        is_exact = match.kind is MatchType.EXACT
        if not is_exact and not (match.text.startswith(".") and self.to.startswith(".") and len(self.to) > 1):
            return None
        suffix = self.touched()
        becomes = to_wire(self.to if is_exact else self.to[1:])
        restores = self.auto or bool(self.answers)
        # What an exact rule does besides, and explicit answer rules, are not simple.
        is_simple = (
            not self.answers if is_exact else all(isinstance(rule, MapNames) and rule.restores for rule in self.answers)
        )
        if suffix is None or becomes is None or not is_simple or (not is_exact and self.auto):
            return None
        return NameRewrite(suffix, becomes, is_exact, restores)

    def _rewritten(self, name: str) -> str | None:
        match = self.match
        if match.kind is MatchType.REGEX:
            groups = match.groups(name)
            assert self.replacement is not None
            return None if groups is None else self.replacement.expand(groups)
        if not match.meets(name):
            return None
        return substitute(match, name, self.to)


@dataclass(frozen=True, slots=True)
class TypeRule:
    """`type`: one type becomes another."""

    stops: bool
    was: int
    becomes: int

    def apply(self, asked: Asked) -> Outcome | None:
        """The question with the other type."""
        query = asked.query
        if query.qtype != self.was:
            return None
        return query.with_question(query.name, self.becomes), ()

    def touched(self) -> bytes | None:
        """Any name."""
        return None


@dataclass(frozen=True, slots=True)
class ClassRule:
    """`class`: one class becomes another."""

    stops: bool
    was: int
    becomes: int

    def apply(self, asked: Asked) -> Outcome | None:
        """The question with the other class."""
        if asked.query.qclass != self.was:
            return None
        return asked.query.with_class(self.becomes), ()

    def touched(self) -> bytes | None:
        """Any name."""
        return None


@dataclass(frozen=True, slots=True)
class ReplyRule:
    """`ttl`, `rcode`, `cname`: something is done to the reply. Without a match it is for every name."""

    stops: bool
    match: NameMatch | None
    response: ResponseRule

    def apply(self, asked: Asked) -> Outcome | None:
        """The question as it is."""
        if self.match is not None and not self.match.meets(asked.name):
            return None
        return asked.query, (self.response,)

    def touched(self) -> bytes | None:
        """A suffix all names it may be for end in; None where any name may be."""
        return None if self.match is None else self.match.touched()


def substitute(match: NameMatch, name: str, to: str) -> str:
    """A name that meets a match, with `to` where it does."""
    match match.kind:
        case MatchType.EXACT:
            return to
        case MatchType.PREFIX:
            return to + name.removeprefix(match.text)
        case MatchType.SUFFIX:
            return name.removesuffix(match.text) + to
    return name.replace(match.text, to)
