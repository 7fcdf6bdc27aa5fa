"""The plugin: questions in, replies back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kdns.dns import names
from kdns.dns.reply import Reply
from kdns.errors import FormatError, ServeError
from kdns.plugins.plugin import Handler, NameRewrite, Request
from kdns.plugins.rewrite.answers import ResponseRule, revert
from kdns.plugins.rewrite.rules import Asked, NameRule, Rule


class Rewrite:
    """Asks the rest of the chain another question, and answers the client's own."""

    transparent = False

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = tuple(rules)

    async def serve(self, request: Request, next_handler: Handler) -> Reply:
        """Hand the rewritten question on; the reply is for the question as the client sent it."""
        query = request.query
        responses: list[ResponseRule] = []
        asked = Asked(query, request)
        for rule in self._rules:
            outcome = rule.apply(asked)
            if outcome is None:
                continue
            if outcome[0] is not asked.query:
                asked = Asked(outcome[0], request)
            responses += outcome[1]
            if rule.stops:
                break
        if asked.query is query and not responses:
            return await next_handler(request)
        rewritten = replace(request, query=asked.query)
        try:
            reply = await next_handler(rewritten)
        except ServeError as error:
            rcode = _rewrite_rcode(error.rcode, responses)
            if rcode == error.rcode:
                raise
            raise ServeError(str(error), rcode) from error
        try:
            return await revert(query, rewritten, reply, responses)
        except FormatError as error:
            raise ServeError(f"reply cannot be rewritten: {error}") from error

    def touches(self) -> list[bytes] | None:
        """The suffixes that names a rule may be for end in; None where any name may be one."""
        suffixes = [rule.touched() for rule in self._rules]
        found = [suffix for suffix in suffixes if suffix is not None]
        return found if len(found) == len(suffixes) else None

    def rewrites(self) -> list[NameRewrite]:
        """The rules that are simple, but for those whose names an earlier rule may be for."""
        found: list[NameRewrite] = []
        taken: list[bytes] = []
        for rule in self._rules:
            suffix = rule.touched()
            if suffix is None:
                break
            made = rule.compiled() if isinstance(rule, NameRule) else None
            if made is not None and names.longest_zone(suffix, tuple(taken)) is None:
                found.append(made)
            taken.append(suffix)
        return found


def _rewrite_rcode(rcode: int, rules: Sequence[ResponseRule]) -> int:
    for rule in reversed(rules):
        rcode = rule.rewrite_rcode(rcode)
    return rcode
