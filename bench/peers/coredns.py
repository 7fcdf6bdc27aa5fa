"""CoreDNS, and NodeLocal DNSCache, which is CoreDNS with a part of its plugins."""

from __future__ import annotations

from collections.abc import Callable, Collection

from bench.api import ApiProcess
from bench.errors import PeerError
from bench.peers.kdns import CLUSTER, FORWARD
from bench.peers.peer import ADDRESS, Peer, first_line


class CoreDns(Peer):
    """CoreDNS, a processor a core; its `kubernetes` plugin follows an API server that serves the generated cluster."""

    name = "coredns"
    program = "coredns"
    package = "go install github.com/coredns/coredns@v1.14.7, or --binary coredns=PATH"
    forwards = True
    reads = "manifests"
    ttl = 5  # seconds, of cluster records; a scenario changes it while the server runs

    _api: ApiProcess | None = None

    @classmethod
    def version(cls) -> str:
        """The first line of `coredns -version`."""
        return first_line([cls.find(), "-version"])

    def start(self, cores: Collection[int], check: Callable[[int], None]) -> None:
        """Start CoreDNS, and before it an API server, if there is a cluster to follow and none that serves it."""
        if self.files.upstream_port is None and self.files.api_port is None:
            self._api = ApiProcess(self.files.manifests, self.folder)
        super().start(cores, check)

    def stop(self) -> None:
        """End both."""
        super().stop()
        if self._api is not None:
            self._api.stop()
            self._api = None

    def command(self) -> list[str]:
        """`env GOMAXPROCS=N coredns -conf FILE`."""
        if self.files.upstream_port is not None:
            config = FORWARD.format(upstream=f"{ADDRESS}:{self.files.upstream_port}")
        else:
            port = self.files.api_port if self._api is None else self._api.port
            config = CLUSTER.format(ttl=self.ttl, endpoint=f"endpoint http://{ADDRESS}:{port}")
        path = self._write("Corefile", config)
        return ["env", f"GOMAXPROCS={self.workers}", self.find(), "-conf", str(path), "-dns.port", str(self.port)]


class NodeCache(Peer):
    """NodeLocal DNSCache, a processor a core: everything forwarded, cluster names to a server that knows them."""

    name = "node-cache"
    program = "node-cache"
    package = "from the image registry.k8s.io/dns/k8s-dns-node-cache, with --binary node-cache=PATH"
    forwards = True

    @classmethod
    def version(cls) -> str:
        """The first line of `node-cache -version`."""
        return first_line([cls.find(), "-version"])

    def command(self) -> list[str]:
        """`env GOMAXPROCS=N node-cache -conf FILE`."""
        if self.files.upstream_port is None:
            raise PeerError(f"{self.name}: it forwards only, and no load of this run asks for outside names")
        config = FORWARD.format(upstream=f"{ADDRESS}:{self.files.upstream_port}")
        path = self._write("Corefile", config)
        skip = ("-localip", ADDRESS, "-setupinterface=false", "-setupiptables=false", "-skipteardown")
        return [
            "env",
            f"GOMAXPROCS={self.workers}",
            self.find(),
            *skip,
            "-conf",
            str(path),
            "-dns.port",
            str(self.port),
        ]
