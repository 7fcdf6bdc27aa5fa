"""Domain names in wire form: length-prefixed labels, the root label last (RFC 1035, 3.1).

Inside kdns a name is `bytes` in this form, lower case unless said otherwise: it compares, hashes, concatenates and is
cut at label boundaries without parsing, and it is what the response table is keyed by.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address

from kdns.errors import FormatError

MAX_LABEL = 63  # octets in a label (RFC 1035, 2.3.4)
MAX_NAME = 255  # octets in a name in wire form (RFC 1035, 2.3.4)
ROOT = b"\0"
ARPA = b"\x04arpa\0"
IN_ADDR_ARPA = b"\x07in-addr\x04arpa\0"
IP6_ARPA = b"\x03ip6\x04arpa\0"

# Dotted and dashed names of addresses are built a hundred thousand times in a row: look the octets up.
_OCTET_LABEL = [bytes([len(str(n))]) + str(n).encode() for n in range(256)]
_NIBBLE_LABELS = [f"\x01{n & 15:x}\x01{n >> 4:x}".encode() for n in range(256)]
_PLAIN = re.compile(rb"[!#%&'*+,\-/0-9:<=>?A-Z\[\]^_`a-z{|}~]*").fullmatch  # what `_escape` leaves as it is
_LOWER = bytes(c + 32 if 65 <= c <= 90 else c for c in range(256))


def from_text(text: str) -> bytes:
    """Turn `a.b.c`, with or without the final dot, into wire form, lower-cased; backslash escapes are understood.

    Raises FormatError for an empty label, a label over 63 or a name over 255 octets.
    """
    if text in ("", "."):
        return ROOT
    try:
        octets = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise FormatError(f"{text!r} is no text") from error
    if b"\\" in octets:
        labels = _split_escaped(octets)
    else:
        labels = octets.split(b".")
        if not labels[-1]:
            labels.pop()
    return from_labels(labels)


def from_labels(labels: list[bytes] | tuple[bytes, ...]) -> bytes:
    """Join labels into a lower-case name. Raises FormatError where the result is no name."""
    for label in labels:
        if not 0 < len(label) <= MAX_LABEL:
            raise FormatError(f"label of {len(label)} octets, expected 1 to {MAX_LABEL}")
    wire = b"".join([bytes([len(label)]) + label for label in labels]) + ROOT
    if len(wire) > MAX_NAME:
        raise FormatError(f"name of {len(wire)} octets, expected at most {MAX_NAME}")
    return wire.translate(_LOWER)


def to_text(name: bytes) -> str:
    """Turn wire form into master-file text with the final dot; odd octets are escaped (RFC 1035, 5.1)."""
    if name == ROOT:
        return "."
    return "".join(_escape(label) + "." for label in labels_of(name))


def labels_of(name: bytes) -> list[bytes]:
    """The labels of a name, leftmost first, without the root."""
    labels = []
    at = 0
    while name[at]:
        labels.append(name[at + 1 : at + 1 + name[at]])
        at += 1 + name[at]
    return labels


def lower(name: bytes) -> bytes:
    """Fold ASCII upper case. Safe on wire form: length octets are below 64."""
    return name.translate(_LOWER)


def parents(name: bytes) -> list[bytes]:
    """The name itself, then every name above it, the root last."""
    found = [name]
    at = 0
    while name[at]:
        at += 1 + name[at]
        found.append(name[at:])
    return found


def is_below(name: bytes, zone: bytes) -> bool:
    """Whether `name` is `zone` or lies below it. Both lower case."""
    return name.endswith(zone) and (len(name) == len(zone) or zone in parents(name))


def longest_zone(name: bytes, zones: tuple[bytes, ...]) -> bytes | None:
    """The longest of `zones` that holds `name`, or None."""
    found = [zone for zone in zones if is_below(name, zone)]
    return max(found, key=len, default=None)


def reverse_name(address: bytes) -> bytes:
    """The in-addr.arpa or ip6.arpa name of a packed address (RFC 1035, 3.5; RFC 3596, 2.5)."""
    if len(address) == 4:
        a, b, c, d = address
        return _OCTET_LABEL[d] + _OCTET_LABEL[c] + _OCTET_LABEL[b] + _OCTET_LABEL[a] + IN_ADDR_ARPA
    return b"".join([_NIBBLE_LABELS[octet] for octet in address[::-1]]) + IP6_ARPA


def reversed_address(name: bytes) -> bytes | None:
    """The packed address whose reverse name `name` is, lower case; None where it is none."""
    labels = labels_of(name)[-3::-1]
    try:
        address = bytes(map(int, labels)) if len(labels) == 4 else bytes.fromhex(b"".join(labels).decode("ascii"))
    except ValueError:
        return None
    return address if len(address) in (4, 16) and reverse_name(address) == name else None


def pack_address(text: str) -> bytes | None:
    """An IP address as 4 or 16 octets, or None where `text` is none (a zone id is none either)."""
    try:
        address: IPv4Address | IPv6Address = ip_address(text)
    except ValueError:
        return None
    return None if "%" in text else address.packed


def address_text(address: bytes) -> str:
    """The canonical text of a packed address (RFC 5952)."""
    return str(ip_address(address))


def _escape(label: bytes) -> str:
    if _PLAIN(label):
        return label.decode("ascii")
    out = []
    for octet in label:
        char = chr(octet)
        if char in '.\\"();@$':
            out.append("\\" + char)
        elif 33 <= octet <= 126:
            out.append(char)
        else:
            out.append(f"\\{octet:03d}")
    return "".join(out)


def _split_escaped(raw: bytes) -> list[bytes]:
    """Split at unescaped dots, resolving `\\.` and `\\032`."""
    labels, label, at = [], bytearray(), 0
    while at < len(raw):
        octet = raw[at]
        if octet == 0x5C:
            digits = raw[at + 1 : at + 4]
            if len(digits) == 3 and digits.isdigit():
                if int(digits) > 255:
                    raise FormatError(f"escape \\{digits.decode()} in {raw!r}, expected at most \\255")
                label.append(int(digits))
                at += 4
                continue
            if at + 1 >= len(raw):
                raise FormatError(f"{raw!r} ends in a backslash")
            label.append(raw[at + 1])
            at += 2
            continue
        if octet == 0x2E:
            labels.append(bytes(label))
            label = bytearray()
        else:
            label.append(octet)
        at += 1
    if label:
        labels.append(bytes(label))
    return labels
