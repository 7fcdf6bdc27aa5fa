"""The names of a zone that no object of the cluster has: the apex, `svc`, `pod`, `dns-version` and `ns.dns`.

The SOA record is the table's business: it is made from the zone and a serial number alone.
"""

from __future__ import annotations

from typing import NamedTuple

from kdns.cluster import records
from kdns.cluster.zones import DNS, DNS_VERSION, NS_DNS, Zone
from kdns.dns.rrset import Answer, Node

DNS_SCHEMA_VERSION = b"1.1.0"  # of the Kubernetes DNS specification


class NameServer(NamedTuple):
    """A name of this DNS service and one of its addresses."""

    name: bytes
    address: bytes


def fixed_nodes(zone: Zone, version_ttl: int) -> list[Node]:
    """The nodes that are there whatever the cluster holds."""
    version = bytes([len(DNS_SCHEMA_VERSION)]) + DNS_SCHEMA_VERSION
    return [
        Node(zone.svc, ()),
        Node(zone.pod, ()),
        Node(DNS_VERSION + zone.name, (Answer(records.TXT, version_ttl, (version,)),)),
        Node(DNS + zone.name, ()),
    ]


def name_server_nodes(zone: Zone, servers: list[NameServer], ttl: int) -> list[Node]:
    """The apex with its NS records, and `ns.dns` with the addresses of the name servers."""
    targets = tuple(dict.fromkeys([server.name for server in servers]))
    glue = tuple(dict.fromkeys([records.address_record(server.name, ttl, server.address) for server in servers]))
    return [
        Node(zone.name, (Answer(records.NS, ttl, targets, (), glue),) if targets else ()),
        Node(NS_DNS + zone.name, records.address_answers(ttl, [server.address for server in servers])),
    ]


def fallback_name_servers(zone: Zone, addresses: tuple[bytes, ...]) -> list[NameServer]:
    """The name servers while no Service is known to lead here: `ns.dns` with the addresses of the server itself."""
    return [NameServer(NS_DNS + zone.name, address) for address in addresses]
