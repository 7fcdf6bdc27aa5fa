"""The names of ports: which exist below a Service, and which of its ports each one selects.

CoreDNS strips one underscore from each of the two labels and compares them with the ports; a label that was nothing
but the underscore is then empty and selects every port, or every protocol. Below a Service with a port `http` are:

    _http._tcp          the port, as the specification has it
    _._tcp   _http._    all ports of a protocol, all protocols of a port
    _._                 everything: what the Service itself answers
    _tcp   _            nothing, but something lies below (RFC 8020)

Few combinations of ports occur in a cluster, so that their plans are made once.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from kdns.cluster import owners
from kdns.cluster.objects import NO_PORT, Port

Selection = tuple[tuple[Port, ...], ...]  # of each group of ports, those selected

# A Service or slice without ports still has something to select, though never an SRV record.
NO_PORTS = (Port("", "", NO_PORT),)
ANY = b"\x01_"


class PortPlan(NamedTuple):
    """The names below a Service, as labels to put before its own; a selection is an index into `selections`."""

    selections: tuple[Selection, ...]  # the first is everything: the Service itself
    named: tuple[tuple[bytes, int], ...]  # `_http._tcp`
    wild: tuple[tuple[bytes, int], ...]  # `_._tcp`: what no other name selects
    same: tuple[tuple[bytes, bytes], ...]  # `_._`, and the name that selects the same (empty: the Service)
    above: tuple[bytes, ...]  # `_tcp`: names only because of what lies below
    prefixes: frozenset[bytes]  # all of these


@lru_cache(maxsize=1024)
def port_plan(groups: Selection) -> PortPlan:
    """The plan for a Service whose addresses have these groups of ports."""
    ports = [port for group in groups for port in group]
    pairs = dict.fromkeys((_underscored(port.name), _underscored(port.protocol)) for port in ports)
    every_name = [name for name in dict.fromkeys(name for name, _ in pairs) if name]
    every_protocol = [protocol for protocol in dict.fromkeys(protocol for _, protocol in pairs) if protocol]

    selections = [groups]
    named, wild, same = [], [], [(ANY + ANY, b"")]
    first_with = {groups: b""}
    for name, protocol in pairs:
        if name and protocol:
            selected = _select(groups, name, protocol)
            named.append((name + protocol, _index(selections, selected)))
            first_with.setdefault(selected, name + protocol)
    for name, protocol in [(name, ANY) for name in every_name] + [(ANY, protocol) for protocol in every_protocol]:
        selected = _select(groups, name, protocol)
        if selected in first_with:
            same.append((name + protocol, first_with[selected]))
        else:
            wild.append((name + protocol, _index(selections, selected)))
    above = (*every_protocol, ANY)
    prefixes = frozenset([prefix for prefix, _ in (*named, *wild, *same)]) | frozenset(above)
    return PortPlan(tuple(selections), tuple(named), tuple(wild), tuple(same), above, prefixes)


def _underscored(text: str) -> bytes:
    """`http` as the label `_http`; nothing where there is no name, or none that fits."""
    return owners.label("_" + text) if text else b""


def _select(groups: Selection, name: bytes, protocol: bytes) -> Selection:
    return tuple(
        tuple(
            port
            for port in group
            if name in (ANY, _underscored(port.name)) and protocol in (ANY, _underscored(port.protocol))
        )
        for group in groups
    )


def _index(selections: list[Selection], selected: Selection) -> int:
    if selected not in selections:
        selections.append(selected)
    return selections.index(selected)
