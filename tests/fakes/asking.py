"""Questions to a whole Corefile, without sockets."""

from __future__ import annotations

import dns.edns
import dns.message
import dns.rcode

from kdns.resolver import Resolver
from tests.fakes.directives import CLIENT, build


class Asker:
    """The first listener of a Corefile."""

    def __init__(self, corefile: str | Resolver) -> None:
        self.resolver = build(corefile) if isinstance(corefile, str) else corefile

    async def ask(
        self,
        name: str,
        rtype: str = "A",
        rdclass: str = "IN",
        *,
        client: tuple[str, int] = CLIENT,
        stream: bool = False,
        edns: bool = False,
        options: tuple[dns.edns.Option, ...] = (),
    ) -> dns.message.Message:
        """The reply, which must be one to this question."""
        query = dns.message.make_query(name, rtype, rdclass, use_edns=0 if edns or options else False, options=options)
        wire = await self.resolver.answer(
            self.resolver.listeners[0], query.to_wire(), client, stream=stream, local=("192.0.2.53", 53)
        )
        assert wire is not None
        reply = dns.message.from_wire(wire)
        assert query.is_response(reply)
        return reply

    async def answers(self, name: str, rtype: str = "A") -> list[str]:
        """The answer section, or the rcode where it is not NOERROR."""
        reply = await self.ask(name, rtype)
        return lines(reply) if reply.rcode() == dns.rcode.NOERROR else [dns.rcode.to_text(reply.rcode())]


def lines(reply: dns.message.Message, section: int = 1) -> list[str]:
    """The records of a section (1: answer, 2: authority, 3: additional), one a line."""
    return [line for rrset in reply.sections[section] for line in rrset.to_text().splitlines()]
