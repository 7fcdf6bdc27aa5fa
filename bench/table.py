"""What does the response table cost: to build from objects in memory, to hold, and to change by one endpoint?

CPU is this process's own, measured around the calls the informer makes; the objects are made before. One endpoint is
taken out of a slice and put back, again and again: each change is a real one and the cluster stays the same.

How long a change takes to the wire is asked of another process that answers from the same table over UDP: the clock
runs from before the change is applied until a reply shows it, so a question's way there and back is in it.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import dns.message
import uvloop

from bench import objects
from bench.cluster import ZONE, Service, Sizes, generate
from kdns import resolver
from kdns.cluster.objects import EndpointSlice, Event, Kind
from kdns.cluster.view import View
from kdns.corefile import parse
from kdns.dns import names
from kdns.hotpath.answer import Responder
from kdns.hotpath.table import Table
from kdns.hotpath.udp import UdpSocket
from kdns.plugins import ORDER
from kdns.plugins.plugin import Surroundings
from kdns.server.publisher import Publisher
from kdns.table.builder import TableBuilder
from kdns.table.epochs import ReaderEpochs

CHANGES = 200  # of each kind; the median is quoted


@dataclass(frozen=True, slots=True)
class TableCosts:
    """Costs of one table; times are CPU."""

    apply_seconds: float  # objects into the store
    build_seconds: float  # the store into a table
    slots: int
    responses: int
    used_bytes: int
    bytes_per_slot: float
    bytes_per_response: float
    small_change_ms: float  # one endpoint of a slice of a ClusterIP Service
    large_change_ms: float  # one endpoint of the largest headless Service
    change_to_wire_ms: float  # of the small one, on the clock
    wire_round_trip_ms: float  # of a question alone, for comparison

    def as_dict(self) -> dict[str, Any]:
        """For the results file."""
        return asdict(self)


def measure_table(sizes: Sizes) -> TableCosts:
    """Build the table of a generated cluster and change it."""
    cluster = generate(sizes)
    events = list(objects.events(cluster))
    view = View(tuple(names.from_text(zone) for zone in (ZONE, "in-addr.arpa", "ip6.arpa")))
    gc.collect()
    gc.disable()
    epochs = ReaderEpochs(1)
    publisher = Publisher([view], lambda table: None, epochs=epochs.all_rows())
    start = time.process_time()
    publisher.apply(0, events)
    applied = time.process_time()
    publisher.sync([0])
    built = time.process_time()
    numbers = publisher.builder.table.statistics()
    largest = max((s for s in cluster.services if s.address is None), key=lambda s: s.endpoint_count)
    small = next(s for s in cluster.clustered if 2 <= s.endpoint_count <= 10)
    return TableCosts(
        apply_seconds=applied - start,
        build_seconds=built - applied,
        slots=int(numbers["slots"]),
        responses=int(numbers["blobs"]),
        used_bytes=int(numbers["used_bytes"]),
        bytes_per_slot=numbers["used_bytes"] / numbers["slots"],
        bytes_per_response=numbers["used_bytes"] / numbers["blobs"],
        small_change_ms=_change_ms(publisher, objects.slices(small)[0]),
        large_change_ms=_change_ms(publisher, objects.slices(largest)[0]),
        **_to_the_wire(publisher, small, epochs.row(0)),
    )


def render(costs: TableCosts) -> str:
    """The costs as lines for people."""
    return "\n".join(
        (
            f"objects into the store      {costs.apply_seconds:8.2f} s",
            f"store into a table          {costs.build_seconds:8.2f} s",
            f"keys                        {costs.slots:8,}   {costs.bytes_per_slot:6.1f} octets each",
            f"responses                   {costs.responses:8,}   {costs.bytes_per_response:6.1f} octets each",
            f"table                       {costs.used_bytes / 1e6:8.1f} MB",
            f"one endpoint changed        {costs.small_change_ms:8.3f} ms",
            f"... of the largest Service  {costs.large_change_ms:8.3f} ms",
            f"change to reply, UDP        {costs.change_to_wire_ms:8.3f} ms"
            f"   (a question alone {costs.wire_round_trip_ms:.3f})",
        )
    )


def _change_ms(publisher: Publisher, item: EndpointSlice) -> float:
    """The mean CPU, compaction and all, of taking one endpoint out of a slice or putting it back, until published."""
    without = EndpointSlice.of(item.namespace, item.name, item.service, item.ports, item.endpoints[1:])
    samples = []
    for turn in range(CHANGES):
        event = Event(Kind.ENDPOINT_SLICE, item.namespace, item.name, item if turn % 2 else without)
        samples.append(1000 * _cpu(lambda event=event: publisher.apply(0, [event])))  # type: ignore[misc]
    return statistics.mean(samples)


def _cpu(call: Callable[[], None]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def _to_the_wire(publisher: Publisher, source: Service, epoch: memoryview) -> dict[str, float]:
    """The median time from a change to a reply that shows it, answered by another process."""
    item = objects.slices(source)[0]
    gone = item.endpoints[0]
    label = gone.hostname or names.address_text(gone.address).replace(".", "-")
    question = dns.message.make_query(f"{label}.{source.name}.{source.namespace}.svc.{ZONE}", "A").to_wire()
    without = EndpointSlice.of(item.namespace, item.name, item.service, item.ports, item.endpoints[1:])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound, socket.socket(type=socket.SOCK_DGRAM) as client:
        bound.bind(("127.0.0.1", 0))
        pid = os.fork()
        if pid == 0:
            _answer_for_ever(bound, publisher.builder, epoch)
        client.connect(bound.getsockname())
        client.settimeout(1)
        try:
            alone = [_timed(lambda: _ask(client, question)) for _ in range(CHANGES)]
            changes = []
            for turn in range(CHANGES):
                event = Event(Kind.ENDPOINT_SLICE, item.namespace, item.name, item if turn % 2 else without)
                start = time.perf_counter()
                publisher.apply(0, [event])
                while _ask(client, question) != turn % 2:
                    pass
                changes.append(time.perf_counter() - start)
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    return {
        "change_to_wire_ms": 1000 * statistics.median(changes),
        "wire_round_trip_ms": 1000 * statistics.median(alone),
    }


def _answer_for_ever(bound: socket.socket, builder: TableBuilder, epoch: memoryview) -> None:
    """Be a worker with one socket; never returns."""
    bound.setblocking(False)
    corefile = f".:53 {{\n kubernetes {ZONE} in-addr.arpa ip6.arpa\n}}\n"
    built = resolver.build(parse(corefile, "Corefile", ORDER, {}), Surroundings(has_manifests=True), 53)
    responder = Responder(built.listeners[0].routes())
    table = Table(builder.table.fd)
    table.read_under(epoch)
    responder.set_table(table)
    server = UdpSocket(bound.fileno(), responder, False)
    loop = uvloop.new_event_loop()
    loop.add_reader(bound.fileno(), server.receive)
    loop.run_forever()


def _ask(client: socket.socket, question: bytes) -> int:
    """How many answers a question gets now."""
    client.send(question)
    return client.recv(4096)[7]


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
