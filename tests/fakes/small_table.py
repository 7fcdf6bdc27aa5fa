"""A small table and its route, for tests of the compiled path alone: no Corefile, no cluster."""

from __future__ import annotations

from kdns.dns import names
from kdns.dns.codes import RRType
from kdns.dns.rrset import Answer, Node, Record
from kdns.hotpath.answer import Responder
from kdns.hotpath.table_writer import TableWriter
from kdns.metrics import OUTCOMES
from kdns.plugins.plugin import MISS, REFUSE, TABLE, Route
from kdns.table.render import render_node, render_soa, soa_template
from tests.fakes.dns_values import srv

ZONE = names.from_text("cluster.local")
TTL = 5
SERIAL = 1_700_000_000
MANY = 300  # addresses of `many`: more than any datagram takes
HUGE = 4050  # addresses of `huge`: nearly as much as a message over TCP takes


def at(text: str) -> bytes:
    """The name of this text in the zone."""
    return names.from_text(f"{text}.cluster.local") if text else ZONE


def address(number: int) -> bytes:
    return bytes((10, 1, number >> 8, number & 255))


def addresses(count: int) -> Answer:
    return Answer(RRType.A, TTL, tuple(map(address, range(count))))


_AWAY = Record(at("away"), RRType.CNAME, TTL, names.from_text("a.b"))
_ONE = Record(at("one"), RRType.A, TTL, address(0))
_TARGETS = [at(f"h{n}") for n in range(40)]
NODES = (
    Node(ZONE, (Answer(RRType.NS, TTL, (at("ns.dns"),)),)),
    Node(at("one"), (addresses(1),)),
    Node(at("seven"), (addresses(7),)),
    Node(at("many"), (addresses(MANY),)),
    Node(at("huge"), (addresses(HUGE),)),
    Node(at("empty"), ()),
    Node(at("other"), (), alias_of=at("one")),
    Node(at("away"), (Answer(RRType.A, TTL, (), (_AWAY,), leaves_zone=True),)),
    Node(at("shop.svc"), (addresses(1),), has_ports=True),
    Node(at("srv"), (Answer(RRType.SRV, TTL, (srv(0, 1, 80, at("one")),), (), (_ONE,)),)),
    Node(at("srvs"), (Answer(RRType.SRV, TTL, tuple(srv(0, 1, 80, name) for name in _TARGETS)),)),
)  # fmt: skip


def make_table(*, synced: bool = True) -> TableWriter:
    """A table of NODES in view 0."""
    table = TableWriter.create(1, 1000, 1 << 20, bytes(range(16)))
    for node in NODES:
        flags, responses = render_node(node)
        assert responses is not None
        if node.owner == ZONE:
            responses = [*responses, render_soa(soa_template(TTL))]
        table.replace_node(node.owner, 0, flags, responses)
    table.set_serial(0, SERIAL)
    table.set_synced(0, synced)
    return table


def route(**changes: object) -> Route:
    """The route of the zone, but for what is changed."""
    found = Route(ZONE, TABLE, zone_labels=2, zone_length=len(ZONE), soa=soa_template(TTL))
    return found._replace(**changes)  # type: ignore[arg-type]


MISSED_ZONE = names.from_text("example.org")
REFUSED_ZONE = names.from_text("refused.test")
OTHER_ROUTES = (Route(MISSED_ZONE, MISS), Route(REFUSED_ZONE, REFUSE))


def make_responder(
    *, synced: bool = True, passes_other_classes: bool = False, counters: bytearray | None = None, **changes: object
) -> Responder:
    """A responder over the table; `changes` are made to the zone's route."""
    responder = Responder(
        [route(**changes), *OTHER_ROUTES], passes_other_classes=passes_other_classes, counters=counters
    )
    responder.set_table(make_table(synced=synced))
    return responder


def counts_of(counters: bytearray) -> dict[str, int]:
    """The counters that are not 0, by name."""
    values = memoryview(counters).cast("Q")
    return {name: value for name, value in zip(OUTCOMES, values, strict=True) if value}
