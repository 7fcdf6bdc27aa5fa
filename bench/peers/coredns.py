"""CoreDNS, and NodeLocal DNSCache, which is CoreDNS with a part of its plugins."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable

from bench.errors import PeerError
from bench.peers.peer import ADDRESS, Peer, first_line
from bench.processes import spawn, stop

API_START_SECONDS = 60.0  # for the API server to hold the whole cluster
# Capacities as many as a load of unique names could fill, so that nothing is thrown out.
FORWARD = """\
. {{
    errors
    cache {{
        success 1000000
        denial 1000000
    }}
    forward . {upstream}
}}
"""


class CoreDns(Peer):
    """CoreDNS on one processor; its `kubernetes` plugin follows an API server that serves the generated manifests."""

    name = "coredns"
    program = "coredns"
    package = "go install github.com/coredns/coredns@v1.14.7, or --binary coredns=PATH"
    forwards = True
    reads = "manifests"

    _api: subprocess.Popen[bytes] | None = None
    _api_port = ""

    @classmethod
    def version(cls) -> str:
        """The first line of `coredns -version`."""
        return first_line([cls.find(), "-version"])

    def start(self, core: int | None, check: Callable[[int], None]) -> None:
        """Start the API server, if there is a cluster to follow, then CoreDNS."""
        if self.files.upstream_port is None:
            self._start_api()
        super().start(core, check)

    def _start_api(self) -> None:
        log = self.folder / "api.log"
        self._api = spawn([sys.executable, "-m", "bench.apiserver", str(self.files.manifests)], None, log)
        deadline = time.monotonic() + API_START_SECONDS
        while (said := re.search(r"ready (\d+)\n", log.read_text())) is None:
            if self._api.poll() is not None or time.monotonic() > deadline:
                raise PeerError(f"{self.name}: the API server did not start; see {log}")
            time.sleep(0.05)
        self._api_port = said[1]

    def stop(self) -> None:
        """End both."""
        super().stop()
        if self._api is not None:
            stop(self._api)
            self._api = None

    def command(self) -> list[str]:
        """`env GOMAXPROCS=1 coredns -conf FILE`."""
        upstream = self.files.upstream_port
        config = f"""\
cluster.local in-addr.arpa ip6.arpa {{
    errors
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        endpoint http://{ADDRESS}:{self._api_port}
    }}
    loadbalance
}}
"""
        if upstream is not None:
            config = FORWARD.format(upstream=f"{ADDRESS}:{upstream}")
        path = self._write("Corefile", config)
        return ["env", "GOMAXPROCS=1", self.find(), "-conf", str(path), "-dns.port", str(self.port)]


class NodeCache(Peer):
    """NodeLocal DNSCache on one processor: everything forwarded, cluster names to a server that knows them."""

    name = "node-cache"
    program = "node-cache"
    package = "from the image registry.k8s.io/dns/k8s-dns-node-cache, with --binary node-cache=PATH"
    forwards = True

    @classmethod
    def version(cls) -> str:
        """The first line of `node-cache -version`."""
        return first_line([cls.find(), "-version"])

    def command(self) -> list[str]:
        """`env GOMAXPROCS=1 node-cache -conf FILE`."""
        if self.files.upstream_port is None:
            raise PeerError(f"{self.name}: it forwards only, and no load of this run asks for outside names")
        config = FORWARD.format(upstream=f"{ADDRESS}:{self.files.upstream_port}")
        path = self._write("Corefile", config)
        skip = ("-localip", ADDRESS, "-setupinterface=false", "-setupiptables=false", "-skipteardown")
        return ["env", "GOMAXPROCS=1", self.find(), *skip, "-conf", str(path), "-dns.port", str(self.port)]
