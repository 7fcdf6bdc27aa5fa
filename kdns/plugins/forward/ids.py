"""Message ids nobody can guess: from the kernel's generator, and never the same in two processes (RFC 5452, 4.3)."""

from __future__ import annotations

import os
import struct

_BATCH = 1024  # ids fetched at a time: a system call for each would cost more than the rest of them

_stock: list[int] = []


def fresh_id() -> int:
    """An id for one query."""
    if not _stock:
        _stock.extend(struct.unpack(f"={_BATCH}H", os.urandom(2 * _BATCH)))
    return _stock.pop()


# A forked worker must not hand out the ids its siblings do.
os.register_at_fork(after_in_child=_stock.clear)
