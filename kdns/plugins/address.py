"""Addresses of HTTP endpoints as directives give them."""

from kdns.errors import CorefileError


def check_address(text: str) -> str:
    """`:8080`, `host:8080` or `[v6]:8080`, unchanged. Raises CorefileError in the words of Go's net package.

    Whether there is such a port is found out when it is bound.
    """
    host, colon, _ = text.rpartition(":")
    if not colon or (text.startswith("[") and text.endswith("]")):
        raise CorefileError(f"address {text}: missing port in address")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise CorefileError(f"address {text}: too many colons in address")
    return text
