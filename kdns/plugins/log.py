"""`log`: a line for each query, with what was asked and what came of it.

Each rule's format is cut into pieces once, at start; a line is written by joining what they render. Lines of one turn
of the event loop go out together.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from kdns import log
from kdns.dns import names
from kdns.dns.classify import ResponseClass, classify
from kdns.dns.codes import class_text, rcode_text, type_text
from kdns.dns.lengths import query_length, reply_length
from kdns.dns.query import Query
from kdns.dns.reply import MAX_MESSAGE, MIN_UDP_PAYLOAD, Reply, refusal
from kdns.errors import CorefileError, Dropped, FormatError, ServeError
from kdns.plugins.plugin import Handler, Request, Route, Setup

COMMON = "{common}"  # as `_common` renders it
COMBINED = COMMON + ' "{>opcode}"'
MISSING = "-"  # stands where there is nothing to tell
NAMES_KEPT = 4096  # whose text is remembered: names come again and again, and a text takes as long as all the rest


class Exchange(NamedTuple):
    """A query, what it got (None: nothing), and how long that took."""

    request: Request
    reply: Reply | None
    nanoseconds: int


Piece = str | Callable[[Exchange], str]


@dataclass(frozen=True, slots=True)
class Rule:
    """What is logged of the names in a scope, and how."""

    scope: bytes
    classes: frozenset[ResponseClass]  # empty: all
    pieces: tuple[Piece, ...]

    def render(self, exchange: Exchange) -> str:
        """The line of an exchange."""
        return "".join([piece if isinstance(piece, str) else piece(exchange) for piece in self.pieces])


class QueryLog:
    """Logs what passes. The first rule whose scope holds the name decides, also where its classes do not meet."""

    transparent = True  # on routes that are left to the chain where there is something to log

    def __init__(self, rules: list[Rule], write: Callable[[str], None] = log.write_soon) -> None:
        self._rules = rules
        self._write = write

    def adapt_route(self, route: Route) -> Route:
        """Whether the compiled path may answer a suffix: the table answers with success and denial alone."""
        logged: set[ResponseClass] = set()
        for rule in self._rules:
            is_whole = names.is_below(route.suffix, rule.scope)
            if is_whole or names.is_below(rule.scope, route.suffix):
                logged |= rule.classes or set(ResponseClass)
            if is_whole:
                break
        if logged - {ResponseClass.ERROR}:
            return route._replace(is_slow=True)
        return route._replace(error_is_miss=True) if logged else route

    async def serve(self, request: Request, next_handler: Handler) -> Reply:
        """Hand on, and log how it ended."""
        qname = request.query.qname
        for rule in self._rules:
            if rule.scope == names.ROOT or names.is_below(qname, rule.scope):
                break
        else:
            return await next_handler(request)
        started = time.perf_counter_ns()
        try:
            reply = await next_handler(request)
        except ServeError as error:
            # What the server will answer with.
            self._log(rule, request, refusal(error.rcode), started)
            raise
        except Dropped:
            self._log(rule, request, None, started)
            raise
        self._log(rule, request, reply, started)
        return reply

    def flush(self) -> None:
        """Write what waits for the end of the event loop's turn."""
        log.flush()

    def _log(self, rule: Rule, request: Request, reply: Reply | None, started: int) -> None:
        if rule.classes and _class_of(request, reply) not in rule.classes:
            return
        self._write(rule.render(Exchange(request, reply, time.perf_counter_ns() - started)))


def setup(setup: Setup) -> QueryLog:
    """`log [NAMES... [FORMAT]] { class all|success|denial|error... }`, as often as wanted."""
    directive = setup.directive
    rules: list[Rule] = []
    for _ in directive.occurrences():
        scopes, pieces = _parse_arguments(directive.remaining_args())
        classes: set[str] = set()
        for option in directive.block():
            if option != "class":
                raise directive.unknown_property(("class",))
            wanted = directive.remaining_args()
            if not wanted:
                raise directive.arg_error()
            for text in wanted:
                if text != "all" and text not in set(ResponseClass):
                    raise CorefileError(f"invalid Class: {text}")
            classes.update(wanted)
        limited = frozenset() if "all" in classes else frozenset(ResponseClass(text) for text in classes)
        rules += [Rule(scope, limited, pieces) for scope in scopes]
    return QueryLog(rules)


def parse_format(text: str) -> tuple[Piece, ...]:
    """Cut a format at its placeholders; what is in braces and no placeholder stays as it is."""
    text = text.replace("{combined}", COMBINED)
    pieces: list[Piece] = []
    literal = ""
    while (end := text.find("}")) >= 0:
        start = text.rfind("{", 0, end)
        word = text[start : end + 1] if start >= 0 else ""
        if word in PLACEHOLDERS:
            pieces += [literal + text[:start], PLACEHOLDERS[word]]
            literal = ""
        elif word.startswith("{/"):
            literal += text[:start] + MISSING  # a label of metadata, of which there is none
        else:
            literal += text[: end + 1]
        text = text[end + 1 :]
    return tuple(piece for piece in [*pieces, literal + text] if piece)


def _parse_arguments(arguments: list[str]) -> tuple[list[bytes], tuple[Piece, ...]]:
    """The scopes and the format; a single argument is always a scope, whatever it looks like."""
    template = COMMON
    if len(arguments) > 1 and "{" in arguments[-1]:
        template = arguments.pop().replace("\r", "\\r").replace("\n", "\\n")  # an exchange stays one line
    scopes = []
    for text in arguments or ["."]:
        try:
            scopes.append(names.from_text(text))
        except FormatError:
            continue  # no name is in it; CoreDNS starts all the same
    return scopes, parse_format(template)


def _class_of(request: Request, reply: Reply | None) -> ResponseClass:
    """The class of what a client gets; silence counts as an error."""
    return ResponseClass.ERROR if reply is None else classify(request.query, reply, time.time()).response_class


# Placeholders


def _common(exchange: Exchange) -> str:
    """What CoreDNS calls the common log format, at once."""
    request, reply, nanoseconds = exchange
    query = request.query
    return (
        f"{_host(request.client[0])}:{request.client[1]} - {query.id} "
        f'"{type_text(query.qtype)} {class_text(query.qclass)} {_name_text(query.qname)} '
        f"{'tcp' if request.stream else 'udp'} {query_length(query)} "
        f'{_dnssec_ok(query)} {_buffer_size(request)}" '
        f"{_rcode(reply)} {_flags(query, reply)} {_reply_size(query, reply)} {_duration(nanoseconds)}"
    )


_name_text = lru_cache(NAMES_KEPT)(names.to_text)


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _buffer_size(request: Request) -> int:
    """What the client takes, at least what every client does."""
    if request.stream:
        return MAX_MESSAGE
    edns = request.query.edns
    return MIN_UDP_PAYLOAD if edns is None else max(MIN_UDP_PAYLOAD, edns.payload_size)


def _dnssec_ok(query: Query) -> str:
    return "true" if query.edns is not None and query.edns.dnssec_ok else "false"


def _rcode(reply: Reply | None) -> str:
    return MISSING if reply is None else rcode_text(reply.rcode)


def _flags(query: Query, reply: Reply | None) -> str:
    """The flags of the reply in the header's order, `qr` first."""
    if reply is None:
        return MISSING
    flags = "qr"
    if reply.authoritative:
        flags += ",aa"
    if reply.truncated:
        flags += ",tc"
    if query.recursion_desired if reply.recursion_desired is None else reply.recursion_desired:
        flags += ",rd"
    if reply.recursion_available:
        flags += ",ra"
    if reply.authentic_data:
        flags += ",ad"
    if query.checking_disabled if reply.checking_disabled is None else reply.checking_disabled:
        flags += ",cd"
    return flags


def _reply_size(query: Query, reply: Reply | None) -> int:
    """The length before anything is compressed or cut."""
    return 0 if reply is None else reply_length(query.head, reply.body)


def _duration(nanoseconds: int) -> str:
    """Seconds, in as few digits as say it exactly."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{seconds}.{rest:09d}".rstrip("0").rstrip(".") + "s"


PLACEHOLDERS: dict[str, Callable[[Exchange], str]] = {
    "{common}": _common,
    "{type}": lambda exchange: type_text(exchange.request.query.qtype),
    "{name}": lambda exchange: _name_text(exchange.request.query.qname),
    "{class}": lambda exchange: class_text(exchange.request.query.qclass),
    "{proto}": lambda exchange: "tcp" if exchange.request.stream else "udp",
    "{remote}": lambda exchange: _host(exchange.request.client[0]),
    "{port}": lambda exchange: str(exchange.request.client[1]),
    "{local}": lambda exchange: _host(exchange.request.local[0]),
    "{size}": lambda exchange: str(query_length(exchange.request.query)),
    "{rcode}": lambda exchange: _rcode(exchange.reply),
    "{rsize}": lambda exchange: str(_reply_size(exchange.request.query, exchange.reply)),
    "{duration}": lambda exchange: _duration(exchange.nanoseconds),
    "{>id}": lambda exchange: str(exchange.request.query.id),
    "{>opcode}": lambda exchange: str(exchange.request.query.head[2] >> 3 & 15),
    "{>do}": lambda exchange: _dnssec_ok(exchange.request.query),
    "{>bufsize}": lambda exchange: str(_buffer_size(exchange.request)),
    "{>rflags}": lambda exchange: _flags(exchange.request.query, exchange.reply),
}
