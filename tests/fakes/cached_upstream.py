"""What the servers behind a cache answer, as a test sets it, and questions to ask."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import dns.message

from kdns.dns import names
from kdns.dns.codes import Rcode, RRType
from kdns.dns.compression import Body, write_body
from kdns.dns.reply import Reply
from kdns.dns.rrset import Record
from kdns.errors import ServeError
from kdns.plugins.plugin import Request
from tests.fakes.cached import CachedServer

ZONE = names.from_text("test")
SOA_DATA = names.from_text("ns.test") + names.from_text("root.test") + bytes(20)


def soa(ttl: int = 60) -> Record:
    return Record(ZONE, RRType.SOA, ttl, SOA_DATA)


def body_of(request: Request, answers: list[Record], authorities: list[Record] | None = None) -> Body:
    return write_body(request.query.name, answers, authorities or [])


@dataclass(slots=True)
class Upstream:
    """Answers with one address, or as `kind` says."""

    kind: str = "answer"
    ttl: int = 60
    number: int = 1  # the last octet of the address
    authentic: bool = False
    gate: asyncio.Event | None = None  # what an answer waits for

    async def __call__(self, request: Request) -> Reply:
        """The reply, as `forward` would hand it on."""
        if self.gate is not None:
            await self.gate.wait()
        if self.kind == "error":
            raise ServeError("i/o timeout", Rcode.SERVFAIL)
        query = request.query
        address = Record(query.qname, RRType.A, self.ttl, bytes((192, 0, 2, self.number)))
        alias = Record(query.qname, RRType.CNAME, self.ttl, names.from_text("alias.test"))
        ns = Record(ZONE, RRType.NS, self.ttl, names.from_text("ns.test"))
        rcode, answers, authorities = {
            "answer": (0, [address], []),
            "nxdomain": (3, [], [soa(self.ttl)]),
            "nodata": (0, [], [soa(self.ttl)]),
            "nxdomain without soa": (3, [], []),
            "nxdomain with answers": (3, [alias], [soa(self.ttl)]),
            "empty": (0, [], []),
            "delegation": (0, [], [ns]),
            "alias": (0, [alias], []),
            "alias to nothing": (0, [alias], [soa(self.ttl)]),
            "servfail": (2, [], []),
            "notimp": (4, [], []),
            "refused": (5, [], []),
            "formerr": (1, [], []),
            "truncated": (0, [address], []),
            "of the table": (0, [address], []),
            "of the server": (2, [], []),
        }[self.kind]
        writer = {"of the table": "kubernetes", "of the server": ""}.get(self.kind, "forward")
        return Reply(
            rcode, body_of(request, answers, authorities), authoritative=False, recursion_available=True,
            authentic_data=self.authentic, truncated=self.kind == "truncated", writer=writer,
        )  # fmt: skip


def question(name: str = "a.test.", rtype: str = "A", *, do: bool = False, flags: int = 0x0100) -> bytes:
    message = dns.message.make_query(name, rtype, want_dnssec=do)
    message.flags = flags
    return message.to_wire()


def server(options: str = "", upstream: Upstream | None = None, arguments: str = "") -> CachedServer:
    """A block with `cache`; what is behind it can be set by `upstream`."""
    block = " {\n" + options + "\n}" if options else ""
    return CachedServer(f".:53 {{\n cache {arguments}{block}\n erratic\n}}\n", upstream or Upstream())


async def ask(asked: CachedServer, message: bytes | None = None) -> dns.message.Message:
    """What a client gets."""
    reply = await asked.ask(question() if message is None else message)
    assert reply is not None
    return dns.message.from_wire(reply)


def ttls(reply: dns.message.Message) -> set[int]:
    """The TTLs of a reply."""
    return {rrset.ttl for rrset in (*reply.answer, *reply.authority, *reply.additional)}


def address(reply: dns.message.Message) -> int:
    """The last octet of the address in a reply."""
    return int(str(reply.answer[-1][0]).rpartition(".")[2])


async def settle(rounds: int = 5) -> None:
    """Let what was begun go on."""
    for _ in range(rounds):
        await asyncio.sleep(0)
