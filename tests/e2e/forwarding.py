"""A whole server before upstreams that a test holds in its hands, and questions to it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import dns.message
import dns.rcode
import dns.rdatatype

from tests.e2e.conftest import copy_cluster
from tests.harness.exchange import UDP, ask
from tests.harness.places import Loopback, Place
from tests.harness.server import WORKERS, Server

CLIENT_SECONDS = 5.0  # a stub resolver gives up then
CLUSTER_NAME, CLUSTER_ADDRESS = "kubernetes.default.svc.cluster.local.", "10.96.0.1"
CLUSTER_BLOCK = "cluster.local:53 {\n    kubernetes cluster.local\n}\n"
TROUBLE = (
    " ended by ",
    "; it is replaced",
    "was not answered",
    "was not renewed",
    "Traceback",
    "in the background failed",
)


@dataclass(slots=True)
class Client:
    """Asks a server, as a stub resolver does."""

    server: Server
    seconds: float = field(default=0.0, init=False)  # the last question took

    def ask_wire(self, query: bytes, transport: str = UDP) -> bytes | None:
        """The octets that come back."""
        started = time.monotonic()
        try:
            return self.server.place.run(lambda: ask(self.server.peer(), query, transport, CLIENT_SECONDS))
        finally:
            self.seconds = time.monotonic() - started

    def ask(self, name: str, rtype: str = "A", transport: str = UDP, **options: object) -> dns.message.Message:
        """The reply, which must be one to this question in this spelling."""
        query = dns.message.make_query(name, rtype, **options)  # type: ignore[arg-type]
        wire = self.ask_wire(query.to_wire(), transport)
        assert wire is not None, f"no reply for {name} {rtype} over {transport}\n{self.server.said()}"
        reply = dns.message.from_wire(wire)
        assert query.is_response(reply)
        assert reply.question[0].to_text() == query.question[0].to_text()
        return reply

    def says(self, name: str, rtype: str = "A", transport: str = UDP, **options: object) -> str:
        """The data of the answers of the type asked for, in order, or the rcode where it is not NOERROR."""
        reply = self.ask(name, rtype, transport, **options)
        if reply.rcode() != dns.rcode.NOERROR:
            return dns.rcode.to_text(reply.rcode())
        number = dns.rdatatype.from_text(rtype)
        return " ".join(sorted(str(data) for rrset in reply.answer if rrset.rdtype == number for data in rrset))

    def assert_well(self) -> None:
        """The cluster's names are answered, and nothing went wrong that nobody was told of."""
        assert self.says(CLUSTER_NAME) == CLUSTER_ADDRESS
        assert not [line for line in self.server.stdout.splitlines() if any(text in line for text in TROUBLE)]


@contextmanager
def serving(
    directory: Path,
    corefile: str,
    *,
    workers: int = WORKERS,
    place: Place | None = None,
    arguments: Sequence[str] = (),
) -> Iterator[Client]:
    """A server with the example cluster and these blocks besides."""
    copy_cluster(directory / "cluster")
    place = place or Loopback()
    text = CLUSTER_BLOCK + corefile
    if place.namespace is not None:
        text = text.replace(":53 {", f":{place.dns_port} {{")
    with Server(
        place,
        directory / "server",
        text,
        manifests=directory / "cluster",
        workers=workers,
        arguments=arguments,
    ) as server:
        server.wait_answering()
        server.wait_synced()
        yield Client(server)


def forward_block(
    *to: object, zone: str = ".", options: Sequence[str] = (), before: Sequence[str] = ("errors", "cache")
) -> str:
    """A block with `forward`, and directives before it."""
    targets = " ".join(f"127.0.0.1:{place}" if isinstance(place, int) else str(place) for place in to)
    lines = [*before, f"forward . {targets} {{", *options, "}"]
    return f"{zone}:53 {{\n" + "".join(f"    {line}\n" for line in lines) + "}\n"
