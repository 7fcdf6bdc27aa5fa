"""Malformed and hostile messages, each with what a server may do with it.

Silence is an outcome, and so is each rcode. Whatever the outcome, the next query is answered.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import dns.name

DROP = "DROP"
NOERROR, FORMERR, NXDOMAIN, NOTIMP, REFUSED, NOTAUTH = "NOERROR", "FORMERR", "NXDOMAIN", "NOTIMP", "REFUSED", "NOTAUTH"
HEADER = 12  # octets
ZONE = "cluster.local."
IN, CH, HS, NONE, ANY_CLASS = 1, 3, 4, 254, 255
A, SOA, NS, OPT, TSIG, IXFR, AXFR, MAILB, ANY = 1, 6, 2, 41, 250, 251, 252, 253, 255
RD = 0x0100
QR = 0x8000
_ANY_GROWTH = 100  # octets a reply to type ANY may be longer than the query (RFC 8482)


@dataclass(frozen=True, slots=True)
class Packet:
    """A message without its id, and what may come of it."""

    name: str
    body: bytes  # from the flags on
    allowed: frozenset[str]
    is_header_only: bool = False  # a reply has no question and no records
    has_no_options: bool = False  # a reply's OPT has none
    tcp_options: frozenset[int] = frozenset()  # but may have these over TCP
    is_not_authoritative: bool = False
    growth: int | None = None  # octets a reply may be longer than the query

    def wire(self, message_id: int) -> bytes:
        """The message."""
        return message_id.to_bytes(2, "big") + self.body


def packets(host: str) -> list[Packet]:
    """All of them; `host` is a name the server has an address for."""
    return [*_responses(), *_counts(host), *_names(host), *_options(host), *_kinds(host)]


def short_packets() -> list[bytes]:
    """Messages too short for a header: nobody can be answered."""
    return [bytes(range(0x41, 0x41 + size)) for size in range(HEADER)]


def _packet(name: str, body: bytes, *allowed: str, **traits: bool | int | frozenset[int]) -> Packet:
    return Packet(name, body, frozenset(allowed), **traits)  # type: ignore[arg-type]


def _responses() -> Iterator[Packet]:
    """A reply to a reply could go on for ever."""
    for rcode in (0, 1, 2, 3, 5):
        yield _packet(f"response with rcode {rcode}", _head(QR | rcode, 1) + _question(ZONE), DROP)
    yield _packet("response without question", _head(QR, 0), DROP)


def _counts(host: str) -> Iterator[Packet]:
    """Counts that the rest of the message does not bear out."""
    one = _question(host)
    record = _name(host) + struct.pack("!HHIH4s", A, IN, 5, 4, b"\x7f\0\0\1")
    yield _packet("header only, one question promised", _head(RD, 1), FORMERR, DROP, is_header_only=True)
    yield _packet("no question", _head(RD, 0), FORMERR, is_header_only=True)
    yield _packet("no question but a cookie", _head(RD, 0, ar=1) + _opt(_option(10, bytes(8))), FORMERR)
    yield _packet("two questions", _head(RD, 2) + one + one, FORMERR, is_header_only=True)
    for section, counts in {"questions": (65_535, 0, 0, 0), "answers": (1, 65_535, 0, 0)}.items():
        yield _packet(f"65535 {section} promised", _head(RD, *counts) + one, FORMERR, is_header_only=True)
    yield _packet("65535 authorities promised", _head(RD, 1, 0, 65_535, 0) + one, FORMERR, is_header_only=True)
    yield _packet("65535 additionals promised", _head(RD, 1, 0, 0, 65_535) + one, FORMERR, is_header_only=True)
    yield _packet("one additional promised", _head(RD, 1, ar=1) + one, FORMERR, is_header_only=True)
    yield _packet("an answer in the query", _head(RD, 1, 1) + one + record, NOERROR, FORMERR)
    yield _packet("trailing octets", _head(RD, 1) + one + b"trailing", NOERROR, FORMERR)


def _names(host: str) -> Iterator[Packet]:
    """Names that are none, and names nobody expects."""
    tail = struct.pack("!HH", A, IN)
    zone = _name(ZONE)
    broken = {
        "pointer to itself": b"\xc0\x0c",
        "pointer behind itself": b"\x01a\xc0\x20",
        "pointer into the header": b"\x01a\xc0\x00",
        "pointer to its own label": b"\x01a\xc0\x0c",
        "label type 0x40": b"\x41a" + zone,
        "label type 0x80": b"\x80a" + zone,
        "label of 64 octets": b"\x40" + b"a" * 64 + zone,
        "name of 256 octets": (b"\x3f" + b"a" * 63) * 3 + b"\x30" + b"b" * 48 + zone,
        "name of 1000 octets": (b"\x3f" + b"a" * 63) * 16 + b"\0",
    }
    for name, owner in broken.items():
        yield _packet(name, _head(RD, 1) + owner + tail, FORMERR, DROP, is_header_only=True)
    yield _packet("name without its root", _head(RD, 1) + _name(host)[:-1], FORMERR, DROP, is_header_only=True)
    yield _packet("label longer than the message", _head(RD, 1) + b"\x3fabc", FORMERR, DROP, is_header_only=True)
    yield _packet("no type", _head(RD, 1) + _name(host), FORMERR, DROP, is_header_only=True)
    yield _packet("half a type", _head(RD, 1) + _name(host) + b"\0", FORMERR, DROP, is_header_only=True)
    yield _packet("no class", _head(RD, 1) + _name(host) + tail[:2], FORMERR, DROP, is_header_only=True)
    room = 255 - len(zone)
    full = (b"\x3f" + b"a" * 63) * (room // 64) + bytes([room % 64 - 1]) + b"b" * (room % 64 - 1) + zone
    first, _, rest = host.partition(".")
    joined = f"{first}.{rest.partition('.')[0]}".encode()
    odd = {
        "name of 255 octets": full,
        "NUL in a label": b"\x03a\0b" + zone,
        "dot in a label": b"\x03a.b" + zone,
        "dot where two labels would match": bytes([len(joined)]) + joined + _name(rest.partition(".")[2]),
        "octets over 127": b"\x04\xff\xfe\x80\xc3" + zone,
        "control characters": b"\x05\x1b[2J\n" + zone,
        "127 labels": b"\x01a" * ((255 - len(zone)) // 2) + zone,
    }
    for name, owner in odd.items():
        yield _packet(name, _head(RD, 1) + owner + tail, NXDOMAIN)


def _options(host: str) -> Iterator[Packet]:
    """OPT records that are wrong, and options nobody should repeat."""
    one, none = _question(host), _opt()
    with_one = _head(RD, 1, ar=1) + one
    yield _packet("two OPTs", _head(RD, 1, ar=2) + one + none + none, FORMERR)
    yield _packet("OPT as an answer", _head(RD, 1, 1) + one + none, FORMERR)
    yield _packet("OPT as an authority", _head(RD, 1, 0, 1) + one + none, FORMERR)
    yield _packet("OPT of another owner", with_one + b"\x01a" + none, FORMERR, NOERROR)
    yield _packet("OPT data overrun", with_one + _opt()[:-2] + b"\0\x09", FORMERR)
    yield _packet("option overrun", with_one + _opt(b"\0\x0a\0\x08abc"), FORMERR)
    yield _packet("option cut short", with_one + _opt(b"\0\x0a\0"), FORMERR)
    for size in (*range(8), *range(9, 16), 41, 200):
        body = with_one + _opt(_option(10, b"c" * size))
        yield _packet(f"cookie of {size} octets", body, NOERROR, FORMERR, has_no_options=True)
    repeated = {"keepalive": (11, b""), "padding": (12, bytes(64)), "expire": (9, b""), "NSID": (3, b"")}
    for name, (code, data) in {**repeated, "subnet": (8, b"\0\1\x18\0\x0a\0\1"), "unknown": (65_001, b"xyz")}.items():
        over_tcp = frozenset({code} if name == "keepalive" else ())  # RFC 7828, 3.2
        body = with_one + _opt(_option(code, data))
        yield _packet(f"{name} option", body, NOERROR, has_no_options=True, tcp_options=over_tcp)
    tsig = b"\0" + struct.pack("!HHI", TSIG, ANY_CLASS, 0)
    data = _name("hmac-sha256.") + struct.pack("!HIHH", 0, 0, 300, 32) + bytes(32) + struct.pack("!HHH", 0, 0, 0)
    signed = with_one + tsig + struct.pack("!H", len(data)) + data
    yield _packet("TSIG of an unknown key", signed, NOERROR, NOTAUTH)


def _kinds(host: str) -> Iterator[Packet]:
    """Opcodes, classes and types that are not for this server."""
    one = _question(host)
    for opcode in (1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15):
        yield _packet(f"opcode {opcode}", _head(opcode << 11, 1) + one, NOTIMP)
    yield _packet("NOTIFY", _head(4 << 11, 1) + _question(ZONE, SOA), NOTIMP, REFUSED, is_not_authoritative=True)
    yield _packet("version.bind", _head(RD, 1) + _question("version.bind.", 16, CH), REFUSED)
    for name, rclass in {"CH": CH, "ANY": ANY_CLASS, "NONE": NONE, "0": 0, "HS": HS, "65280": 65_280}.items():
        yield _packet(f"class {name}", _head(RD, 1) + _question(host, A, rclass), REFUSED)
    yield _packet("type ANY", _head(RD, 1) + _question(host, ANY), NOERROR, growth=_ANY_GROWTH)
    for name, rtype in {"AXFR": AXFR, "IXFR": IXFR}.items():
        yield _packet(name, _head(0, 1) + _question(ZONE, rtype), REFUSED)
    for name, rtype in {"OPT": OPT, "TSIG": TSIG, "MAILB": MAILB, "0": 0, "65535": 65_535}.items():
        yield _packet(f"type {name}", _head(RD, 1) + _question(host, rtype), NOERROR, FORMERR, NOTIMP)
    for name in ("example.com.", "local.", ".", "xcluster.local.", "cluster.local.example.com."):
        yield _packet(f"out of zone: {name}", _head(RD, 1) + _question(name), REFUSED, is_not_authoritative=True)


def _head(flags: int, qd: int, an: int = 0, ns: int = 0, ar: int = 0) -> bytes:
    return struct.pack("!H4H", flags, qd, an, ns, ar)


def _question(name: str, rtype: int = A, rclass: int = IN) -> bytes:
    return _name(name) + struct.pack("!HH", rtype, rclass)


def _name(name: str) -> bytes:
    wire = dns.name.from_text(name).to_wire()
    assert wire is not None
    return wire


def _opt(*options: bytes) -> bytes:
    data = b"".join(options)
    return b"\0" + struct.pack("!HHIH", OPT, 1232, 0, len(data)) + data


def _option(code: int, data: bytes) -> bytes:
    return struct.pack("!HH", code, len(data)) + data


def names_of(found: Iterable[Packet]) -> list[str]:
    """The names of packets, for a failure's text."""
    return [packet.name for packet in found]
