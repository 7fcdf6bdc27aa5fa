"""Server block keys and zone arguments: `[scheme://][zone][:port]` to zones, ports and transports."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_network

from kdns.corefile.complaints import one_line
from kdns.dns import names
from kdns.errors import CorefileError, FormatError

DEFAULT_PORTS = {"dns": 53, "tls": 853, "quic": 853, "grpc": 443, "https": 443, "https3": 443, "unix": 0}
MAX_PORT = 65535
MAX_ZONE_TEXT = 255  # octets (CoreDNS; counts the text, not the wire form)

_PORT = re.compile(r"([+-]?)0*([0-9]{1,19})")
_CIDR = re.compile(r"([0-9A-Fa-f:.]+)/0*([0-9]{1,3})")
_PREFERRED_SYNTAX = re.compile(r"([A-Za-z]([A-Za-z0-9-]*[A-Za-z0-9])?\.)+")
_GO_ESCAPES = {char: f"\\{letter}" for char, letter in zip('\a\b\f\n\r\t\v"\\', 'abfnrtv"\\', strict=True)}


@dataclass(frozen=True, slots=True)
class ServerKey:
    """What one server is asked for: a zone over a transport on a port.

    `zone` is in lower-case wire form, `zone_text` the same with its final dot as the Corefile spells it.
    """

    transport: str
    zone: bytes
    zone_text: str
    port: int

    def __str__(self) -> str:
        return f"{self.transport}://{self.zone_text}:{self.port}"


@dataclass(frozen=True, slots=True)
class Listener:
    """Where one server block listens: its keys, and the addresses of its `bind` (one empty text without).

    `is_filtered` says that the block takes only some queries, as one with a `view` does.
    """

    keys: tuple[ServerKey, ...]
    addresses: tuple[str, ...] = ("",)
    is_filtered: bool = False


def parse_keys(texts: Iterable[str], dns_port: int = DEFAULT_PORTS["dns"]) -> list[ServerKey]:
    """The servers that a block's keys name; a CIDR key may name several. Raises CorefileError.

    `dns_port` is the port of keys that have none and are not of an encrypted transport.
    """
    return [key for text in texts for key in _parse_key(text, dns_port)]


def expand_zone(text: str) -> list[bytes]:
    """The zones that a directive's argument names, a CIDR as reverse zones; scheme and port are dropped.

    Raises CorefileError with the bare reason where it names none.
    """
    zones, _ = _split_zone_port(_split_scheme(text)[1])
    return [zone for zone, _ in zones]


def syntax_warning(key: ServerKey) -> str:
    """The start-up text about a zone that is not spelled as RFC 1035 prefers (2.3.1), or nothing."""
    zone = key.zone_text
    if zone == "." or zone.endswith((".in-addr.arpa.", ".ip6.arpa.")) or _PREFERRED_SYNTAX.fullmatch(zone):
        return ""
    return f"Warning: Domain {_quote(zone)} does not follow RFC1035 preferred syntax"


def check_overlaps(listeners: Iterable[Listener]) -> None:
    """Raise CorefileError where two servers would be asked the same on the same address.

    A block without `bind` listens everywhere and so collides with a bound one, too. Filtered blocks may repeat what
    others serve, as long as both are bound or neither is.
    """
    taken: set[tuple[str, bytes, int, str]] = set()
    last_address: dict[tuple[str, bytes, int], str] = {}
    for listener in listeners:
        for key in listener.keys:
            place = (key.transport, key.zone, key.port)
            for address in listener.addresses:
                claim = one_line(str(key)) + (f" on {address}" if address else "")
                if (*place, address) in taken:
                    if listener.is_filtered:
                        continue
                    raise CorefileError(f"cannot serve {claim} - it is already defined")
                if place in last_address and (not address or (*place, "") in taken):
                    other = one_line(str(key)) + (f" on {last_address[place]}" if not address else "")
                    raise CorefileError(f"cannot serve {claim} - zone overlap listener capacity with {other}")
                if not listener.is_filtered:
                    taken.add((*place, address))
                    last_address[place] = address


def _parse_key(text: str, dns_port: int) -> list[ServerKey]:
    transport, rest = _split_scheme(text)
    try:
        zones, port = _split_zone_port(rest)
    except CorefileError as error:
        raise CorefileError(f"error inspecting server blocks: {error}") from error
    if port is None:
        port = dns_port if transport == "dns" else DEFAULT_PORTS[transport]
    if not 0 <= port <= MAX_PORT:
        raise CorefileError(f"address {port}: invalid port")
    return [ServerKey(transport, zone, zone_text, port) for zone, zone_text in zones]


def _split_scheme(text: str) -> tuple[str, str]:
    scheme, mark, rest = text.partition("://")
    return (scheme, rest) if mark and scheme in DEFAULT_PORTS else ("dns", text)


def _split_zone_port(text: str) -> tuple[list[tuple[bytes, str]], int | None]:
    """The zones a key names, each with its text, and its port if it has one."""
    head, colon, tail = text.rpartition(":")
    if not tail:
        raise CorefileError(f"expecting data after last colon: {_quote(text)}")
    port = _port_number(tail) if colon else None
    zone_text = text if port is None else head
    if len(_octets(zone_text)) > MAX_ZONE_TEXT:
        raise CorefileError(f"specified zone is too long: {len(_octets(zone_text))} > {MAX_ZONE_TEXT}")
    zones = _reverse_zones(zone_text)
    if zones:
        return [(zone, names.to_text(zone)) for zone in zones], port
    return [_parse_zone(zone_text)], port


def _port_number(text: str) -> int | None:
    """The port that a key ends in; None where the text after the colon is part of the zone (`2001:db8::/32`)."""
    match = _PORT.fullmatch(text)
    port = int(match[1] + match[2]) if match else None
    return port if port is not None and abs(port) < 1 << 63 else None


def _parse_zone(text: str) -> tuple[bytes, str]:
    # Asked of the text as it stands, without the dot that is added: no zone at all is refused, and not the root.
    if not text:
        raise CorefileError("zone is not a valid domain name: ")
    fqdn = text if _is_fqdn(text) else text + "."
    if len(_octets(fqdn)) > MAX_ZONE_TEXT:
        raise CorefileError(f"specified zone is too long: {len(_octets(fqdn))} > {MAX_ZONE_TEXT}")
    try:
        return names.from_text(text.lower()), fqdn.lower()
    except FormatError as error:
        raise CorefileError(one_line(f"zone is not a valid domain name: {text}")) from error


def _reverse_zones(text: str) -> list[bytes]:
    """The zones under in-addr.arpa or ip6.arpa that hold the addresses of a CIDR; none where `text` is something else.

    A prefix that ends within an octet or nibble has a zone for each value its remaining bits can take.
    """
    match = _CIDR.fullmatch(text)
    if match is None:
        return []
    try:
        network = ip_network(f"{match[1]}/{int(match[2])}", strict=False)
    except ValueError:
        return []
    if text.startswith(":") or (text.startswith("0") and ":" in text):
        raise CorefileError(f"invalid CIDR {text}")
    label_bits = 8 if network.version == 4 else 4
    depth = -(-network.prefixlen // label_bits)
    subnets = network.subnets(new_prefix=depth * label_bits)
    return [_last_labels(names.reverse_name(subnet.network_address.packed), 2 + depth) for subnet in subnets]


def _last_labels(name: bytes, count: int) -> bytes:
    above = names.parents(name)
    return above[len(above) - 1 - count]


def _is_fqdn(text: str) -> bool:
    """Whether `text` ends in a dot that no backslash escapes."""
    if not text.endswith("."):
        return False
    body = text[:-1]
    return (len(body) - len(body.rstrip("\\"))) % 2 == 0


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _quote(text: str) -> str:
    """Text in double quotes, escaped as Go's `%q` does it."""
    return '"' + "".join(_quoted_char(char) for char in text) + '"'


def _quoted_char(char: str) -> str:
    code = ord(char)
    if char in _GO_ESCAPES:
        return _GO_ESCAPES[char]
    if char.isprintable():
        return char
    if code < 0x80 or 0xDC80 <= code <= 0xDCFF:  # the latter is an octet that is not UTF-8
        return f"\\x{code & 0xFF:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
