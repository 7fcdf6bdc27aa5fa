"""Ports for servers that are stopped and started again."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack
from pathlib import Path

_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST = 10_000
_TRIES = 100


def free_ports(count: int, address: str = "127.0.0.1") -> list[int]:
    """Ports nobody listens on, below those the kernel gives to clients.

    A client that tries a port of that range again and again, while its server is away, is at last given that port
    itself, and is then connected to itself.
    """
    highest = int(_EPHEMERAL.read_text().split()[0])
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with ExitStack() as opened:
        found: list[int] = []
        for _ in range(_TRIES):
            if len(found) == count:
                return found
            port = random.randrange(min(_LOWEST, highest // 2), highest)
            try:
                opened.enter_context(socket.create_server((address, port), family=family))
            except OSError:
                continue
            found.append(port)
    raise OSError(f"no {count} free ports below {highest} in {_TRIES} tries")
