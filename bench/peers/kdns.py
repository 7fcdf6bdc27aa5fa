"""kdns itself."""

from __future__ import annotations

import sys

from bench.errors import BenchError, PeerError
from bench.peers.peer import ADDRESS, Peer, first_line

CLUSTER = """\
cluster.local in-addr.arpa ip6.arpa {{
    errors
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        ttl {ttl}
        {endpoint}
    }}
    loadbalance
}}
"""
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


class Kdns(Peer):
    """kdns from this tree, a worker a core; it reads manifests, or follows an API server where there is one."""

    name = "kdns"
    program = "python"
    package = "kdns (pip install -e .)"
    forwards = True
    reads = "manifests"
    ttl = 5  # seconds, of cluster records; a scenario changes it while the server runs

    @classmethod
    def find(cls) -> str:
        """The Python that runs the bench; raises PeerError if kdns cannot run in it."""
        cls.version()
        return sys.executable

    @classmethod
    def version(cls) -> str:
        """kdns's own version; what `kdns -version` prints first is the one of CoreDNS that it answers as."""
        try:
            first_line([sys.executable, "-m", "kdns", "-version"])
            return first_line([sys.executable, "-c", "import kdns; print('kdns', kdns.__version__)"])
        except BenchError as error:
            raise PeerError(f"{cls.name}: cannot be run here ({error}); `make build` builds it") from error

    def command(self) -> list[str]:
        """`python -m kdns -conf FILE ...`."""
        manifests: tuple[str, ...] = ()
        if self.files.upstream_port is not None:
            corefile = FORWARD.format(upstream=f"{ADDRESS}:{self.files.upstream_port}")
        else:
            follows = self.files.api_port is not None
            endpoint = f"endpoint http://{ADDRESS}:{self.files.api_port}" if follows else ""
            corefile = CLUSTER.format(ttl=self.ttl, endpoint=endpoint)
            manifests = () if follows else ("--manifests", str(self.files.manifests.resolve()))
        return [
            *(sys.executable, "-m", "kdns"),
            *("-conf", str(self._write("Corefile", corefile))),
            *("-dns.port", str(self.port)),
            *manifests,
            *("--workers", str(self.workers)),
        ]
