"""IP addresses as the API and names of Pods spell them."""

from __future__ import annotations

from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from kdns.dns.names import address_text

_IPV4_MAPPED = b"\0" * 10 + b"\xff\xff"


def parse_address(text: str) -> bytes | None:
    """An IP address as Go's net.ParseIP has it: 4 octets for IPv4 and IPv4-mapped IPv6, else 16. None: it is none."""
    try:
        if ":" not in text:
            return inet_pton(AF_INET, text)
        packed = inet_pton(AF_INET6, text)
    except (OSError, ValueError):
        return None
    return packed[12:] if packed.startswith(_IPV4_MAPPED) else packed


def spelling(packed: bytes, text: str) -> str:
    """`text` where it is not the canonical spelling of the address it was packed from, else nothing."""
    if ":" not in text:
        return ""  # inet_pton takes no other spelling of an IPv4 address
    if len(packed) == 16 and "." not in text and inet_ntop(AF_INET6, packed) == text:
        return ""
    return "" if address_text(packed) == text else text


def pod_address(text: str) -> bytes | None:
    """The address the label of a Pod says, packed, or None where it says none.

    Three dashes, none beside another, are an IPv4 address; anything else must be an IPv6 address, of which
    ::ffff:0:0/96 count as IPv4.
    """
    is_ipv4 = text.count("-") == 3 and "--" not in text
    if not is_ipv4 and ("." in text or ":" in text):  # `10.0.0.1` and `fd00::1` are addresses, but not spelled so
        return None
    return parse_address(text.replace("-", "." if is_ipv4 else ":"))
