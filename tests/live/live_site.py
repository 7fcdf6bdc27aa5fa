"""A kdns with API servers to follow, all in one place, and the words tests ask it with."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import dns.message
import dns.rcode

from tests.fakes.apiserver import FakeApiServer
from tests.harness.exchange import UDP, ask
from tests.harness.places import Place, free_port, open_place
from tests.harness.server import Server
from tests.harness.waiting import wait_until

TOKEN = "token-of-the-tests"
READY_SECONDS = 3.0  # from an API server that works to the names of its cluster
HTTP_SECONDS = 2.0
PLAIN_ZONES = "cluster.local in-addr.arpa"


@dataclass(frozen=True, slots=True)
class Found:
    """What a reply says: its rcode, and the data of its answer, sorted."""

    rcode: str
    values: tuple[str, ...] = ()

    @classmethod
    def read(cls, wire: bytes | None) -> Found:
        """The parts of a reply that tests compare; NOREPLY where none came."""
        if wire is None:
            return cls("NOREPLY")
        message = dns.message.from_wire(wire)
        values = sorted(str(value) for rrset in message.answer for value in rrset)
        return cls(dns.rcode.to_text(message.rcode()), tuple(values))


def answer(*values: str) -> Found:
    """A reply with these data."""
    return Found("NOERROR", tuple(sorted(values)))


NXDOMAIN = Found("NXDOMAIN")
SERVFAIL = Found("SERVFAIL")


class Site:
    """A place with a server in it. `ready_port` and `health_port` are free for its Corefile."""

    def __init__(self, place: Place, directory: Path, opened: ExitStack) -> None:
        self.place = place
        self.directory = directory
        self._opened = opened
        self.ready_port, self.health_port = place.run(lambda: (free_port(), free_port()))
        self._server: Server | None = None

    @property
    def server(self) -> Server:
        """The server, once it was started."""
        assert self._server is not None, "start it first"
        return self._server

    def open_api(self) -> FakeApiServer:
        """One more API server, with TLS, that asks for a token."""
        # Its thread begins in the place, and so do its sockets.
        made = self.place.run(lambda: FakeApiServer(tls=True, tokens=[TOKEN]))
        return self._opened.enter_context(made)

    def kubeconfig(self, api: FakeApiServer) -> Path:
        """A file that leads to an API server."""
        return api.write_kubeconfig(self.directory / f"kubeconfig-{api.port}", TOKEN)

    def directive(self, api: FakeApiServer, zones: str = PLAIN_ZONES, *options: str) -> str:
        """A `kubernetes` directive that follows an API server."""
        lines = "".join(f"        {option}\n" for option in (f"kubeconfig {self.kubeconfig(api)}", *options))
        return f"    kubernetes {zones} {{\n{lines}    }}\n"

    def start(self, *directives: str, workers: int = 1) -> Server:
        """Start a server with these directives in its one block."""
        probes = f"    errors\n    ready :{self.ready_port}\n    health :{self.health_port}\n"
        return self.start_corefile(f".:53 {{\n{probes}{''.join(directives)}}}\n", workers=workers)

    def start_corefile(self, corefile: str, workers: int = 1, arguments: Sequence[str] = ()) -> Server:
        """Start a server with a Corefile, which must have ended where there was one before."""
        made = Server(self.place, self.directory / "server", corefile, workers=workers, arguments=arguments)
        self._server = self._opened.enter_context(made)
        return made

    def ask_wire(self, qname: str, qtype: str = "A", transport: str = UDP, edns: int | bool = False) -> bytes | None:
        """The reply to a query as it came, None where none did."""
        query = dns.message.make_query(qname, qtype, use_edns=edns).to_wire()
        try:
            return self.place.run(lambda: ask(self.server.peer(), query, transport))
        except ConnectionRefusedError:
            return None

    def ask(self, qname: str, qtype: str = "A", transport: str = UDP) -> Found:
        """What a query is told."""
        return Found.read(self.ask_wire(qname, qtype, transport))

    def wait_found(self, qname: str, expected: Found, timeout_seconds: float, qtype: str = "A") -> None:
        """Wait until a query is told what is expected."""
        self.wait(
            lambda: self.ask(qname, qtype) == expected,
            lambda: f"{qname} {qtype} is {expected}, but {self.ask(qname, qtype)}",
            timeout_seconds,
        )

    def wait(self, condition: Callable[[], object], what: Callable[[], str] | str, timeout_seconds: float) -> None:
        """Wait for a condition; a failure shows what the server said."""

        def text() -> str:
            return f"{what if isinstance(what, str) else what()}\n{self.server.said()}"

        wait_until(condition, text, timeout_seconds)

    def status(self, port: int, path: str) -> int:
        """The status of an HTTP reply; 0 where nobody listens."""

        def get() -> int:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=HTTP_SECONDS)
            try:
                connection.request("GET", path)
                return connection.getresponse().status
            except ConnectionError:
                return 0
            finally:
                connection.close()

        return self.place.run(get)

    @property
    def ready(self) -> int:
        """The status of /ready."""
        return self.status(self.ready_port, "/ready")

    @property
    def health(self) -> int:
        """The status of /health."""
        return self.status(self.health_port, "/health")


@contextmanager
def open_site(directory: Path, place: Place | None = None) -> Iterator[Site]:
    """A site that leaves nothing behind. Its place is closed with it."""
    with ExitStack() as opened:
        found = place or open_place()
        opened.callback(found.close)
        yield Site(found, directory, opened)
