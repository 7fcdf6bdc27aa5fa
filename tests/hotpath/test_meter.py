"""Counting in the compiled path: the right numbers in the places the exposition reads."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import dns.message
import pytest

from kdns.dns.codes import RRType
from kdns.hotpath.answer import Responder
from kdns.hotpath.meter import Meters
from kdns.hotpath.stream import StreamResponder
from kdns.hotpath.udp import UdpSocket
from kdns.metrics import MeterTable
from kdns.metrics.meters import (
    DURATION_BUCKETS,
    FIELDS,
    METER_SIZE,
    RCODES,
    SIZE_BUCKETS,
    TYPES,
    WRITERS,
    labelled_requests,
)
from tests.fakes.dns_values import edns_query, query
from tests.fakes.small_table import MANY, OTHER_ROUTES, at, make_table, route

METER_PXD = Path(__file__).parents[2] / "kdns" / "hotpath" / "meter.pxd"
UNASKED = ("other", "IXFR", "AXFR", "DS")  # left to the slow path
ZONE_LABELS, DROPPED_LABELS = ("dns://:53", "cluster.local."), ("dns://:53", "dropped")


class Metered:
    """A responder over the small table, and what it has counted."""

    def __init__(self) -> None:
        self.table = MeterTable(1)
        zone, dropped = self.table.number(*ZONE_LABELS), self.table.number(*DROPPED_LABELS)
        assert (zone, dropped) == (0, 1)
        self.responder = Responder([route(meter=1), *OTHER_ROUTES], meters=Meters(self.table.row(0)), dropped=2)
        self.responder.set_table(make_table())
        self._stream = StreamResponder(self.responder)

    def ask(self, *messages: bytes, family_is_v6: bool = False) -> bytes:
        """The replies, framed."""
        framed = b"".join(len(message).to_bytes(2, "big") + message for message in messages)
        return self._stream.answer(framed, family_is_v6)[1]

    def field(self, name: str, zone: tuple[str, str] = ZONE_LABELS) -> list[int]:
        """The numbers of a field."""
        numbers = next(numbers for server, zone_, numbers in self.table.read() if (server, zone_) == zone)
        field = FIELDS[name]
        return list(numbers[field.at : field.at + field.count])

    def requests(self, zone: tuple[str, str] = ZONE_LABELS) -> dict[tuple[str, str, str], int]:
        """What is not 0, by labels."""
        return {labels: n for labels, n in zip(labelled_requests(), self.field("requests", zone), strict=True) if n}

    def responses(self, zone: tuple[str, str] = ZONE_LABELS) -> dict[tuple[str, int], int]:
        """What is not 0, by plugin and rcode."""
        counts = enumerate(self.field("responses", zone))
        return {(WRITERS[at // RCODES], at % RCODES): n for at, n in counts if n}

    def octets(self) -> tuple[int, int]:
        """(of requests, of responses) over TCP."""
        return self.field("request_octets")[1], self.field("response_octets")[1]


def _by_hand(message: dns.message.Message) -> int:
    size = 12 + len(message.question[0].name.to_wire() or b"") + 4
    for section in (message.answer, message.authority, message.additional):
        for rrset in section:
            for rdata in rrset:
                size += len(rrset.name.to_wire() or b"") + 10 + len(rdata.to_wire() or b"")
    return size


def test_the_struct_has_the_layout_of_the_reader():
    text = METER_PXD.read_text()
    values = {name: int(value) for name, value in re.findall(r"^    (METER_\w+) = (\d+)", text, re.MULTILINE)}
    struct = re.search(r"cdef struct Meter:\n((?:    .*\n)+)", text)
    assert struct is not None
    found = {}
    for name, dimensions in re.findall(r"uint64_t (\w+)((?:\[\w+\])*)", struct.group(1)):
        count = 1
        for dimension in re.findall(r"\[(\w+)\]", dimensions):
            count *= values.get(dimension) or int(dimension)
        found[name] = count
    assert found == {name: field.count for name, field in FIELDS.items()}
    assert (values["METER_TYPES"], values["METER_RCODES"]) == (len(TYPES), RCODES)
    assert values["METER_WRITERS"] == len(WRITERS)
    assert re.findall(r"WRITER_\w+ = (\d+)", text) == [str(number) for number in range(len(WRITERS))]


@pytest.mark.parametrize(
    ("qtype", "label"),
    [*((RRType[name], name) for name in TYPES if name not in UNASKED), (99, "other"), (999, "other")],
)
def test_each_type_has_its_counter(qtype: int, label: str) -> None:
    metered = Metered()
    metered.ask(query(at("one"), qtype))
    assert metered.requests() == {("tcp", "1", label): 1}


def test_a_query_is_counted_by_what_it_is_and_what_it_gets():
    metered = Metered()
    metered.ask(query(at("one")), query(at("one"), RRType.AAAA), query(at("nowhere")))
    metered.ask(edns_query(at("seven"), do=True), family_is_v6=True)
    assert metered.requests() == {("tcp", "1", "A"): 2, ("tcp", "1", "AAAA"): 1, ("tcp", "2", "A"): 1}
    assert metered.responses() == {("kubernetes", 0): 3, ("kubernetes", 3): 1}
    assert metered.field("dnssec_ok") == [1]
    assert sum(metered.field("durations")) == 4
    assert metered.field("pending") == [0]
    assert metered.field("nanoseconds")[0] > 0


def test_what_no_zone_holds_is_counted_as_dropped():
    metered = Metered()
    metered.ask(query(b"\4test\0"), query(b"\7refused\4test\0"))
    assert metered.requests() == {}
    assert metered.responses(DROPPED_LABELS) == {("", 5): 2}
    assert metered.field("response_octets", DROPPED_LABELS) == metered.field("request_octets", DROPPED_LABELS)


def test_a_miss_is_left_to_the_slow_path_and_what_is_no_query_to_nobody():
    metered = Metered()
    metered.ask(query(at("other")), query(b"\7example\3org\0"), bytes(12))
    assert not any(any(metered.field(name, zone)) for name in FIELDS for zone in (ZONE_LABELS, DROPPED_LABELS))


@pytest.mark.parametrize(
    ("name", "qtype"),
    [
        ("one", RRType.A),
        ("seven", RRType.A),
        ("one", RRType.AAAA),
        ("nowhere", RRType.A),
        ("a.b.c.nowhere", RRType.A),
        ("", RRType.SOA),
    ],
)
@pytest.mark.parametrize("has_edns", [False, True])
def test_the_size_of_a_response_is_that_with_names_written_out(name: str, qtype: int, has_edns: bool) -> None:
    metered = Metered()
    message = edns_query(at(name), qtype) if has_edns else query(at(name), qtype)
    reply = metered.ask(message)
    parsed = dns.message.from_wire(reply[2:])
    assert metered.octets() == (len(message), _by_hand(parsed))


@pytest.mark.parametrize(("host", "family"), [("127.0.0.1", "1"), ("::1", "2")])
def test_datagrams_are_counted_with_their_family_and_a_cut_response_with_its_whole_size(host: str, family: str) -> None:
    metered = Metered()
    with _bound(host) as server, _bound(host) as client:
        udp = UdpSocket(server.fileno(), metered.responder, False)
        messages = [query(at("many")), query(at("one")), b"short"]
        for message in messages:
            client.sendto(message, server.getsockname())
        assert udp.receive() is None
        assert client.recv(1280)[2] & 0x02
    assert metered.requests() == {("udp", family, "A"): 2}
    assert sum(metered.field("durations")) == 2
    name = len(at("many"))
    sizes = [12 + name + 4 + MANY * (name + 14), 12 + name + 4 - 1 + name - 1 + 14]
    assert metered.field("request_octets")[0] == len(messages[0]) + len(messages[1])
    assert metered.field("response_octets")[0] == sum(sizes)


def _bound(host: str) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        made.bind((host, 0))
    except OSError:
        made.close()
        pytest.skip(f"no {host} here")
    made.settimeout(5)
    return made


@pytest.mark.parametrize("size", [*SIZE_BUCKETS, *(bound + 1 for bound in SIZE_BUCKETS), 50, 450, 65535])
def test_a_size_falls_into_the_bucket_of_the_least_bound_that_holds_it(size: int) -> None:
    table = MeterTable(1)
    table.number(*ZONE_LABELS)
    observe(table, request_size=size, response_size=size)
    ((_, _, numbers),) = table.read()
    expected = sum(size > bound for bound in SIZE_BUCKETS)
    for name in ("request_sizes", "response_sizes"):
        of_udp = numbers[FIELDS[name].at : FIELDS[name].at + len(SIZE_BUCKETS) + 1]
        assert [at for at, count in enumerate(of_udp) if count] == [expected]


@pytest.mark.parametrize("seconds", [0.0, *DURATION_BUCKETS, *(1.001 * bound for bound in DURATION_BUCKETS), -1.0])
def test_a_duration_falls_into_the_bucket_of_the_least_bound_that_holds_it(seconds: float) -> None:
    table = MeterTable(1)
    table.number(*ZONE_LABELS)
    observe(table, seconds=seconds)
    ((_, _, numbers),) = table.read()
    durations = FIELDS["durations"]
    found = [at for at, count in enumerate(numbers[durations.at : durations.at + durations.count]) if count]
    assert found == [sum(seconds > bound for bound in DURATION_BUCKETS)]
    assert numbers[FIELDS["nanoseconds"].at] == pytest.approx(max(seconds, 0.0) * 1e9, abs=1)


def test_what_a_killed_process_left_pending_is_forgotten():
    table = MeterTable(1)
    table.number(*ZONE_LABELS)
    table.row(0).cast("Q")[FIELDS["pending"].at] = 7
    Meters(table.row(0))
    ((_, _, numbers),) = table.read()
    assert numbers[FIELDS["pending"].at] == 0


def test_few_queries_share_a_measurement_and_all_are_counted():
    metered = Metered()
    for _ in range(9):
        metered.ask(query(at("one")))
    assert sum(metered.field("durations")) == 9


def test_meters_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match="octets of meters"):
        Meters(bytearray(METER_SIZE - 1))
    with pytest.raises(IndexError, match="meter 1, expected less than 1"):
        Meters(bytearray(METER_SIZE)).observe(
            1, stream=False, is_v6=False, qtype=1, dnssec_ok=False, request_size=1, response_size=1, seconds=0.0
        )


def observe(table: MeterTable, *, request_size: int = 40, response_size: int = 60, seconds: float = 0.0) -> None:
    """Count a query of the slow path over UDP."""
    Meters(table.row(0)).observe(
        0,
        stream=False,
        is_v6=False,
        qtype=1,
        dnssec_ok=False,
        request_size=request_size,
        response_size=response_size,
        seconds=seconds,
    )
