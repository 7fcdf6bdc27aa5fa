"""Record sets to responses: the bodies the compiled path copies. Pure; no I/O, no clock.

Nearly all nodes of a cluster have one or many addresses, one SRV or one PTR record; these are put together by hand,
because there are half a million of them. The rest goes through the general writer.
"""

from __future__ import annotations

import struct
from array import array
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

from kdns.dns import names
from kdns.dns.codes import RRType
from kdns.dns.compression import HEADER_SIZE, MAX_POINTER, MIN_INDEXED, OWNER, write_body
from kdns.dns.rrset import Answer, Node, Portion, Record

# Flags of a blob; the order is that of BlobFlags in hotpath/table.pxd.
SPELLS_ZONE = 1
LEAVES_ZONE = 2
ALIAS = 4
HAS_PORTS = 8
HAS_SERIAL = 16
INDEXED = 32

MAX_RECORDS = 65535  # in a section (RFC 1035, 4.1.1: the counts have 16 bits); an answer with more loses the rest
MAX_SOA_TTL = 300  # seconds; CoreDNS caps the SOA record's own TTL, not its minimum
SOA_REFRESH, SOA_RETRY, SOA_EXPIRE = 7200, 1800, 86400  # seconds, as CoreDNS writes them

# Plain numbers: an enumeration's members cost a look-up each, half a million times.
_A, _NS, _CNAME, _AAAA, _SRV = (int(t) for t in (RRType.A, RRType.NS, RRType.CNAME, RRType.AAAA, RRType.SRV))
_ADDRESS_TYPES = (_A, _AAAA)
_PREFIX = struct.Struct("!2sHHIH")
_new = tuple.__new__  # makes a NamedTuple at half the cost


MAX_VIEWS = 64  # numbers of views in the table (hotpath/table.pxd)


class Response(NamedTuple):
    """What the table keeps for one (owner, type); see BlobHeader in hotpath/table.pxd."""

    rtype: int
    flags: int
    record_length: int
    answers: int
    additionals: int
    rotate_from: int
    body: bytes
    record_offsets: bytes | None


def render_node(node: Node) -> tuple[int, list[Response] | None]:
    """(flags of the node, its responses), the latter None where the node is gone."""
    owner, answers, alias_of, has_ports = node
    if answers is None:
        return 0, None
    if alias_of is not None:
        return 0, [Response(0, ALIAS, 0, 0, 0, 0, alias_of, None)]
    return HAS_PORTS if has_ports else 0, [render_answer(owner, answer) for answer in answers]


def render_answer(owner: bytes, answer: Answer) -> Response:
    """The response of `owner` for one type."""
    rtype, ttl, rdatas, chain, additional, leaves_zone, portions = answer
    if portions:
        if sum([len(portion.rdatas) for portion in portions]) <= MAX_RECORDS:
            return _render_portions(rtype, ttl, portions)
        rdatas = answer.all_rdatas
    if len(rdatas) + len(chain) > MAX_RECORDS or len(additional) > MAX_RECORDS:
        rdatas, additional = rdatas[: MAX_RECORDS - len(chain)], additional[:MAX_RECORDS]
    if not chain:
        if rtype in _ADDRESS_TYPES:
            return _render_addresses(rtype, ttl, rdatas)
        if rtype == _SRV:
            return _render_services(owner, ttl, rdatas, additional)
        if len(rdatas) == 1 and not additional and rtype not in (_NS, _CNAME):
            body = _head(rtype, ttl, len(rdatas[0])) + rdatas[0]
            return _new(Response, (rtype, 0, 0, 1, 0, 0, body, None))
    last = chain[-1].rdata if chain else owner
    records = [*chain, *(Record(last, rtype, ttl, rdata) for rdata in rdatas)]
    body_ = write_body(owner, records, (), additional)
    return Response(
        rtype,
        LEAVES_ZONE if leaves_zone else 0,
        body_.record_length,
        body_.answers,
        body_.additionals,
        body_.rotate_from,
        body_.octets,
        None if body_.record_offsets is None else array("I", body_.record_offsets).tobytes(),
    )


def external_index(view: int) -> int:
    """The number in the table of a view's external names: numbers of views are given from below, these from above."""
    return MAX_VIEWS - 1 - view


def render_soa(template: bytes) -> Response:
    """The SOA response at a zone's own name; the serial is put in when it is sent."""
    return Response(RRType.SOA, HAS_SERIAL, 0, 1, 0, 0, template, None)


def soa_template(ttl: int, minimum: int | None = None) -> bytes:
    """A zone's SOA record; its names are pointers to the question's: the zone, and `ns.dns`, `hostmaster` in it.

    `minimum` is its last number, `ttl` where it is None: `cache` changes the record's TTL alone.
    """
    return _soa(min(ttl, MAX_SOA_TTL), ttl if minimum is None else minimum, b"\x02ns\x03dns", b"\x0ahostmaster")


def external_soa_template(ttl: int, apex: bytes, minimum: int | None = None) -> bytes:
    """The SOA record of a `k8s_external` zone, whose names are below the label `apex`."""
    return _soa(ttl, ttl if minimum is None else minimum, b"\x03ns1" + apex, b"\x0ahostmaster" + apex)


def _soa(ttl: int, negative_ttl: int, server: bytes, mailbox: bytes) -> bytes:
    data = (
        server + OWNER + mailbox + OWNER
        + struct.pack("!IIIII", 0, SOA_REFRESH, SOA_RETRY, SOA_EXPIRE, negative_ttl)
    )  # fmt: skip
    return _PREFIX.pack(OWNER, RRType.SOA, 1, ttl, len(data)) + data


@lru_cache(maxsize=1024)
def _head(rtype: int, ttl: int, size: int) -> bytes:
    """A record of the question's own name, up to its data."""
    return _PREFIX.pack(OWNER, rtype, 1, ttl, size)


def _render_addresses(rtype: int, ttl: int, rdatas: tuple[bytes, ...]) -> Response:
    size = len(rdatas[0])
    head = _head(rtype, ttl, size)
    count = len(rdatas)
    if count == 1:
        return _new(Response, (rtype, 0, 0, 1, 0, 0, head + rdatas[0], None))
    return Response(rtype, 0, len(head) + size, count, 0, 0, head + head.join(rdatas), None)


@lru_cache(maxsize=4)  # a Service's own name and its port's answer the same
def _render_portions(rtype: int, ttl: int, portions: tuple[Portion, ...]) -> Response:
    """Addresses, or SRV records without additional ones, of which most were rendered before."""
    found = [portion.rendered.get((rtype, ttl)) or _render_portion(rtype, ttl, portion) for portion in portions]
    body = b"".join([octets for octets, _ in found])
    count = sum([len(portion.rdatas) for portion in portions])
    if rtype != _SRV:
        record_length = len(body) // count if count > 1 else 0
        return Response(rtype, 0, record_length, count, 0, 0, body, None)
    if count < MIN_INDEXED:
        return Response(rtype, SPELLS_ZONE, 0, count, 0, 0, body, None)
    lengths = [length for _, lengths in found for length in lengths]
    offsets = array("I", accumulate(lengths[:-1], initial=0)).tobytes()
    return Response(rtype, SPELLS_ZONE | INDEXED, 0, count, 0, 0, body, offsets)


def _render_portion(rtype: int, ttl: int, portion: Portion) -> tuple[bytes, list[int]]:
    """The records of a portion, and how long each is; kept with it."""
    heads = {size: _head(rtype, ttl, size) for size in set(map(len, portion.rdatas))}
    records = [heads[len(rdata)] + rdata for rdata in portion.rdatas]
    portion.rendered[rtype, ttl] = found = b"".join(records), list(map(len, records))
    return found


def _render_services(owner: bytes, ttl: int, rdatas: tuple[bytes, ...], additional: tuple[Record, ...]) -> Response:
    """SRV records, their targets whole (RFC 2782), and addresses owned by pointers to them."""
    if len(rdatas) == 1 == len(additional) and additional[0].owner == owner:
        # An endpoint's own name, the commonest of all: the address belongs to the question's name.
        (service,) = rdatas
        _, rtype, address_ttl, address = additional[0]
        body = _head(_SRV, ttl, len(service)) + service + _head(rtype, address_ttl, len(address)) + address
        return _new(Response, (_SRV, SPELLS_ZONE, 0, 1, 1, 0, body, None))
    records = [_head(_SRV, ttl, len(rdata)) + rdata for rdata in rdatas]
    offsets = None
    if len(records) >= MIN_INDEXED:
        offsets = array("I", accumulate(map(len, records[:-1]), initial=0)).tobytes()
    if additional:
        places = _target_places(owner, rdatas)
        for name, rtype, record_ttl, rdata in additional:
            pointer = places.get(name) or _pointer_into(name, places)
            records.append(pointer + _head(rtype, record_ttl, len(rdata))[2:] + rdata)
    return Response(
        _SRV,
        SPELLS_ZONE | (0 if offsets is None else INDEXED),
        0,
        len(rdatas),
        len(additional),
        0,
        b"".join(records),
        offsets,
    )


def _target_places(owner: bytes, rdatas: tuple[bytes, ...]) -> dict[bytes, bytes]:
    """Pointers to where SRV targets stand: in the question, or in the record that names them."""
    at = HEADER_SIZE + len(owner) + 4
    places = {}
    target = rdatas[0][6:]
    if owner.endswith(target) and all(rdata[6:] == target for rdata in rdatas):
        # The ports of one service, or of one endpoint: the target is the owner, or above it.
        return {target: struct.pack("!H", 0xC000 | (HEADER_SIZE + len(owner) - len(target)))}
    for position, name in zip(accumulate(map(len, names.labels_of(owner)), lambda a, b: a + b + 1, initial=0),
                              names.parents(owner)[:-1], strict=False):  # fmt: skip
        places[name] = struct.pack("!H", 0xC000 | (HEADER_SIZE + position))
    for rdata in rdatas:
        target_at = at + 18  # owner pointer 2, type, class, TTL and length 10, priority, weight and port 6
        if target_at <= MAX_POINTER:
            places.setdefault(rdata[6:], struct.pack("!H", 0xC000 | target_at))
        at += 12 + len(rdata)
    return places


def _pointer_into(name: bytes, places: dict[bytes, bytes]) -> bytes:
    """A name that stands nowhere whole: its first labels, then a pointer to the rest."""
    at = 0
    while name[at]:
        at += 1 + name[at]
        pointer = places.get(name[at:])
        if pointer is not None:
            return name[:at] + pointer
    return name
