"""Zones as directives take them: the words behind the directive's name."""

from collections.abc import Iterable

from kdns.corefile import expand_zone
from kdns.errors import CorefileError


def parse_zones(arguments: Iterable[str]) -> tuple[bytes, ...]:
    """The zones of the arguments, a CIDR's reverse zones among them; what is no zone is left out, as CoreDNS does."""
    zones: list[bytes] = []
    for text in arguments:
        try:
            zones += expand_zone(text)
        except CorefileError:
            continue
    return tuple(zones)
