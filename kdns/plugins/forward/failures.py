"""Errors of the network in the words of Go's net package: people search their logs for them."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Sequence
from typing import Any

from kdns.errors import UpstreamError

TIMEOUT = "i/o timeout"


def address_text(address: Sequence[Any]) -> str:
    """`10.0.0.1:53` or `[::1]:53`, with its scope where it has one."""
    host, port = address[0], address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def reason(error: OSError, call: str) -> str:
    """What a system call said: `connect: connection refused`."""
    if isinstance(error, TimeoutError) or error.errno == errno.ETIMEDOUT:
        return TIMEOUT
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"tls: failed to verify certificate: x509: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"tls: {error.reason or error}"
    text = os.strerror(error.errno).lower() if error.errno else str(error)
    return f"{call}: {text}"


class DialError(UpstreamError):
    """No connection came about, so nothing was sent."""


def dial_error(network: str, remote: str, text: str, source: str | None = None) -> DialError:
    """The error that `remote` cannot be reached."""
    path = f"{source}:0->{remote}" if source else remote
    return DialError(f"dial {network} {path}: {text}")


def io_error(action: str, network: str, opened: socket.socket, remote: str, text: str) -> UpstreamError:
    """Reading from or writing to an open connection failed."""
    try:
        local = address_text(opened.getsockname())
    except OSError:
        local = "?"
    return UpstreamError(f"{action} {network} {local}->{remote}: {text}")
