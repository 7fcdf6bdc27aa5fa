"""Notes: what workers must know of the cluster besides what its names answer; they stand in the table beside the names.

A note's owner begins with an octet that no label's length can be, so that no query asks for it; what it says is where
an alias has the name it stands for. There are notes only where a view needs them:

    ff 'c' <address>                        the namespace of the Pod that has the address (`autopath`)
    ff 't' <half> <name> <namespace>        all a zone transfer says of a Service, or of a ServiceImport
"""

from __future__ import annotations

import msgspec

from kdns.cluster import owners
from kdns.cluster.endpoints import SliceEntry
from kdns.cluster.objects import NO_PORT, Port, Service
from kdns.dns.rrset import Node

TRANSFER = b"\xfft"
HALVES = (b"\0", b"\1")  # Services, ServiceImports


class PortNote(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A port with a number; its labels begin with an underscore and are empty where it has no name."""

    name: bytes
    protocol: bytes
    number: int


class SliceNote(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The ready endpoints of an EndpointSlice: the label and the address of each."""

    ports: tuple[PortNote, ...]
    labels: tuple[bytes, ...]
    addresses: tuple[bytes, ...]


class ServiceNote(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A Service: its addresses and ports, or the name it stands for, or the slices it answers by."""

    addresses: tuple[bytes, ...] = ()
    ports: tuple[PortNote, ...] = ()
    target: bytes = b""
    slices: tuple[SliceNote, ...] = ()


_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(ServiceNote)


def service_owner(imported: bool, namespace: str, name: str) -> bytes:
    """Where the note of a Service stands: a half, then the labels that begin its names."""
    return TRANSFER + HALVES[imported] + owners.label(name) + owners.label(namespace)


def service_node(
    owner: bytes, service: Service | None, target: bytes, slices: tuple[SliceEntry, ...], pod_names: bool
) -> Node:
    """The note of a Service that can be seen, or that there is none."""
    if service is None:
        return Node(owner, None)
    if target:
        note = ServiceNote(target=target)
    elif service.addresses:
        note = ServiceNote(service.addresses, _ports(service.ports))
    else:
        note = ServiceNote(slices=tuple([_slice_note(entry, pod_names) for entry in slices]))
    return Node(owner, (), _encode(note))


def read_service(octets: bytes) -> ServiceNote:
    """What the note of a Service says."""
    return _decoder.decode(octets)


def _slice_note(entry: SliceEntry, pod_names: bool) -> SliceNote:
    return SliceNote(
        _ports(entry.slice.ports),
        tuple([owners.endpoint_label(endpoint, pod_names) for endpoint in entry.slice.endpoints]),
        entry.slice.addresses,
    )


def _ports(ports: tuple[Port, ...]) -> tuple[PortNote, ...]:
    return tuple(
        [PortNote(_marked(port.name), _marked(port.protocol), port.number) for port in ports if port.number != NO_PORT]
    )


def _marked(text: str) -> bytes:
    return owners.label("_" + text) if text else b""
