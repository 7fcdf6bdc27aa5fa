"""Directives set up from a Corefile's text, and chains of plugins to put them in."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import dns.rdatatype
import pytest

from kdns import resolver
from kdns.corefile import Dispenser, expand_zone, parse
from kdns.dns import names
from kdns.dns.codes import RRClass
from kdns.dns.compression import write_body
from kdns.dns.query import Edns, Query
from kdns.dns.records import read_answers
from kdns.dns.reply import Reply
from kdns.dns.rrset import Record
from kdns.errors import CorefileError, ServeError
from kdns.plugins import ORDER, SETUPS
from kdns.plugins.plugin import Handler, Request, Setup, Surroundings

CLIENT = ("192.0.2.1", 4242)


def set_up(text: str, surroundings: Surroundings | None = None, zones: Sequence[str] = ("cluster.local",)) -> Any:
    """The plugin of the one directive in `text`, which begins at line 2 of the file `Corefile`, if it makes one."""
    (block,) = parse(f"{' '.join(zones)} {{\n{text}\n}}\n", "Corefile", ORDER, {})
    ((name, tokens),) = block.directives.items()
    zone_names = tuple(zone for text in zones for zone in expand_zone(text))
    return SETUPS[name](Setup(Dispenser(tokens), zone_names, surroundings or Surroundings(has_manifests=True)))


def build(corefile: str, surroundings: Surroundings | None = None, port: int = 53) -> resolver.Resolver:
    """Everything a Corefile says."""
    surroundings = surroundings or Surroundings(has_manifests=True)
    return resolver.build(parse(corefile, "Corefile", ORDER, {}), surroundings, port)


def refusal_of(corefile: str, surroundings: Surroundings | None = None) -> CorefileError:
    """The error a Corefile does not start with."""
    with pytest.raises(CorefileError) as caught:
        build(corefile, surroundings)
    return caught.value


def refused(directive: str, zones: str = ".:53", surroundings: Surroundings | None = None) -> str:
    """What is said of a block with this directive, which begins at line 2."""
    return str(refusal_of(f"{zones} {{\n{directive}\n}}\n", surroundings))


def query(name: str, rtype: str = "A", edns: Edns | None = None) -> Query:
    """A query with the id 1 and RD."""
    wire, number = names.from_text(name), dns.rdatatype.from_text(rtype)
    head = struct.pack("!HHHHHH", 1, 0x0100, 1, 0, 0, 0) + wire + struct.pack("!HH", number, RRClass.IN)
    return Query(head, wire, wire, number, RRClass.IN, edns)


def request(name: str = "a.test", rtype: str = "A", client: tuple[str, int] = CLIENT, stream: bool = False) -> Request:
    """A request that must not ask the server anything else."""

    async def resolve(_: Request) -> Reply:
        raise AssertionError("asked the server another question")

    return Request(query(name, rtype), client, stream, resolve)


def failing(text: str, rcode: int = 2) -> Handler:
    """A handler that ends in an error."""

    async def fail(_: Request) -> Reply:
        raise ServeError(text, rcode)

    return fail


def answering(*records: Record, rcode: int = 0, authorities: Sequence[Record] = ()) -> Handler:
    """A handler that answers with these records."""

    async def answer(asked: Request) -> Reply:
        return Reply(rcode, write_body(asked.query.name, records, authorities))

    return answer


def answers_of(asked: Request, reply: Reply) -> list[Record]:
    """The answer section of a reply."""
    return read_answers(asked.query.head, reply.body)
