"""Nodes a table is loaded with: most are written by the compiled writer itself, in the octets the renderer gives."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdns.dns import names
from kdns.dns.codes import RRType
from kdns.dns.rrset import Answer, Batch, EndpointBatch, ExternalNode, Node, PointerBatch, Record, each_node
from kdns.hotpath.nodes import load
from kdns.hotpath.table_writer import TableWriter
from kdns.table.builder import TableBuilder, ZoneSettings
from kdns.table.render import render_node

ZONE = names.from_text("cluster.local")
OWNERS = tuple(names.from_text(f"{text}.cluster.local") for text in ("a", "web.ns.svc", "_http._tcp.web.ns.svc", "b"))
TTLS = st.sampled_from((0, 5, 0x01020304, 2**31 - 1))  # seconds
IPV4 = (b"\x0a\0\0\1", b"\xff\xfe\xfd\xfc", bytes(4))
IPV6 = (bytes(15) + b"\1", bytes(range(0xF0, 0x100)))
ADDRESSES = st.sampled_from(IPV4 + IPV6)
HEADS = st.sampled_from((b"\0\0\0\x64\0\x50", b"\1\2\3\4\5\6"))  # SRV data before the target


@st.composite
def address_answers(draw: st.DrawFn) -> Answer:
    """One or more addresses of one family."""
    family = draw(st.sampled_from((IPV4, IPV6)))
    found = draw(st.lists(st.sampled_from(family), min_size=1, max_size=2))
    return Answer(int(RRType.A if family is IPV4 else RRType.AAAA), draw(TTLS), tuple(found))


@st.composite
def service_answers(draw: st.DrawFn) -> Answer:
    """SRV records that lead to any names, with the addresses of some."""
    targets = draw(st.lists(st.sampled_from(OWNERS), min_size=1, max_size=2))
    glued = draw(st.lists(st.sampled_from(OWNERS), max_size=2))
    additional = []
    for owner in glued:
        address = draw(ADDRESSES)
        additional.append(Record(owner, int(RRType.A if len(address) == 4 else RRType.AAAA), draw(TTLS), address))
    rdatas = tuple(draw(HEADS) + target for target in targets)
    return Answer(int(RRType.SRV), draw(TTLS), rdatas, (), tuple(additional))


@st.composite
def pointer_answers(draw: st.DrawFn) -> Answer:
    """PTR records."""
    return Answer(int(RRType.PTR), draw(TTLS), tuple(draw(st.lists(st.sampled_from(OWNERS), min_size=1, max_size=2))))


@st.composite
def alias_answers(draw: st.DrawFn) -> Answer:
    """A CNAME that leads out of the zone."""
    owner, target = draw(st.sampled_from(OWNERS)), names.from_text("elsewhere.example")
    return Answer(int(RRType.A), draw(TTLS), (), (Record(owner, int(RRType.CNAME), 5, target),), (), leaves_zone=True)


@st.composite
def nodes(draw: st.DrawFn) -> Node:
    """A node of any kind; one of its answers for each type."""
    owner = draw(st.sampled_from((*OWNERS, ZONE)))
    if draw(st.booleans()) and draw(st.booleans()):
        return Node(owner, (), draw(st.sampled_from(OWNERS)))
    kinds = st.one_of(address_answers(), service_answers(), pointer_answers(), alias_answers())
    answers = {answer.rtype: answer for answer in draw(st.lists(kinds, max_size=3))}
    return Node(owner, tuple(answers.values()), None, draw(st.booleans()))


LABELS = (b"", b"\x01a", b"\x01b", b"\x0810-0-0-1", b"\x01c\x08cluster1", b"\x3f" + b"x" * 63)
LONG = names.from_labels([b"y" * 63] * 3)
SUFFIXES = (OWNERS[1], LONG, b"\x30" + b"z" * 48 + LONG)
REVERSE = tuple(map(names.reverse_name, IPV4 + IPV6))


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Endpoints or pointers, each of a name of its own; some have no node."""
    if draw(st.booleans()):
        owners = draw(st.lists(st.sampled_from((b"", *REVERSE)), unique=True))
        labels = draw(st.lists(st.sampled_from(LABELS), min_size=len(owners), max_size=len(owners)))
        return PointerBatch(owners, labels, draw(st.sampled_from(SUFFIXES)), draw(TTLS))
    labels = draw(st.lists(st.sampled_from(LABELS), unique=True))
    labels += [b"\x03%03d" % number for number in range(draw(st.integers(0, 40)))]
    addresses = draw(st.lists(ADDRESSES, min_size=len(labels), max_size=len(labels)))
    heads = draw(st.lists(st.binary(min_size=6, max_size=6), unique=True, max_size=20))
    return EndpointBatch(labels, draw(st.sampled_from(SUFFIXES)), addresses, draw(TTLS), tuple(heads))


def content(table: TableWriter) -> dict[tuple[bytes, int, int], object]:
    """What each key leads to; of a name alone, that it is there and how its ports may be spelled."""
    found: dict[tuple[bytes, int, int], object] = {}
    keys = table.keys()
    for name, rtype, view in keys:
        blob = table.lookup(name, rtype, view)
        assert blob is not None
        found[name, rtype, view] = blob
    return found


@given(st.lists(nodes() | batches(), max_size=4))
def test_loaded_nodes_answer_as_rendered_ones_do(given_nodes: list[Node | Batch]):
    expected = TableWriter.create(1, 4000, 1 << 20, bytes(16))
    for node in each_node(given_nodes):
        flags, responses = render_node(node)
        expected.replace_node(node.owner, 0, flags, responses)
    builder = TableBuilder([ZoneSettings(frozenset(), 5)], os.urandom, lambda table: None)
    builder.load(0, given_nodes)
    assert content(builder.table) == content(expected)
    builder.begin_generation()
    assert content(builder.table) == content(expected)


@given(st.lists(nodes() | st.sampled_from(OWNERS).map(lambda owner: Node(owner, None)), max_size=12))
def test_replaced_nodes_answer_as_rendered_ones_do(given_nodes: list[Node]):
    expected = TableWriter.create(1, 4000, 1 << 20, bytes(16))
    builder = TableBuilder([ZoneSettings(frozenset(), 5)], os.urandom, lambda table: None)
    for node in given_nodes:
        flags, responses = render_node(node)
        assert builder.publish(0, [node]) == expected.replace_node(node.owner, 0, flags, responses)
        assert content(builder.table) == content(expected)
        numbers, others = builder.table.statistics(), expected.statistics()
        for name in ("slots", "blobs", "retired_bytes"):
            assert numbers[name] == others[name]


@pytest.mark.parametrize(
    "node",
    [
        Node(ZONE, ()),
        ExternalNode(OWNERS[0], ()),
        Node(OWNERS[0], None),
        Node(OWNERS[0], (Answer(int(RRType.A), 5, (b"\x0a\0\0\1", b"\x0a\0\0\2")),)),
        Node(OWNERS[0], (Answer(int(RRType.PTR), 5, (OWNERS[1],), (), (Record(OWNERS[1], 1, 5, bytes(4)),)),)),
    ],
    ids=["an apex", "external", "gone", "several records", "additional records"],
)
def test_what_is_not_common_is_handed_back(node: Node):
    table = TableWriter.create(1, 1000, 1 << 16, bytes(16))
    common = Node(OWNERS[1], ())
    left = iter([common, node, Node(OWNERS[3], ())])
    assert load(table, 0, left, {ZONE}) is node
    assert table.lookup(common.owner, 0, 0) is not None
    assert load(table, 0, left, {ZONE}) is None
    assert table.lookup(OWNERS[3], 0, 0) is not None


@pytest.mark.parametrize(
    "batch",
    [
        EndpointBatch([b"\x01a"], ZONE, [b"\x0a\0\0\2"], 5, ()),
        EndpointBatch([b"\x01b"], ZONE, [b"\x0a\0\0\2"], 5, tuple(bytes([n] * 6) for n in range(9))),
        EndpointBatch([b"\x01b"], ZONE, [b"\x0a\0\0\2"], 5, (b"\0",)),
        PointerBatch([OWNERS[0]], [b"\x01b"], ZONE, 5),
    ],
    ids=["a name that is there", "many ports", "no port", "a pointer that is there"],
)
def test_a_batch_that_is_not_common_is_handed_back(batch: Batch):
    table = TableWriter.create(1, 1000, 1 << 16, bytes(16))
    left = iter([Node(OWNERS[0], ()), batch, Node(OWNERS[3], ())])
    assert load(table, 0, left, set()) is batch
    assert load(table, 0, left, set()) is None
    assert table.lookup(OWNERS[3], 0, 0) is not None


def test_a_batch_there_is_no_room_for_goes_into_the_next_generation():
    generations: list[TableWriter] = []
    builder = TableBuilder([ZoneSettings(frozenset(), 5)], os.urandom, generations.append)
    labels = [b"\x04%04d" % number for number in range(10_000)]
    batch = EndpointBatch(labels, ZONE, [number.to_bytes(4) for number in range(10_000)], 5, (b"\0\0\0\x64\0\x50",))
    owners = [names.reverse_name(address) for address in batch.addresses]
    builder.load(0, [batch, PointerBatch(owners, labels, ZONE, 5)])
    assert builder.table.statistics()["generation"] > 1
    for label, owner in zip(labels, owners, strict=True):
        assert builder.table.lookup(label + ZONE, RRType.SRV, 0) is not None
        assert builder.table.lookup(owner, RRType.PTR, 0) is not None


def test_what_there_is_no_room_for_goes_into_the_next_generation():
    generations: list[TableWriter] = []
    builder = TableBuilder([ZoneSettings(frozenset(), 5)], os.urandom, generations.append)
    given_nodes = [
        Node(names.from_text(f"x{n}.cluster.local"), (Answer(1, 5, (n.to_bytes(4),)),)) for n in range(10_000)
    ]
    builder.load(0, given_nodes)
    assert builder.table.statistics()["generation"] > 1
    assert all(builder.table.lookup(node.owner, 1, 0) is not None for node in given_nodes)
