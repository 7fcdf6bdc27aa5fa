"""What a transfer of a cluster's zone says of each Service: CoreDNS's choice, which is not what queries are answered.

SRV records of a Service's own ports have all the weight each; those of endpoints share it within their slice, and are
only there for ports with a name. Endpoints have names below headless Services alone, and below those that are imported
from other clusters without the name of their cluster.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from kdns.cluster.notes import PortNote, ServiceNote, SliceNote
from kdns.cluster.records import SRV_PRIORITY, SRV_WEIGHT, address_record
from kdns.dns import names
from kdns.dns.codes import RRType
from kdns.dns.rrset import Record

_SRV = struct.Struct("!HHH")


def service_records(owner: bytes, note: ServiceNote, ttl: int) -> Iterator[Record]:
    """The records of a Service called `owner`."""
    if note.target:
        yield Record(owner, RRType.CNAME, ttl, note.target)
        return
    for address in note.addresses:
        yield address_record(owner, ttl, address)
    for port in note.ports:
        record = Record(owner, RRType.SRV, ttl, _SRV.pack(SRV_PRIORITY, SRV_WEIGHT, port.number) + owner)
        yield record
        yield from _named(port, record)
    for part in note.slices:
        yield from _slice_records(owner, part, ttl)


def _slice_records(owner: bytes, part: SliceNote, ttl: int) -> Iterator[Record]:
    weight = max(1, SRV_WEIGHT // max(1, len(part.addresses)))
    for label, address in zip(part.labels, part.addresses, strict=True):
        yield address_record(owner, ttl, address)
        target = label + owner
        if not label or len(target) > names.MAX_NAME:
            continue
        yield address_record(target, ttl, address)
        for port in part.ports:
            record = Record(owner, RRType.SRV, ttl, _SRV.pack(SRV_PRIORITY, weight, port.number) + target)
            yield from _named(port, record)


def _named(port: PortNote, record: Record) -> Iterator[Record]:
    """The record under the name of its port, if that has one."""
    owner = port.name + port.protocol + record.owner
    if port.name and port.protocol and len(owner) <= names.MAX_NAME:
        yield record._replace(owner=owner)
