"""Where a case is played, with its upstreams: in namespaces, or on the loopback of the machine.

In namespaces a Corefile is served word for word: its ports and addresses are free, its upstreams live behind a wire,
and its files lie in an /etc of its own. So any number of cases may be played at once. Moving every port and address of
every case instead would have made the Corefiles of real clusters into others, and the lines expected of them.

Where no namespace can be made, port 53 becomes a free one, and an upstream 10.53.x.y becomes 127.53.x.y, in the
Corefile as in whatever is expected. The other ports are the machine's, so cases are played one after the other. What
needs more than that is left out, and says why (`Case.obstacle`).
"""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Protocol

from tests.harness.places import DNS_PORT, Loopback, NamespaceError, Place, free_port, open_namespace

_ADDRESS = r"\b10(\\?\.)53(\\?\.\d+\\?\.\d+)(:\d+)?"  # of an upstream; may stand in a regular expression
_UPSTREAM = re.compile(_ADDRESS)
_UPSTREAM_OR_OWN_PORT = re.compile(rf"{_ADDRESS}|:53\b")
_OWN_ENDS = ("10.53.0.254/16", "fd53::fe/64")  # of the wire to the upstreams


class Grounds(Protocol):
    """A place for a server, and one for its upstreams."""

    server: Place
    upstreams: Place
    upstream_port: int

    def served(self, text: str, /) -> str:
        """A Corefile, or a file beside it, as it is here, but for the ports of its keys."""

    def expected(self, text: str, /) -> str:
        """What a server is to say, as it says it here."""

    def address(self, address: str, /) -> str:
        """Where an upstream of this address is."""

    def port(self, port: int) -> int:
        """Where a server listens that is to use this port."""


class OwnGrounds:
    """Namespaces."""

    upstream_port = DNS_PORT

    def __init__(self, opened: ExitStack, upstreams: Sequence[str]) -> None:
        """`opened` closes them. Raises NamespaceError."""
        near = open_namespace()
        opened.callback(near.close)
        self.server: Place = near
        self.upstreams: Place = near
        if upstreams:
            far = open_namespace()
            opened.callback(far.close)
            near.join(far, _OWN_ENDS, [f"{address}/{64 if ':' in address else 16}" for address in upstreams])
            self.upstreams = far

    def served(self, text: str, /) -> str:
        """The text: nothing is moved."""
        return text

    expected = address = served

    def port(self, port: int) -> int:
        """The port: all are free."""
        return port


class SharedGrounds:
    """The loopback of the machine."""

    def __init__(self) -> None:
        self.server: Place = Loopback()
        self.upstreams: Place = self.server
        self.upstream_port = DNS_PORT if _is_free("127.53.0.1", DNS_PORT) else free_port()

    def served(self, text: str, /) -> str:
        """The text with upstreams where they are."""
        return _UPSTREAM.sub(self._moved, text)

    def expected(self, text: str, /) -> str:
        """The text with upstreams, and the server's own port, where they are."""
        return _UPSTREAM_OR_OWN_PORT.sub(self._moved, text)

    def address(self, address: str, /) -> str:
        """The loopback address in its place."""
        return address.replace("10.53.", "127.53.", 1)

    def port(self, port: int) -> int:
        """The free port in place of 53; any other is hoped to be free."""
        return self.server.dns_port if port == DNS_PORT else port

    def _moved(self, found: re.Match[str]) -> str:
        if found[2] is None:
            return f":{self.server.dns_port}"
        port = found[3] or ""
        if self.upstream_port != DNS_PORT and port in ("", f":{DNS_PORT}"):
            port = f":{self.upstream_port}"
        return f"127{found[1]}53{found[2]}{port}"


def may_have_own_grounds() -> bool:
    """Whether this machine lets a test make namespaces."""
    try:
        open_namespace().close()
    except NamespaceError:
        return False
    return True


def _is_free(address: str, port: int) -> bool:
    """Whether the port may be bound, and is not."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
        try:
            udp.bind((address, port))
            tcp.bind((address, port))
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM, errno.EADDRINUSE):
                return False
            raise
    return True
