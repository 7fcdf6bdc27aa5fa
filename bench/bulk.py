"""What does a reply of 64 KiB over TCP cost a server? dnsperf reads none above 16 KiB; this reads them.

    python -m bench.bulk 127.0.0.1 5300 4 --questions FILE

Some connections, each with one query under way: it sends the next when the reply is complete. Each reply's length and
rcode are looked at, its records are not. With --one-shot each query has a connection of its own, which is reset once it
is answered: none is left waiting for its port.
"""

from __future__ import annotations

import argparse
import json
import resource
import selectors
import socket
import struct
import sys
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from bench.flood import RCODES, FloodResult, plain_queries

CONNECTIONS = 20
SILENCE_SECONDS = 2.0  # with no octet for so long, what is under way counts as lost
_LARGEST_FRAME = 2 + 65_535


class _Connection:
    """A connection with at most one query under way."""

    def __init__(self, address: str, port: int) -> None:
        self.socket = socket.create_connection((address, port))
        self.socket.setblocking(False)
        self.buffer = memoryview(bytearray(_LARGEST_FRAME))
        self._filled = 0

    def send(self, query: bytes) -> None:
        """Send a query; it fits the socket's buffer, which is empty while none is under way."""
        self._filled = 0
        self.socket.send(query)

    def reset(self) -> None:
        """Close at once, without the wait that keeps a port from being used again."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def receive(self) -> int:
        """Take what is there; returns the length of the reply once it is complete, else 0. EOFError at the end."""
        size = self.socket.recv_into(self.buffer[self._filled :])
        if not size:
            raise EOFError("the server closed a connection with a query under way")
        self._filled += size
        if self._filled < 2:
            return 0
        length: int = struct.unpack_from("!H", self.buffer)[0]
        return length if self._filled == 2 + length else 0


def bulk(
    address: str,
    port: int,
    seconds: float,
    bodies: list[bytes],
    connections: int = CONNECTIONS,
    one_shot: bool = False,
) -> FloodResult:
    """Send `bodies` over and over for some seconds, and count the replies."""
    queries = [struct.pack("!HH", len(body) + 2, index & 0xFFFF) + body for index, body in enumerate(bodies)]
    rcodes: Counter[int] = Counter()
    sent = answered = reply_bytes = 0
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        opened = [_Connection(address, port) for _ in range(connections)]
        stack.callback(_close_all, opened)
        start = time.monotonic()
        end = start + seconds
        for connection in opened:
            selector.register(connection.socket, selectors.EVENT_READ, connection)
            connection.send(queries[sent % len(queries)])
            sent += 1
        while sent > answered:
            ready = selector.select(SILENCE_SECONDS)
            if not ready:
                break
            for key, _ in ready:
                connection = key.data
                size = connection.receive()
                if not size:
                    continue
                answered += 1
                reply_bytes += size
                rcodes[connection.buffer[5] & 15] += 1
                if time.monotonic() < end:
                    if one_shot:
                        selector.unregister(connection.socket)
                        opened.remove(connection)
                        connection.reset()
                        connection = _Connection(address, port)
                        opened.append(connection)
                        selector.register(connection.socket, selectors.EVENT_READ, connection)
                    connection.send(queries[sent % len(queries)])
                    sent += 1
        elapsed = time.monotonic() - start
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return FloodResult(
        sent=sent,
        answered=answered,
        lost=sent - answered,
        seconds=elapsed,
        rcodes={RCODES.get(rcode, str(rcode)): count for rcode, count in rcodes.items()},
        request_bytes=sum(map(len, queries)) / len(queries) - 2,
        reply_bytes=reply_bytes / max(1, answered),
        ceiling_per_second=sent / max(0.01, usage.ru_utime + usage.ru_stime),
    )


def _close_all(connections: list[_Connection]) -> None:
    for connection in connections:
        connection.socket.close()


def main(arguments: list[str] | None = None) -> int:
    """Run once and print the result as JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.bulk", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--connections", type=int, default=CONNECTIONS, help="(default: %(default)s)")
    parser.add_argument("--one-shot", action="store_true", help="a connection for each query")
    parser.add_argument("--questions", type=Path, required=True, help="a dnsperf file of questions")
    options = parser.parse_args(arguments)
    bodies = plain_queries(options.questions.read_text().splitlines())
    try:
        result = bulk(options.address, options.port, options.seconds, bodies, options.connections, options.one_shot)
    except (OSError, EOFError) as error:
        print(f"bench.bulk: {options.address}:{options.port}: {error}", file=sys.stderr)
        return 1
    json.dump(asdict(result), sys.stdout)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
