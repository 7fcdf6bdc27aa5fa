"""The one writer of the response table: applies nodes to the current generation, and begins the next when it is due.

A generation ends when it is full, when its index is loaded to its limit, or when so much of it is retired that copying
what is in use pays. The next one is complete before anybody hears of it; readers go on with the old one meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from kdns.dns.rrset import Batch, ExternalNode, Node, each_node
from kdns.hotpath.nodes import load, replace
from kdns.hotpath.table_writer import MAX_LOAD, TableFull, TableWriter
from kdns.table.render import external_index, render_node, render_soa, soa_template

FIRST_SLOTS = 4096  # keys the first generation has room for; it grows by copying
GROWTH = 1.5  # how many times the keys in use a new generation has room for
DATA_RESERVE = 1 << 28  # octets of address space beyond four times what is in use; unused room costs no memory
MAX_RETIRED_SHARE = 0.25  # of the octets in use: beyond it a generation is compacted
MIN_RETIRED = 4 << 20  # octets; compacting for less is not worth a new mapping


@dataclass(frozen=True, slots=True)
class ZoneSettings:
    """What the builder must know of a view's zones: they get an SOA record."""

    zones: frozenset[bytes]
    ttl: int
    external: frozenset[bytes] = frozenset()  # the zones of `k8s_external`
    external_soa: bytes = b""
    soa_minimum: int | None = None  # seconds, the last number of the SOA record; None: `ttl`


class TableBuilder:
    """Publishes the nodes of all views. `on_generation` is told of each new generation's writer, complete.

    `expected_keys` spares a large cluster the copying from one generation to the next while it is loaded. With the
    readers' `epochs` memory is reused; without, a generation only grows. A `former` writer's last generation is the
    first one: nothing may be put into it, but what it holds goes into the next.
    """

    def __init__(
        self,
        zones: list[ZoneSettings],
        random_bytes: Callable[[int], bytes],
        on_generation: Callable[[TableWriter], None],
        expected_keys: int = 0,
        epochs: memoryview | None = None,
        former: TableWriter | None = None,
    ) -> None:
        self._epochs = epochs
        self._zones = zones
        self._random_bytes = random_bytes
        self._on_generation = on_generation
        self._table = former or TableWriter.create(
            1, max(FIRST_SLOTS, expected_keys), DATA_RESERVE, random_bytes(16), epochs
        )

    @property
    def table(self) -> TableWriter:
        """The current generation."""
        return self._table

    def announce(self) -> None:
        """Tell of the current generation, for the first time or again."""
        self._on_generation(self._table)

    def load(self, view: int, nodes: Iterable[Node | Batch]) -> None:
        """Put all nodes of a view into a table nobody reads yet."""
        left = iter(nodes)
        # Nearly all nodes are written without a response made of them; what is left is what is large or special.
        while (found := load(self._table, view, left, self._zones[view].zones)) is not None:
            for node in each_node([found]):
                self._apply(view, node)
        if self._is_wasteful():
            self.begin_generation()

    def publish(self, view: int, nodes: Iterable[Node]) -> int:
        """Apply changed nodes, in their order, one at a time; how many of them changed the table."""
        before = self._table
        before.reclaim()
        changed = 0
        for node in nodes:
            changed += self._apply(view, node)
        self._table.seal()
        if self._is_wasteful():
            self.begin_generation()
        if self._table is not before:
            self.announce()
        return changed

    def set_state(
        self, view: int, *, serial: int, multicluster_serial: int, external_serial: int = 0, unlisted: int = 0
    ) -> None:
        """Publish a view's serials, and then what it still lacks."""
        self._table.set_serial(2 * view, serial)
        self._table.set_serial(2 * view + 1, multicluster_serial)
        if self._zones[view].external:
            external = external_index(view)
            self._table.set_serial(2 * external, external_serial)
            self._table.set_unlisted(external, unlisted)
        self._table.set_unlisted(view, unlisted)

    def beat(self) -> None:
        """Note in the table that its writer is alive."""
        self._table.beat()

    def _apply(self, view: int, node: Node) -> bool:
        settings = self._zones[view]
        try:
            changed = replace(self._table, view, node, settings.zones)
        except TableFull:
            changed = None  # it is due in the next generation, with all that is left to do
        return self._apply_special(view, settings, node) if changed is None else changed

    def _apply_special(self, view: int, settings: ZoneSettings, node: Node) -> bool:
        """Apply a node that is large, or an apex, or has answers of a rare kind."""
        flags, responses = render_node(node)
        if isinstance(node, ExternalNode):
            view = external_index(view)
            if responses is not None and node.owner in settings.external:
                responses = [*responses, render_soa(settings.external_soa)]
        elif responses is not None and node.owner in settings.zones:
            responses = [*responses, render_soa(soa_template(settings.ttl, settings.soa_minimum))]
        try:
            return self._table.replace_node(node.owner, view, flags, responses)
        except TableFull:
            self.begin_generation()
            return self._table.replace_node(node.owner, view, flags, responses)

    def _is_wasteful(self) -> bool:
        table = self._table
        return table.load > MAX_LOAD or table.retired_bytes > max(MIN_RETIRED, MAX_RETIRED_SHARE * table.used_bytes)

    def begin_generation(self, expected_keys: int = 0, without: Collection[int] = ()) -> None:
        """Copy what is in use into a generation with room to grow, or for so many keys more; tell nobody yet.

        The views in `without` begin anew, with nothing.
        """
        numbers = self._table.statistics()
        table = TableWriter.create(
            int(numbers["generation"]) + 1,
            max(FIRST_SLOTS, int(GROWTH * numbers["slots"]), int(numbers["slots"]) + expected_keys),
            4 * int(numbers["used_bytes"]) + DATA_RESERVE,
            # A new seed for each generation: what somebody may have learnt of one does not help with the next.
            self._random_bytes(16),
            self._epochs,
        )
        self._table.copy_live(table, [*without, *map(external_index, without)])
        self._table = table
