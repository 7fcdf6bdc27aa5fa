"""The labels of what the cluster names: Services, namespaces, ports, endpoints and Pods, in wire form.

A label here is its length octet and its text, ready to be put before the rest of a name. What cannot be a label is the
empty `bytes`: the object is then left out, for one odd object must not cost the others their names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from struct import unpack
from typing import TYPE_CHECKING

from kdns.cluster.addresses import pod_address
from kdns.dns import names

if TYPE_CHECKING:  # workers have labels to read, and no objects
    from kdns.cluster.objects import Endpoint

MAX_POD_NAME = 63  # octets; a longer targetRef.name gives way to the address (CoreDNS `endpoint_pod_names`)

_LENGTHS = [bytes([n]) for n in range(names.MAX_LABEL + 1)]
_OCTETS = [str(n).encode() for n in range(256)]
_DASH_OCTETS = [b"-" + octet for octet in _OCTETS]
_ZERO_GROUPS = re.compile(r"(?:^|-)0(?:-0)+(?:-|$)")


@lru_cache(maxsize=1024)  # namespaces, and the few Services that change just now
def label(text: str) -> bytes:
    """The label `text` makes, lower case, or nothing where it is empty, too long or holds a dot."""
    raw = text.encode("utf-8", "surrogateescape").lower()
    if not 0 < len(raw) <= names.MAX_LABEL or b"." in raw:
        return b""
    return _LENGTHS[len(raw)] + raw


def labels(text: str) -> bytes:
    """The labels `text` makes when cut at its dots, or nothing where one of them is none."""
    parts = [label(part) for part in text.split(".")]
    return b"".join(parts) if all(parts) else b""


def underscored(name: bytes) -> bytes:
    """A label with the underscore a port's or a protocol's name begins with, given it where it has none.

    Queries may leave it out (CoreDNS quirk). What has no room for it stays as it is.
    """
    if name[1:2] == b"_" or name[0] >= names.MAX_LABEL:
        return name
    return _LENGTHS[name[0] + 1] + b"_" + name[1:]


def endpoint_label(endpoint: Endpoint, pod_names: bool) -> bytes:
    """The name of an endpoint below its Service: its hostname, its Pod's name where asked for, or its dashed address.

    A Pod name may hold dots: SRV and PTR records then show it as several labels, under which nothing is ever found.
    """
    if endpoint.hostname:
        return label(endpoint.hostname)
    if pod_names and endpoint.target_name and len(endpoint.target_name) <= MAX_POD_NAME:
        return labels(endpoint.target_name)
    if endpoint.text:
        return label(_end_in_zero(endpoint.text.replace(".", "-").replace(":", "-")))
    if len(endpoint.address) == 4:
        return address_labels((endpoint.address,))[0]
    return label(_end_in_zero(_dashed_ipv6(endpoint.address)))


def address_labels(addresses: Iterable[bytes]) -> list[bytes]:
    """The labels of endpoints that have nothing but an IPv4 address, as most do."""
    texts = [_OCTETS[a] + _DASH_OCTETS[b] + _DASH_OCTETS[c] + _DASH_OCTETS[d] for a, b, c, d in addresses]
    return [_LENGTHS[len(text)] + text for text in texts]


def plain_addresses(labels: Iterable[bytes]) -> set[bytes]:
    """The addresses, packed, that these labels may have been made of: every IPv4 address of a plain endpoint."""
    found = {pod_address(label[1:].decode("ascii", "replace")) for label in labels}
    return {address for address in found if address is not None}


def pod_label(address: bytes) -> bytes:
    """The label of a Pod: its address with dashes, as CoreDNS spells it (`10-244-1-7`, `fd00-10-244--5`)."""
    if len(address) == 4:
        return label("-".join(map(str, address)))
    return label(_dashed_ipv6(address))


def _dashed_ipv6(address: bytes) -> str:
    """The text of RFC 5952 with dashes for colons."""
    text = "{:x}-{:x}-{:x}-{:x}-{:x}-{:x}-{:x}-{:x}".format(*unpack(">8H", address))
    # The first of the longest runs of zero groups is left out (RFC 5952, 4.2.3).
    run = max(_ZERO_GROUPS.finditer(text), key=lambda found: found[0].count("0"), default=None)
    return f"{text[: run.start()]}--{text[run.end() :]}" if run else text


def _end_in_zero(text: str) -> str:
    return text + "0" if text.endswith("-") else text
