"""`bind`: the addresses a server block listens at, given as such or as interfaces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kdns.dns import names
from kdns.errors import CorefileError
from kdns.plugins.plugin import Setup


def setup(setup: Setup) -> None:
    """`bind ADDRESS|INTERFACE... { except ADDRESS|INTERFACE... }`; the addresses of several lines add up."""
    directive = setup.directive
    interfaces = setup.surroundings.interfaces
    found: list[str] = []
    for _ in directive.occurrences():
        wanted = directive.remaining_args()
        if not wanted:
            raise CorefileError("at least one address or interface name is expected")
        excepted: list[str] = []
        for option in directive.block():
            if option != "except":
                raise CorefileError(f'invalid option "{option}"')
            excepted = directive.remaining_args()
            if not excepted:
                raise CorefileError("at least one address or interface must be given to except subdirective")
        left_out = set(_addresses(excepted, interfaces))
        found += [address for address in _addresses(wanted, interfaces) if address not in left_out]
    if not found:
        # An empty list would mean every address; CoreDNS starts, and serves the block nowhere.
        raise CorefileError("no address is left to listen at")
    setup.block.addresses = found


def _addresses(given: Sequence[str], interfaces: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Addresses as they are, interfaces as their addresses."""
    found: list[str] = []
    for text in given:
        if text in interfaces:
            found += interfaces[text]
        elif names.pack_address(text) is not None:
            found.append(text)
        else:
            raise CorefileError(f'not a valid IP address or interface name: "{text}"')
    return found
