"""kdns itself."""

from __future__ import annotations

import sys

from bench.errors import BenchError, PeerError
from bench.peers.peer import ADDRESS, Peer, first_line

CLUSTER = """\
cluster.local in-addr.arpa ip6.arpa {
    errors
    kubernetes cluster.local in-addr.arpa ip6.arpa
    loadbalance
}
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
    """kdns from this tree, fed with manifests; `workers` may differ from the one that a core is for."""

    name = "kdns"
    program = "python"
    package = "kdns (pip install -e .)"
    workers = 1
    forwards = True
    reads = "manifests"

    @classmethod
    def find(cls) -> str:
        """The Python that runs the bench; raises PeerError if kdns cannot run in it."""
        cls.version()
        return sys.executable

    @classmethod
    def version(cls) -> str:
        """What `kdns -version` prints first."""
        command = [sys.executable, "-m", "kdns", "-version"]
        try:
            return first_line(command)
        except BenchError as error:
            raise PeerError(f"{cls.name}: cannot be run here ({error}); `make build` builds it") from error

    def command(self) -> list[str]:
        """`python -m kdns -conf FILE ...`."""
        upstream = self.files.upstream_port
        corefile = CLUSTER if upstream is None else FORWARD.format(upstream=f"{ADDRESS}:{upstream}")
        return [
            *(sys.executable, "-m", "kdns"),
            *("-conf", str(self._write("Corefile", corefile))),
            *("-dns.port", str(self.port)),
            *(("--manifests", str(self.files.manifests.resolve())) if upstream is None else ()),
            *("--workers", str(self.workers)),
        ]
