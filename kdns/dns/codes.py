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
    CLIENT_SUBNET = 8
    TCP_KEEPALIVE = 11
    EXTENDED_ERROR = 15


# Options between neighbours, which no server in between hands on: COOKIE (RFC 7873, 5.2), TCP_KEEPALIVE (RFC 7828,
# 3.1), PADDING (RFC 7830, 4).
HOP_BY_HOP = frozenset({10, 11, 12})


class ExtendedError(IntEnum):
    """Extended DNS error codes (RFC 8914, 4)."""

    STALE_ANSWER = 3
    NOT_READY = 14
    BLOCKED = 15
    FILTERED = 17
    NO_REACHABLE_AUTHORITY = 22
    NETWORK_ERROR = 23


# Every mnemonic CoreDNS's library knows, by number; those of RRType are among them.
_TYPE_NAMES = {
    0: "None", 1: "A", 2: "NS", 3: "MD", 4: "MF", 5: "CNAME", 6: "SOA", 7: "MB", 8: "MG", 9: "MR", 10: "NULL",
    12: "PTR", 13: "HINFO", 14: "MINFO", 15: "MX", 16: "TXT", 17: "RP", 18: "AFSDB", 19: "X25", 20: "ISDN", 21: "RT",
    23: "NSAP-PTR", 24: "SIG", 25: "KEY", 26: "PX", 27: "GPOS", 28: "AAAA", 29: "LOC", 30: "NXT", 31: "EID",
    32: "NIMLOC", 33: "SRV", 34: "ATMA", 35: "NAPTR", 36: "KX", 37: "CERT", 39: "DNAME", 41: "OPT", 42: "APL",
    43: "DS", 44: "SSHFP", 45: "IPSECKEY", 46: "RRSIG", 47: "NSEC", 48: "DNSKEY", 49: "DHCID", 50: "NSEC3",
    51: "NSEC3PARAM", 52: "TLSA", 53: "SMIMEA", 55: "HIP", 56: "NINFO", 57: "RKEY", 58: "TALINK", 59: "CDS",
    60: "CDNSKEY", 61: "OPENPGPKEY", 62: "CSYNC", 63: "ZONEMD", 64: "SVCB", 65: "HTTPS", 99: "SPF", 100: "UINFO",
    101: "UID", 102: "GID", 103: "UNSPEC", 104: "NID", 105: "L32", 106: "L64", 107: "LP", 108: "EUI48", 109: "EUI64",
    128: "NXNAME", 249: "TKEY", 250: "TSIG", 251: "IXFR", 252: "AXFR", 253: "MAILB", 254: "MAILA", 255: "ANY",
    256: "URI", 257: "CAA", 258: "AVC", 260: "AMTRELAY", 261: "RESINFO", 32768: "TA", 32769: "DLV",
    65535: "Reserved",
}  # fmt: skip
_TYPE_NUMBERS = {name: number for number, name in _TYPE_NAMES.items()}
_CLASS_NAMES = {1: "IN", 2: "CS", 3: "CH", 4: "HS", 254: "NONE", 255: "ANY"}
_CLASS_NUMBERS = {name: number for number, name in _CLASS_NAMES.items()}
_RCODE_NAMES = {
    0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED", 6: "YXDOMAIN", 7: "YXRRSET",
    8: "NXRRSET", 9: "NOTAUTH", 10: "NOTZONE", 11: "DSOTYPENI", 16: "BADVERS", 17: "BADKEY", 18: "BADTIME",
    19: "BADMODE", 20: "BADNAME", 21: "BADALG", 22: "BADTRUNC", 23: "BADCOOKIE",
}  # fmt: skip
_RCODE_NUMBERS = {name: number for number, name in _RCODE_NAMES.items()} | {"BADSIG": 16}


def type_text(rtype: int) -> str:
    """The mnemonic of a type, or `TYPE65280` (RFC 3597, 5)."""
    return _TYPE_NAMES.get(rtype) or f"TYPE{rtype}"


def type_number(text: str) -> int | None:
    """The type of a mnemonic, in the registry's spelling; None where there is none."""
    return _TYPE_NUMBERS.get(text)


def class_text(qclass: int) -> str:
    """The mnemonic of a class, or `CLASS42` (RFC 3597, 5)."""
    return _CLASS_NAMES.get(qclass) or f"CLASS{qclass}"


def class_number(text: str) -> int | None:
    """The class of a mnemonic in upper case; None where there is none."""
    return _CLASS_NUMBERS.get(text)


def rcode_text(rcode: int) -> str:
    """The mnemonic of a response code, or `RCODE24`."""
    return _RCODE_NAMES.get(rcode) or f"RCODE{rcode}"


def rcode_number(text: str) -> int | None:
    """The response code of a mnemonic in upper case; None where there is none."""
    return _RCODE_NUMBERS.get(text)
