"""The errors of kdns, in families by who can act on them."""

from __future__ import annotations


class KdnsError(Exception):
    """The base of every error kdns raises on purpose."""


class CorefileError(KdnsError):
    """The operator wrote something the Corefile's grammar or a directive refuses; ends a start or a reload.

    `hint` is what was probably meant, for a line of its own: the message itself is CoreDNS's, word for word.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ManifestError(KdnsError):
    """A Kubernetes object, or the file that holds it, is not what the API would hand out."""


class FormatError(KdnsError):
    """The client sent bytes that are not a DNS query; becomes FORMERR."""


class ServeError(KdnsError):
    """A plugin could not answer; becomes `rcode`, and a line of the `errors` directive."""

    def __init__(self, message: str, rcode: int = 2) -> None:
        super().__init__(message)
        self.rcode = rcode


class Dropped(KdnsError):
    """A plugin wants the client to get no reply at all."""


class UpstreamError(ServeError):
    """An upstream server failed; becomes SERVFAIL or a retry."""


class ClusterError(KdnsError):
    """The Kubernetes API failed; becomes a back-off."""


class TableError(KdnsError):
    """A response table, or an image of one, is damaged, foreign or full."""


class StartError(KdnsError):
    """The process cannot start: a port in use, a file missing, a right lacking."""


class StreamError(FormatError):
    """A TCP client sent a frame that holds no message; ends its connection."""
