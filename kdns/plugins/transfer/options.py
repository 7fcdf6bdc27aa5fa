"""The options of the `transfer` directive."""

from __future__ import annotations

from kdns.corefile import Dispenser
from kdns.dns import names
from kdns.errors import CorefileError
from kdns.plugins.address import split_address
from kdns.plugins.plugin import Setup
from kdns.plugins.transfer.notify import Peer
from kdns.plugins.transfer.outgoing import Stanza, Transfer
from kdns.plugins.zones import parse_zones

DEFAULT_PORT = 53
EVERYBODY = "*"


def setup(setup: Setup) -> Transfer:
    """`transfer [ZONE...] { to ADDRESS...|*; source ADDRESS }`, any number of times."""
    directive = setup.directive
    stanzas = []
    while directive.next():
        zones = parse_zones(directive.remaining_args()) or setup.zones
        stanzas.append(_parse_stanza(directive, zones))
    setup.block.cluster.transferred += tuple(zone for stanza in stanzas for zone in stanza.zones)
    return Transfer(stanzas, setup.surroundings)


def _parse_stanza(directive: Dispenser, zones: tuple[bytes, ...]) -> Stanza:
    peers: list[Peer] = []
    is_open, source = False, ""
    while directive.next_block():
        option, arguments = directive.val, directive.remaining_args()
        if option not in ("to", "source"):
            raise directive.error(f'unknown property "{option}"')
        if not arguments or (option == "source" and len(arguments) != 1):
            raise directive.arg_error()
        if option == "source":
            source = arguments[0]
            if names.pack_address(source) is None:
                raise directive.error(f"source: met '{source}', expected an IP address")
        else:
            is_open = is_open or EVERYBODY in arguments
            peers += [_parse_peer(text) for text in arguments if text != EVERYBODY]
    if not peers and not is_open:
        raise directive.error("'to' is required")
    return Stanza(zones, tuple(dict.fromkeys(peers)), is_open, source)


def _parse_peer(text: str) -> Peer:
    """An address with or without a port."""
    if names.pack_address(text) is not None:
        return Peer(text, DEFAULT_PORT)
    try:
        host, port = split_address(text)
    except CorefileError:
        host, port = "", ""
    if names.pack_address(host) is None or not port.isdecimal() or not 0 < int(port) <= 0xFFFF:
        raise CorefileError(f"must specify an IP address: `{text}'")
    return Peer(host, int(port))
