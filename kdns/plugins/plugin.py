"""The contract between the server and its plugins.

A directive's `setup` reads its tokens once, at start, and returns a plugin, or None where the directive only registers
something (health, ready). A plugin serves a request, or hands it to the next one of its chain.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from kdns.cluster.access import ApiAccess
from kdns.cluster.view import View
from kdns.corefile import Dispenser
from kdns.dns.query import Query
from kdns.dns.reply import OWN_UDP_PAYLOAD, Reply
from kdns.errors import CorefileError
from kdns.hotpath.table import Table
from kdns.metrics import Registry

MAX_VIEWS = 64  # `kubernetes` directives with different options; the table keeps so many states (hotpath/table.pxd)


@dataclass(frozen=True, slots=True)
class Request:
    """A query and where it came from. `resolve` asks the whole server another question on the client's behalf."""

    query: Query
    client: tuple[str, int]  # address and port
    stream: bool  # over TCP
    resolve: Callable[[Request], Awaitable[Reply]]
    local: tuple[str, int] = ("", 0)  # address and port it arrived at
    server: str = "dns://:53"  # the listener, as metrics name it
    depth: int = 0  # questions asked on the way here


Handler = Callable[[Request], Awaitable[Reply]]


class Plugin(Protocol):
    """One directive of one server block, ready to serve."""

    # Its effect on a reply from the table is nothing, or something the compiled path does as well.
    transparent: bool

    async def serve(self, request: Request, next_handler: Handler) -> Reply:
        """Answer, or `await next_handler(request)`.

        Raises ServeError where there is no answer (the server makes one of its rcode, written by no plugin), and
        Dropped where the client is to get nothing.
        """
        ...


class Route(NamedTuple):
    """How the compiled path treats the names below a suffix; see struct Route in hotpath/answer.pxd."""

    suffix: bytes
    action: int
    view: int = 0
    serial_index: int = 0
    rotates: bool = False
    nxdomain_is_miss: bool = False
    port_depth: int = 0
    miss_depth: int = 0
    zone_labels: int = 0
    zone_length: int = 0
    soa: bytes = bytes(54)


MISS, TABLE, REFUSE = 0, 1, 2  # actions of a Route


class BackgroundPlugin(Plugin, Protocol):
    """A plugin with work of its own; the worker owns the task."""

    async def run(self) -> None:
        """Work until cancelled."""
        ...


class FlushingPlugin(Plugin, Protocol):
    """A plugin that keeps something back for a while."""

    def flush(self) -> None:
        """Tell of it now: the service ends."""
        ...


class ConnectedPlugin(Plugin, Protocol):
    """A plugin that needs others of its server block."""

    def connect(self, plugins: Mapping[str, Plugin]) -> None:
        """Find them, by directive; after every directive of the block is set up. Raises CorefileError."""
        ...


class TablePlugin(Plugin, Protocol):
    """A plugin whose answers stand in the response table."""

    def routes(self) -> list[Route]:
        """One for each suffix from which on names are treated alike."""
        ...


@dataclass(slots=True)
class CurrentTable:
    """The generation this process answers from; None before the first."""

    table: Table | None = None


@dataclass(slots=True)
class HealthSettings:
    """The `health` directive."""

    address: str
    lameduck_seconds: float


@dataclass(slots=True)
class Surroundings:
    """What directives share and what they register: one for a whole Corefile."""

    local_addresses: tuple[bytes, ...] = ()  # packed, not loopback: where this server is reached
    # There is a source of objects besides the API server: the options for reaching one are checked, not used.
    has_manifests: bool = False
    environ: dict[str, str] = field(default_factory=dict)
    current_table: CurrentTable = field(default_factory=CurrentTable)
    metrics: Registry = field(default_factory=Registry)
    views: list[View] = field(default_factory=list)
    accesses: list[ApiAccess] = field(default_factory=list)  # of each view, to its API server
    health: list[HealthSettings] = field(default_factory=list)
    # Address -> whether readiness is asked for again after it was reached once.
    ready: dict[str, bool] = field(default_factory=dict)

    def view_index(self, view: View, access: ApiAccess) -> int:
        """The number of a view of an API server; equal ones share it. Raises CorefileError where there are too many."""
        for index, known in enumerate(zip(self.views, self.accesses, strict=True)):
            if known == (view, access):
                return index
        if len(self.views) == MAX_VIEWS:
            raise CorefileError(f"more than {MAX_VIEWS} kubernetes directives with different options")
        self.views.append(view)
        self.accesses.append(access)
        return len(self.views) - 1


@dataclass(slots=True)
class BlockSettings:
    """What directives set for the whole of their server block."""

    # A digest of the block's keys and of what decides its answers: where it is equal after a reload, its answers hold.
    identity: bytes = b""
    addresses: list[str] = field(default_factory=list)  # `bind`: where its listeners are; empty: everywhere
    udp_limit: int = OWN_UDP_PAYLOAD  # `bufsize`: octets of a reply over UDP at most
    takes_other_classes: bool = False  # `chaos`, `forward`: questions of classes but IN reach the chain
    folder: str = ""  # of the Corefile, or as `root` says: where relative paths begin


@dataclass(slots=True)
class Setup:
    """A directive at start: its tokens, the zones of its server block, and what directives share."""

    directive: Dispenser
    zones: tuple[bytes, ...]
    surroundings: Surroundings
    block: BlockSettings = field(default_factory=BlockSettings)


SetupFunction = Callable[[Setup], Plugin | None]
