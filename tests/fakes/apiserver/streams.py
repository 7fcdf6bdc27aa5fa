"""What carries a response, and the ways it breaks."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from contextlib import suppress

from aiohttp import web

from tests.fakes.apiserver.faults import Faults

SLICE_SECONDS = 0.1  # how often a slow response goes on
# A fatal alert, handshake_failure, in the clear: inside an encrypted session it breaks that just as well.
_TLS_ALERT = b"\x15\x03\x03\x00\x02\x02\x28"


class Stream:
    """A response in pieces, slowed down where the fault `slow` says so."""

    def __init__(self, request: web.BaseRequest, kind: str, faults: Faults, status: int = 200) -> None:
        self.is_open = False
        self._request = request
        self._kind = kind
        self._faults = faults
        self._response = web.StreamResponse(status=status, headers={"Content-Type": "application/json"})

    async def open(self) -> web.StreamResponse:
        """Send the head."""
        if not self.is_open:
            self.is_open = True
            self._response.enable_chunked_encoding()
            await self._response.prepare(self._request)
        return self._response

    async def write(self, data: bytes) -> None:
        """Send a piece of the body."""
        slow = self._faults.find("slow", self._kind)
        if slow is None:
            await self._response.write(data)
            return
        self._faults.meet(slow)
        step = max(1, int(slow.parameters["bytes_per_second"] * SLICE_SECONDS))
        for start in range(0, len(data), step):
            await self._response.write(data[start : start + step])
            if slow.is_active:
                await asyncio.sleep(SLICE_SECONDS)

    async def abandon(self) -> web.StreamResponse:
        """Give up: the connection is gone."""
        if self._request.transport is not None:
            reset(self._request.transport)
        return self._response

    async def cut(self, how: str, line: bytes) -> None:
        """End in the middle of a line."""
        half = line[: len(line) // 2]
        transport = self._request.transport
        if transport is None:
            return
        if how == "half-line":  # the chunked body is whole, its last line is not
            await self._response.write(half)
            await self._response.write_eof()
        elif how == "chunk":
            transport.write(b"%x\r\n%s" % (len(line), half))
            transport.close()
        elif how == "tls-alert":
            with suppress(OSError):
                os.write(transport.get_extra_info("socket").fileno(), _TLS_ALERT)
            transport.abort()
        else:
            await self._response.write(half)
            reset(transport)


def reset(transport: asyncio.BaseTransport) -> None:
    """Close a connection with RST."""
    if transport.is_closing():  # a TLS transport that is closed has no socket to ask for
        return
    opened = transport.get_extra_info("socket")
    if opened is not None:
        with suppress(OSError):
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if isinstance(transport, asyncio.Transport):
        transport.abort()
