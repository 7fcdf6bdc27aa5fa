"""`acl`: who may ask what. The first policy a query meets decides; a query that meets none is served."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum

from kdns.corefile import Dispenser
from kdns.dns import names
from kdns.dns.codes import ExtendedError, Rcode, type_number
from kdns.dns.reply import Reply
from kdns.errors import Dropped
from kdns.metrics import Family
from kdns.plugins.networks import Network, NetworkSet, parse_network
from kdns.plugins.plugin import Handler, Request, Setup, Surroundings
from kdns.plugins.zones import parse_zones

SECTIONS = ("type", "net")


class Action(StrEnum):
    """What becomes of a query."""

    ALLOW = "allow"
    BLOCK = "block"
    FILTER = "filter"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class Policy:
    """An action, and the queries it is for."""

    action: Action
    types: frozenset[int] | None  # None: all
    clients: NetworkSet | None  # None: all

    def meets(self, qtype: int, client: bytes) -> bool:
        """Whether a question of this type by this client is one of them."""
        return (self.types is None or qtype in self.types) and (self.clients is None or client in self.clients)


@dataclass(frozen=True, slots=True)
class Rule:
    """The policies of some zones, in the order of the file."""

    zones: tuple[bytes, ...]
    policies: tuple[Policy, ...]

    def decide(self, qtype: int, client: bytes) -> Action | None:
        """The action of the first policy that meets; None where none does."""
        for policy in self.policies:
            if policy.meets(qtype, client):
                return policy.action
        return None


_REPLIES = {
    Action.BLOCK: Reply(
        Rcode.REFUSED,
        authoritative=False,
        extended_error=(int(ExtendedError.BLOCKED), ""),
        forces_opt=True,
        writer="acl",
    ),
    Action.FILTER: Reply(
        Rcode.NOERROR,
        authoritative=False,
        extended_error=(int(ExtendedError.FILTERED), ""),
        forces_opt=True,
        writer="acl",
    ),
}


class AccessList:
    """Refuses, filters or drops what its rules say, and counts it."""

    transparent = False  # what the client is decides

    def __init__(self, rules: list[Rule], surroundings: Surroundings) -> None:
        self._rules = rules
        counter = surroundings.metrics.counter
        self._refused: dict[Action, Family] = {
            action: counter(
                f"coredns_acl_{done}_requests_total",
                f"Counter of DNS requests being {done}.",
                ("server", "zone", "view"),
            )
            for action, done in ((Action.BLOCK, "blocked"), (Action.FILTER, "filtered"), (Action.DROP, "dropped"))
        }
        self._allowed = counter(
            "coredns_acl_allowed_requests_total", "Counter of DNS requests being allowed.", ("server", "view")
        )

    async def serve(self, request: Request, next_handler: Handler) -> Reply:
        """Hand on what is allowed."""
        qname, qtype = request.query.qname, request.query.qtype
        client = names.pack_address(request.client[0].partition("%")[0])
        assert client is not None, "a client has an address"
        for rule in self._rules:
            zone = names.longest_zone(qname, rule.zones)
            action = None if zone is None else rule.decide(qtype, client)
            if zone is None or action is None:
                continue
            if action is Action.ALLOW:
                break
            self._refused[action].add(labels=(request.server, names.to_text(zone), ""))
            if action is Action.DROP:
                raise Dropped
            return _REPLIES[action]
        self._allowed.add(labels=(request.server, ""))
        return await next_handler(request)


def setup(setup: Setup) -> AccessList:
    """`acl [ZONES...] { allow|block|filter|drop [type TYPE...] [net CIDR...] }`, as often as wanted."""
    directive = setup.directive
    rules = []
    for _ in directive.occurrences():
        zones = parse_zones(directive.remaining_args()) or setup.zones
        policies = []
        for option in directive.block():
            if option.lower() not in set(Action):
                raise directive.error(
                    f"unexpected token {json.dumps(option)}; expect 'allow', 'block', 'filter' or 'drop'"
                )
            policies.append(_parse_policy(directive, Action(option.lower())))
        rules.append(Rule(zones, tuple(policies)))
    return AccessList(rules, setup.surroundings)


def _parse_policy(directive: Dispenser, action: Action) -> Policy:
    """The sections of a policy's line; of several of a kind all count, and an asterisk stands for everything."""
    types: set[int] | None = None
    networks: list[Network] | None = None
    all_types = all_clients = False
    words = directive.remaining_args()
    while words:
        section = words.pop(0)
        if section.lower() not in SECTIONS:
            raise directive.error(f"unexpected token {json.dumps(section)}; expect 'type | net'")
        tokens = []
        while words and words[0].lower() not in SECTIONS:
            tokens.append(words.pop(0))
        if not tokens:
            raise directive.error(f"no token specified in {json.dumps(section.lower())} section")
        is_all = "*" in tokens
        tokens = tokens[: tokens.index("*")] if is_all else tokens
        if section.lower() == "type":
            all_types |= is_all
            types = (types or set()) | {_parse_type(directive, token) for token in tokens}
        else:
            all_clients |= is_all
            networks = (networks or []) + [_parse_client(directive, token) for token in tokens]
    return Policy(
        action,
        None if types is None or all_types else frozenset(types),
        None if networks is None or all_clients else NetworkSet(networks),
    )


def _parse_type(directive: Dispenser, token: str) -> int:
    number = type_number(token)
    if number is None:
        raise directive.error(f"unexpected token {json.dumps(token)}; expect legal QTYPE")
    return number


def _parse_client(directive: Dispenser, token: str) -> Network:
    """A network; a bare address is one of itself alone."""
    text = token if "/" in token else f"{token}/128" if ":" in token else f"{token}/32"
    try:
        return parse_network(text)
    except ValueError as error:
        raise directive.error(f"illegal CIDR notation {json.dumps(text)}") from error
