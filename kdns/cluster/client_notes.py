"""The namespaces of clients: notes in the table that say whose address is whose (`notes` tells of notes)."""

from __future__ import annotations

from kdns.cluster import owners
from kdns.dns.rrset import Node

CLIENT = b"\xffc"


def client_owner(address: bytes) -> bytes:
    """Where the note of a Pod's address stands."""
    return CLIENT + address


def client_node(address: bytes, namespace: str) -> Node:
    """The note of a Pod's address; without a namespace, that there is none."""
    label = owners.label(namespace) if namespace else b""
    return Node(client_owner(address), (), label) if label else Node(client_owner(address), None)
