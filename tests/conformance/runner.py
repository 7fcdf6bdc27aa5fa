"""Asks a server what the conformance data says, and reports every difference.

    python -m tests.conformance.runner [--address A] [--port N] [--manifests DIR] FILES...

The server already runs, with the Corefile and the objects of the file. With --manifests its objects are put into that
folder, which the server watches, and changed there step by step; without, only the first step can be asked.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import dns.message
import dns.rcode
import dns.rdatatype

from tests.conformance.cases import TRANSFERS, TRANSPORTS, Query, Scenario, Step, load
from tests.conformance.comparison import differences
from tests.harness.exchange import TCP, Peer, ask, frame, receive_frame
from tests.harness.manifests import ManifestFolder
from tests.harness.waiting import POLL_SECONDS

OBSERVE_SECONDS = 5.0  # within which a change must be seen
ASK_SECONDS = 1.0  # a reply over loopback takes a thousandth of it


@dataclass(frozen=True, slots=True)
class Finding:
    """A query whose reply is not the one expected."""

    scenario: str
    query: Query
    transport: str
    differences: Sequence[str]

    def __str__(self) -> str:
        at = f" after step {self.query.step}" if self.query.step else ""
        asked = f"{self.query.qname} {self.query.qtype} over {self.transport}{at}"
        return f"{self.scenario}/{self.query.id} {asked}: {'; '.join(self.differences)}"


class Cluster(Protocol):
    """What the steps of a scenario change."""

    def change(self, step: Step) -> None:
        """Make the change; it need not be visible yet."""


class FolderCluster:
    """A folder of manifests that the server watches."""

    def __init__(self, folder: ManifestFolder) -> None:
        self._folder = folder

    def change(self, step: Step) -> None:
        """Apply and delete, object by object."""
        self._folder.apply(step.apply)
        self._folder.delete(step.delete)


class FixedCluster:
    """A cluster that cannot be changed from here."""

    def change(self, step: Step) -> None:
        """Refuse: the runner asks only what comes before the first step."""
        raise NotImplementedError("the cluster of this server cannot be changed")


def run_scenario(
    scenario: Scenario,
    peer_of: Callable[[Query], Peer],
    cluster: Cluster,
    transports: Sequence[str] = TRANSPORTS,
    *,
    observe_seconds: float = OBSERVE_SECONDS,
) -> Iterator[Finding]:
    """Ask everything, step by step.

    A step begins when the server shows it: every query is repeated until its reply is right or the deadline of the
    step has passed. Then all are asked once more, and that reply counts, so that a server cannot pass by showing
    each right reply for a moment.
    """
    steps = range(len(scenario.steps) + 1)
    if isinstance(cluster, FixedCluster):
        steps = range(1)
    for number in steps:
        if number:
            cluster.change(scenario.steps[number - 1])
        asked = [(query, transport) for transport in transports for query in scenario.queries_at(number, transport)]
        _wait_observed(asked, peer_of, observe_seconds)
        for query, transport in asked:
            found = ask_query(query, peer_of(query), transport)
            if found:
                yield Finding(scenario.name, query, transport, found)


def ask_query(query: Query, peer: Peer, transport: str) -> list[str]:
    """Ask once; how the reply differs."""
    message = query.message()
    wire = message.to_wire()
    try:
        if query.qtype in TRANSFERS and transport == TCP:
            replies = _transfer(peer, wire)
        else:
            reply = ask(peer, wire, transport, ASK_SECONDS)
            replies = [] if reply is None else [reply]
    except OSError as error:
        return [f"cannot ask {peer.address}:{peer.port}: {error}"]
    return differences(query, message, replies, transport)


def _wait_observed(
    asked: Sequence[tuple[Query, str]], peer_of: Callable[[Query], Peer], timeout_seconds: float
) -> None:
    deadline = time.monotonic() + timeout_seconds
    for query, transport in asked:
        while ask_query(query, peer_of(query), transport):
            if time.monotonic() >= deadline:
                return
            time.sleep(POLL_SECONDS)


def _transfer(peer: Peer, wire: bytes) -> list[bytes]:
    """The messages of a zone transfer: until the second SOA, an error or the end of the connection."""
    replies: list[bytes] = []
    marks = 0
    try:
        with closing(peer.open_tcp(ASK_SECONDS)) as tcp:
            tcp.sendall(frame(wire))
            while marks < 2 and (part := receive_frame(tcp)) is not None:
                replies.append(part)
                message = dns.message.from_wire(part, xfr=True, one_rr_per_rrset=True)
                if message.rcode() != dns.rcode.NOERROR:
                    break
                marks += sum(rrset.rdtype == dns.rdatatype.SOA for rrset in message.answer)
    except TimeoutError:  # what came before is judged
        pass
    return replies


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the files given; 1 if anything differs."""
    summary, _, description = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        prog="python -m tests.conformance.runner",
        description=summary,
        epilog=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=53)
    parser.add_argument("--manifests", type=Path, help="folder of manifests the server watches")
    parser.add_argument(
        "--observe", type=float, default=OBSERVE_SECONDS, metavar="SECONDS", help="within which a change must be seen"
    )
    parser.add_argument("--transport", choices=TRANSPORTS, action="append")
    parser.add_argument("files", type=Path, nargs="+", metavar="FILES")
    options = parser.parse_args(arguments)
    failed = asked = 0
    for path in options.files:
        scenario = load(path)
        cluster: Cluster = FixedCluster()
        if options.manifests is not None:
            folder = ManifestFolder(options.manifests)
            folder.clear()
            folder.apply(scenario.objects)
            cluster = FolderCluster(folder)
        elif scenario.steps:
            sys.stderr.write(f"{scenario.name}: only the first step is asked; the others need --manifests\n")
        transports = options.transport or TRANSPORTS
        last = 0 if isinstance(cluster, FixedCluster) else len(scenario.steps)
        asked += sum(len(scenario.queries_at(step, t)) for step in range(last + 1) for t in transports)
        for finding in run_scenario(
            scenario,
            lambda query: Peer(options.address, options.port, query.client),
            cluster,
            transports,
            observe_seconds=options.observe,
        ):
            failed += 1
            sys.stdout.write(f"{finding}\n")
    sys.stdout.write(f"{asked - failed} passed, {failed} failed\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
