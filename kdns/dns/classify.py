"""What kind of answer a reply is, as `log`, `minimal` and `cache` tell them apart."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, StrEnum

from kdns.dns.codes import Rcode, RRType
from kdns.dns.compression import Body
from kdns.dns.query import Query
from kdns.dns.reply import Reply, record_end

_HALF = 1 << 31  # serial number arithmetic (RFC 1982): times of signatures wrap around
_RRSIG = RRType.RRSIG.to_bytes(2, "big") + b"\0\x01"  # type and class, as every signature's record has them
_EXPIRATION_AT = 8  # octets before the expiration in the data of an RRSIG record (RFC 4034, 3.1); inception follows


class ResponseClass(StrEnum):
    """The classes of the `log` directive."""

    SUCCESS = "success"
    DENIAL = "denial"
    ERROR = "error"


class ResponseType(Enum):
    """The kinds of reply; the value of each is its class and a name."""

    NOERROR = (ResponseClass.SUCCESS, "noerror")
    DELEGATION = (ResponseClass.SUCCESS, "delegation")
    NXDOMAIN = (ResponseClass.DENIAL, "nxdomain")
    NODATA = (ResponseClass.DENIAL, "nodata")
    SERVERERROR = (ResponseClass.ERROR, "servererror")
    META = (ResponseClass.ERROR, "meta")
    OTHERERROR = (ResponseClass.ERROR, "othererror")

    @property
    def response_class(self) -> ResponseClass:
        """What `class` lines know it by."""
        return self.value[0]


def classify(query: Query, reply: Reply, now: float) -> ResponseType:
    """The kind of a reply; `now` is in seconds since 1970, and decides whether signatures hold."""
    body, rcode = reply.body, reply.rcode
    if query.qtype in (RRType.AXFR, RRType.IXFR):
        return ResponseType.META
    if query.edns is not None and query.edns.dnssec_ok and _has_stale_signature(body, int(now)):
        return ResponseType.OTHERERROR
    if body.answers and rcode == Rcode.NOERROR:
        return ResponseType.NOERROR
    if body.answers and rcode == Rcode.NXDOMAIN:
        return ResponseType.OTHERERROR
    authorities = _authority_types(body) if rcode == Rcode.NOERROR and body.authorities else set()
    if RRType.SOA in authorities:
        return ResponseType.NODATA
    if rcode == Rcode.NXDOMAIN:
        return ResponseType.NXDOMAIN
    if rcode in (Rcode.SERVFAIL, Rcode.NOTIMP):
        return ResponseType.SERVERERROR
    if RRType.NS in authorities:
        return ResponseType.DELEGATION
    return ResponseType.NOERROR if rcode == Rcode.NOERROR else ResponseType.OTHERERROR


def _authority_types(body: Body) -> set[int]:
    records = list(_records(body))
    return {rtype for rtype, _, _ in records[body.answers : body.answers + body.authorities]}


def _has_stale_signature(body: Body, now: int) -> bool:
    """Whether a signature is not yet valid, or no more (RFC 4034, 3.1.5)."""
    if _RRSIG not in body.octets:
        return False
    for rtype, start, end in _records(body):
        if rtype != RRType.RRSIG or end - start < _EXPIRATION_AT + 8:
            continue
        expiration = int.from_bytes(body.octets[start + _EXPIRATION_AT : start + _EXPIRATION_AT + 4], "big")
        inception = int.from_bytes(body.octets[start + _EXPIRATION_AT + 4 : start + _EXPIRATION_AT + 8], "big")
        if (now - inception) % (1 << 32) >= _HALF or (expiration - now) % (1 << 32) >= _HALF:
            return True
    return False


def _records(body: Body) -> Iterator[tuple[int, int, int]]:
    """(type, start of the data, end) of each record."""
    octets, at = body.octets, 0
    for _ in range(body.answers + body.authorities + body.additionals):
        end = record_end(octets, at)
        while octets[at] and octets[at] < 0xC0:
            at += 1 + octets[at]
        at += 2 if octets[at] else 1
        yield int.from_bytes(octets[at : at + 2], "big"), at + 10, end
        at = end
