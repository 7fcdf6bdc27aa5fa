"""What counting costs a query on the compiled path: the same questions with a meter in the route, and without one.

    python -m bench.metering [--rounds N] [--batch N]

The two take turns in short rounds, all in one process and without a socket; what is printed are nanoseconds of one
query, the median of the rounds, as JSON. The first two figures include finding and copying the answer.
"""

from __future__ import annotations

import argparse
import json
import statistics
import struct
import time

from kdns.dns import names
from kdns.dns.codes import RRType
from kdns.dns.rrset import Answer, Node
from kdns.hotpath.answer import Responder
from kdns.hotpath.meter import Meters
from kdns.hotpath.stream import StreamResponder
from kdns.hotpath.table_writer import TableWriter
from kdns.metrics import MeterTable
from kdns.plugins.plugin import TABLE, Route
from kdns.table.render import render_node, render_soa, soa_template

NAMES = 1000
TTL = 5
QUERIES = 20_000  # of a round
ZONE = names.from_text("cluster.local")


def measure(rounds: int, batch: int) -> dict[str, float]:
    """Nanoseconds of a query."""
    plain, metered = _responder(is_metered=False), _responder(is_metered=True)
    batches = _batches(batch)
    seconds: dict[str, list[float]] = {"plain": [], "metered": []}
    for _ in range(rounds):
        for name, responder in (("plain", plain), ("metered", metered)):
            started = time.process_time()
            for message in batches:
                responder.answer(message)
            seconds[name].append((time.process_time() - started) / (len(batches) * batch) * 1e9)
    difference = [one - other for one, other in zip(seconds["metered"], seconds["plain"], strict=True)]
    return {
        "plain_ns": round(statistics.median(seconds["plain"]), 1),
        "metered_ns": round(statistics.median(seconds["metered"]), 1),
        "metering_ns": round(statistics.median(difference), 1),
    }


def _responder(*, is_metered: bool) -> StreamResponder:
    meters = MeterTable(1)
    number = meters.number("dns://:53", "cluster.local.")
    assert number is not None
    route = Route(
        ZONE, TABLE, zone_labels=2, zone_length=len(ZONE), soa=soa_template(TTL), meter=number + 1 if is_metered else 0
    )
    table = TableWriter.create(1, 2 * NAMES, 1 << 20, bytes(range(16)))
    for index in range(NAMES):
        address = struct.pack("!I", 0x0A000000 + index)
        flags, responses = render_node(Node(_name(index), (Answer(RRType.A, TTL, (address,)),)))
        table.replace_node(_name(index), 0, flags, responses)
    flags, responses = render_node(Node(ZONE, ()))
    assert responses is not None
    table.replace_node(ZONE, 0, flags, [*responses, render_soa(soa_template(TTL))])
    table.set_synced(0, True)
    responder = Responder([route], meters=Meters(meters.row(0)) if is_metered else None)
    responder.set_table(table)
    return StreamResponder(responder)


def _name(index: int) -> bytes:
    return names.from_text(f"service-{index}.shop.svc.cluster.local")


def _batches(batch: int) -> list[bytes]:
    """Questions for addresses of names that are there, and for the other family, which has none."""
    framed = []
    for index in range(QUERIES):
        qtype = RRType.AAAA if index % 2 else RRType.A
        question = _name(index * 7 % NAMES) + struct.pack("!HH", qtype, 1)
        message = struct.pack("!HHHHHH", index & 0xFFFF, 0x0100, 1, 0, 0, 0) + question
        framed.append(struct.pack("!H", len(message)) + message)
    return [b"".join(framed[at : at + batch]) for at in range(0, QUERIES - batch + 1, batch)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=31, help="turns of each kind (default 31)")
    parser.add_argument("--batch", type=int, default=64, help="queries of a batch (default 64)")
    options = parser.parse_args()
    print(json.dumps(measure(options.rounds, options.batch)))


if __name__ == "__main__":
    main()
