"""`whoami`: tells a client its own address, port and transport in the additional section."""

from __future__ import annotations

import struct

from kdns.dns import names
from kdns.dns.codes import RRType
from kdns.dns.compression import write_body
from kdns.dns.reply import Reply
from kdns.dns.rrset import Record
from kdns.plugins.plugin import Handler, Request, Setup


class Whoami:
    """Ends a chain: every question gets the same kind of reply."""

    transparent = False

    async def serve(self, request: Request, next_handler: Handler) -> Reply:
        """Answer with an address record and an SRV record about the client."""
        name = request.query.name
        address, port = request.client
        packed = names.pack_address(address)
        assert packed is not None
        transport = b"\x04_tcp" if request.stream else b"\x04_udp"
        additionals = [
            Record(name, RRType.A if len(packed) == 4 else RRType.AAAA, 0, packed),
            Record(transport + name, RRType.SRV, 0, struct.pack("!HHH", 0, 0, port) + names.ROOT),
        ]
        if len(transport + name) > names.MAX_NAME:
            additionals.pop()
        return Reply(body=write_body(name, (), (), additionals), writer="whoami")


def setup(setup: Setup) -> Whoami:
    """`whoami`, no arguments."""
    directive = setup.directive
    while directive.next():
        if directive.next_arg():
            raise directive.arg_error()
    return Whoami()
