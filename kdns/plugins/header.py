"""`header`: sets and clears flags of queries and replies."""

from __future__ import annotations

from dataclasses import replace

from kdns.dns.query import Query
from kdns.dns.reply import Reply
from kdns.errors import CorefileError
from kdns.plugins.plugin import Handler, Request, Setup

FLAGS = {"aa": "authoritative", "ra": "recursion_available", "rd": "recursion_desired"}  # and the fields of a Reply
ACTIONS = {"set": True, "clear": False}
RECURSION_DESIRED = 0x01  # in the third octet of a header (RFC 1035, 4.1.1)

Rules = dict[str, bool]  # by flag; of several rules for one the last counts


class Header:
    """Changes the flags of what passes. Of a query's flags only RD means anything to who comes next."""

    transparent = False

    def __init__(self, query_rules: Rules, reply_rules: Rules) -> None:
        self._recursion = query_rules.get("rd")
        self._changes: dict[str, bool] = {FLAGS[flag]: state for flag, state in reply_rules.items()}

    async def serve(self, request: Request, next_handler: Handler) -> Reply:
        """Change the query, hand on, and change the reply; errors the server makes itself stay as they are."""
        if self._recursion is None:
            reply = await next_handler(request)
        else:
            changed = replace(request, query=_with_recursion(request.query, self._recursion))
            reply = await next_handler(changed)
            if reply.recursion_desired is None:
                reply = replace(reply, recursion_desired=self._recursion)  # a reply has the flag of its query
        return replace(reply, **self._changes) if self._changes else reply  # type: ignore[arg-type]


def setup(setup: Setup) -> Header:
    """`header { [query|response] set|clear aa|ra|rd... }`; of several blocks the first with a rule counts."""
    directive = setup.directive
    for _ in directive.occurrences():
        rules: dict[str, Rules] = {"query": {}, "response": {}}
        for option in directive.block():
            selector, action = option.lower(), ""
            if selector in ACTIONS:
                # As it was written before queries had rules.
                selector, action = "response", selector
            elif selector not in rules:
                raise CorefileError(f"setting up rule: invalid selector={selector} should be query or response")
            elif directive.next_arg():
                action = directive.val.lower()
            rules[selector] |= _parse_rules(action, directive.remaining_args())
        if rules["query"] or rules["response"]:
            return Header(rules["query"], rules["response"])
    raise directive.arg_error()


def _parse_rules(action: str, flags: list[str]) -> Rules:
    if not action:
        raise CorefileError("setting up rule: no flag action provided")
    if not flags:
        raise CorefileError("setting up rule: invalid length for flags, at least one should be provided")
    if action not in ACTIONS:
        raise CorefileError(f"setting up rule: unknown flag action={action}, should be set or clear")
    for flag in flags:
        if flag.lower() not in FLAGS:
            raise CorefileError(f"setting up rule: unknown/unsupported flag={flag.lower()}")
    return {flag.lower(): ACTIONS[action] for flag in flags}


def _with_recursion(query: Query, desired: bool) -> Query:
    octet = query.head[2] | RECURSION_DESIRED if desired else query.head[2] & ~RECURSION_DESIRED
    return replace(query, head=query.head[:2] + bytes([octet]) + query.head[3:])
