"""What a view has not listed yet: names that depend on it are neither known nor known to be absent.

An API server may refuse one resource and hand out the others. Then the names that do not depend on it are answered all
the same, and only the others wait.
"""

from __future__ import annotations

from enum import IntFlag


class Unlisted(IntFlag):
    """Kinds of objects that have not been listed; the values stand in the table's header."""

    NOTHING = 0
    NAMESPACES = 1
    SERVICES = 2
    ENDPOINT_SLICES = 4
    PODS = 8
    SERVICE_IMPORTS = 16


EVERYTHING = 255  # in the table's header: no source has said anything yet
