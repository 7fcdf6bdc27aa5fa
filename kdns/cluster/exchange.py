"""The client's end of one HTTP/1.1 connection: requests one after the other, each with its reply (RFC 9112).

A watch is a reply that goes on for minutes and says a little hundreds of times a second. So what comes goes from the
event loop through a compiled parser to whoever reads, with nothing in between.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

# Of a body that nobody reads, until the connection is not read either. It is more than one turn of the loop brings, for
# libuv reads 32 times 256 KiB: what uvloop has not decrypted when it is paused is lost if the server then closes.
MAX_BUFFERED_BYTES = 2**24
MAX_READ_BYTES = 2**19  # of a body that are put together at a time: what is read is in memory three times
MAX_HEAD_BYTES = 2**16  # of a reply before its body, and of what is no body behind it

_LENGTHS = {"content-length", "transfer-encoding"}

PARSER_ERRORS = (HttpParserError, HttpParserUpgrade)


class ReplyHead(NamedTuple):
    """A reply before its body; the names of `headers` are in lower case."""

    status: int
    headers: dict[str, str]


class Exchange(asyncio.Protocol):
    """Sends a request, gives its reply, and can take the next request when that has been read to its end.

    Reading raises OSError where the connection breaks, and one of PARSER_ERRORS for what is no HTTP. One reader at a
    time; it may be cancelled.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None  # None: not there yet, or gone
        self._parser: HttpResponseParser | None = None  # None: no reply is due
        self._head: ReplyHead | None = None
        self._headers: dict[str, str] = {}
        self._pieces: deque[bytes] = deque()  # of the body, not read yet
        self._buffered = 0  # octets of them
        self._awaited = b""  # what has to be in the body until its reader is woken; empty: anything
        self._is_met = False  # it is in one of the pieces, or they are as many as may be
        self._beside_body = 0  # octets that came since the last ones of a body
        self._is_complete = True
        self._keeps_alive = True
        self._is_paused = False
        self._failure: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def transport(self) -> asyncio.Transport:
        """The connection. Raises ConnectionError where there is none any more."""
        if self._transport is None:
            raise ConnectionResetError("the connection ended")
        return self._transport

    @property
    def peer_address(self) -> str:
        """The address of the other end; empty where it is not known."""
        peer = self._transport.get_extra_info("peername") if self._transport is not None else None
        return str(peer[0]) if peer else ""

    @property
    def is_idle(self) -> bool:
        """Whether another request can be made: the connection stands, and the last reply was read."""
        return self._transport is not None and self._is_complete and self._keeps_alive and not self._pieces

    @property
    def has_reply(self) -> bool:
        """Whether anything of the reply has come."""
        return self._head is not None or self._beside_body > 0

    def send(self, request: bytes) -> None:
        """Send a request without a body. Raises ConnectionError where there is no connection any more."""
        transport = self.transport
        self._parser, self._head, self._headers = HttpResponseParser(self), None, {}
        self._is_complete, self._beside_body, self._awaited = False, 0, b""
        transport.write(request)

    async def read_head(self) -> ReplyHead:
        """The reply, as soon as its head is there."""
        while self._head is None:
            if self._failure is not None:
                raise self._failure
            await self._wait()
        return self._head

    async def read(self, awaited: bytes = b"") -> bytes:
        """What came of the body since the last call; empty at its end.

        With an octet `awaited`, that is in it, unless there is no room for more: who needs whole lines sleeps on.
        """
        self._awaited = awaited
        self._is_met = bool(self._pieces)
        while not self._is_met and not self._is_complete and self._failure is None:
            await self._wait()
        return self.read_ready()

    def read_ready(self) -> bytes:
        """What there is of the body already, or the beginning of it where that is much."""
        pieces = self._pieces
        if not pieces:
            if self._failure is not None and not self._is_complete:
                raise self._failure
            return b""
        read = [pieces.popleft()]
        size = len(read[0])
        while pieces and size < MAX_READ_BYTES:
            read.append(pieces.popleft())
            size += len(read[-1])
        self._buffered -= size
        if self._is_paused and self._buffered <= MAX_BUFFERED_BYTES and self._transport is not None:
            self._is_paused = False
            self._transport.resume_reading()
        return read[0] if len(read) == 1 else b"".join(read)

    def abort(self) -> None:
        """End the connection at once; whoever reads gets an error."""
        # Not close(): under uvloop a paused TLS stream would first be read to its end, which may be never.
        if self._transport is not None:
            self._transport.abort()
        self._fail(ConnectionAbortedError("the connection was ended from here"))

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: Exception) -> None:
        if self._failure is None:
            self._failure = error
        self._transport, self._parser = None, None
        self._wake()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the connection."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's with TLS is one, but does not inherit it

    def data_received(self, data: bytes) -> None:
        """Take in what came."""
        if self._parser is None:
            self.abort()  # nothing was asked: whatever it answers would be taken for the next reply
            return
        self._beside_body += len(data)
        try:
            self._parser.feed_data(data)
        except PARSER_ERRORS as error:
            self._break_off(error)
            return
        if self._beside_body > MAX_HEAD_BYTES:
            self._break_off(HttpParserError(f"met more than {MAX_HEAD_BYTES} bytes that are no body"))
            return
        if self._buffered > MAX_BUFFERED_BYTES:
            self._is_met = True
            if not self._is_paused and self._transport is not None:
                self._is_paused = True
                self._transport.pause_reading()
        if self._is_met or self._is_complete or not self._pieces:
            self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end; in good order, it is that of the body where nothing else ends it (RFC 9112, 6.3)."""
        has_failed = exc is not None or self._failure is not None
        if self._head is not None and not has_failed and not self._head.headers.keys() & _LENGTHS:
            self._is_complete = True
        self._fail(exc or ConnectionResetError("the connection ended early"))

    def _break_off(self, error: Exception) -> None:
        if self._transport is not None:
            self._transport.abort()
        self._fail(error)

    # What the parser calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a header, or a trailer, which nobody reads."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Note the head, unless it is one that another follows (RFC 9110, 15.2)."""
        assert self._parser is not None
        status = self._parser.get_status_code()
        if status >= 200 and self._head is None:
            self._head = ReplyHead(status, self._headers)
            self._keeps_alive = self._parser.should_keep_alive()
        self._headers = {}

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body."""
        self._beside_body = 0
        if not self._is_complete:
            self._pieces.append(body)
            self._buffered += len(body)
            self._is_met |= self._awaited in body

    def on_message_begin(self) -> None:
        """Notice a reply to what was not asked."""
        if self._is_complete:
            self._keeps_alive = False

    def on_message_complete(self) -> None:
        """Note the end of the body."""
        if self._head is not None:
            self._is_complete = True
