"""Messages between the supervisor and its children: small structs over a socket pair, a file descriptor beside some."""

from __future__ import annotations

import os
import socket

import msgspec

MAX_MESSAGE = 4096  # octets; the longest carries one error text, cut to fit
MAX_TEXT = 3000  # octets of an error text


class Serve(msgspec.Struct, tag=True):
    """To a worker: serve the sockets of this number from now on."""

    number: int


class NewTable(msgspec.Struct, tag=True):
    """A generation of the response table; its file comes along."""

    generation: int


class Stop(msgspec.Struct, tag=True):
    """To a child: end; finish what is under way within this time."""

    drain_seconds: float


class Failed(msgspec.Struct, tag=True):
    """From the informer: it cannot start, and why."""

    text: str


Message = Serve | NewTable | Stop | Failed

_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Message)


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
            socket.send_fds(self._end, [_ENCODER.encode(message)], [] if fd is None else [fd])
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
        return _DECODER.decode(data), fd

    def close(self) -> None:
        """Close this end."""
        self._end.close()
