"""The contract between the server and its plugins.

A directive's `setup` reads its tokens once, at start, and returns a plugin, or None where the directive only registers
something (health, ready). A plugin serves a request, or hands it to the next one of its chain.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from kdns.cluster.access import ApiAccess
from kdns.cluster.view import ExternalZones, View
from kdns.corefile import Dispenser
from kdns.dns import names
from kdns.dns.query import Query
from kdns.dns.reply import OWN_UDP_PAYLOAD, Reply
from kdns.dns.rrset import Record
from kdns.errors import CorefileError
from kdns.hotpath.cache import AnswerCache
from kdns.hotpath.detours import Detours
from kdns.hotpath.table import Table
from kdns.metrics import Registry
from kdns.plugins.web_config import WebConfig
from kdns.table.render import MAX_VIEWS

if TYPE_CHECKING:
    from kdns.hotpath.forward import Engine


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


class CachePolicy(NamedTuple):
    """How the compiled path answers from the answer cache; see struct CachePolicy in hotpath/cache.pxd."""

    store: int
    keeps_ttl: bool
    serves_stale: bool
    prefetch_uses: int
    prefetch_gap: int  # ms
    prefetch_percent: int
    counters: tuple[int, int, int, int]  # in the registry's row: requests, hits of answers, hits of denials, misses


class Forwarding(NamedTuple):
    """How the compiled path forwards what it finds neither in the table nor in the cache."""

    engine: Engine
    udp_limit: int  # octets of a reply
    payload_limit: int  # octets an upstream is asked for at most
    rotates: bool
    detours: Detours | None  # names a plugin between `cache` and `forward` answers


class NameRewrite(NamedTuple):
    """Names below a suffix, or just that name, become others, and nothing else is done to the question."""

    suffix: bytes
    becomes: bytes  # what stands in the suffix's place
    is_exact: bool
    restores: bool  # the answer's owner is the name that was asked for, not the one it became


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
    udp_limit: int = OWN_UDP_PAYLOAD
    any_is_miss: bool = False
    additional_is_miss: bool = False
    error_is_miss: bool = False
    nsid_is_miss: bool = False
    detours: Detours | None = None  # names a plugin before the table answers
    is_slow: bool = False  # every name below it goes through the chain, whatever its action and its cache
    meter: int = 0  # the number of the meter that counts its queries, plus one; 0: none does
    is_external: bool = False  # the names are those of `k8s_external`, not of `kubernetes`
    computes: bool = False  # names the table does not hold may be answered by its plugin all the same
    cache: CachePolicy | None = None  # where what the table does not decide is looked up
    # Where the registry's row counts replies from the table as `cache` does: requests, hits of answers, of denials.
    cache_counters: tuple[int, ...] = ()
    forwarding: Forwarding | None = None  # of action MISS: who asks the upstreams
    rewrite: NameRewrite | None = None  # of action REWRITE: what the name becomes before it is looked up
    soa: bytes = bytes(54)


MISS, TABLE, REFUSE, REWRITE = 0, 1, 2, 3  # actions of a Route


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


class ListeningPlugin(Plugin, Protocol):
    """A plugin that wants to know where its server block is reached."""

    def note_listener(self, server: str, zone: bytes) -> None:
        """Learn of a listener, as metrics name it, and a zone of the block there; before any process is forked."""
        ...


class MeteringPlugin(ListeningPlugin, Protocol):
    """A plugin that has the compiled path count queries."""

    def meter_of(self, server: str, zone: bytes) -> int:
        """The number of a zone's meter, plus one; 0: there is none."""
        ...


class AdaptingPlugin(Plugin, Protocol):
    """A transparent plugin that stands before a table plugin and has a say in how the compiled path answers."""

    def adapt_route(self, route: Route) -> Route:
        """The route, with what this plugin asks of it."""
        ...


@dataclass(frozen=True, slots=True)
class ZoneTransfer:
    """All records of a zone, but for the SOA record that begins and ends them. `records` does little work at a time:
    it gives None where others may be served before it goes on."""

    soa: Record
    serial: int
    records: Iterator[Record | None]


class TransferringPlugin(Plugin, Protocol):
    """A plugin whose zones can be transferred."""

    @property
    def zones(self) -> tuple[bytes, ...]:
        """The zones it has."""
        ...

    def transfer(self, zone: bytes) -> ZoneTransfer | None:
        """The records of a zone, or None where it has no such zone. Raises ServeError where it does not know them."""
        ...


class TouchingPlugin(Plugin, Protocol):
    """A plugin that is transparent for names but those below some suffixes."""

    def touches(self) -> Sequence[bytes] | None:
        """The suffixes; None where any name may be treated in a way of its own."""
        ...


class RewritingPlugin(TouchingPlugin, Protocol):
    """A plugin that touches some names in so simple a way that the compiled path can do it."""

    def rewrites(self) -> Sequence[NameRewrite]:
        """What it does to names below some of its suffixes."""
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
class CurrentCache:
    """The memory `cache` keeps its entries in, and how many its directives ask for; None before the service starts."""

    memory: AnswerCache | None = None
    entries: int = 0


@dataclass(frozen=True, slots=True)
class TtlClamp:
    """The least and the greatest TTL a `cache` directive lets out, of answers and of denials, in its zones."""

    zones: tuple[bytes, ...]
    answers: tuple[int, int]  # seconds
    denials: tuple[int, int]

    def covers(self, zones: Sequence[bytes]) -> bool:
        """Whether the directive sees the names of all these zones."""
        return all(names.longest_zone(zone, self.zones) for zone in zones)

    def of_answer(self, ttl: int) -> int:
        """The TTL of an answer as a client gets it."""
        return min(max(ttl, self.answers[0]), self.answers[1])

    def of_denial(self, ttl: int) -> int:
        """The TTL of the SOA record of a denial as a client gets it."""
        return min(max(ttl, self.denials[0]), self.denials[1])


@dataclass(slots=True)
class HealthSettings:
    """The `health` directive."""

    address: str
    lameduck_seconds: float


@dataclass(frozen=True, slots=True)
class ReloadSettings:
    """The `reload` directive."""

    interval_seconds: float
    jitter_seconds: float  # around the interval, half of it to either side


@dataclass(frozen=True, slots=True)
class PrometheusSettings:
    """Where metrics are shown; blocks share an address."""

    address: str
    web_config: WebConfig | None  # None: no TLS


@dataclass(slots=True)
class Surroundings:
    """What directives share and what they register: one for a whole Corefile."""

    local_addresses: tuple[bytes, ...] = ()  # packed, not loopback: where this server is reached
    # There is a source of objects besides the API server: the options for reaching one are checked, not used.
    has_manifests: bool = False
    environ: dict[str, str] = field(default_factory=dict)
    # The addresses of each network interface, as text; those of one link with the interface as their zone.
    interfaces: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    current_table: CurrentTable = field(default_factory=CurrentTable)
    cache: CurrentCache = field(default_factory=CurrentCache)
    metrics: Registry = field(default_factory=Registry)
    worker: int | None = None  # the number of the worker this process is
    views: list[View] = field(default_factory=list)
    accesses: list[ApiAccess] = field(default_factory=list)  # of each view, to its API server
    health: list[HealthSettings] = field(default_factory=list)
    # Address -> whether readiness is asked for again after it was reached once.
    ready: dict[str, bool] = field(default_factory=dict)
    prometheus: dict[str, PrometheusSettings] = field(default_factory=dict)  # by address
    # (listener, zone, directive) of each step of a chain that `prometheus` counts for.
    enabled: list[tuple[str, str, str]] = field(default_factory=list)
    reload: ReloadSettings | None = None  # None: the Corefile is read again only on a signal

    def view_index(self, view: View, access: ApiAccess) -> int:
        """The number of a view of an API server; equal ones share it. Raises CorefileError where there are too many."""
        for index, known in enumerate(zip(self.views, self.accesses, strict=True)):
            if known == (view, access):
                return index
        # Each external set of names has a number, too; they are given from the other end.
        has_external = any(known.external for known in (*self.views, view))
        if len(self.views) == (MAX_VIEWS // 2 if has_external else MAX_VIEWS):
            raise CorefileError(f"more than {len(self.views)} kubernetes directives with different options")
        self.views.append(view)
        self.accesses.append(access)
        return len(self.views) - 1


@dataclass(slots=True)
class ClusterNeeds:
    """What directives before `kubernetes` want to know of their block's cluster."""

    clients: bool = False  # the namespace of a Pod by its address
    transferred: tuple[bytes, ...] = ()  # zones that may be transferred, with all below them
    external: ExternalZones | None = None


@dataclass(slots=True)
class StreamSettings:
    """The `timeouts` directive; what is None stays as the server has it."""

    read_seconds: float | None = None  # from a message's first octet to its last
    write_seconds: float | None = None  # without the client taking an octet of what waits for it
    idle_seconds: float | None = None  # without a query
    max_queries: int | None = None  # of a connection


@dataclass(slots=True)
class BlockSettings:
    """What directives set for the whole of their server block."""

    # A digest of the block's keys and of what decides its answers: where it is equal after a reload, its answers hold.
    identity: bytes = b""
    addresses: list[str] = field(default_factory=list)  # `bind`: where its listeners are; empty: everywhere
    udp_limit: int = OWN_UDP_PAYLOAD  # `bufsize`: octets of a reply over UDP at most
    is_filtered: bool = False  # `view`: another block may have the same zones
    takes_other_classes: bool = False  # `chaos`, `forward`: questions of classes but IN reach the chain
    stream: StreamSettings = field(default_factory=StreamSettings)  # `timeouts`: of connections over TCP
    cluster: ClusterNeeds = field(default_factory=ClusterNeeds)
    folder: str = ""  # of the Corefile, or as `root` says: where relative paths begin
    ttl_clamp: TtlClamp | None = None  # `cache`: what it makes of the TTLs of plugins behind it


@dataclass(slots=True)
class Setup:
    """A directive at start: its tokens, the zones of its server block, and what directives share."""

    directive: Dispenser
    zones: tuple[bytes, ...]
    surroundings: Surroundings
    block: BlockSettings = field(default_factory=BlockSettings)


SetupFunction = Callable[[Setup], Plugin | None]
