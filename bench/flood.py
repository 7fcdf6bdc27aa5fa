"""What does a malformed query cost a server? dnsperf sends only well-formed ones; this sends prebuilt datagrams.

    python -m bench.flood 127.0.0.1 5300 4                       malformed queries
    python -m bench.flood 127.0.0.1 5300 4 --questions FILE      the questions of a dnsperf file: the control

One socket, a fixed number of queries under way, everything built before the clock starts. The loop is Python, and so
slower than dnsperf: its own ceiling is what it sends per second of its own CPU time (`ceiling_per_second`). A server
that is not kept busy works in smaller batches, so compare its figures with those of the control, not with dnsperf's.
"""

from __future__ import annotations

import argparse
import json
import resource
import socket
import struct
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

OUTSTANDING = 100  # queries under way; dnsperf's default
SILENCE_SECONDS = 0.2  # with no reply for so long, what is under way counts as lost
IDENTIFIERS = 4_096  # datagrams built before the run
RCODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}
TYPES = {"A": 1, "PTR": 12, "AAAA": 28, "SRV": 33}

_QUESTION = b"\x03web\x04shop\x03svc\x07cluster\x05local\0\0\1\0\1"
_OPT = b"\0\0\x29\x04\xd0\0\0\0\0"  # OPT, 1232 octets, no flags; its RDLENGTH comes next


@dataclass(frozen=True, slots=True)
class FloodResult:
    """What one flood came to."""

    sent: int
    answered: int
    lost: int
    seconds: float
    rcodes: dict[str, int]
    request_bytes: float
    reply_bytes: float
    ceiling_per_second: float


def malformed_queries() -> dict[str, bytes]:
    """Queries that a server has to answer with FORMERR, each broken in one way; without their two octets of id.

    Only kinds that every server in the bench answers: there are others that some drop, at another cost.
    """

    def header(questions: int, additional: int) -> bytes:
        return struct.pack("!HHHHH", 0, questions, 0, 0, additional)

    return {
        "a record is announced and missing": header(1, 1) + _QUESTION,
        "two OPT records": header(1, 2) + _QUESTION + 2 * (_OPT + b"\0\0"),
        "OPT data longer than the message": header(1, 1) + _QUESTION + _OPT + b"\0\x20",
        "OPT record cut short": header(1, 1) + _QUESTION + _OPT[:6],
    }


def plain_queries(lines: list[str]) -> list[bytes]:
    """The queries of a dnsperf file's lines, without their two octets of id."""
    queries = []
    for line in lines:
        name, type_ = line.split()
        labels = b"".join(bytes([len(label)]) + label.encode("ascii") for label in name.rstrip(".").split("."))
        queries.append(struct.pack("!HHHHH", 0, 1, 0, 0, 0) + labels + struct.pack("!BHH", 0, TYPES[type_], 1))
    return queries


def flood(address: str, port: int, seconds: float, bodies: list[bytes], outstanding: int = OUTSTANDING) -> FloodResult:
    """Send `bodies` over and over for some seconds, each under an id of its own, and count the replies."""
    count = max(IDENTIFIERS, len(bodies))
    datagrams = [struct.pack("!H", index & 0xFFFF) + bodies[index % len(bodies)] for index in range(count)]
    buffer = bytearray(65_536)
    rcodes: Counter[int] = Counter()
    sent = answered = lost = reply_bytes = place = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connection:
        connection.connect((address, port))
        # The kernel's own timeout: with Python's, each receive would poll first, and never return at once.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", 0, int(SILENCE_SECONDS * 1e6)))
        send, receive, now = connection.send, connection.recv_into, time.monotonic
        start = now()
        end = start + seconds
        while now() < end or sent > answered + lost:
            for _ in range(outstanding - (sent - answered - lost) if now() < end else 0):
                send(datagrams[place])
                place = place + 1 if place + 1 < count else 0
                sent += 1
            flags = 0  # wait for the first reply, then take what else is there
            try:
                while True:
                    reply_bytes += receive(buffer, 0, flags)
                    answered += 1
                    rcodes[buffer[3] & 15] += 1
                    flags = socket.MSG_DONTWAIT
            except BlockingIOError:
                if not flags:
                    lost = sent - answered
        elapsed = now() - start
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return FloodResult(
        sent=sent,
        answered=answered,
        lost=lost,
        seconds=elapsed,
        rcodes={RCODES.get(rcode, str(rcode)): count for rcode, count in rcodes.items()},
        request_bytes=sum(map(len, datagrams)) / count,
        reply_bytes=reply_bytes / max(1, answered),
        ceiling_per_second=sent / max(0.01, usage.ru_utime + usage.ru_stime),
    )


def main(arguments: list[str] | None = None) -> int:
    """Run one flood and print its result as JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.flood", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--outstanding", type=int, default=OUTSTANDING, help="queries under way (default: %(default)s)")
    parser.add_argument("--questions", type=Path, help="a dnsperf file of questions to send instead")
    options = parser.parse_args(arguments)
    if options.questions:
        bodies = plain_queries(options.questions.read_text().splitlines())
    else:
        bodies = list(malformed_queries().values())
    json.dump(asdict(flood(options.address, options.port, options.seconds, bodies, options.outstanding)), sys.stdout)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
