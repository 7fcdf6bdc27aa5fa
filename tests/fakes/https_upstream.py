"""An upstream over HTTPS, by HTTP/2 or HTTP/1.1, in the test's own event loop: what `Upstream.on_stream` may be."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

import h2.config
import h2.connection
import h2.events

from tests.fakes.upstream import Seen

MEDIA_TYPE = "application/dns-message"


@dataclass(frozen=True, slots=True)
class HttpSeen:
    """A request as it arrived, and the query in it."""

    version: str
    method: str
    path: str
    headers: dict[str, str]
    query: Seen


@dataclass(frozen=True, slots=True)
class HttpReply:
    """What is sent back."""

    body: bytes
    status: int = 200
    media_type: str = MEDIA_TYPE


Answer = Callable[[HttpSeen], HttpReply | Awaitable[HttpReply]]


def addressed(seen: HttpSeen) -> HttpReply:
    """Answers each query with one address."""
    return HttpReply(seen.query.address())


@dataclass(slots=True)
class HttpsServer:
    """Answers requests of all connections."""

    answer: Answer = addressed
    seen: list[HttpSeen] = field(default_factory=list)
    open: set[asyncio.StreamWriter] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        opened: ssl.SSLObject = writer.get_extra_info("ssl_object")
        self.open.add(writer)
        try:
            await (self._serve_2 if opened.selected_alpn_protocol() == "h2" else self._serve_1)(reader, writer)
        finally:
            self.open.discard(writer)

    def abort(self) -> None:
        """End all connections, without a word."""
        for writer in self.open:
            writer.transport.abort()

    async def _serve_1(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            method, path, _ = line.decode().split(" ", 2)
            headers = {}
            while (line := await reader.readline()) not in (b"\r\n", b""):
                name, _, value = line.decode().partition(":")
                headers[name.lower()] = value.strip()
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            reply = await self._answer("1.1", method, path, headers, body)
            head = f"HTTP/1.1 {reply.status} X\r\nContent-Type: {reply.media_type}\r\nContent-Length: {len(reply.body)}"
            writer.write(head.encode() + b"\r\n\r\n" + reply.body)
            await writer.drain()

    async def _serve_2(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        connection.initiate_connection()
        writer.write(connection.data_to_send())
        requests: dict[int, tuple[dict[str, str], bytearray]] = {}
        tasks = set()
        while data := await reader.read(65_536):
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    requests[event.stream_id] = dict(event.headers), bytearray()
                elif isinstance(event, h2.events.DataReceived):
                    requests[event.stream_id][1].extend(event.data)
                    connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, h2.events.StreamEnded):
                    stream = event.stream_id
                    tasks.add(asyncio.ensure_future(self._reply_2(connection, writer, stream, *requests.pop(stream))))
            writer.write(connection.data_to_send())
        for task in tasks:
            task.cancel()

    async def _reply_2(
        self,
        connection: h2.connection.H2Connection,
        writer: asyncio.StreamWriter,
        stream: int,
        headers: dict[str, str],
        body: bytearray,
    ) -> None:
        reply = await self._answer("2", headers[":method"], headers[":path"], headers, bytes(body))
        head = [(":status", str(reply.status)), ("content-type", reply.media_type)]
        connection.send_headers(stream, head)
        size = connection.max_outbound_frame_size
        for at in range(0, len(reply.body), size):
            connection.send_data(stream, reply.body[at : at + size])
        connection.end_stream(stream)
        writer.write(connection.data_to_send())

    async def _answer(self, version: str, method: str, path: str, headers: dict[str, str], body: bytes) -> HttpReply:
        if method == "GET":
            text = parse_qs(urlsplit(path).query)["dns"][0]
            body = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        seen = HttpSeen(version, method, path, headers, Seen("https", body, ("", 0)))
        self.seen.append(seen)
        reply = self.answer(seen)
        return reply if isinstance(reply, HttpReply) else await reply
