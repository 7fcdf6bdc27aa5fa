"""Addresses of HTTP endpoints as directives give them."""

from __future__ import annotations

from kdns.errors import CorefileError


def check_address(text: str) -> str:
    """`:8080`, `host:8080` or `[v6]:8080`, unchanged. Raises CorefileError.

    Whether there is such a port is found out when it is bound.
    """
    split_address(text)
    return text


def split_address(address: str) -> tuple[str, str]:
    """Host and port of `host:port`, `[host]:port` or `:port`. Raises CorefileError in the words of Go's net package."""
    host, colon, port = address.rpartition(":")
    bare = address  # but for the brackets
    if not colon:
        raise _address_error(address, "missing port in address")
    if address.startswith("["):
        inner, bracket, rest = address[1:].partition("]")
        if not bracket:
            raise _address_error(address, "missing ']' in address")
        if rest != f":{port}":
            raise _address_error(address, f"{'too many colons' if rest.startswith(':') else 'missing port'} in address")
        host, bare = inner, inner + rest
    elif ":" in host:
        raise _address_error(address, "too many colons in address")
    for stray in "[]":
        if stray in bare:
            raise _address_error(address, f"unexpected '{stray}' in address")
    return host, port


def _address_error(address: str, problem: str) -> CorefileError:
    return CorefileError(f"address {address}: {problem}")
