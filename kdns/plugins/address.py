"""Addresses of HTTP endpoints as directives give them."""

from kdns.errors import CorefileError


def check_address(text: str) -> str:
    """`:8080`, `host:8080` or `[v6]:8080`, unchanged. Raises CorefileError in the words of Go's net package."""
    host, colon, port = text.rpartition(":")
    if not colon or (text.startswith("[") and text.endswith("]")):
        raise CorefileError(f"address {text}: missing port in address")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise CorefileError(f"address {text}: too many colons in address")
    if not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise CorefileError(f"address {text}: invalid port {port!r}, expected 0 to 65535")
    return text
