"""Messages between the supervisor and its children: small structs over a socket pair, a file descriptor beside some."""

from __future__ import annotations

import json
import os
import socket
from typing import NamedTuple

MAX_MESSAGE = 4096  # octets; the longest carries one error text, cut to fit
MAX_TEXT = 3000  # octets of an error text

# The standard library's JSON and tuples: msgspec takes 20 ms to load, which a start has better uses for.


class Serve(NamedTuple):
    """To a worker: serve the sockets of this number from now on."""

    number: int
    is_late: bool = False  # the one before was stuck: what waits in the sockets is old


class Serving(NamedTuple):
    """From a worker: it has read its sockets since, or will with the next turn of its loop."""

    number: int


class NewTable(NamedTuple):
    """A generation of the response table; its file comes along."""

    generation: int
    is_current: bool = True  # nothing in it is a former informer's word any more


class Stop(NamedTuple):
    """To a child: end; finish what is under way within this time."""

    drain_seconds: float
    gone: tuple[int, ...] = ()  # the listeners whose places nobody has any more, by their order


class Failed(NamedTuple):
    """From the informer: it cannot start, and why. From who tries a Corefile: it is no good, and why."""

    text: str


class Checked(NamedTuple):
    """From who tries a Corefile: it is good."""


Message = Serve | Serving | NewTable | Stop | Failed | Checked

_KINDS = {kind.__name__: kind for kind in (Serve, Serving, NewTable, Stop, Failed, Checked)}


def fit_text(text: str) -> str:
    """A text that fits a message: paths may hold octets that are no characters, and be longer than a message."""
    return text.encode("utf-8", "backslashreplace")[:MAX_TEXT].decode("utf-8", "ignore")


class Channel:
    """One end of a supervisor-child connection. Datagrams keep messages and descriptors together."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        """Two connected ends."""
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(one), cls(other)

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._end.fileno()

    def send(self, message: Message, fd: int | None = None) -> bool:
        """Send; False where the other end is gone or takes nothing in."""
        try:
            socket.send_fds(self._end, [_encode(message)], [] if fd is None else [fd])
        except OSError:
            return False
        return True

    def receive(self) -> tuple[Message, int | None] | None:
        """The next message and its descriptor, which the caller owns; None where nothing waits. Raises EOFError."""
        try:
            data, fds, _, _ = socket.recv_fds(self._end, MAX_MESSAGE, 1)
        except BlockingIOError:
            return None
        except ConnectionError as error:
            raise EOFError from error
        if not data:
            raise EOFError
        fd = fds[0] if fds else None
        if fd is not None:
            os.set_inheritable(fd, False)
        return _decode(data), fd

    def close(self) -> None:
        """Close this end."""
        self._end.close()


def _encode(message: Message) -> bytes:
    return json.dumps([type(message).__name__, *message], ensure_ascii=False).encode()


def _decode(data: bytes) -> Message:
    name, *values = json.loads(data)
    # An array may only stand for a tuple.
    values = [tuple(value) if isinstance(value, list) else value for value in values]
    message: Message = _KINDS[name](*values)
    return message
