"""How many examples a property test draws: all of them, or the share KDNS_TEST_EXAMPLES names, for slow builds."""

from __future__ import annotations

import os

SHARE = float(os.environ.get("KDNS_TEST_EXAMPLES", "1"))
FEWEST = 10


def examples(count: int) -> int:
    """`count`, or what the environment leaves of it."""
    return max(FEWEST, int(count * SHARE))
