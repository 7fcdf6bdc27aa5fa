"""Types, classes, opcodes, rcodes and option codes, spelled as IANA's registry spells them."""

from __future__ import annotations

from enum import IntEnum


class RRType(IntEnum):
    """Resource record types kdns treats by name; every other type is a number (RFC 3597)."""

    A = 1
    NS = 2
    CNAME = 5
    SOA = 6
    PTR = 12
    HINFO = 13
    MX = 15
    TXT = 16
    AAAA = 28
    SRV = 33
    NAPTR = 35
    DNAME = 39
    OPT = 41
    DS = 43
    RRSIG = 46
    NSEC = 47
    DNSKEY = 48
    NSEC3 = 50
    SVCB = 64
    HTTPS = 65
    TSIG = 250
    IXFR = 251
    AXFR = 252
    ANY = 255


class RRClass(IntEnum):
    """Classes (RFC 1035, 3.2.4; RFC 2136, 2.4)."""

    IN = 1
    CH = 3
    NONE = 254
    ANY = 255


class Opcode(IntEnum):
    """Kinds of query (RFC 1035, 4.1.1)."""

    QUERY = 0
    NOTIFY = 4
    UPDATE = 5


class Rcode(IntEnum):
    """Response codes (RFC 1035, 4.1.1; BADVERS: RFC 6891, 9)."""

    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5
    BADVERS = 16


class EdnsOption(IntEnum):
    """EDNS option codes kdns reads or writes."""

    NSID = 3
    TCP_KEEPALIVE = 11
    EXTENDED_ERROR = 15


class ExtendedError(IntEnum):
    """Extended DNS error codes (RFC 8914, 4)."""

    STALE_ANSWER = 3
    NOT_READY = 14
    BLOCKED = 15
    FILTERED = 17
    NO_REACHABLE_AUTHORITY = 22
    NETWORK_ERROR = 23


def type_text(rtype: int) -> str:
    """The mnemonic of a type, or `TYPE65280` (RFC 3597, 5)."""
    try:
        return RRType(rtype).name
    except ValueError:
        return f"TYPE{rtype}"


def rcode_text(rcode: int) -> str:
    """The mnemonic of a response code, or `RCODE23`."""
    try:
        return Rcode(rcode).name
    except ValueError:
        return f"RCODE{rcode}"
