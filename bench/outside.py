"""The outside world of the bench: one zone, whose every name has one address, and the server that knows it.

The server is Knot DNS on the core of the load, so that what forwards has its own core to itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

OUTSIDE_ZONE = "outside.test."
OUTSIDE_ADDRESS = "192.0.2.53"
TTL = 3600  # seconds
KNOWN_NAMES = 10_000  # that loads of cached names ask for; as many as dnsmasq keeps at most


def write_outside_zone(folder: Path) -> dict[str, Path]:
    """Write the zone file into `folder`; returns its path by zone."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{OUTSIDE_ZONE}zone"
    path.write_text(
        f"$TTL {TTL}\n{OUTSIDE_ZONE} SOA ns.{OUTSIDE_ZONE} hostmaster.{OUTSIDE_ZONE} 1 7200 1800 86400 {TTL}\n"
        f"{OUTSIDE_ZONE} NS ns.{OUTSIDE_ZONE}\nns.{OUTSIDE_ZONE} A 127.0.0.1\n*.{OUTSIDE_ZONE} A {OUTSIDE_ADDRESS}\n",
        encoding="ascii",
    )
    return {OUTSIDE_ZONE: path}


def known_names() -> Iterator[str]:
    """The names that are asked for again and again."""
    return (f"host-{number}.{OUTSIDE_ZONE}" for number in range(KNOWN_NAMES))
