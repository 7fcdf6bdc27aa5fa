"""`loadbalance`: spreads clients over the addresses of a name by where its answers begin.

`round_robin` starts the records at a random one, each equally often, in constant time whatever their number: the
compiled path does it too. Answers to MX questions are shuffled, and the addresses beside them; the compiled path leaves
those questions to it. `prefer` and `weighted` look into each reply and so keep a block's names off
the compiled path.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path

from kdns import log
from kdns.corefile import format_duration, parse_duration
from kdns.dns import names
from kdns.dns.codes import Rcode, RRType
from kdns.dns.compression import write_body
from kdns.dns.records import read_answers, read_sections
from kdns.dns.reply import Reply
from kdns.dns.rrset import Record
from kdns.errors import CorefileError, FormatError
from kdns.plugins.plugin import Handler, Request, Setup

DEFAULT_RELOAD = 30.0  # seconds between looks at the weight file, as CoreDNS
MAX_WEIGHT = 255

_WEIGHT = re.compile(r"0*[0-9]{1,3}")
_ADDRESS_TYPES = frozenset({RRType.A, RRType.AAAA})
_SPREAD_TYPES = (_ADDRESS_TYPES, frozenset({RRType.MX}))  # what is shuffled, each behind the one before, as CoreDNS
_LOG = log.plugin_logger("loadbalance")

Networks = tuple[tuple[int, int, int], ...]  # (octets of an address, network, mask)
Orderer = Callable[[bytes, list[Record]], list[Record]]


class RoundRobin:
    """Starts address records at a random one; those of preferred networks come first, network by network."""

    def __init__(self, prefer: Networks = ()) -> None:
        self._prefer = prefer
        self.transparent = not prefer

    async def serve(self, request: Request, next_handler: Handler) -> Reply:
        """Hand on, and let the reply rotate."""
        reply = await next_handler(request)
        if reply.rcode != Rcode.NOERROR or reply.more is not None:  # of a zone transfer the order matters
            return reply
        if not self._prefer:
            # Addresses among other records keep their order: the compiled path gives them so.
            return _shuffled(request, reply) if request.query.qtype == RRType.MX else reply.rotated()
        return _reorder(request, reply, self._preferred_first)

    def _preferred_first(self, owner: bytes, addresses: list[Record]) -> list[Record]:
        random.shuffle(addresses)
        return sorted(addresses, key=lambda record: _first_network(record.rdata, self._prefer))


@dataclass(slots=True)
class Weighted:
    """Puts one address first, drawn by weights from a file; a name or an address without weight counts as 1."""

    path: Path
    reload_seconds: float
    transparent: bool = field(default=False, init=False)
    _weights: dict[bytes, dict[bytes, int]] = field(default_factory=dict, init=False)
    _seen: tuple[int, int] | None = field(default=None, init=False)

    async def serve(self, request: Request, next_handler: Handler) -> Reply:
        """Hand on, and put the drawn address first."""
        reply = await next_handler(request)
        if reply.rcode != Rcode.NOERROR or reply.more is not None:  # of a zone transfer the order matters
            return reply
        return _reorder(request, reply, self._drawn_first)

    async def run(self) -> None:
        """Look at the file once a period, for as long as the plugin serves."""
        while self.reload_seconds:
            await asyncio.sleep(self.reload_seconds)
            self.reload()

    def load(self) -> None:
        """Read the file. Raises OSError where it cannot be read, CorefileError where it holds something else."""
        status = self.path.stat()
        try:
            text = self.path.read_text()
        except UnicodeDecodeError as error:
            raise CorefileError(f"weight file {self.path}: {error}") from error
        self._weights = _parse_weights(text, self.path)
        self._seen = (status.st_mtime_ns, status.st_size)

    def reload(self) -> None:
        """Read the file again if it changed; what cannot be read leaves the old weights."""
        try:
            status = self.path.stat()
            if (status.st_mtime_ns, status.st_size) != self._seen:
                self.load()
        except (OSError, CorefileError) as error:
            _LOG.warning("%s; the weights read before stay", error)

    def _drawn_first(self, owner: bytes, addresses: list[Record]) -> list[Record]:
        weights = self._weights.get(names.lower(owner), {})
        drawn = random.choices(range(len(addresses)), [weights.get(record.rdata, 1) for record in addresses])[0]  # noqa: S311 - load is spread
        return [addresses[drawn], *addresses[:drawn], *addresses[drawn + 1 :]]


def setup(setup: Setup) -> RoundRobin | Weighted:
    """`loadbalance [round_robin | weighted FILE] { reload DURATION; prefer CIDR... }`."""
    directive = setup.directive
    plugin: RoundRobin | Weighted = RoundRobin()
    while directive.next():
        arguments = directive.remaining_args()
        policy = arguments[0] if arguments else "round_robin"
        if policy == "round_robin":
            if len(arguments) > 1:
                raise directive.error(f"unknown property for {policy}")
            plugin = _parse_round_robin(setup)
        elif policy == "weighted":
            if len(arguments) < 2:
                raise directive.error("missing weight file argument")
            if len(arguments) > 2:
                raise directive.error("unexpected argument(s)")
            plugin = _parse_weighted(setup, arguments[1])
        else:
            raise CorefileError(f"unknown policy: {policy}")
    return plugin


def _parse_round_robin(setup: Setup) -> RoundRobin:
    directive = setup.directive
    networks: list[tuple[int, int, int]] = []
    while directive.next_block():
        if directive.val != "prefer":
            raise directive.unknown_property(("prefer",))
        for text in directive.remaining_args():
            try:
                network = _parse_cidr(text)
            except ValueError as error:
                raise directive.error(f'invalid CIDR "{text}": invalid CIDR address: {text}') from error
            networks.append((network.max_prefixlen // 8, int(network.network_address), int(network.netmask)))
    return RoundRobin(tuple(networks))


def _parse_cidr(text: str) -> IPv4Network | IPv6Network:
    """A network with its prefix length: a bare address or a netmask is none. Raises ValueError."""
    if not text.rpartition("/")[2].isdecimal() or "/" not in text:
        raise ValueError(text)
    return ip_network(text, strict=False)


def _parse_weighted(setup: Setup, file_name: str) -> Weighted:
    directive = setup.directive
    reload_seconds = DEFAULT_RELOAD
    while directive.next_block():
        if directive.val != "reload":
            raise directive.unknown_property(("reload",))
        arguments = directive.remaining_args()
        if not arguments:
            raise directive.error("reload duration value is missing")
        if len(arguments) > 1:
            raise directive.error("unexpected argument")
        try:
            reload_seconds = parse_duration(arguments[0])
        except CorefileError as error:
            raise directive.error(f"invalid reload duration '{arguments[0]}'") from error
        if reload_seconds < 0:
            raise directive.error(f"invalid reload duration '{arguments[0]}'")
    plugin = Weighted(Path(file_name), reload_seconds)
    try:
        plugin.load()
    except OSError as error:
        if not reload_seconds:
            raise CorefileError(f"weight file open error: {error}") from error
        _LOG.warning(
            "Failed to open weight file: %s. Will try again in %s", error, format_duration(reload_seconds)
        )  # fmt: skip
    return plugin


def _parse_weights(text: str, path: Path) -> dict[bytes, dict[bytes, int]]:
    """Lines of one word open a name, lines of two are its addresses and their weights; `#` begins a comment."""
    weights: dict[bytes, dict[bytes, int]] = {}
    current: dict[bytes, int] | None = None
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split("#", 1)[0].split()
        if not words:
            continue
        if len(words) == 1 and names.pack_address(words[0]) is None:
            try:
                current = weights.setdefault(names.from_text(words[0]), {})
            except FormatError as error:
                raise CorefileError(f"weight file {path}:{number}: {error}") from error
            continue
        address = names.pack_address(words[0])
        weight = int(words[1]) if len(words) == 2 and _WEIGHT.fullmatch(words[1]) else 0
        if current is None or address is None or not 1 <= weight <= MAX_WEIGHT:
            raise CorefileError(
                f"weight file {path}:{number}: met {line.strip()!r}, "
                f"expected a name, or below one an IP address and a weight from 1 to {MAX_WEIGHT}"
            )
        current[address] = weight
    return weights


def _first_network(address: bytes, networks: Networks) -> int:
    """The index of the first network that holds `address`; behind the last one where none does."""
    value = int(ip_address(address))
    for index, (size, network, mask) in enumerate(networks):
        if len(address) == size and value & mask == network:
            return index
    return len(networks)


def _shuffled(request: Request, reply: Reply) -> Reply:
    """The reply with the addresses and the MX records of each section shuffled, if its answers have some to shuffle."""
    sections = read_sections(request.query.head, reply.body)
    if all(sum(record.rtype in types for record in sections.answers) < 2 for types in _SPREAD_TYPES):
        return reply
    return replace(reply, body=write_body(request.query.name, *map(_spread, sections)))


def _spread(section: Sequence[Record]) -> list[Record]:
    """The records of a section: aliases, then all others, then what is shuffled."""
    runs = [[record for record in section if record.rtype in types] for types in _SPREAD_TYPES]
    for run in runs:
        random.shuffle(run)
    others = [record for record in section if not any(record.rtype in types for types in _SPREAD_TYPES)]
    others.sort(key=lambda record: record.rtype != RRType.CNAME)
    return [*others, *(record for run in runs for record in run)]


def _reorder(request: Request, reply: Reply, order: Orderer) -> Reply:
    """The reply with its address records in the order `order` gives them, behind everything else."""
    records = read_answers(request.query.head, reply.body)
    addresses = [record for record in records if record.rtype in _ADDRESS_TYPES]
    if len(addresses) < 2 or reply.body.authorities or reply.body.additionals:
        return reply
    others: Sequence[Record] = [record for record in records if record.rtype not in _ADDRESS_TYPES]
    body = write_body(request.query.name, [*others, *order(addresses[0].owner, addresses)])
    return replace(reply, body=body._replace(record_length=0), rotates=False)
